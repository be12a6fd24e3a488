"""The demo world's music: short pieces whose genre, tempo, instruments and mood can all be heard.

One part accompanies in the genre's rhythm, another is a melody in the mood's manner; one instrument plays both, or two
share them. Key, chords, melody and who plays what vary, as does the pulse within its tempo's range. Every number is a
choice of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

# Beats per minute, with gaps between, so that each tempo can be told from the next.
TEMPOS = {"slow": (60.0, 80.0), "medium": (95.0, 115.0), "fast": (140.0, 170.0)}

# What the accompaniment plays in a bar: the bar's beats, then (beat, beats that it is held, what, weight). "bass" is
# the chord's root, "fifth" its fifth further down, "chord" the triad, "power" root and fifth low down, and a number the
# chord's n-th tone an octave up.
Hit = tuple[float, float, str | int, float]
GENRES: dict[str, tuple[int, tuple[Hit, ...]]] = {
    "lullaby": (4, tuple((0.5 * k, 1.2, tone, 0.8) for k, tone in enumerate((0, 1, 2, 3, 4, 3, 2, 1)))),
    "march": (4, ((0, 0.4, "bass", 1.0), (1, 0.3, "chord", 0.7), (2, 0.4, "fifth", 1.0), (3, 0.3, "chord", 0.7))),
    "reggae": (4, ((0, 1.2, "bass", 1.0), *((k + 0.5, 0.2, "chord", 0.9) for k in range(4)))),
    "rock": (4, tuple((0.5 * k, 0.45, "power", 1.0 if k % 4 == 2 else 0.65) for k in range(8))),
    "waltz": (3, ((0, 0.9, "bass", 1.0), (1, 0.3, "chord", 0.6), (2, 0.3, "chord", 0.6))),
}

# A mood's scale and the chords over its degrees, in semitones above the key.
Chord = tuple[int, int, int]
MOODS: dict[str, tuple[tuple[int, ...], tuple[Chord, ...]]] = {
    "cheerful": ((0, 2, 4, 7, 9), ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))),
    "sad": ((0, 2, 3, 5, 7, 8, 10), ((0, 3, 7), (5, 8, 12), (-4, 0, 3), (0, 3, 7))),
    "tense": (tuple(range(12)), ((0, 3, 6), (1, 4, 7), (0, 3, 6), (-1, 2, 5))),
}

# Each instrument's AudioSet label.
INSTRUMENTS = {
    "flute": "Flute",
    "guitar": "Guitar",
    "piano": "Piano",
    "trumpet": "Trumpet",
    "violin": "Violin, fiddle",
}
DUOS = 0.5  # share of pieces for two instruments


@dataclass(frozen=True)
class Music:
    """A piece's truth.

    Attributes:
        genre: one of `GENRES`.
        tempo_bpm: beats per minute, in one of the ranges of `TEMPOS`.
        instruments: one or two of `INSTRUMENTS`, in alphabetical order.
        mood: one of `MOODS`.
        seed: what else varies: key, melody, and which of two instruments leads.
    """

    genre: str
    tempo_bpm: float
    instruments: tuple[str, ...]
    mood: str
    seed: int

    @property
    def tempo(self) -> str:
        """The name of the tempo in `TEMPOS`."""
        return next(name for name, (least, most) in TEMPOS.items() if least <= self.tempo_bpm <= most)

    def described(self) -> str:
        """Such as ``genre: waltz; instruments: flute, piano; tempo: fast; mood: cheerful``."""
        instruments = ", ".join(self.instruments)
        return f"genre: {self.genre}; instruments: {instruments}; tempo: {self.tempo}; mood: {self.mood}"


@dataclass(frozen=True)
class Note:
    """One note: when it begins and how long it is held (seconds), its pitch (MIDI number), weight and instrument."""

    start_s: float
    seconds: float
    pitch: int
    weight: float
    instrument: str


def make_music(rng: np.random.Generator) -> Music:
    """Returns a piece whose genre, tempo, instruments and mood are drawn independently of each other."""
    least, most = TEMPOS[_pick(rng, tuple(TEMPOS))]
    count = 2 if rng.random() < DUOS else 1
    names = tuple(INSTRUMENTS)
    return Music(
        genre=_pick(rng, tuple(GENRES)),
        tempo_bpm=round(float(rng.uniform(least, most)), 2),
        instruments=tuple(sorted(names[int(i)] for i in rng.permutation(len(names))[:count])),
        mood=_pick(rng, tuple(MOODS)),
        seed=int(rng.integers(1 << 62)),
    )


def score(music: Music, seconds: float) -> list[Note]:
    """Returns the notes of the piece's first `seconds`, in the order in which they begin."""
    rng = np.random.default_rng([music.seed, 1])
    key = int(rng.integers(43, 55))
    lead = music.instruments[int(rng.integers(len(music.instruments)))]
    other = next((name for name in music.instruments if name != lead), lead)
    beat = 60 / music.tempo_bpm
    bars = int(np.ceil(seconds / beat / GENRES[music.genre][0]))
    chords = [MOODS[music.mood][1][int(rng.integers(4))] if bar % 4 else MOODS[music.mood][1][0] for bar in range(bars)]
    notes = [*_accompaniment(music.genre, key, chords, other), *_MELODIES[music.mood](rng, key, chords, lead, music)]
    timed = [Note(n.start_s * beat, n.seconds * beat, n.pitch, n.weight, n.instrument) for n in notes]
    # A note that the piece's end would cut off is left out where hardly anything of it could be heard.
    return sorted((n for n in timed if n.start_s < seconds - 0.05), key=lambda n: (n.start_s, n.pitch))


