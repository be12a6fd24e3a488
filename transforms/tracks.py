"""An open media file: the clip's place in it, its two tracks, and their packets and frames from an instant on.

All times are seconds from the start of the file, which is where its first track starts.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, overload

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError, InvalidDataError
from av.error import EOFError as EndOfFileError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from model_handlers.views import MediaInfo
from transforms.pieces import Piece

# Containers of sound and video, by FFmpeg's names. Playlists (HLS, concat), pictures and text are left out on purpose:
# FFmpeg reads them as video too, and a playlist makes it open other files.
_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,ivf,matroska,mov,mp3,mpeg,mpegts,mxf,nut,ogg,rm,tta,w64,wav,wv"
)
# Whose length FFmpeg guesses by the bit rate of the first frames; here the packets are counted instead.
_DURATION_IS_A_GUESS = {"aac", "ac3", "amr", "eac3", "mp3"}
_MAX_RATE_HZ = 768_000
# An index is by decoding time, so a seek may land behind the frame wanted. Sound starts earlier at once: the first
# frames of a codec with memory (MP3's bit reservoir, Opus' 80 ms) are not yet right.
_SEEK_BACK_S = {"video": (0.0, 2.0, 10.0, math.inf), "audio": (0.5, 2.0, 10.0, math.inf)}
_RIFF = {"avi", "wav"}
_RIFF_SIZE_UNKNOWN = 0x7FFF_F000  # and above: what SoX (this), FFmpeg (all ones) and others write into a pipe
_SEARCHED = {"mpeg", "mpegts"}  # have no index: a search by time may miss the first keyframe
_ROUNDING_S = 1e-6  # of a time that is a fraction in the file and a float here


@dataclass(frozen=True)
class Limits:
    """What one decode may take.

    Attributes:
        timeout_s: wall-clock seconds; `transforms.decoder` enforces it.
        max_pixels: pixels of a frame; the default is 8K.
        max_clip_s: seconds of a clip.
        memory_bytes: address space of the decoding process; `transforms.decoding_child` enforces it.
    """

    timeout_s: float = 60.0
    max_pixels: int = 36_000_000
    max_clip_s: float = 120.0
    memory_bytes: int = 4 << 30


class MediaError(ValueError):
    """The clip cannot be decoded: the message says what is wrong and where; `retryable`, if it may work next time."""

    def __init__(self, message: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class NoTrack(Exception):
    """The clip lacks the track that the view needs, so the cue does not apply: "no video track" or "no audio track"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MediaFile:
    """An open media file and a clip in it; a context manager.

    Attributes:
        limits: the size limits.
        start_s: where the clip starts in the file.
        duration_s: how long it is: what was asked for, or less where the file ends before.
        errors: packets that could not be decoded and were skipped.

    Raises:
        MediaError: it is no media file, there is no such clip in it, the clip is too long.
        av.error.FFmpegError: it cannot be opened for another reason.
    """

    def __init__(self, path: str | Path | Piece, start_s: float, duration_s: float | None, limits: Limits) -> None:
        self.limits = limits
        self.start_s = start_s
        self.errors = 0
        self._rewound = True
        self._container = _open(path, limits)
        try:
            container = self._container
            moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
            self._video = max(moving, key=_is_default, default=None)
            self._audio = max(container.streams.audio, key=_is_default, default=None)
            self._streams = [stream for stream in (self._video, self._audio) if stream is not None]
            if not self._streams:
                raise MediaError("neither sound nor video in the file")
            self._tick_s = {stream.index: float(stream.time_base or 0) for stream in self._streams}
            self._origin_s = (container.start_time or 0) / av.time_base
            self._guesses_duration = container.format.name in _DURATION_IS_A_GUESS
            self._cut_to = _present_share(path) if container.format.name in _RIFF else 1.0
            self.duration_s = self._clip_length(duration_s)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._container.close()

    @property
    def end_s(self) -> float:
        """Where the clip ends in the file."""
        return self.start_s + self.duration_s

    @property
    def container(self) -> str:
        """FFmpeg's name of the container, such as ``wav``."""
        return self._container.format.name

    def info(self) -> MediaInfo:
        """What the header says."""
        video = audio = None
        if self._video is not None:
            video = "unknown codec"
            if (picture := self._video.codec_context) is not None:
                rate = self._video.average_rate
                video = f"{picture.codec.canonical_name} {picture.width}x{picture.height}"
                video += f" {round(float(rate), 2):g} fps" if rate else ""
        if self._audio is not None:
            audio = "unknown codec"
            if (sound := self._audio.codec_context) is not None:
                audio = f"{sound.codec.canonical_name} {sound.sample_rate} Hz {sound.channels} channel"
                audio += "s" * (sound.channels != 1)
        return MediaInfo(self.duration_s, video, audio)

    @property
    def video(self) -> VideoStream:
        """The picture, ready to be decoded. Raises `NoTrack`, or `MediaError` where it is beyond the limits."""
        if self._video is None:
            raise NoTrack("no video track")
        self._prepare(self._video)
        self.check_size(self._video.width, self._video.height)
        return self._video

    @property
    def audio(self) -> AudioStream:
        """The sound, ready to be decoded. Raises `NoTrack`, or `MediaError` where its header is damaged."""
        if self._audio is None:
            raise NoTrack("no audio track")
        self._prepare(self._audio)
        if not 0 < self._audio.rate <= _MAX_RATE_HZ:
            raise MediaError(f"the audio track says {self._audio.rate} Hz: its header is damaged")
        return self._audio

    def _prepare(self, stream: VideoStream | AudioStream) -> None:
        context = stream.codec_context
        if context is None:
            raise MediaError(f"there is no decoder for the {stream.type} track's codec")
        if not context.is_open:
            context.thread_count = 1  # clips are decoded side by side instead
            context.options = {"max_pixels": str(self.limits.max_pixels)}  # frames may outgrow the header

    def check_size(self, width: int, height: int) -> None:
        """Raises `MediaError` where a frame has too many pixels."""
        if width * height > self.limits.max_pixels:
            raise MediaError(f"a frame of {width}x{height} is above the limit of {self.limits.max_pixels} pixels")

    @overload
    def frames(self, stream: VideoStream, from_s: float, until_s: float) -> Iterator[tuple[float, VideoFrame]]: ...

    @overload
    def frames(self, stream: AudioStream, from_s: float, until_s: float) -> Iterator[tuple[float, AudioFrame]]: ...

    def frames(
        self, stream: VideoStream | AudioStream, from_s: float, until_s: float
    ) -> Iterator[tuple[float, VideoFrame | AudioFrame]]:
        """Yields (time, frame) as shown, from the last frame at or before `from_s` until past `until_s`.

        Begins later where the track does, and earlier where seeking is coarse.
        """
        for back_s in _SEEK_BACK_S[stream.type]:
            self._go_to(stream, from_s - back_s)
            self.errors = 0
            frames = self._decode(stream, self._packets(stream, until_s))
            first = next(frames, None)
            if first is not None and (
                first[0] <= from_s + _ROUNDING_S or from_s - back_s <= self._track_start_s(stream)
            ):
                yield first
                yield from frames
                return

    def frame_at(self, stream: VideoStream, at_s: float) -> tuple[float, VideoFrame] | None:
        """Returns (time, frame) of the frame shown at `at_s`, decoding only what it depends on.

        ``None`` where the packets do not tell which one that is, or it cannot be decoded.
        """
        for back_s in _SEEK_BACK_S["video"]:
            self._go_to(stream, at_s - back_s)
            group: list[Packet] = []  # since the last keyframe
            wanted: int | None = None
            for packet in self._packets(stream, at_s):
                if packet.pts is None:
                    return None
                if self._time_s(packet.pts, stream.index) <= at_s + _ROUNDING_S:
                    if packet.is_keyframe:
                        group, wanted = [], packet.pts
                    elif wanted is not None:
                        wanted = max(wanted, packet.pts)
                group.append(packet)
            if wanted is not None:
                return self._decode_one(stream, group, wanted)
        return None

    def _decode_one(self, stream: VideoStream, group: list[Packet], wanted: int) -> tuple[float, VideoFrame] | None:
        def needed() -> Iterator[Packet]:
            for packet in group:
                stream.codec_context.skip_frame = "DEFAULT" if packet.pts == wanted else "NONREF"
                yield packet

        try:
            for at_s, frame in self._decode(stream, needed()):
                if frame.pts == wanted and isinstance(frame, VideoFrame):
                    return at_s, frame
        finally:
            stream.codec_context.skip_frame = "DEFAULT"
        return None

    def check_complete(self, stream: VideoStream | AudioStream, reached_s: float, until_s: float) -> None:
        """Raises `MediaError` where a track ends before its header says, by more than 1 s and a tenth of the clip.

        Args:
            stream: the track.
            reached_s: where its last frame ends.
            until_s: how far it was wanted.
        """
        own_end_s = self._track_end_s(stream)
        promised_s = until_s if own_end_s is None else min(until_s, own_end_s)
        allowed_s = max(1.0, 0.1 * self.duration_s)
        reached_s = max(reached_s, self.start_s, self._track_start_s(stream))
        if promised_s - reached_s <= allowed_s:
            return
        if own_end_s is None and self._last_packet_s(promised_s) >= promised_s - allowed_s:
            return  # the header gives only the file's length, and the other track has it
        damage = f", {self.errors} damaged packets" if self.errors else ""
        raise MediaError(f"truncated: {stream.type} ends at {reached_s:.1f} s of {promised_s:.1f} s{damage}")

    def _clip_length(self, duration_s: float | None) -> float:
        longest_s = self.limits.max_clip_s
        if not self.start_s >= 0 or not (duration_s is None or duration_s > 0):
            raise MediaError(f"there is no stretch in a file that starts at {self.start_s} s and lasts {duration_s} s")
        end_s = self._file_end_s(self.start_s + min(longest_s + 1, duration_s or math.inf))
        if end_s <= 0:
            raise MediaError("there is nothing in the file: it lasts 0 s")
        if self.start_s >= end_s:
            raise MediaError(f"the clip starts at {self.start_s:g} s, but the file ends at {end_s:.1f} s")
        length_s = min(duration_s or math.inf, end_s - self.start_s)
        if length_s > longest_s:
            raise MediaError(
                f"the clip is longer than the limit of {longest_s:g} s: list it as clips with start_s and end_s"
            )
        return length_s

    def _file_end_s(self, enough_s: float) -> float:
        """Where the file ends; where only reading it would tell, some time past `enough_s` stands for any later end."""
        ends = [self._track_end_s(stream) for stream in self._streams]
        known = [end for end in ends if end is not None]
        if len(known) == len(ends):
            return max(known)
        if self._container.duration is not None and not self._guesses_duration:
            return max(self._container.duration / av.time_base, *known, 0.0)
        return self._last_packet_s(enough_s)

    def _track_end_s(self, stream: VideoStream | AudioStream) -> float | None:
        """Where the header says that a track ends; ``None`` where it does not say."""
        if stream.duration is not None and stream.time_base is not None and not self._guesses_duration:
            return self._track_start_s(stream) + float(stream.duration * stream.time_base) / self._cut_to
        written = stream.metadata.get("DURATION", "").split(":")  # Matroska's statistics tag: 00:00:10.008000000
        try:
            hours, minutes, seconds = (float(part) for part in written)
        except ValueError:
            return None
        return hours * 3600 + minutes * 60 + seconds - self._origin_s

    def _track_start_s(self, stream: VideoStream | AudioStream) -> float:
        if stream.start_time is None or stream.time_base is None:
            return 0.0
        return float(stream.start_time * stream.time_base) - self._origin_s

    def _time_s(self, pts: int, track: int) -> float:
        return pts * self._tick_s[track] - self._origin_s

    def _last_packet_s(self, enough_s: float) -> float:
        """Where the last packet of any track ends, by reading the file until past `enough_s`."""
        self._go_to(None, 0.0)
        last_s = 0.0
        for packet in self._packets(None, enough_s):
            if packet.pts is not None:
                last_s = max(last_s, self._time_s(packet.pts + (packet.duration or 0), packet.stream_index))
        return last_s

    def _packets(self, stream: VideoStream | AudioStream | None, until_s: float) -> Iterator[Packet]:
        """Yields packets from where the file stands, as long as they may hold something at or before `until_s`."""
        packets = self._container.demux(*(self._streams if stream is None else [stream]))
        self._rewound = False
        while True:
            try:
                packet = next(packets)
            except MemoryError:
                raise
            except (StopIteration, FFmpegError, IndexError):
                return  # what cannot be read ends the file, as in FFmpeg; PyAV's IndexError: a track turned up midway
            when = packet.dts if packet.dts is not None else packet.pts
            if when is not None and self._time_s(when, packet.stream_index) > until_s:
                return
            if packet.size:  # an empty one repeats a frame (AVI) or ends the file; to a decoder it means the end
                yield packet

    def _decode(
        self, stream: VideoStream | AudioStream, packets: Iterator[Packet]
    ) -> Iterator[tuple[float, VideoFrame | AudioFrame]]:
        next_s = 0.0  # for tracks whose packets carry no time
        for packet in _and_then_none(packets):
            try:
                frames = stream.decode(packet)
            except MemoryError:
                raise
            except FFmpegError:
                self.errors += 1
                continue
            for frame in frames:
                at_s = next_s if frame.pts is None else self._time_s(frame.pts, stream.index)
                next_s = at_s + shown_s(frame, stream)
                yield at_s, frame

    def _go_to(self, stream: VideoStream | AudioStream | None, at_s: float) -> None:
        for other in self._container.streams:
            other.discard = Discard.default if other is stream or stream is None else Discard.all
        if self._rewound and at_s <= 0:
            return
        if at_s <= 0 and self._container.format.name in _SEARCHED:
            self._container.seek(0, unsupported_byte_offset=True)
            return
        # Before the start lies what an edit list hides; MP3 refuses that, and has what a decoder needs first from 0 on.
        for target_s in (max(at_s, -1.0), max(at_s, min(-self._origin_s, 0.0)), max(at_s, 0.0)):
            try:
                self._seek(stream, target_s + self._origin_s)
            except FFmpegError:
                continue
            self._rewound = False
            return
        if not self._rewound:
            self._container.seek(0, unsupported_byte_offset=True)  # a file without an index is read from its first byte

    def _seek(self, stream: VideoStream | AudioStream | None, at_s: float) -> None:
        if stream is None or stream.time_base is None:
            self._container.seek(math.floor(at_s * av.time_base))
        else:
            self._container.seek(math.floor(at_s / stream.time_base), stream=stream)


