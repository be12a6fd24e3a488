"""What a cue model sees of a clip: the *view* that its handler asks for, and the decoded view it gets.

A view names the least that has to be decoded. Handlers with equal views share one decode; views are frozen and hashable
so that they can be grouped, and so that they can be part of a cue's fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

AudioDecoder = Literal["pyav", "tensorflow-io"]


@dataclass(frozen=True)
class Listing:
    """What the source says of the clip; its media is not opened. Gives a `Listed`."""


@dataclass(frozen=True)
class Header:
    """The container's header only; nothing is decoded. Gives a `MediaInfo`."""


@dataclass(frozen=True)
class MiddleFrame:
    """The frame shown at the middle of the clip, upright, at its own size. Gives uint8 RGB (height, width, 3)."""


@dataclass(frozen=True)
class Audio:
    """Mono audio. Gives float32 in [-1, 1] of shape (round(duration_s * rate),).

    Attributes:
        rate: samples per second, in Hz.
        decoder: ``pyav``, which reads sound from any file, or ``tensorflow-io``, which reads WAV, FLAC, Ogg Vorbis and
            MP3 and needs the extra ``tfio``.
    """

    rate: int
    decoder: AudioDecoder = "pyav"


@dataclass(frozen=True)
class AudioVideo:
    """Frames at a fixed rate together with mono audio, as synchronisation models want them. Gives an `AudioVideoView`.

    Attributes:
        fps: frames per second after resampling in time.
        short_side: pixels of the shorter side after scaling (bilinear, aspect ratio kept).
        crop: pixels of the centred square crop that follows.
        rate: audio samples per second, in Hz.
    """

    fps: int = 25
    short_side: int = 256
    crop: int = 224
    rate: int = 16_000


@dataclass(frozen=True)
class Moments:
    """A few frames with their times: what is shown at 0, `every_s`, 2·`every_s` … seconds. Gives a `MomentsView`.

    Attributes:
        every_s: seconds from one to the next.
        most: how many, at most; where a clip would have more, so many are spread evenly over it.
        short_side: pixels of the shorter side after scaling (bilinear, aspect ratio kept); smaller frames stay as they
            are.
    """

    every_s: float = 1.0
    most: int = 32
    short_side: int = 360


@dataclass(frozen=True)
class Stems:
    """What is sung or spoken in a clip, apart from the rest, as mono audio. Gives a `StemsView`.

    The decoder gives the whole (`mixture`), and a model takes it apart before the cues see it
    (`model_handlers.separation`).

    Attributes:
        separator: the fingerprint of that model, so that a cue's own changes with it.
        mixture: what it has to be given.
        rate: samples per second of the result, in Hz.
    """

    separator: str
    mixture: Audio
    rate: int = 16_000


View = Listing | Header | MiddleFrame | Audio | AudioVideo | Moments | Stems


@dataclass(frozen=True)
class Listed:
    """What the source says of a clip: its dataset's own labels."""

    labels: tuple[str, ...]


@dataclass(frozen=True)
class MediaInfo:
    """What the header says of a clip. Durations in seconds; ``None`` where the track is missing."""

    duration_s: float
    video: str | None
    audio: str | None


@dataclass(frozen=True)
class AudioVideoView:
    """Frames and audio that start at the same instant.

    Attributes:
        frames: uint8 RGB, shape (round(duration_s * fps), crop, crop, 3).
        audio: float32 in [-1, 1], shape (round(duration_s * rate),).
    """

    frames: np.ndarray
    audio: np.ndarray


@dataclass(frozen=True)
class MomentsView:
    """A few frames of a clip.

    Attributes:
        frames: uint8 RGB, upright, shape (n, height, width, 3) with n of at least 1.
        times_s: when each of them is on the screen, in seconds from the clip's start, rising; float64 of shape (n,).
    """

    frames: np.ndarray
    times_s: np.ndarray


@dataclass(frozen=True)
class StemsView:
    """A clip's sound in two parts that add up to the whole.

    Attributes:
        vocals: what is sung or spoken: float32, shape (samples,).
        rest: everything else, the same.
    """

    vocals: np.ndarray
    rest: np.ndarray


Decoded = Listed | MediaInfo | np.ndarray | AudioVideoView | MomentsView | StemsView
