"""Decodes one clip by view: a path and a stretch of time in, exactly the pictures and samples asked for out.

Nothing here knows of models or of Beam, so that the process that decodes (`transforms.decoding_child`) stays small.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path

import numpy as np
from av import AudioResampler
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import FFmpegError

from model_handlers.views import Audio, AudioVideo, AudioVideoView, Decoded, Header, MiddleFrame, Moments, View
from transforms import tfio_audio
from transforms.pictures import Allocate, frames, middle_frame, moments
from transforms.pieces import Piece
from transforms.tracks import Limits, MediaError, MediaFile, NoTrack, shown_s

__all__ = ["Allocate", "Limits", "MediaError", "NoTrack", "decode"]

_CONTEXT_S = 0.2  # resampled on either side and cut off again: a whole number of samples at every usual rate
_SAME_INSTANT_S = 0.02  # Matroska and FLV round times to 1 ms, AVI to a packet: samples this close follow each other
_SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # FFmpeg's names, NumPy's
_LOST_S = 0.3  # by which PyAV's length of an MP3 file, whole packets, may be more than its sound, at 8 kHz too
_RESAMPLED_AT_ONCE = 1 << 16  # samples: few calls, and small enough for the cache


def decode(
    path: str | Path | Piece,
    clip_start_s: float,
    duration_s: float | None,
    view: View,
    limits: Limits | None = None,
    allocate: Allocate = np.empty,
) -> Decoded:
    """Returns `view` of the clip that starts at `clip_start_s` in the file at `path`.

    Args:
        path: a local file, or a piece of one.
        clip_start_s: where the clip starts in the file, in seconds.
        duration_s: the clip's length in seconds; ``None``, or a length that goes past the file's end, means up to it.
        view: what to decode; its docstring gives the payload's shape.
        limits: the size limits (those on time and memory are not enforced in this process).
        allocate: makes the arrays that hold the payload, called as ``allocate(shape, dtype)``.

    Raises:
        NoTrack: the clip lacks the picture or the sound that the view is about.
        MediaError: it cannot be decoded.
        ValueError: there can be no such view: its crop does not fit its scaled frame, say.
    """
    limits = limits or Limits()
    if isinstance(view, AudioVideo) and not 0 < view.crop <= view.short_side:
        raise ValueError(f"a crop of {view.crop} pixels does not fit a short side of {view.short_side}")
    if isinstance(view, Moments) and not (view.every_s > 0 and view.most > 0 and view.short_side > 0):
        raise ValueError(f"there are no such moments: {view}")
    try:
        _check_file(path)
        with MediaFile(path, clip_start_s, duration_s, limits) as media:
            match view:
                case Header():
                    return media.info()
                case MiddleFrame():
                    return middle_frame(media, allocate)
                case Moments():
                    return moments(media, view, allocate)
                case Audio(decoder="pyav"):
                    return _samples(media, view.rate, allocate)
                case Audio(decoder="tensorflow-io"):
                    return _samples_by_tfio(media, path, view.rate, allocate)
                case AudioVideo():
                    _ = media.video, media.audio  # both are there, or nothing is decoded
                    return AudioVideoView(frames(media, view, allocate), _samples(media, view.rate, allocate))
            raise TypeError(f"no such view: {view!r}")
    except MemoryError as error:
        raise MediaError(
            f"decoding it needs more memory than the limit of {limits.memory_bytes / (1 << 30):.1f} GiB"
        ) from error
    except MediaError:
        raise
    except FFmpegError as error:
        raise MediaError(f"cannot be decoded: {error.strerror}") from error
    except OSError as error:
        raise MediaError(f"cannot be read: {error}", retryable=True) from error
    except (ValueError, LookupError, ArithmeticError) as error:  # what PyAV also makes of damaged headers
        raise MediaError(f"cannot be decoded: {type(error).__name__}: {error}") from error


def _check_file(file: str | Path | Piece) -> None:
    path = Path(file.path if isinstance(file, Piece) else file)
    if not path.exists():
        raise MediaError(f"no such file: {path}", retryable=True)
    if not path.is_file():
        raise MediaError(f"not a file: {path}")
    if not os.access(path, os.R_OK):
        raise MediaError(f"no permission to read {path}", retryable=True)
    size = path.stat().st_size
    if isinstance(file, Piece):
        if file.offset + file.length > size:
            raise MediaError(f"{path} has {size} bytes and ends before the clip does: was it cut off?", retryable=True)
        size = file.length
    if not size:
        raise MediaError("the file is empty")


def _samples(media: MediaFile, rate: int, allocate: Allocate) -> np.ndarray:
    stream = media.audio
    count = _count(media, rate)
    from_s = media.start_s - _CONTEXT_S
    decoded = media.frames(stream, from_s, media.end_s + _CONTEXT_S)
    first = list(islice(decoded, 1))
    rate_there = first[0][1].sample_rate if first else stream.rate  # what is decoded, where the header says otherwise
    timeline = _Timeline(from_s, media.duration_s + 2 * _CONTEXT_S, rate_there)
    for frame_s, frame in chain(first, decoded):
        timeline.put(frame_s, frame)
    media.check_complete(stream, timeline.reached_s, media.end_s)
    lost_s = min(timeline.reached_s, media.end_s) - media.start_s - timeline.heard_s
    if media.errors and lost_s > max(1.0, 0.1 * media.duration_s):
        raise MediaError(f"damaged: {lost_s:.1f} s of {media.duration_s:.1f} s of audio cannot be decoded")
    return _without_context(_resampled(timeline.samples, rate_there, rate), rate, count, allocate)


def _samples_by_tfio(media: MediaFile, path: str | Path | Piece, rate: int, allocate: Allocate) -> np.ndarray:
    """The same by tensorflow-io. The header is still read by PyAV, so that a clip has one length whoever decodes it."""
    stream = media.audio
    tfio_audio.check_readable(media.container, stream.codec_context.codec.canonical_name)
    count = _count(media, rate)
    with path.as_file() if isinstance(path, Piece) else nullcontext(path) as whole:
        return _read_by_tfio(media, tfio_audio.SoundFile(whole), stream, count, rate, allocate)


def _read_by_tfio(
    media: MediaFile, sound: tfio_audio.SoundFile, stream: AudioStream, count: int, rate: int, allocate: Allocate
) -> np.ndarray:
    wanted = np.zeros(round((media.duration_s + 2 * _CONTEXT_S) * sound.rate), np.float32)
    lead = round((_CONTEXT_S - media.start_s) * sound.rate)  # where the file's first sample belongs in what is wanted
    first, stop = max(0, -lead), min(sound.length, len(wanted) - lead)
    if stop / sound.rate < media.end_s - _LOST_S:
        raise MediaError(f"tensorflow-io finds sound up to {stop / sound.rate:.1f} s of {media.end_s:.1f} s")
    if media.container == "flac":
        _check_flac(media, stream, stop / sound.rate)
    wanted[lead + first : lead + stop] = _mean(sound.read(first, stop))
    return _without_context(tfio_audio.resampled(wanted, sound.rate, rate), rate, count, allocate)


def _check_flac(media: MediaFile, stream: AudioStream, until_s: float) -> None:
    """Raises `MediaError` where a file ends early: tensorflow-io would wait for the rest of it forever."""
    reached_s = 0.0
    for frame_s, frame in media.frames(stream, until_s - _CONTEXT_S, until_s):
        reached_s = frame_s + shown_s(frame, stream)
    if reached_s < until_s - 0.5 / stream.rate:
        raise MediaError(f"truncated: audio ends at {reached_s:.1f} s of {until_s:.1f} s")


def _count(media: MediaFile, rate: int) -> int:
    """How many samples the clip has at `rate`."""
    count = round(media.duration_s * rate)
    if count == 0:
        raise MediaError(f"the clip lasts {media.duration_s:.6f} s, less than one sample at {rate} Hz")
    return count


def _without_context(resampled: np.ndarray, rate: int, count: int, allocate: Allocate) -> np.ndarray:
    lead = round(_CONTEXT_S * rate)
    return np.clip(resampled[lead : lead + count], -1.0, 1.0, out=allocate((count,), np.float32))


class _Timeline:
    """Mono samples from `start_s` on, each frame at its time, silence where the track has nothing.

    Attributes:
        start_s: the time of the first sample.
        samples: float32.
        reached_s: where the last frame ends.
        heard_s: seconds for which there was a frame.
    """

    def __init__(self, start_s: float, duration_s: float, rate: int) -> None:
        self.start_s = start_s
        self.samples = np.zeros(round(duration_s * rate), np.float32)
        self.reached_s = start_s
        self.heard_s = 0.0
        self._rate = rate
        self._next = 0

    def put(self, at_s: float, frame: AudioFrame) -> None:
        """Adds a frame: where its time says, or right after the one before where that is about the same."""
        mono = _resampled(_mono(frame), frame.sample_rate, self._rate)  # a stream may change its rate in its course
        at = round((at_s - self.start_s) * self._rate)
        if abs(at - self._next) <= _SAME_INSTANT_S * self._rate and self.heard_s:
            at = self._next
        self._next = at + len(mono)
        self.reached_s = self.start_s + self._next / self._rate
        first, last = max(at, 0), min(self._next, len(self.samples))
        if first < last:
            self.samples[first:last] = mono[first - at : last - at]
            self.heard_s += (last - first) / self._rate


def _mono(frame: AudioFrame) -> np.ndarray:
    """The mean of the channels: float32 in about [-1, 1], shape (frame.samples,)."""
    kind = np.dtype(_SAMPLE_TYPES[frame.format.name.removesuffix("p")])
    planes, count = frame.planes, frame.samples
    if frame.format.is_planar:
        channels = [np.frombuffer(memoryview(plane), kind, count) for plane in planes]
    else:
        together = np.frombuffer(memoryview(planes[0]), kind, count * frame.layout.nb_channels)
        channels = list(together.reshape(count, -1).T)
    return _mean(channels)


def _mean(channels: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of channels of one of the types of `_SAMPLE_TYPES`, scaled to float32 in about [-1, 1]."""
    kind = channels[0].dtype
    mono = channels[0].astype(np.float32, copy=False)
    for channel in channels[1:]:
        mono = mono + channel
    mean = mono if len(channels) == 1 else mono * np.float32(1 / len(channels))
    if kind.kind == "f":
        return mean
    return (mean - (128 if kind.kind == "u" else 0)) / np.float32(1 << (8 * kind.itemsize - 1))


def _resampled(mono: np.ndarray, rate: int, to_rate: int) -> np.ndarray:
    """Resamples float32 samples; the first stays where it is in time."""
    if rate == to_rate:
        return mono
    resampler = AudioResampler(format="flt", layout="mono", rate=to_rate)
    parts: list[np.ndarray] = []
    for start in range(0, len(mono), _RESAMPLED_AT_ONCE):
        chunk = mono[None, start : start + _RESAMPLED_AT_ONCE]
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(chunk, np.float32), format="flt", layout="mono")
        frame.sample_rate = rate
        parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(parts)
