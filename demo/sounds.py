"""The demo world's sounds, synthesised: one voice per thing, one noise bed per place, and babble over chords.

A voice is a function (rate in Hz, pitch factor, generator) -> float array that starts at the event's onset, its attack
within 10 ms. Nothing is sampled; every number is a choice of ours.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter

Voice = Callable[[int, float, np.random.Generator], np.ndarray]


def time_axis(rate: int, seconds: float) -> np.ndarray:
    """Returns the instants of `seconds` of samples, in seconds."""
    return np.arange(int(seconds * rate)) / rate


def _swell(t: np.ndarray, decay_s: float, attack_s: float = 0.006) -> np.ndarray:
    """An envelope that rises within `attack_s` and falls by 1/e every `decay_s`, to nothing at the end."""
    end = t[-1] + 1e-9
    return np.minimum(t / attack_s, 1) * np.exp(-t / decay_s) * np.minimum((end - t) / 0.02, 1)


def _plateau(t: np.ndarray, attack_s: float = 0.01) -> np.ndarray:
    """An envelope that rises within `attack_s`, holds, and falls over the last 40 %."""
    end = t[-1] + 1e-9
    return np.minimum(t / attack_s, 1) * np.minimum((end - t) / (0.4 * end), 1)


def _harmonics(frequency: np.ndarray | float, t: np.ndarray, weights: list[float]) -> np.ndarray:
    """A tone of the given harmonics; `frequency` in Hz may glide over `t`."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, t.shape)) * (t[1] - t[0])
    return sum(weight * np.sin((k + 1) * phase) for k, weight in enumerate(weights))


def _resonate(signal: np.ndarray, rate: int, frequency: float, width: float) -> np.ndarray:
    """Filters through a two-pole resonance at `frequency` Hz with the given bandwidth in Hz, peak gain about 1."""
    radius = np.exp(-np.pi * width / rate)
    poles = [1, -2 * radius * np.cos(2 * np.pi * frequency / rate), radius**2]
    return lfilter([(1 - radius) * np.sqrt(1 + radius**2)], poles, signal)


def _peak(signal: np.ndarray) -> np.ndarray:
    return signal / (np.abs(signal).max() + 1e-9)


def _partials(rate: int, t: np.ndarray, partials: list[tuple[float, float, float]]) -> np.ndarray:
    """Sums decaying sines given as (Hz, weight, decay in s); those above the Nyquist frequency are left out."""
    kept = [(f, w, d) for f, w, d in partials if f < 0.45 * rate]
    return sum(w * np.exp(-t / d) * np.sin(2 * np.pi * f * t) for f, w, d in kept)  # type: ignore[return-value]


def _bell(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 1.1)
    ratios = [(0.5, 0.5, 0.5), (1, 1.0, 0.35), (1.19, 0.7, 0.3), (2, 0.7, 0.22), (2.74, 0.5, 0.15), (5.2, 0.25, 0.06)]
    return _partials(rate, t, [(900 * pitch * r, w, d) for r, w, d in ratios]) * np.minimum((1.1 - t) / 0.1, 1)


def _bird(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.28)
    glide = 3600 * pitch * (1 + 0.28 * np.sin(2 * np.pi * rng.uniform(17, 21) * t) - 0.5 * t)
    return _harmonics(glide, t, [1.0, 0.1]) * _plateau(t, 0.008)


def _camera(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.22)
    click = rng.standard_normal(t.size) * np.exp(-t / 0.008)
    second = rng.standard_normal(t.size) * np.where(t > 0.11, np.exp(-(t - 0.11) / 0.012), 0)
    whirr = _harmonics(pitch * (380 + 900 * t), t, [1.0, 0.0, 0.6, 0.0, 0.4, 0.0, 0.3]) * 0.3 * _plateau(t)
    return _peak(_resonate(click + 0.8 * second, rate, 4200 * pitch, 1800)) + whirr


def _car(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.40)
    weights = [1.0, 0.8, 0.7, 0.5, 0.4, 0.25, 0.15]
    return (_harmonics(405 * pitch, t, weights) + _harmonics(510 * pitch, t, weights)) * _plateau(t)


def _cat(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.46)
    glide = 640 * pitch * (1 + 0.35 * np.sin(np.pi * np.minimum(t / 0.42, 1)))
    tone = _harmonics(glide, t, [0.5, 1.0, 0.8, 0.35, 0.2, 0.1])
    return tone * _plateau(t, 0.015)


def _dog(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.26)
    glide = 330 * pitch * (1.25 - 1.6 * t)
    buzz = _harmonics(glide, t, [0.8, 1.0, 0.9, 0.7, 0.5, 0.4, 0.2]) + 0.8 * rng.standard_normal(t.size)
    return _resonate(buzz, rate, 750 * pitch, 700) * _swell(t, 0.09)