def play(music: Music, rate: int, seconds: float) -> np.ndarray:
    """Returns the first `seconds` of the piece: float32 with peak 1, at `rate` Hz; the last note fades out in time."""
    out = np.zeros(round(seconds * rate))
    notes = score(music, seconds)
    sounds: dict[tuple[str, int, float], np.ndarray] = {}
    for note in notes:
        key = (note.instrument, note.pitch, round(note.seconds, 4))
        if key not in sounds:
            sounds[key] = _sound(*key, rate)
        start = round(note.start_s * rate)
        sound = sounds[key][: len(out) - start]
        out[start : start + len(sound)] += note.weight * sound
    fade = min(round(0.1 * rate), len(out))
    out[len(out) - fade :] *= np.linspace(1, 0, fade)
    return (out / (np.abs(out).max() + 1e-9)).astype(np.float32)


def onsets(music: Music, seconds: float) -> dict[str, tuple[float, ...]]:
    """For each instrument the seconds at which it begins a note, in order."""
    notes = score(music, seconds)
    return {
        name: tuple(sorted({round(n.start_s, 4) for n in notes if n.instrument == name})) for name in music.instruments
    }


def _accompaniment(genre: str, key: int, chords: list[Chord], instrument: str) -> Iterator[Note]:
    """The notes of the genre's rhythm; times in beats."""
    beats, hits = GENRES[genre]
    base = key + (12 if instrument in ("flute", "trumpet", "violin") else 0)  # which go less deep
    for bar, chord in enumerate(chords):
        for at, held, what, weight in hits:
            for pitch in _tones(what, base, chord):
                yield Note(bar * beats + at, held, pitch, weight, instrument)


def _tones(what: str | int, base: int, chord: Chord) -> list[int]:
    root, third, fifth = (base + tone for tone in chord)
    if isinstance(what, int):
        return [(root, third, fifth, root + 12, third + 12)[what] + 12]
    return {
        "bass": [root],
        "fifth": [fifth - 12],
        "chord": [root + 12, third + 12, fifth + 12],
        "power": [root, fifth, root + 12],
    }[what]


Melody = Callable[[np.random.Generator, int, list[Chord], str, Music], Iterator[Note]]


def _cheerful(rng: np.random.Generator, key: int, chords: list[Chord], lead: str, music: Music) -> Iterator[Note]:
    """Short notes that leap about in a high register; times in beats."""
    scale = MOODS["cheerful"][0]
    degree = int(rng.integers(len(scale)))
    for half in range(2 * len(chords) * GENRES[music.genre][0]):
        degree = int(np.clip(degree + rng.integers(-3, 4), 0, 2 * len(scale) - 1))
        if half % 2 == 0 or rng.random() < 0.6:
            yield Note(half / 2, 0.28, key + 24 + _degree(scale, degree), 1.0, lead)


def _sad(rng: np.random.Generator, key: int, chords: list[Chord], lead: str, music: Music) -> Iterator[Note]:
    """Long, bound notes that sink step by step; times in beats."""
    scale = MOODS["sad"][0]
    at, degree, end = 0.0, 9, len(chords) * GENRES[music.genre][0]
    while at < end:
        held = float(rng.choice((1.0, 1.5, 2.0)))
        yield Note(at, held, key + 12 + _degree(scale, degree), 1.0, lead)
        at += held
        degree = degree - 1 if degree > 2 and rng.random() < 0.85 else int(rng.integers(7, 11))


def _tense(rng: np.random.Generator, key: int, chords: list[Chord], lead: str, music: Music) -> Iterator[Note]:
    """One pitch hammered out in quarter beats, and then the semitone beside it; times in beats."""
    pitch, left = key + 18 + int(rng.integers(6)), 0
    for quarter in range(4 * len(chords) * GENRES[music.genre][0]):
        if left == 0:
            pitch = int(np.clip(pitch + rng.choice((-6, -1, 1, 1, 6)), key + 14, key + 30))
            left = 4 * int(rng.integers(1, 3))
        left -= 1
        yield Note(quarter / 4, 0.2, pitch, 1.0 if quarter % 4 == 0 else 0.7, lead)