def _open(path: str | Path | Piece, limits: Limits) -> InputContainer:
    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "file",
        "max_pixels": str(limits.max_pixels),
        "threads": "1",
    }
    try:
        file = path.open() if isinstance(path, Piece) else f"file:{path}"
        return av.open(file, mode="r", options=options, metadata_errors="replace")
    except ArgumentError as error:
        raise MediaError("not a container of sound or video that is read here") from error
    except (InvalidDataError, EndOfFileError) as error:
        raise MediaError(
            "not media, or damaged from the start: no container of sound or video can be made out"
        ) from error


def _present_share(path: str | Path | Piece) -> float:
    """How much of a RIFF file is there, by the size in its header; FFmpeg shortens a cut one without a word."""
    with path.open() if isinstance(path, Piece) else open(path, "rb") as file:
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        present = file.seek(0, os.SEEK_END)
    if name != b"RIFF" or size >= _RIFF_SIZE_UNKNOWN or present > 0.95 * size:
        return 1.0
    return present / (size + 8)


def _is_default(stream: VideoStream | AudioStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _and_then_none(packets: Iterator[Packet]) -> Iterator[Packet | None]:
    """The packets, and the ``None`` that makes a decoder give out the frames that it still holds."""
    yield from packets
    yield None


def shown_s(frame: VideoFrame | AudioFrame, stream: VideoStream | AudioStream) -> float:
    """Seconds for which a frame is shown, or heard."""
    if isinstance(frame, AudioFrame):
        return frame.samples / frame.sample_rate
    if frame.duration and stream.time_base:
        return float(frame.duration * stream.time_base)
    return float(1 / stream.average_rate) if isinstance(stream, VideoStream) and stream.average_rate else 0.0
