"""Train, validation or test: decided for each clip from its own record, so that it never changes sides.

The decision needs no other clip, no order and no run: a hash of the source video's id is compared with the shares that
the profile gives. Clips on a list of benchmark clips are set aside.
"""

from __future__ import annotations

import csv
import hashlib
import math
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

import apache_beam as beam
from apache_beam.utils.shared import Shared
from pydantic import ConfigDict, Field

from transforms.records import Caption, Clip
from transforms.sources import open_text, shown

TRAIN, VALIDATION, TEST, BENCHMARK = "train", "validation", "test", "benchmark"
# What sources call a held-out part: VGGSound "test", AudioSet "eval". "dev" is left out: Clotho trains on it.
SOURCE_SPLITS = {"test": TEST, "eval": TEST, "evaluation": TEST, "val": VALIDATION, "valid": VALIDATION}
SOURCE_SPLITS[VALIDATION] = VALIDATION
# AudioSet's segments, and so AudioCaps' and VGGSound's clips, are 10 s (Gemmeke et al., ICASSP 2017, section 3).
SECONDS = 10.0

_CLIP_IDS, _VIDEO_IDS, _FILES = ("clip_id",), ("video_id", "youtube_id", "ytid"), ("file_name",)
_STARTS = ("start_s", "start_time", "start_seconds", "start")
_ENDS = ("end_s", "end_time", "end_seconds", "end")
_VGGSOUND = ["youtube_id", "start", "label", "split"]  # its CSV has no header
_AUDIOSET = ["youtube_id", "start", "end", "labels"]  # nor has AudioSet's, but for comments