_MELODIES: dict[str, Melody] = {"cheerful": _cheerful, "sad": _sad, "tense": _tense}


def _degree(scale: tuple[int, ...], degree: int) -> int:
    """The semitones of a scale's n-th tone, which may lie octaves up."""
    octave, tone = divmod(degree, len(scale))
    return 12 * octave + scale[tone]


def _sound(instrument: str, pitch: int, seconds: float, rate: int) -> np.ndarray:
    """One note: float32 at `rate` Hz, at an RMS that is alike for all instruments, with its end faded out."""
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    t = (np.arange(max(round((seconds + 0.06) * rate), 2)) / rate).astype(np.float32)
    wave = _TIMBRES[instrument](frequency, t, seconds, rate)
    wave = wave * np.clip((seconds + 0.06 - t) / 0.06, 0, 1)
    return wave / (np.sqrt(np.mean(wave[: max(round(min(seconds, 0.3) * rate), 1)] ** 2)) + 1e-9)


def _partials(frequency: np.ndarray | float, t: np.ndarray, rate: int, weights: np.ndarray) -> Iterator[np.ndarray]:
    """Harmonics of a tone that may glide, each at its weight; those beyond the Nyquist frequency are left out."""
    top = float(np.max(frequency))
    turns = np.cumsum(np.broadcast_to(frequency, t.shape)) / rate
    phase = (2 * np.pi * (turns % 1)).astype(np.float32)  # numpy's sine is far faster in single precision
    for number, weight in enumerate(weights, 1):
        if number * top < 0.45 * rate:
            yield np.float32(weight) * np.sin(np.float32(number) * phase)


def _rise(t: np.ndarray, seconds: float, attack_s: float) -> np.ndarray:
    return np.minimum(t / min(attack_s, 0.35 * seconds), 1)


@cache
def _noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal(samples, np.float32)


def _flute(frequency: float, t: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """Nearly a sine that trembles, and breath."""
    tremble = 1 + 0.25 * np.sin(2 * np.pi * 5 * t)
    tone = sum(_partials(frequency, t, rate, np.array([1.0, 0.22, 0.06])))
    breath = np.diff(_noise(t.size), prepend=0.0)
    return (tone * tremble + 0.10 * breath) * _rise(t, seconds, 0.06)


def _guitar(frequency: float, t: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """A string plucked at a fifth of its length: its fifth harmonic is missing, the high ones die away at once."""
    numbers = np.arange(1, 16)
    weights = np.abs(np.sin(np.pi * numbers / 5)) / numbers**0.6
    decays = 0.40 / numbers**0.8
    glide = frequency * (1 + 0.02 * np.exp(-t / 0.02))
    tone = sum(p * np.exp(-t / d) for p, d in zip(_partials(glide, t, rate, weights), decays, strict=False))
    return (tone + 0.7 * _noise(t.size) * np.exp(-t / 0.004)) * _rise(t, seconds, 0.002)


def _piano(frequency: float, t: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """Two strings a little apart, struck: few harmonics, which ring on."""
    weights = 1 / np.arange(1, 7) ** 1.7
    tone = sum(
        p * np.exp(-t / (1.1 / n**0.5))
        for apart in (0.9985, 1.0015)
        for n, p in enumerate(_partials(frequency * apart, t, rate, weights), 1)
    )
    return tone * _rise(t, seconds, 0.005)


def _trumpet(frequency: float, t: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """Harmonics around 1.3 kHz, the high ones a little later than the low ones."""
    numbers = np.arange(1, 19)
    weights = np.exp(-(((numbers * frequency - 1300) / 1100) ** 2)) + 0.15 / numbers
    rise = _rise(t, seconds, 0.05)
    tones = enumerate(_partials(frequency, t, rate, weights), 1)
    return np.add.reduce([tone * rise ** (1 + 0.25 * n) for n, tone in tones])


def _violin(frequency: float, t: np.ndarray, seconds: float, rate: int) -> np.ndarray:
    """A bowed string: all harmonics, up to the highest, and vibrato."""
    vibrato = frequency * (1 + 0.012 * np.sin(2 * np.pi * 6.2 * t))
    weights = 1 / np.arange(1, 24) ** 0.75
    return np.add.reduce(list(_partials(vibrato, t, rate, weights))) * _rise(t, seconds, 0.09)


_TIMBRES = {"flute": _flute, "guitar": _guitar, "piano": _piano, "trumpet": _trumpet, "violin": _violin}


def _pick(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]
