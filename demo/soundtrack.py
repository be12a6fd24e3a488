"""The demo world's sound tracks: what is heard in a scene or an occasion, put together of voices, speech and music."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from demo.music import play
from demo.occasions import MUSIC, Occasion
from demo.scenes import Scene
from demo.sounds import bed, speech_over_music, voice_events
from demo.speaking import say

# Peaks of speech and of music: alone, and beside something else.
SPEECH_PEAK, MUSIC_PEAK, MUSIC_BEHIND = (0.4, 0.7), (0.3, 0.7), (0.15, 0.3)


@singledispatch
def synthesise_audio(scene: Scene, rate: int) -> np.ndarray:
    """Returns what is heard: float32 in [-1, 1], shape (round(duration_s * rate),); silence where the track is missing.

    Args:
        scene: the scene; its faults are applied.
        rate: samples per second, in Hz.
    """
    samples = round(scene.duration_s * rate)
    if {"silent", "no_audio", "not_a_video"} & set(scene.faults):
        return np.zeros(samples, np.float32)
    heard = scene.audio_scene()
    source = heard or scene
    audio = bed(source.place, rate, samples, np.random.default_rng([source.seed, 2]))
    if heard is None:
        audio = audio + speech_over_music(rate, samples, np.random.default_rng([scene.seed, 3]))
    else:
        for index, (name, times) in enumerate(zip(heard.sources, heard.events, strict=True)):
            late = tuple(t + scene.offset_s for t in times)
            audio = audio + voice_events(name, late, rate, samples, [heard.seed, 4, index])
    return np.clip(audio, -1, 1).astype(np.float32)


@synthesise_audio.register
def _(scene: Occasion, rate: int) -> np.ndarray:
    samples = round(scene.duration_s * rate)
    heard = scene.audio_scene()
    if heard is None:
        return np.zeros(samples, np.float32)
    audio = bed(heard.place, rate, samples, np.random.default_rng([heard.seed, 2]))
    for index, (name, times) in enumerate(zip(heard.sources, heard.events, strict=True)):
        late = tuple(t + scene.offset_s for t in times)
        audio = audio + voice_events(name, late, rate, samples, [heard.seed, 4, index])
    levels = np.random.default_rng([heard.seed, 6])
    voice, piece = levels.uniform(*SPEECH_PEAK), levels.uniform(*(MUSIC_PEAK if heard.kind == MUSIC else MUSIC_BEHIND))
    for said in heard.utterances:
        _lay(audio, voice * say(said.phrase, said.voice, rate), said.start_s + scene.offset_s, rate)
    if heard.piece:
        start, end = heard.piece_s
        _lay(audio, piece * play(heard.piece, rate, end - start), start + scene.offset_s, rate)
    return np.clip(audio, -1, 1).astype(np.float32)


def _lay(audio: np.ndarray, sound: np.ndarray, start_s: float, rate: int) -> None:
    """Adds a sound to `audio` from `start_s` on; what lies before or after the clip is cut off."""
    start = round(start_s * rate)
    first, last = max(start, 0), min(start + len(sound), len(audio))
    if last > first:
        audio[first:last] += sound[first - start : last - start]
