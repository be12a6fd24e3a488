"""The demo world's speech: phrases of a small grammar, spoken by espeak-ng in several English voices.

espeak-ng and its data come with the package espeakng-loader, which only the demo world needs (extra ``demo-speech``).
The same phrase in the same voice gives the same samples in every process and thread.
"""

from __future__ import annotations

import _ctypes
import ctypes
import re
import threading
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from math import gcd
from types import ModuleType

import numpy as np
from scipy.signal import resample_poly

ESPEAK_RATE = 22_050  # Hz, of all its voices
LONGEST_S = 2.8  # no phrase takes longer in any voice
STEP_S = 0.04  # of `loudness`; as long as a frame of most videos
LEVEL = 0.02  # share of the peak; what is softer before and after a phrase is cut off

# Each form of sentence, with the words that may stand in each of its places. None of them names a thing of the world.
FORMS = (
    "the {train|bus|boat|plane} leaves at {two|three|five|seven|nine|noon}",
    "please {open|close|clean} the {window|box|gate|kettle}",
    "{my|your|our} {brother|sister|teacher|friend} {lives|works|waits} {in the city|near the river|by the lake}",
    "where is the {red|blue|green|yellow} {book|coat|cup|bag}",
    "we need {two|three|five|seven|nine} {apples|eggs|lemons|tickets}",
    "it is {cold|warm|windy|sunny} {today|tonight|outside}",
    "{my|your|our} {brother|sister|teacher|friend} likes {coffee|bread|soup} in the {morning|evening}",
)
_PLACES = re.compile(r"\{([^}]*)\}")

WORDS = tuple(sorted({word for form in FORMS for word in re.findall(r"[a-z]+", form)}))

# Names of espeak-ng: an accent, and a variant of the voice (m: deep, f: high) behind a plus sign.
_VARIANTS = ("", "+m1", "+m3", "+f1", "+f2", "+f3")
VOICES = tuple(accent + variant for accent in ("en", "en-us") for variant in _VARIANTS)
SPEED_WPM = (140, 180)
PITCH = (40, 60)

# Parameters and modes of espeak-ng's interface, speak_lib.h.
_RATE, _PITCH, _SYNCHRONOUS, _UTF8 = 1, 3, 2, 1
_HEARER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Voice:
    """Who speaks.

    Attributes:
        name: one of `VOICES`.
        speed: words per minute.
        pitch: 0 (low) to 99; 50 is the voice's own.
    """

    name: str
    speed: int = 160
    pitch: int = 50


def make_voice(rng: np.random.Generator) -> Voice:
    """Returns one of the world's voices, at a speed and pitch of its own."""
    name = VOICES[int(rng.integers(len(VOICES)))]
    return Voice(name, int(rng.integers(SPEED_WPM[0], SPEED_WPM[1] + 1)), int(rng.integers(PITCH[0], PITCH[1] + 1)))


def make_phrase(rng: np.random.Generator) -> str:
    """Returns a sentence of the grammar: lower case, words of `WORDS`, no punctuation."""
    form = FORMS[int(rng.integers(len(FORMS)))]

    def word(place: re.Match[str]) -> str:
        words = place[1].split("|")
        return words[int(rng.integers(len(words)))]

    return _PLACES.sub(word, form)


def say(phrase: str, voice: Voice, rate: int) -> np.ndarray:
    """Returns the phrase as it is spoken: float32, mono, peak 1, without silence before and after.

    Args:
        phrase: what to say, in English.
        voice: who says it.
        rate: samples per second, in Hz.

    Raises:
        ValueError: espeak-ng does not have this voice, or has nothing to say.
        ModuleNotFoundError: espeakng-loader is not installed.
    """
    spoken = _spoken(phrase, voice)
    if rate == ESPEAK_RATE:
        return spoken.copy()
    shared = gcd(rate, ESPEAK_RATE)
    return resample_poly(spoken, rate // shared, ESPEAK_RATE // shared).astype(np.float32)


def seconds_of(phrase: str, voice: Voice) -> float:
    """How long the phrase takes, in seconds."""
    return len(_spoken(phrase, voice)) / ESPEAK_RATE


def loudness(phrase: str, voice: Voice) -> np.ndarray:
    """How loud the phrase is in each `STEP_S`, as a share of where it is loudest: float64, shape (steps,)."""
    step = round(STEP_S * ESPEAK_RATE)
    spoken = _spoken(phrase, voice)
    windows = np.pad(spoken, (0, -len(spoken) % step)).reshape(-1, step)
    power = np.sqrt((windows.astype(np.float64) ** 2).mean(axis=1))
    return power / power.max()


def syllables(phrase: str, voice: Voice) -> tuple[float, ...]:
    """When its syllables begin, in seconds: those that are loud after it was soft, a quarter of a second apart."""
    found: list[float] = []
    soft = True
    for step, level in enumerate(loudness(phrase, voice)):
        at = round(step * STEP_S, 4)
        if soft and level > 0.4 and (not found or at - found[-1] > 0.22):
            found.append(at)
            soft = False
        soft = soft or bool(level < 0.25)
    return tuple(found)


@lru_cache(maxsize=256)
def _spoken(phrase: str, voice: Voice) -> np.ndarray:
    """The phrase at `ESPEAK_RATE`, float32 with peak 1."""
    samples = np.frombuffer(_espeak(phrase, voice), np.int16).astype(np.float32)
    loud = np.flatnonzero(np.abs(samples) > LEVEL * np.abs(samples).max(initial=0))
    if not len(loud):
        raise ValueError(f"espeak-ng has no sound for {phrase!r}")
    spoken = samples[loud[0] : loud[-1] + 1]
    return spoken / np.abs(spoken).max()


def _espeak(phrase: str, voice: Voice) -> bytes:
    """What espeak-ng makes of a phrase: int16 samples at `ESPEAK_RATE`.

    The library keeps state from one phrase to the next (phases, its flutter, its random numbers), and initialising it
    again resets only some of that; so it is loaded anew for each phrase, which takes 3 ms, and its random numbers,
    which it seeds with the time, are seeded.
    """
    loader = _loader()
    heard: list[bytes] = []

    def hear(samples: ctypes._Pointer[ctypes.c_short], count: int, _: int) -> int:
        if samples and count > 0:
            heard.append(ctypes.string_at(samples, 2 * count))
        return 0

    hearer = _HEARER(hear)
    text = phrase.encode() + b"\0"
    with _LOCK:
        library = ctypes.CDLL(loader.get_library_path())
        try:
            library.espeak_Initialize(_SYNCHRONOUS, 0, loader.get_data_path().encode(), 0)
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            library.espeak_SetSynthCallback(hearer)
            if library.espeak_SetVoiceByName(voice.name.encode()):
                raise ValueError(f"espeak-ng has no voice {voice.name!r}; this world's are {', '.join(VOICES)}")
            library.espeak_SetParameter(_RATE, voice.speed, 0)
            library.espeak_SetParameter(_PITCH, voice.pitch, 0)
            library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, _UTF8, None, None)
            library.espeak_Terminate()
        finally:
            _ctypes.dlclose(library._handle)
    return b"".join(heard)


def _loader() -> ModuleType:
    try:
        return import_module("espeakng_loader")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the demo world's speech needs espeak-ng: pip install 'earshot-captions[demo-speech]'"
        ) from error
