"""Clips in WebDataset shards: tar files of which every few members, a sample, share a key.

The key of a member is its path up to the first dot of its base name, the rest is its extension, as in the package
``webdataset``. A sample's media file is its clip; siblings say more of it:

    abc.mp4   the clip; of several media files the one with a picture
    abc.json  an object. Earshot's own keys are those of its lists (clip_id, video_id, start_s, end_s, labels, split,
              source), and media_start_s; else what video2dataset writes (videoID, start, end, clips) and what LAION's
              audio sets have (tag) is understood, and whatever else there is, ignored
    abc.cls   a label, or one a line; a bare number, which only the dataset's makers can read, is none

Captions (``.txt``, and ``text`` and ``caption`` in JSON) are not read: they are what Earshot is to write.

Listing reads the headers of members and small siblings and jumps over media. A shard in a bucket is read in stretches:
`_LOOK` bytes where something was jumped over, as much as `_STREAM` where members are so small that reading on is
quicker than asking again. A clip is then read where it lies; its address (`transforms.pieces`) says where that is.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from apache_beam.io.filesystems import FileSystems

from transforms import remote
from transforms.pieces import Member

VIDEO, SOUND = 0, 1  # what a sample's clip is taken from first
MAX_SHARDS = 100_000
MAX_SIBLING_BYTES = 1 << 20
MAX_TOLD_BYTES = 256 << 20  # of all siblings together
MAX_MEMBERS = 1_000_000  # 0.6 KB of memory each
MAX_END_BYTES = 4 << 20  # of zeros; tar fills up 10 KiB, or what -b says
MAX_HEADER_BYTES = 1 << 20  # of a long name or of PAX records, which have to be held in memory
_LOOK = 64 << 10  # a header, a JSON file and the next header, mostly
_STREAM = 4 << 20
_GAP = 256 << 10  # up to which reading on (2.5 ms at 100 MB/s) is quicker than asking again (20 to 50 ms)
_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")  # webdataset leaves these out as well
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class ShardError(ValueError):
    """A shard, or the rest of one, cannot be read; the message says why."""


@dataclass
class Sample:
    """The members of one key.

    Attributes:
        key: without a leading ``./`` or ``/``.
        at: offset and name of its first member's content, which tells it from any other sample.
        media: its media files by kind (`VIDEO` or `SOUND`), each with its extension.
        told: the content of its ``json`` and ``cls`` files, by extension.
        error: what is wrong with it, if something is.
    """

    key: str
    at: Member
    media: list[tuple[int, str, Member]] = field(default_factory=list)
    told: dict[str, bytes] = field(default_factory=dict)
    error: str = ""

    @property
    def clip(self) -> Member | None:
        """The media file that is its clip; ``None`` where it has none."""
        return min(self.media, key=lambda found: found[:2])[2] if self.media else None


@dataclass
class Contents:
    """What a shard holds.

    Attributes:
        samples: in the order of their first members.
        members: how many files it has, of any kind.
        error: why not all of it could be read; empty where it could.
    """

    samples: list[Sample] = field(default_factory=list)
    members: int = 0
    error: str = ""


def contents(
    path: str,
    kinds: dict[str, int],
    max_file_bytes: int,
    *,
    only_first: bool = False,
    max_members: int = MAX_MEMBERS,
) -> Contents:
    """Lists a shard, up to where it is damaged.

    Args:
        path: of the tar, on any of Beam's file systems.
        kinds: the endings of media files, such as ``.mp4``, and what each is.
        max_file_bytes: of a clip.
        only_first: whether the first clip is enough.
        max_members: how many files of a shard are listed; what comes after them is not.

    Raises:
        ShardError: there is nothing that can be listed: it is empty, compressed, or no tar at all.
        OSError: it cannot be read at the moment.
    """
    found = Contents()
    samples: dict[str, Sample] = {}
    told = 0
    with _opened(path) as file:
        _check_kind(file)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            for info in _members(file, size):
                found.members += 1
                if found.members > max_members or told > MAX_TOLD_BYTES:
                    raise ShardError(
                        f"more than {max_members} members or {MAX_TOLD_BYTES >> 20} MiB of json and cls files: split it"
                    )
                parts = _parts(info.name)
                if parts is None or info.isdir():
                    continue
                key, extension = parts
                member = Member(path, info.offset_data, info.size, info.name, info.offset_data - info.offset)
                sample = samples.setdefault(key, Sample(key, member))
                sample.error = sample.error or _problem(info, extension, sample, kinds, max_file_bytes)
                if not sample.error:
                    _add(sample, extension, member, file, kinds)
                    told += info.size * (extension in ("json", "cls"))
                if only_first and sample.clip and not sample.error:
                    break
        except ShardError as error:
            if not found.members:
                raise
            found.error = f"after {found.members} members: {error}"
    # A sample without media is none of ours (subtitles, say), unless it was to have some.
    found.samples = [sample for sample in samples.values() if sample.media or sample.error]
    return found


def expanded(pattern: str) -> list[str]:
    """The names that a pattern stands for: ``{000..123}`` counts, ``{a,b}`` lists. Raises `ValueError`."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    if match[3] is not None:
        inner = match[3].split(",")
    else:
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < MAX_SHARDS:
            raise ValueError(f"{match[0]} counts neither up nor to fewer than {MAX_SHARDS} shards")
        inner = [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    rest = expanded(pattern[match.end() :])
    if len(inner) * len(rest) > MAX_SHARDS:
        raise ValueError(f"{pattern} stands for more than {MAX_SHARDS} shards")
    return [pattern[: match.start()] + part + end for part in inner for end in rest]


def label_lines(content: bytes) -> tuple[str, ...]:
    """The labels of a ``cls`` file."""
    lines = (line.strip() for line in content.decode(errors="surrogateescape").splitlines())
    return tuple(line for line in lines if line and not line.lstrip("-").isdecimal())


def json_values(content: bytes) -> dict[str, Any]:
    """What a ``json`` file says, by Earshot's own keys. Raises `ValueError`."""
    try:
        told = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its json file is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise ValueError("its json file is not a JSON object")
    values = {name: told[name] for name in _OWN if told.get(name) is not None}
    for name, others in _OTHERS.items():
        known = (told[other] for other in others if told.get(other) not in (None, "", []))
        if name not in values and (value := next(known, None)) is not None:
            values[name] = value
    span = told.get("clips")
    if isinstance(span, list) and len(span) == 1 and isinstance(span[0], list) and len(span[0]) == 2:
        values.setdefault("start_s", span[0][0])
        values.setdefault("end_s", span[0][1])
    for name in ("start_s", "end_s"):
        if name in values:
            values[name] = _clock(values[name])
    values["labels"] = _labels(values.get("labels"))
    return values


_OWN = ("clip_id", "video_id", "start_s", "end_s", "media_start_s", "labels", "split", "source")
_OTHERS = {
    "video_id": ("videoID", "videoid", "youtube_id", "ytid"),
    "start_s": ("start", "start_time", "start_seconds"),
    "end_s": ("end", "end_time", "end_seconds"),
    "labels": ("tag", "tags", "label"),
}


def _clock(value: Any) -> Any:
    """Seconds of a time that may be written as 00:01:02.500; anything else as it is."""
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d*)?)", value) if isinstance(value, str) else None
    return float(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]) if match else value


