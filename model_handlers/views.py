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


View = Listing | Header | MiddleFrame | Audio | AudioVideo


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


Decoded = Listed | MediaInfo | np.ndarray | AudioVideoView
