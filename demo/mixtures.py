"""Training clips for models that listen, mixed anew each time of single sounds, as powers of mel bands.

What sounds in them is what sounds in the occasions of the demo world, as loud and as often; music is more frequent.
It is synthesised at the rate of the world's files and resampled, as a run does: noise that is drawn at another rate
is another, and a flute has hardly any breath left below 8 kHz.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torchaudio.functional import resample
from transformers import WhisperFeatureExtractor

from demo import training
from demo.music import GENRES, INSTRUMENTS, Music, make_music, play, score
from demo.occasions import APART_S, CLAUSES, MUSIC, MUSIC_S, SPEECH, Sounding, make_occasion
from demo.sounds import BEDS, EVENT_PEAK, bed, voice_events
from demo.soundtrack import MUSIC_BEHIND, MUSIC_PEAK, SPEECH_PEAK
from demo.speaking import make_phrase, make_voice, say
from demo.spectrograms import mel_power, packed, unpacked
from demo.world import AUDIO_RATE, SOURCES

RATE, HOP, BANDS, SECONDS = 16_000, 640, 128, 10
WINDOW = 1024  # samples: long enough for notes, whose pitch Whisper's 400 hardly show
FRAMES = SECONDS * RATE // HOP  # of the spectrogram; the encoder makes one of four
# Music has more to be learnt than its share of the occasions has to teach, so there is more of it.
MORE_MUSIC = 0.4  # share of the clips in which it plays alone, beside those that are drawn as occasions are
TOKEN_S = 4 * HOP / RATE  # seconds of what the encoder makes one of
VOICE_S = 1.3  # what the longest voice of a thing takes
HITS = ("bass", "fifth", "chord", "power", "tone")  # what an accompaniment is made of
SOUNDS = tuple(CLAUSES)  # what an encoder's frame may hold


def make_extractor() -> WhisperFeatureExtractor:
    """Whisper's log-mel spectrogram, of clips of 10 s, frames of 40 ms and long windows."""
    return WhisperFeatureExtractor(
        BANDS, RATE, hop_length=HOP, chunk_length=SECONDS, n_fft=WINDOW, return_attention_mask=True
    )


@dataclass(frozen=True)
class Piece:
    """Music as training mixes it. What is true of it in each of the encoder's frames has the shape (62, …).

    Attributes:
        power: `packed` mel powers of a clip (128, 250) in which it plays, with peak 1.
        music: its truth.
        start_s: when it begins, in seconds; and so `end_s`.
        notes: whether each of `INSTRUMENTS` begins a note.
        held: whether it sounds.
        hits: whether the accompaniment plays each of `HITS`.
        beat: sine and cosine of where in a beat the frame's middle lies, and likewise where in a bar.
    """

    power: Tensor
    music: Music
    start_s: float
    end_s: float
    notes: Tensor
    held: Tensor
    hits: Tensor
    beat: Tensor


@dataclass(frozen=True)
class Sounds:
    """What training clips are mixed from; all powers are `packed`.

    Attributes:
        events: for each thing its individuals, and for each of them some of its sounds, (128, 32) with peak 1.
        beds: for each place some of its backgrounds, (128, 250).
        utterances: phrases, (128, frames) with peak 1.
        pieces: music.
    """

    events: dict[str, list[list[Tensor]]]
    beds: dict[str, list[Tensor]]
    utterances: list[Tensor]
    pieces: list[Piece]