def _door(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.30)
    knock = _partials(rate, t, [(150 * pitch, 1.0, 0.03), (290 * pitch, 0.8, 0.022), (560 * pitch, 0.3, 0.01)])
    lag = int(0.13 * rate)
    knock[lag:] += 0.8 * knock[: t.size - lag]
    return knock


def _drum(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.42)
    skin = _harmonics(85 * pitch * (1 + 0.9 * np.exp(-t / 0.03)), t, [1.0, 0.25])
    return skin * _swell(t, 0.13) + 0.25 * rng.standard_normal(t.size) * np.exp(-t / 0.012)


def _duck(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.28)
    buzz = 2 * ((t * 210 * pitch * (1 - 0.4 * t)) % 1) - 1
    return (_resonate(buzz, rate, 1250, 300) + 0.6 * _resonate(buzz, rate, 2600, 400)) * _plateau(t)


def _frog(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.36)
    pulses = np.maximum(np.sin(2 * np.pi * 38 * t + 0.6), 0) ** 3
    return pulses * _harmonics(520 * pitch, t, [1.0, 0.5, 0.15]) * _plateau(t)


def _hammer(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.34)
    metal = [(2350, 1.0, 0.16), (3170, 0.8, 0.12), (4630, 0.6, 0.08), (5890, 0.4, 0.05), (1480, 0.5, 0.08)]
    thud = 0.5 * rng.standard_normal(t.size) * np.exp(-t / 0.005)
    return (_partials(rate, t, [(f * pitch, w, d) for f, w, d in metal]) + thud) * _swell(t, 0.2, 0.001)


def _hands(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.20)
    noise = rng.standard_normal(t.size)
    clap = _resonate(noise, rate, 1200 * pitch, 900) + 0.4 * _resonate(noise, rate, 2500, 1800)
    return clap * np.exp(-t / 0.028)


def _saw(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.40)
    teeth = 0.55 + 0.45 * np.sign(np.sin(2 * np.pi * 95 * pitch * t))
    return _resonate(rng.standard_normal(t.size) * teeth, rate, 3000 * pitch, 2600) * _plateau(t)


def _sheep(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.44)
    tremble = 0.55 + 0.45 * np.sin(2 * np.pi * 13 * t)
    buzz = 2 * ((t * 260 * pitch) % 1) - 1
    return (_resonate(buzz, rate, 700, 250) + 0.7 * _resonate(buzz, rate, 1750, 300)) * tremble * _plateau(t)


def _typewriter(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.12)
    clack = rng.standard_normal(t.size) * np.exp(-t / 0.004)
    body = _partials(rate, t, [(1900 * pitch, 0.5, 0.012), (820 * pitch, 0.6, 0.015)])
    return _peak(_resonate(clack, rate, 5600 * pitch, 2500)) + body


def _whistle(rate: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    t = time_axis(rate, 0.38)
    trill = 2250 * pitch * (1 + 0.03 * np.sin(2 * np.pi * 32 * t))
    return (_harmonics(trill, t, [1.0, 0.12]) + 0.08 * rng.standard_normal(t.size)) * _plateau(t)


VOICES: dict[str, Voice] = {
    "bell": _bell,
    "bird": _bird,
    "camera": _camera,
    "car": _car,
    "cat": _cat,
    "dog": _dog,
    "door": _door,
    "drum": _drum,
    "duck": _duck,
    "frog": _frog,
    "hammer": _hammer,
    "hands": _hands,
    "saw": _saw,
    "sheep": _sheep,
    "typewriter": _typewriter,
    "whistle": _whistle,
}

# A place's bed: (centre Hz, width in octaves, weight) bands of noise, then how deep and how fast it swells (Hz).
BEDS: dict[str, tuple[tuple[tuple[float, float, float], ...], float, float]] = {
    "beach": (((500, 1.6, 1.0), (2500, 1.0, 0.3)), 0.8, 0.15),
    "cave": (((110, 0.5, 1.0), (330, 0.3, 0.4)), 0.3, 0.10),
    "farm": (((250, 1.0, 1.0), (1500, 0.8, 0.2)), 0.5, 0.25),
    "forest": (((3500, 0.9, 1.0), (400, 1.0, 0.4)), 0.5, 0.30),
    "kitchen": (((100, 0.1, 1.0), (200, 0.1, 0.6), (5000, 0.7, 0.3)), 0.1, 0.05),
    "office": (((220, 0.5, 1.0), (900, 0.6, 0.5)), 0.05, 0.05),
    "street": (((90, 1.0, 1.0), (700, 1.2, 0.5)), 0.6, 0.12),
    "train station": (((160, 0.8, 1.0), (1200, 1.0, 0.6)), 0.4, 0.40),
}
BED_RMS = 0.010
EVENT_PEAK = (0.35, 0.7)


def bed(place: str, rate: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the place's background noise: `samples` at `rate` Hz, RMS about 0.01 of full scale."""
    bands, depth, swell_hz = BEDS[place]
    size = 1 << 17  # one period; its end meets its beginning, so it can be repeated
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / rate), 1.0)
    octaves = np.log2(frequency)
    gain = sum(w * np.exp(-0.5 * ((octaves - np.log2(f)) / width) ** 2) / np.sqrt(f * width) for f, width, w in bands)
    spectrum = gain * np.exp(2j * np.pi * rng.random(frequency.size))
    noise = np.fft.irfft(spectrum, size)
    noise *= BED_RMS * rng.uniform(0.7, 1.3) / np.sqrt(np.mean(noise**2))
    swell = 1 + depth * np.sin(2 * np.pi * swell_hz * np.arange(samples) / rate + rng.uniform(0, 2 * np.pi))
    return np.resize(noise, samples) * swell


