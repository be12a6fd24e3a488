"""What people say of captions, clip by clip, and the files that it is kept in.

Each rater has one file, ``<rater>.jsonl``, a `Review` a line, that is only ever added to: a line that was acknowledged
is on the disk, and one that a kill cut off is the only thing that a kill can cost.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from pydantic import Field, TypeAdapter, ValidationError
from rich.progress import track

from beam_pipeline.config import ConfigError
from beam_pipeline.dataset import Dataset
from beam_pipeline.show import errors

FOLDER = "reviews"  # beside a dataset's versions
SUFFIX = ".jsonl"
DETAIL, HALLUCINATION = 3, 5  # the best marks, as FusionAudio (arXiv:2506.01111) gives them
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Review:
    """What one person said of one caption.

    Attributes:
        rater: who (`check_rater`).
        clip_id: of which clip.
        version: of the dataset, that the caption was read from.
        outcome: how the clip had ended there: among the ``captions``, or ``rejected``.
        caption: as it was shown.
        corresponds: whether it says what can be heard; ``None`` where that was not answered.
        corrected: the caption with the words changed that had to be; equal to `caption` where none was.
        inaudible: words and phrases of `caption` that nobody can hear, such as a colour.
        detail: 1 to 3, 3 is the most.
        hallucination: 1 to 5, 5 is none.
        cues: names of those cues that were judged, and whether each is right: it does not contradict the sound.
        note: whatever else there is to say.
        at: when it was saved, ISO 8601 in UTC.
        seconds: that the clip was looked at for.
        video_id: of the clip.
        inaudible_at: where the words of `inaudible` stand, by the pieces of `caption` that could be marked; empty in
            reviews that were kept before places were.
    """

    rater: str
    clip_id: str
    version: int
    outcome: Literal["captions", "rejected"]
    caption: str
    corresponds: bool | None
    corrected: str
    inaudible: tuple[str, ...] = ()
    detail: Annotated[int, Field(ge=1, le=DETAIL)] | None = None
    hallucination: Annotated[int, Field(ge=1, le=HALLUCINATION)] | None = None
    cues: tuple[tuple[str, bool], ...] = ()
    note: str = ""
    at: str = ""
    seconds: float = 0.0
    video_id: str = ""
    inaudible_at: tuple[int, ...] = ()


def check_rater(name: str) -> str:
    """Returns `name`, which becomes a file's. Raises `ConfigError` where it will not do."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--rater {name!r}: take up to 32 lower-case letters, digits, '-' and '_', the first a letter or digit"
        )
    return name


def read_reviews(folder: str) -> list[Review]:
    """Returns the latest review of each rater of each caption of a clip, by rater and then as they came in.

    A caption that was written anew is another: what a rater says of it takes nothing from what was said of the old one.

    Args:
        folder: with the raters' files, on any file system that Beam knows; none is no review.

    Raises:
        ConfigError: a file cannot be read, or holds something else. A last line that a kill cut off is left out.
    """
    latest: dict[tuple[str, str, str], Review] = {}
    for path in _files(folder):
        for review in _read(path):
            key = (review.rater, review.clip_id, review.caption)
            latest.pop(key, None)  # so that the order is that of the latest
            latest[key] = review
    return list(latest.values())


def reviews_of(rater: str, folder: str | Path) -> dict[tuple[str, str], Review]:
    """Returns the latest reviews of one rater by clip id and caption, in the order they came.

    Raises as `read_reviews` does.
    """
    latest: dict[tuple[str, str], Review] = {}
    path = Path(folder, check_rater(rater) + SUFFIX)
    for review in _read(str(path)) if path.exists() else ():
        key = (review.clip_id, review.caption)
        latest.pop(key, None)
        latest[key] = review
    return latest


def check_folder(rater: str, folder: str | Path) -> None:
    """Makes the folder of reviews. Raises `ConfigError` where a rater's reviews cannot be kept in it."""
    path = Path(folder, check_rater(rater) + SUFFIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error}; name another folder with --reviews") from None
    held = path if path.exists() else path.parent
    if not os.access(held, os.W_OK):
        raise ConfigError(f"{held}: cannot be written; name another folder with --reviews")