@dataclass(frozen=True)
class SplitRule:
    """How clips are split.

    A hash puts each source video somewhere in [0, 1): below `test` is test, from 1 - `validation` on is validation, and
    what lies between is train. So a larger share takes clips from train only, a smaller one gives them back to train,
    and no clip ever goes from validation to test or back.

    Attributes:
        validation: share of validation.
        test: share of test; with `validation` below 1.
        respect_source: whether a clip that its source calls test or validation (`SOURCE_SPLITS`) is that. One that its
            source calls train is split by hash like any other, so it may be held out, but no source's test clip is
            ever trained on.
        benchmarks: name → list of clips (`read_list` says which) that are in neither train, validation nor test; a path
            relative to the profile, or ``gs://…``.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.02
    test: Annotated[float, Field(ge=0, lt=1)] = 0.02
    respect_source: bool = True
    benchmarks: Mapping[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation {self.validation:g} and test {self.test:g} leave nothing to train on")


def position(clip: Clip) -> float:
    """Where in [0, 1) a clip lies: the first 53 bits of the SHA-256 of its video's id, or of its own without one.

    The source's name is no part of it: AudioSet and VGGSound list the same YouTube videos, and what was renamed must
    stay where it was. So files of one name in different folders share a place as well.
    """
    digest = hashlib.sha256((clip.video_id or clip.clip_id).encode(errors="surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def split_of(clip: Clip, rule: SplitRule) -> str:
    """``train``, ``validation`` or ``test``, whatever lists of benchmark clips say."""
    if rule.respect_source and (said := SOURCE_SPLITS.get(clip.split.strip().lower())):
        return said
    place = position(clip)
    if place < rule.test:
        return TEST
    return VALIDATION if place >= 1 - rule.validation else TRAIN


@dataclass(frozen=True)
class Entry:
    """One row of a list of benchmark clips; `video` is a video's id or a file's name without its ending."""

    clip_id: str = ""
    video: str = ""
    start_s: float = 0.0
    end_s: float = math.inf


class Benchmarks:
    """Which clips are on which lists."""

    def __init__(self, lists: Mapping[str, Iterable[Entry]]):
        self.clips: dict[str, set[str]] = {}
        self.videos: dict[str, list[tuple[float, float, str]]] = {}
        for name, entries in lists.items():
            for entry in entries:
                if entry.clip_id:
                    self.clips.setdefault(entry.clip_id, set()).add(name)
                if entry.video:
                    self.videos.setdefault(entry.video, []).append((entry.start_s, entry.end_s, name))

    @classmethod
    def read(cls, paths: Mapping[str, str]) -> Benchmarks:
        """Reads lists by name. Raises what `read_list` raises."""
        return cls({name: read_list(path) for name, path in paths.items()})

    def of(self, clip: Clip) -> tuple[str, ...]:
        """The names of the lists that a clip is on, sorted: by its id, or by a stretch of its video that overlaps.

        A clip that ends with its file reaches as far as any stretch: one too many set aside is the smaller mistake.
        """
        names = set(self.clips.get(clip.clip_id, ()))
        end = math.inf if clip.end_s is None else clip.end_s
        for video in {clip.video_id, _stem(clip.uri)}:
            for start_s, end_s, name in self.videos.get(video, ()):
                if clip.start_s < end_s and start_s < end:
                    names.add(name)
        return tuple(sorted(names))


def read_list(path: str) -> list[Entry]:
    """Reads a list of benchmark clips, a CSV file.

    AudioCaps' (``youtube_id`` and ``start_time``), Clotho's (``file_name``), VGGSound's (only its test rows),
    AudioSet's segments, or one of your own with a header that has one column or more of ``clip_id``, ``video_id``,
    ``youtube_id``, ``ytid`` and ``file_name``. A start (``start_s``, ``start_time`` …) limits a row to a stretch of the
    video; it ends at its end (``end_s`` …) or, without one, after 10 s. Without a start the whole video is meant.

    Raises:
        ValueError: the file cannot be read, is none of these lists, or names no clip. The message says which file.
    """
    try:
        with open_text(path) as stream:
            found = list(_entries(csv.reader(stream, strict=True, skipinitialspace=True)))
        if not found:
            raise ValueError("it names no clip")
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be used as a list of benchmark clips: {error}") from error
    return found


def in_split(caption: Caption, rule: SplitRule, benchmarks: Benchmarks) -> Caption:
    """The caption with its split, and the lists of benchmark clips that its clip is on."""
    names = benchmarks.of(caption.clip)
    return replace(caption, split=BENCHMARK if names else split_of(caption.clip, rule), benchmarks=names)


@dataclass
class AssignSplits(beam.PTransform):
    """Captions → captions with their splits.

    Of the lists only the paths travel: each worker process reads them once, as it reads its models, so that neither the
    job's description nor a side input grows with them. Workers elsewhere need paths that they can read (``gs://…``).
    """

    rule: SplitRule

    def expand(self, captions: beam.PCollection[Caption]) -> beam.PCollection[Caption]:
        return captions | beam.ParDo(_Assign(self.rule))


class _Assign(beam.DoFn):
    def __init__(self, rule: SplitRule):
        self.rule, self.shared = rule, Shared()

    def setup(self) -> None:
        self.benchmarks = self.shared.acquire(lambda: Benchmarks.read(self.rule.benchmarks))

    def process(self, caption: Caption) -> Iterator[Caption]:
        yield in_split(caption, self.rule, self.benchmarks)


def _entries(rows: Iterable[list[str]]) -> Iterator[Entry]:
    columns: list[str] = []
    for number, row in enumerate(rows, 1):
        fields = [value.strip() for value in row]
        if not any(fields) or (not columns and fields[0].startswith("#")):  # AudioSet's lists begin with comments
            continue
        if not columns:
            columns = _columns(fields)
            if columns not in (_VGGSOUND, _AUDIOSET):
                continue
        values = dict(zip(columns, fields, strict=False))  # captions that follow may hold commas without quotes
        if columns == _VGGSOUND and values.get("split") != TEST:
            continue
        try:
            yield from _row(values)
        except ValueError as error:
            raise ValueError(f"record {number}: {error}") from None


def _columns(first: list[str]) -> list[str]:
    """The names of a list's columns, from its first record."""
    names = [name.lower() for name in first]
    if set(names) & {*_CLIP_IDS, *_VIDEO_IDS, *_FILES}:
        return names
    if len(first) == 4 and _is_number(first[1]):
        return _AUDIOSET if _is_number(first[2]) else _VGGSOUND
    known = ", ".join((*_CLIP_IDS, *_VIDEO_IDS, *_FILES))
    raise ValueError(f"its first line {shown(','.join(first))} has no column called {known}")


def _row(values: Mapping[str, str]) -> Iterator[Entry]:
    start, end = _seconds(values, _STARTS), _seconds(values, _ENDS)
    stretch = (0.0, math.inf) if start is None else (start, start + SECONDS if end is None else end)
    if stretch[1] <= stretch[0]:
        raise ValueError(f"it ends at {stretch[1]:g} s, not after its start at {stretch[0]:g} s")
    found = [Entry(clip_id=values[name]) for name in _CLIP_IDS if values.get(name)]
    found += [Entry("", values[name], *stretch) for name in _VIDEO_IDS if values.get(name)]
    found += [Entry("", _stem(values[name]), *stretch) for name in _FILES if values.get(name)]
    if not found:
        raise ValueError("it names no clip")
    yield from found


def _seconds(values: Mapping[str, str], names: tuple[str, ...]) -> float | None:
    text = next((values[name] for name in names if values.get(name)), None)
    if text is None:
        return None
    if not _is_number(text):
        raise ValueError(f"{shown(text)} is no time in seconds")
    return float(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _stem(path: str) -> str:
    """A file's name without its folder and its ending."""
    return posixpath.splitext(posixpath.basename(path))[0]