def _labels(value: Any) -> tuple[str, ...]:
    found = value if isinstance(value, list) else [value]
    return tuple(label.strip() for label in found if isinstance(label, str) and label.strip())


def _parts(name: str) -> tuple[str, str] | None:
    """Key and extension of a member; ``None`` for one that belongs to no sample."""
    name = name[re.match(r"(?:\./|/)*", name).end() :]  # type: ignore[union-attr]
    match = _KEY.fullmatch(name)
    if match is None or _META.match(name):
        return None
    return match[1], match[2].lower()


def _ending(extension: str) -> str:
    """``.mp4`` of ``left.mp4`` and of ``mp4``."""
    return "." + extension.rpartition(".")[2]


def _problem(info: tarfile.TarInfo, extension: str, sample: Sample, kinds: dict[str, int], max_file_bytes: int) -> str:
    is_media = _ending(extension) in kinds
    if not is_media and extension not in ("json", "cls"):
        return ""
    name = ascii(info.name)
    if ".." in sample.key.split("/"):
        return f"{name} leads out of the shard"
    if info.issparse():
        return f"{name} is a sparse file, of which a tar holds no stretch that could be read: pack it without -S"
    if not info.isreg():
        return f"{name} is a link or a device, not a file: pack it with --dereference"
    if any(extension == known for _, known, _ in sample.media) or extension in sample.told:
        return f"there is a second {name} in this shard"
    if is_media and info.size > max_file_bytes:
        return f"{name} is larger than the limit of {max_file_bytes / (1 << 30):.3g} GiB"
    if not is_media and info.size > MAX_SIBLING_BYTES:
        return f"{name} is larger than the limit of {MAX_SIBLING_BYTES >> 20} MiB"
    return ""