def append(folder: str | Path, review: Review) -> Path:
    """Adds a review to its rater's file, which is on the disk when this returns; returns the file.

    Safe against other processes that write the same file. What a killed one left of a line is taken off first.

    Raises:
        ConfigError: the rater's name will not do, or the file cannot be written.
    """
    path = Path(folder, check_rater(review.rater) + SUFFIX)
    line = json.dumps(asdict(review), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            is_new = file.tell() == 0
            _mend(file)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error}") from None
    return path


@dataclass(frozen=True)
class Counted:
    """The reviews that speak of the captions a version has.

    Attributes:
        reviews: each with the outcome that its clip has in this version.
        left_out: why the others do not count, with how many.
    """

    reviews: tuple[Review, ...]
    left_out: dict[str, int]


class InVersion:
    """Tells which reviews speak of the captions that a version has, as its rows go by.

    Reviews outlive versions: where a clip has another caption by now, what was said of the old one does not count.
    """

    def __init__(self, reviews: Iterable[Review]) -> None:
        self._waiting: dict[str, list[Review]] = {}
        for review in reviews:
            self._waiting.setdefault(review.clip_id, []).append(review)
        self._left_out: Counter[str] = Counter()
        self._found: list[Review] = []

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Takes a row of ``captions`` or ``rejected`` as `Dataset.rows` gives it; others are of no account."""
        if name not in ("captions", "rejected") or not row["caption"]:
            return
        for review in self._waiting.pop(row["clip"]["clip_id"], ()):
            if review.caption == row["caption"]:
                self._found.append(replace(review, outcome=name))  # type: ignore[arg-type]
            else:
                self._left_out["of another caption than the clip now has"] += 1

    def result(self) -> Counted:
        """What was found in the rows that went by."""
        gone = sum(map(len, self._waiting.values()))
        left_out = {**self._left_out, **({"of clips without a caption in this version": gone} if gone else {})}
        return Counted(tuple(self._found), left_out)


def counted_in(dataset: Dataset, reviews: Iterable[Review]) -> Counted:
    """Returns those of `reviews` that speak of captions that the version has; reads all of its rows, if there are any.

    Raises:
        ConfigError: a file of the version cannot be read.
    """
    wanted = list(reviews)
    found = InVersion(wanted)
    for name in ("captions", "rejected") if wanted else ():
        for row in counted_rows(dataset, name, f"reading {name}"):
            found.add(name, row)
    return found.result()


def counted_rows(dataset: Dataset, name: str, title: str) -> Iterable[dict[str, Any]]:
    """The rows of a version's file, with a bar in a terminal: of millions they take minutes."""
    rows, total, hidden = dataset.rows(name), dataset.count(name), not errors.is_terminal
    return track(rows, title, total, console=errors, transient=True, disable=hidden)


def reviews_folder(root: str) -> str:
    """Where a dataset's reviews are, unless a user says otherwise."""
    return FileSystems.join(root, FOLDER)


def _files(folder: str) -> list[str]:
    if "://" not in folder:  # no glob: a folder may be called "[1]"
        with suppress(FileNotFoundError, NotADirectoryError):
            return sorted(str(path) for path in Path(folder).iterdir() if path.suffix == SUFFIX and path.is_file())
        return []
    try:
        [match] = FileSystems.match([FileSystems.join(folder, f"*{SUFFIX}")])
    except (OSError, BeamIOError, ValueError) as error:
        raise ConfigError(f"{folder}: cannot be read: {error}") from None
    return sorted(found.path for found in match.metadata_list)


def _read(path: str) -> Iterator[Review]:
    try:
        with FileSystems.open(path, compression_type="uncompressed") as file:
            content = file.read()
    except (OSError, BeamIOError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    lines = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield _adapter().validate_json(line, strict=True)
        except ValidationError as error:
            if number == len(lines):  # what follows the last newline
                return
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise ConfigError(
                f"{path}, line {number}: no review: {where}{': ' if where else ''}{first['msg']}; "
                "take the line out, or bring the file back from a copy"
            ) from None


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Review]:
    return TypeAdapter(Review)


def _mend(file: IO[bytes]) -> None:
    """Ends a file that ends within a line: with a newline where the line is whole, else before the line."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read() == b"\n":
        return
    file.seek(0)
    content = file.read()
    start = content.rfind(b"\n") + 1
    try:
        _adapter().validate_json(content[start:], strict=True)
    except ValidationError:
        file.truncate(start)
    else:
        file.write(b"\n")


def _sync_folder(folder: Path) -> None:
    """Makes a new file's name outlive a loss of power, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