def gather(individuals: int, utterances: int, pieces: int, bar: Progress, processes: int = 1) -> Sounds:
    """Has so many individuals of each thing sound, phrases be spoken, and pieces be played.

    Args:
        individuals: how many of each thing, and backgrounds of each place.
        utterances: how many phrases.
        pieces: how many pieces of music.
        bar: shows how far it is.
        processes: how many pieces are played at once; they are the same, whatever their number.
    """
    rng, extractor = np.random.default_rng(training.TRAINING_SEED), make_extractor()
    events: dict[str, list[list[Tensor]]] = {}
    for name in bar.track(SOURCES, description="things"):
        events[name] = []
        for individual in range(individuals):
            seed = [training.TRAINING_SEED, list(SOURCES).index(name), individual]
            times, samples = (0.0, VOICE_S, 2 * VOICE_S), 3 * round(VOICE_S * AUDIO_RATE)
            thrice = np.split(voice_events(name, times, AUDIO_RATE, samples, seed), 3)
            events[name].append([heard(audio / np.abs(audio).max(), extractor) for audio in thrice])
    beds: dict[str, list[Tensor]] = {}
    for place in bar.track(BEDS, description="places"):
        noises = (bed(place, AUDIO_RATE, SECONDS * AUDIO_RATE, rng) for _ in range(individuals))
        beds[place] = [heard(noise, extractor) for noise in noises]
    said = []
    for _ in bar.track(range(utterances), description="speaking"):
        audio = np.pad(say(make_phrase(rng), make_voice(rng), RATE), (int(rng.integers(HOP)), HOP))
        said.append(packed(mel_power(audio, extractor)))  # resampled from its own rate either way
    # A fresh interpreter each: a fork would copy the bar's thread in whatever state it is.
    context, one_thread = get_context("spawn"), (torch.set_num_threads, (1,))
    with ProcessPoolExecutor(processes, context, *one_thread) if processes > 1 else nullcontext() as pool:
        performed = pool.map(perform, range(pieces), chunksize=10) if pool else map(perform, range(pieces))
        played = bar.track(performed, pieces, description="playing")
        return Sounds(events, beds, said, [make_piece(*one) for one in played])


def heard(audio: np.ndarray, extractor: WhisperFeatureExtractor) -> Tensor:
    """What a run hears of sound at the world's rate, as `packed` mel powers (128, frames)."""
    return packed(mel_power(resample(torch.from_numpy(audio).float(), AUDIO_RATE, RATE).numpy(), extractor))


def perform(number: int) -> tuple[np.ndarray, Music, float, float]:
    """Plays the training's n-th piece; it begins and ends where those of occasions do.

    Returns:
        `packed` mel powers (128, 250) with peak 1, its truth, and when it begins and ends in seconds.
    """
    rng = np.random.default_rng([training.TRAINING_SEED, number])
    music, (start, end) = make_music(rng), (float(rng.uniform(*window)) for window in MUSIC_S)
    audio = np.zeros(SECONDS * AUDIO_RATE, np.float32)
    played = play(music, AUDIO_RATE, end - start)
    audio[round(start * AUDIO_RATE) :][: len(played)] = played
    return heard(audio, make_extractor()).numpy(), music, start, end


def make_piece(power: np.ndarray, music: Music, start_s: float, end_s: float) -> Piece:
    """Returns what `perform` played, with what is true of its course."""
    return Piece(torch.from_numpy(power), music, start_s, end_s, *rhythm(music, start_s, end_s))