def voice_events(name: str, times: tuple[float, ...], rate: int, samples: int, seed: list[int]) -> np.ndarray:
    """Returns `samples` at `rate` Hz in which `name` sounds at each of `times` (seconds; those outside are cut off).

    Pitch belongs to the individual (one for the clip), with a little of each event's own, as has the level.
    """
    out = np.zeros(samples)
    individual = np.random.default_rng(seed)
    pitch = 2 ** individual.uniform(-0.25, 0.25)
    loudness = individual.uniform(*EVENT_PEAK)
    for number, onset_s in enumerate(times):
        start = round(onset_s * rate)
        if start >= samples or start < -2 * rate:
            continue
        rng = np.random.default_rng([*seed, number])
        sound = VOICES[name](rate, pitch * 2 ** rng.uniform(-0.06, 0.06), rng)
        sound = sound * (loudness * rng.uniform(0.75, 1.0) / np.abs(sound).max())
        first, last = max(start, 0), min(start + sound.size, samples)
        if last > first:
            out[first:last] += sound[first - start : last - start]
    return out


# First and second formants (Hz) of seven vowels, after Peterson & Barney (1952), men.
VOWELS = ((270, 2290), (390, 1990), (530, 1840), (660, 1720), (730, 1090), (570, 840), (300, 870))


def speech_over_music(rate: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns babble (a buzz through changing formants, in syllables) over slow chords: `samples` at `rate` Hz."""
    return _peak(_babble(rate, samples, rng)) * 0.5 + _peak(_chords(rate, samples, rng)) * 0.25


def _babble(rate: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(samples)
    pitch = rng.uniform(95, 210)
    at = int(rng.uniform(0, 0.2) * rate)
    while at < samples:
        t = time_axis(rate, rng.uniform(0.11, 0.24))
        melody = pitch * (1 + rng.uniform(-0.12, 0.12) - rng.uniform(0, 0.6) * t)
        buzz = 2 * ((np.cumsum(melody) / rate) % 1) - 1
        vowel = VOWELS[int(rng.integers(len(VOWELS)))]
        syllable = sum(
            w * _resonate(buzz, rate, f, b)
            for f, b, w in zip((*vowel, 2600), (90, 120, 160), (1, 0.6, 0.3), strict=True)
        )
        if rng.random() < 0.4:  # a consonant's hiss
            hiss = rng.standard_normal(t.size) * np.exp(-t / 0.02)
            syllable = syllable + 0.4 * _resonate(hiss, rate, 4500, 2000)
        syllable = np.asarray(syllable) * _plateau(t, 0.03) * rng.uniform(0.6, 1.0)
        last = min(at + t.size, samples)
        out[at:last] += syllable[: last - at]
        at += t.size + int(rate * (rng.uniform(0.2, 0.5) if rng.random() < 0.15 else rng.uniform(0.0, 0.04)))
    return out


def _chords(rate: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    out = np.zeros(samples)
    root = 130.8 * 2 ** (rng.integers(12) / 12)
    beat = rng.uniform(0.9, 1.4)
    for at in range(0, samples, int(beat * rate)):
        t = time_axis(rate, beat)
        degree = (0, 5, 7, 9)[int(rng.integers(4))]
        third = 3 if degree == 9 else 4
        chord = sum(
            _harmonics(root * 2 ** ((degree + step) / 12), t, [1.0, 0.5, 0.3, 0.1]) for step in (0, third, 7, 12)
        )
        chord = np.asarray(chord) * _swell(t, 0.8, 0.02)
        last = min(at + t.size, samples)
        out[at:last] += chord[: last - at]
    return out