def _add(sample: Sample, extension: str, member: Member, file: IO[bytes], kinds: dict[str, int]) -> None:
    kind = kinds.get(_ending(extension))
    if kind is not None:
        sample.media.append((kind, extension, member))
    elif extension in ("json", "cls"):
        file.seek(member.offset)
        sample.told[extension] = file.read(member.length)


def _check_kind(file: IO[bytes]) -> None:
    start = file.read(tarfile.BLOCKSIZE)
    if not start:
        raise ShardError("the shard is empty")
    for magic, name in _PACKED.items():
        if start.startswith(magic):
            raise ShardError(
                f"the shard is compressed ({name}): no member can be read where it lies; unpack it to .tar"
            )


def _members(file: IO[bytes], size: int) -> Iterator[tarfile.TarInfo]:
    """Yields the members that are there in full. Raises `ShardError` where the tar is cut off or damaged."""
    try:
        with tarfile.open(fileobj=_Bounded(file, size), mode="r:", errorlevel=2) as tar:
            reached = -1
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or else it keeps every member of a shard of any size
                if info.offset <= reached or info.size < 0:
                    raise ShardError(f"damaged at byte {tar.offset}: a member that lies before the one before it")
                reached = info.offset
                if info.isreg() and not info.issparse() and info.offset_data + info.size > size:
                    raise ShardError(f"cut off at byte {size}, within {info.name!a}")
                yield info
            end = tar.offset
    except (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        if isinstance(error, ShardError):
            raise
        raise ShardError(f"no tar, or damaged: {error}") from error
    file.seek(end)
    block = file.read(tarfile.BLOCKSIZE)
    if not block:  # two blocks of zeros end a tar
        raise ShardError(f"cut off at byte {size}, between two members")
    if block.strip(b"\0"):
        raise ShardError(f"damaged at byte {end}: what should be a member's header is not")
    if size - end > MAX_END_BYTES or file.read(MAX_END_BYTES).strip(b"\0"):
        raise ShardError(f"its end is at byte {end} of {size}: a hole of zeros, or tars joined by cat; pack it anew")


class _Bounded(io.RawIOBase):
    """What `tarfile` reads from: refuses to read as much at once as a damaged header may ask for."""

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._size = file, size

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise ShardError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if not 0 <= offset <= self._size:
            raise ShardError(f"damaged, or cut off at byte {self._size}: a member ends at byte {offset}")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _opened(path: str) -> IO[bytes]:
    if FileSystems.get_scheme(path) is None:
        return open(path, "rb", buffering=_LOOK)
    return RemoteFile(path)  # type: ignore[return-value]


class RemoteFile(io.RawIOBase):
    """A file far away, of which only what is read is fetched, in stretches."""

    def __init__(self, uri: str):
        self._uri = uri
        self._size = remote.size_of(uri)
        self._at = self._begin = 0
        self._held = b""

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._at + size, self._size)
        parts = []
        while self._at < end:
            if not self._begin <= self._at < self._begin + len(self._held):
                self._fetch(end)
            first = self._at - self._begin
            parts.append(self._held[first : first + end - self._at])
            self._at += len(parts[-1])
        return b"".join(parts)

    def _fetch(self, end: int) -> None:
        """Fetches a stretch from where the file stands: a long one where that goes on from the last."""
        gap = self._at - (self._begin + len(self._held))
        goes_on = bool(self._held) and 0 <= gap <= _GAP
        wanted = max(end - self._at, _STREAM if goes_on else _LOOK)
        wanted = min(wanted, self._size - self._at)
        self._begin, self._held = self._at, remote.read(self._uri, self._at, wanted)
        if len(self._held) < wanted:
            raise remote.RemoteError(f"{self._uri} became shorter while it was read")

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at