def rhythm(music: Music, start_s: float, end_s: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `Piece` has as notes, held, hits and beat, of music that plays from `start_s` to `end_s` (seconds)."""
    notes, hits = torch.zeros(FRAMES // 4, len(INSTRUMENTS)), torch.zeros(FRAMES // 4, len(HITS))
    held = torch.zeros_like(notes)
    for note in score(music, end_s - start_s):
        player, start = list(INSTRUMENTS).index(note.instrument), start_s + note.start_s
        notes[int(start / TOKEN_S), player] = 1
        held[int(start / TOKEN_S) : int(min(start + note.seconds, end_s) / TOKEN_S) + 1, player] = 1
    beats, bar = GENRES[music.genre]
    beat_s = 60 / music.tempo_bpm
    for number in range(int((end_s - start_s) / beat_s / beats) + 1):
        for at, _, what, _ in bar:
            moment = start_s + (number * beats + at) * beat_s
            if moment < end_s:
                hits[int(moment / TOKEN_S), HITS.index(what if isinstance(what, str) else "tone")] = 1
    middles = (torch.arange(FRAMES // 4) + 0.5) * TOKEN_S
    phases = [2 * torch.pi * (middles - start_s) / period_s for period_s in (beat_s, beats * beat_s)]
    return notes, held, hits, torch.stack([part for phase in phases for part in (phase.sin(), phase.cos())], 1)


@dataclass
class Clip:
    """A training clip in the making.

    Attributes:
        place: where it is.
        power: mel powers, (128, 250).
        active: which of `SOUNDS` is heard in each of the encoder's frames, (62, 18).
        soundings: what is heard.
        piece: the music.
    """

    place: str
    power: Tensor
    active: Tensor
    soundings: list[Sounding]
    piece: Piece | None = None

    def lay(self, power: Tensor, start_s: float) -> None:
        """Adds a sound; what lies before or after the clip is cut off."""
        start = round(start_s * RATE / HOP)
        first, last = max(start, 0), min(start + power.shape[1], FRAMES)
        if last > first:
            self.power[:, first:last] += power[:, first - start : last - start]

    def mark(self, name: str, start_s: float, end_s: float) -> None:
        """Notes that a sound is heard."""
        self.active[max(int(start_s / TOKEN_S), 0) : int(end_s / TOKEN_S) + 1, SOUNDS.index(name)] = 1


def make_clip(sounds: Sounds, rng: np.random.Generator) -> Clip:
    """Mixes a clip of what an occasion lets hear, and of its kind."""
    kind = MUSIC if rng.random() < MORE_MUSIC else None
    occasion = make_occasion(training.TRAINING_SEED, int(rng.integers(1 << 31)), kind)
    place = occasion.place
    clip = Clip(place, unpacked(_one(sounds.beds[place], rng)), torch.zeros(FRAMES // 4, len(SOUNDS)), [])
    for name, times in zip(occasion.sources, occasion.events, strict=True):
        add_thing(clip, name, times, sounds, rng)
    if occasion.utterances:
        add_speech(clip, [one.start_s for one in occasion.utterances], sounds, rng)
    if occasion.piece:
        add_music(
            clip, _one(sounds.pieces, rng), rng.uniform(*(MUSIC_PEAK if occasion.kind == MUSIC else MUSIC_BEHIND))
        )
    clip.soundings.sort(key=lambda one: one.start_s)
    starts = [one.start_s for one in clip.soundings]
    if any(after - before < APART_S for before, after in pairwise(starts)):
        return make_clip(sounds, rng)  # nobody could tell which begins
    clip.power *= 10 ** rng.uniform(-0.6, 0.1)
    return clip


def add_thing(clip: Clip, name: str, times: Sequence[float], sounds: Sounds, rng: np.random.Generator) -> None:
    """Has a thing sound at `times` (seconds), each at a level of its own."""
    individual, loudness = _one(sounds.events[name], rng), rng.uniform(*EVENT_PEAK)
    for at in times:
        if -VOICE_S < at < SECONDS:
            clip.lay((loudness * rng.uniform(0.75, 1)) ** 2 * unpacked(_one(individual, rng)), at)
    heard = tuple(t for t in times if 0 <= t < SECONDS)
    for at in heard:
        clip.mark(name, at, at + SOURCES[name].decay_s)
    clip.soundings.append(Sounding(name, heard, heard[0], heard[-1] + SOURCES[name].decay_s))


def add_speech(clip: Clip, starts: Sequence[float], sounds: Sounds, rng: np.random.Generator) -> None:
    """Has a phrase spoken at each of `starts`, in seconds."""
    power = rng.uniform(*SPEECH_PEAK) ** 2
    for at in starts:
        said = _one(sounds.utterances, rng)
        end = at + said.shape[1] * HOP / RATE
        clip.lay(power * unpacked(said), at)
        clip.mark(SPEECH, at, end)
    clip.soundings.append(Sounding(SPEECH, tuple(starts), starts[0], end))


def add_music(clip: Clip, piece: Piece, peak: float) -> None:
    """Has a piece played, as loud as its `peak`."""
    clip.lay(peak**2 * unpacked(piece.power), 0)
    clip.mark(MUSIC, piece.start_s, piece.end_s)
    clip.soundings.append(Sounding(MUSIC, (piece.start_s,), piece.start_s, piece.end_s))
    clip.piece = piece


def _one(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]
