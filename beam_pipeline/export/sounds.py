"""The clips' sounds as files, or where their media lie: decoded by a few at once, given in the order of the clips."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Literal, Self, TypeVar

from beam_pipeline.excerpts import Excerpts, encoded
from beam_pipeline.export.records import Row
from model_handlers.views import Header, MediaInfo
from transforms.cues import duration_s
from transforms.decoder import Decoder
from transforms.fetch import open_media
from transforms.media import MediaError
from transforms.pieces import Member
from transforms.records import Clip

T = TypeVar("T")
U = TypeVar("U")
AudioFormat = Literal["flac", "wav"]
AHEAD = 4  # clips that are under way, for each thread
MOST_THREADS = 8
_WEB = ("http://", "https://")
_TRACK = re.compile(r"(\d+) Hz (\d+) channel")  # of a `MediaInfo`'s sound


@dataclass(frozen=True)
class Sound:
    """A clip's sound.

    Attributes:
        content: a FLAC or WAV file of 16 bits, mono.
        rate: in Hz.
        samples: how many.
    """

    content: bytes
    rate: int
    samples: int


@dataclass(frozen=True)
class Place:
    """Where a clip's sound is to be found.

    Attributes:
        kind: ``file`` or ``url``.
        source: the path or the URL.
        rate: of the whole file's sound, in Hz.
        channels: of it.
        duration_s: of it.
        start_s: where the clip begins in it.
        end_s: where it ends.
    """

    kind: Literal["file", "url"]
    source: str
    rate: int
    channels: int
    duration_s: float
    start_s: float
    end_s: float


class Missing(Exception):
    """A clip has no sound to export; the message says why."""


class Sounds:
    """Decodes and encodes; a context. Safe to use from many threads."""

    def __init__(self, form: AudioFormat, rate: int, threads: int) -> None:
        self._excerpts, self._form, self._rate = Excerpts(threads), form, rate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._excerpts.close()

    def of(self, row: Row) -> Sound:
        """The sound of a row's clip. Raises `Missing`."""
        try:
            samples = self._excerpts.sound(_from_here(clip_of(row)), self._rate)
        except MediaError as error:
            raise Missing(str(error)) from None
        if samples is None or not len(samples):
            raise Missing("it has no sound")
        return Sound(encoded(samples, self._rate, self._form), self._rate, len(samples))


class Places:
    """Reads the headers of media files; a context. Safe to use from many threads."""

    def __init__(self, threads: int) -> None:
        self._decoder = Decoder(processes=threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def of(self, row: Row) -> Place:
        """Where the sound of a row's clip lies. Raises `Missing` where there is none, or none that others find."""
        clip = _from_here(clip_of(row))
        _check_address(clip.uri)
        try:
            with open_media(clip.uri) as here:
                source = clip.uri if clip.uri.startswith(_WEB) else os.path.abspath(str(here))
                info = self._decoder.submit(here, 0.0, None, Header()).result()
        except MediaError as error:
            raise Missing(str(error)) from None
        assert isinstance(info, MediaInfo)
        if not (track := _TRACK.search(info.audio or "")):
            raise Missing("it has no sound")
        length = duration_s(clip)
        end_s = info.duration_s if length is None else min(clip.media_start_s + length, info.duration_s)
        if clip.media_start_s >= end_s:
            raise Missing(f"{source} ends before the clip begins")
        kind: Literal["file", "url"] = "url" if clip.uri.startswith(_WEB) else "file"
        return Place(kind, source, int(track[1]), int(track[2]), info.duration_s, clip.media_start_s, end_s)


def in_order(items: Iterable[T], work: Callable[[T], U], threads: int) -> Iterator[tuple[T, U | Missing]]:
    """Yields each item with what `work` makes of it, or why there is nothing; so many at once, and few ahead."""
    waiting: deque[tuple[T, Future[U | Missing]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="export")
    try:
        for item in items:
            waiting.append((item, pool.submit(_tried, work, item)))
            if len(waiting) > AHEAD * threads:
                earliest, future = waiting.popleft()
                yield earliest, future.result()
        for earliest, future in waiting:
            yield earliest, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def threads_here() -> int:
    """How many clips are worked on at once."""
    return min(MOST_THREADS, os.cpu_count() or 1)


def clip_of(row: Row) -> Clip:
    """A row's clip."""
    values = {field.name: row[field.name] for field in fields(Clip) if field.name != "split"}
    return Clip(**{**values, "labels": tuple(row["labels"]), "split": row["source_split"]})


def _from_here(clip: Clip) -> Clip:
    """The clip with its whole path, so that a message about a missing file says where it was looked for."""
    if not clip.uri or "://" in clip.uri:
        return clip
    return replace(clip, uri=os.path.join(os.getcwd(), clip.uri))  # a member's name stays as it is


def _tried(work: Callable[[T], U], item: T) -> U | Missing:
    try:
        return work(item)
    except Missing as why:
        return why


def _check_address(uri: str) -> None:
    """Raises `Missing` where other programs do not find the media at `uri`; nothing is opened for that."""
    if Member.of(uri):
        raise Missing("it lies within a shard, where other programs do not find it; --audio flac writes it out")
    if "://" in uri and not uri.startswith(("file://", *_WEB)):
        raise Missing("other programs do not find it where it lies; --audio flac writes it out")
