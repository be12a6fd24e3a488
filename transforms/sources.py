"""Where clips are listed: a folder, a glob, a media file, tar shards, or a CSV or JSONL list, on any of Beam's file
systems.

`ClipSource` is what a user sets, `resolve` finds out what it means and complains while the pipeline is being built, and
`Listing` is the answer that travels to the workers. `transforms.ingest` reads what a listing names.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TextIO

from apache_beam.io.filesystems import FileSystems

from transforms.remote import check_bucket, errors
from transforms.shards import SOUND, VIDEO, Contents, ShardError, contents, expanded

KINDS = ("auto", "media", "audioset", "vggsound", "earshot", "shards")
COLUMNS = ("clip_id", "uri", "video_id", "start_s", "end_s", "labels", "split", "source")
_VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".3gp", ".ogv")
_LOSSLESS_ENDINGS = (".wav", ".flac", ".aif", ".aiff", ".caf", ".wv")
_AUDIO_ENDINGS = (*_LOSSLESS_ENDINGS, ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".mka", ".wma")
MEDIA_ENDINGS = frozenset(_VIDEO_ENDINGS + _AUDIO_ENDINGS)
_KINDS_OF_MEDIA = dict.fromkeys(_VIDEO_ENDINGS, VIDEO) | dict.fromkeys(_AUDIO_ENDINGS, SOUND)
# One value of each kind: a format spec that fails on these would fail on every row.
TEMPLATE_FIELDS: Mapping[str, str | int | float] = {
    "video_id": "abc",
    "start": 30,
    "end": 40,
    "start_s": 30.0,
    "end_s": 40.0,
    "start_ms": 30_000,
    "split": "train",
    "clip_id": "abc_000030",
}
_LISTS = (".csv", ".jsonl")
_SHARD = ".tar"
_PACKED_SHARDS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
MAX_FILE_BYTES = 2 << 30  # of a clip in a shard; `transforms.fetch` has the same limit
_PROBE = 1000  # files looked at before a whole folder is listed just to find out that it holds no media
_FIRST_LINE = 1 << 16


class SourceError(ValueError):
    """The clips cannot be listed. The message says which source, why, and what to do."""


@dataclass(frozen=True)
class ClipSource:
    """What a user says of where the clips are.

    Attributes:
        clips: a folder (searched recursively), a glob, a media file, a ``.csv`` or ``.jsonl`` list, or WebDataset
            shards: a ``.tar``, a glob or a folder of them, or ``shards-{000000..000123}.tar``.
        kind: what `clips` is: ``media``, ``audioset`` (its segments CSV), ``vggsound`` (its CSV), ``earshot`` (a CSV
            with a header of `COLUMNS`, or JSONL with the same keys) or ``shards`` (see `transforms.shards`); ``auto``
            looks.
        media: where the media of a listed clip is, as in ``/data/{video_id}_{start:06d}.mp4``; it may use any of
            `TEMPLATE_FIELDS`. A template that uses a time or the clip id names files that were cut to the clip; one
            that uses only video_id and split names whole videos, in which the clip begins at its `start_s`. A row's own
            uri comes before the template, is relative to the list's folder, and names a whole video as well.
        class_labels: AudioSet's ``class_labels_indices.csv``; with it, labels are display names instead of mids.
        name: what `Clip.source` says, in place of ``folder``, ``audioset``, ``vggsound`` or a row's own source.
        limit: read only the first so many rows or files, in order of origin.
        files: media files, in place of `clips`.

    Raises:
        SourceError: a field contradicts itself or another; the message says what to do.
    """

    clips: str = ""
    kind: str = "auto"
    media: str = ""
    class_labels: str = ""
    name: str = ""
    limit: int | None = None
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.clips and self.files:
            raise SourceError(
                f"clips {self.clips!r} and single files cannot both be given: use a folder or glob for both"
            )
        if not self.clips and not self.files:
            raise SourceError("clips is empty: give a folder, a glob, a media file, or a .csv or .jsonl list")
        if not is_text(self.clips):
            raise SourceError(f"clips {self.clips!r} is not UTF-8: rename the file or folder")
        if self.kind not in KINDS:
            raise SourceError(f"kind {self.kind!r} is not known: use one of {', '.join(KINDS)}")
        if self.limit is not None and self.limit < 1:
            raise SourceError(f"limit {self.limit} leaves no clips: give 1 or more, or leave it out")
        if self.media:
            template_fields(self.media)

    @classmethod
    def of_files(cls, files: Iterable[str], name: str = "") -> ClipSource:
        """A source of single media files, whatever their endings; one that is given twice counts once."""
        return cls(kind="media", files=tuple(sorted(set(files))), name=name)


@dataclass(frozen=True)
class Listing:
    """A source that was found. It is small and holds no clips, so that it can be an element of a pipeline.

    Attributes:
        source: what the user said.
        kind: ``media``, ``audioset``, ``vggsound``, ``earshot`` or ``shards``.
        files: the lists, the shards or the named media files, sorted.
        pattern: the glob that finds the media files; empty where `files` names them.
        root: the folder that media files' clip ids, and shards' names, are relative to, with the slash.
        any_ending: whether files count as media whatever their ending, because the user named them.
        class_names: AudioSet's display name of each mid, where `class_labels` was given.
    """

    source: ClipSource
    kind: str
    files: tuple[str, ...] = ()
    pattern: str = ""
    root: str = ""
    any_ending: bool = False
    class_names: Mapping[str, str] = field(default_factory=dict)


def resolve(source: ClipSource) -> Listing:
    """Finds what `source` names, looking at no more than names and first lines.

    Raises:
        SourceError: there is nothing, its kind cannot be told, or a setting does not suit it.
    """
    try:
        if source.clips.startswith("gs://"):
            check_bucket(_before_wildcard(source.clips))
        with errors(source.clips) if "://" in source.clips else nullcontext():
            listing = _find(source)
    except SourceError:
        raise
    except (OSError, ValueError) as error:  # a ValueError is Beam's word for a scheme that it has no file system for
        raise SourceError(f"{source.clips or 'the files'} cannot be read: {error}") from error
    if listing.kind in ("audioset", "vggsound") and not source.media:
        raise SourceError(
            f"{source.clips}: {listing.kind} lists name videos, not files: set media to where the files are, "
            "such as '/data/{video_id}_{start:06d}.mp4'"
        )
    if listing.kind in ("media", "shards") and source.media:
        raise SourceError(f"media {source.media!r} is for lists, but {source.clips!r} names media files: leave it out")
    if listing.kind != "audioset" and source.class_labels:
        raise SourceError(f"class_labels is for AudioSet's lists, but {source.clips!r} is {listing.kind}: leave it out")
    return listing


def media_files(listing: Listing) -> Iterator[tuple[str, str]]:
    """Yields (path, clip id) of every media file, sorted by path.

    The id is the path below the root without its ending, percent-encoded where it is neither letter, digit nor one of
    ``-._~/``. Files whose ids would be equal keep their endings.
    """
    paths = listing.files or [path for path in match(listing.pattern) if _is_media(path, listing)]
    found = {path: path[len(listing.root) :] for path in paths}
    names = {path: posixpath.splitext(below)[0] for path, below in found.items()}
    while clashes := {name for name, count in Counter(names.values()).items() if count > 1}:
        # The longer name may be another file's stem (a.mp4, a.wav, a.mp4.mkv), hence the loop; whole names never clash.
        names |= {path: found[path] for path, name in names.items() if name in clashes}
    for path in sorted(found):
        yield path, percent_encoded(names[path])


def match(pattern: str, limit: int | None = None) -> list[str]:
    """Returns the files that `pattern` matches, sorted; ``**`` matches across folders.

    Args:
        pattern: a glob or a path.
        limit: the most files to return; ``None`` for all.
    """
    # Beam looks for a relative glob's files in the folder '' and finds none.
    dot = "./" if _has_wildcard(pattern) and "/" not in _before_wildcard(pattern) else ""
    [result] = FileSystems.match([dot + pattern], limits=[limit])
    return sorted(metadata.path.removeprefix(dot) for metadata in result.metadata_list)


def open_text(path: str) -> TextIO:
    """Opens a list as UTF-8, with or without BOM, any line ending; bytes that are not UTF-8 become lone surrogates."""
    return io.TextIOWrapper(FileSystems.open(path), encoding="utf-8-sig", errors="surrogateescape")


@lru_cache(maxsize=16)  # asked for every row
def template_fields(media: str) -> frozenset[str]:
    """The fields that a media template uses.

    Raises:
        SourceError: a field is unknown, its format does not suit it, or no field tells one video from another.
    """
    known = ", ".join(TEMPLATE_FIELDS)
    try:
        used = {name: spec for _, name, spec, _ in string.Formatter().parse(media) if name is not None}
        if unknown := sorted(used.keys() - TEMPLATE_FIELDS.keys()):
            raise ValueError(f"unknown field {{{unknown[0]}}}; the fields are {known}")
        if nested := sorted(name for name, spec in used.items() if "{" in (spec or "")):
            raise ValueError(f"the format of {{{nested[0]}}} cannot hold another field")
        media.format_map(TEMPLATE_FIELDS)
    except ValueError as error:
        raise SourceError(f"media {media!r}: {error}") from error
    if not used.keys() & {"video_id", "clip_id"}:
        raise SourceError(f"media {media!r} names the same file for every video: use {{video_id}} or {{clip_id}}")
    return frozenset(used)


def earshot_columns(path: str, header: Sequence[str], template: str) -> list[str]:
    """Checks the header of Earshot's own CSV and returns its column names.

    Raises:
        SourceError: a column is unknown or named twice, or none says where the media is.
    """
    names = [name.strip() for name in header]
    known = f"the columns are {', '.join(COLUMNS)}"
    if unknown := [name for name in names if name not in COLUMNS]:
        raise SourceError(f"{path}: unknown column {shown(unknown[0])}; {known}")
    if len(set(names)) < len(names):
        raise SourceError(f"{path}: a column is named twice in {', '.join(names)}; {known}")
    if not {"clip_id", "uri", "video_id"} & set(names):
        raise SourceError(f"{path}: the first line is no header that names a clip_id, uri or video_id; {known}")
    if "uri" not in names and not template:
        raise SourceError(f"{path}: nothing says where the media is: add a column uri, or set media to a template")
    return names


def listed_shard(path: str, *, only_first: bool = False) -> Contents:
    """What is in a shard; of one that cannot be listed, why not. Raises `OSError` where it cannot be read now."""
    try:
        found = contents(path, _KINDS_OF_MEDIA, MAX_FILE_BYTES, only_first=only_first)
    except ShardError as error:
        return Contents(error=str(error))
    if not found.samples and not found.error:
        found.error = f"no media file among the shard's {found.members} members"
    return found


def _shards(source: ClipSource, files: Sequence[str], root: str) -> Listing:
    """Shards that were found; the first is looked at, so that what is wrong with all of them is said at once."""
    for path in files:
        if path.lower().endswith(_PACKED_SHARDS):
            raise SourceError(f"{path!r} is compressed: clips are read where they lie, so unpack the shards to .tar")
    if unreadable := [path for path in files if not is_text(path)]:
        raise SourceError(f"the name of the shard {shown(unreadable[0])} is not UTF-8: rename it")
    first = listed_shard(files[0], only_first=True)
    if not first.samples:
        raise SourceError(f"{files[0]!r}: {first.error}")
    return Listing(source, "shards", files=tuple(files), root=root)


def _braced_shards(source: ClipSource) -> Listing | None:
    """The shards of a name with braces, of which each has to be there; ``None`` where it stands for itself."""
    try:
        files = expanded(source.clips)
    except ValueError as error:
        raise SourceError(str(error)) from error
    if files == [source.clips] or FileSystems.exists(source.clips):
        return None
    there: list[str] = []
    missing: list[str] = []
    folders: dict[str, list[str]] = {}
    for path in files:
        if not _has_wildcard(path):
            folders.setdefault(_folder_of(path), []).append(path)
        elif found := match(path):
            there += found
        else:
            missing.append(path)
    for paths in folders.values():  # one listing for all that lie in a folder
        found = match(posixpath.commonprefix(paths) + "*")
        there += set(paths) & set(found)
        missing += set(paths) - set(found)
    if missing:
        raise SourceError(
            f"{len(missing)} of {len(files)} shards of {source.clips!r} do not exist, such as {min(missing)}"
        )
    files = sorted(set(there))
    return _shards(source, files, _folder_of(posixpath.commonprefix(files)))


def _is_shard(path: str) -> bool:
    return path.lower().endswith((_SHARD, *_PACKED_SHARDS))


def _folder(source: ClipSource) -> Listing:
    if source.kind not in ("auto", "media", "shards"):
        raise SourceError(
            f"clips {source.clips!r} is a folder: for kind {source.kind} give the list, or a glob of lists"
        )
    root = source.clips.rstrip("/") + "/"
    # Beam cannot quote wildcards; a folder called 'a[1]' is found as 'a?1?' and told apart by the root.
    listing = Listing(source, "media", pattern=re.sub(r"[\[*?]", "?", root) + "**", root=root)
    if source.kind == "shards":
        return _folder_of_shards(source, listing)
    if not any(_is_media(path, listing) for limit in (_PROBE, None) for path in match(listing.pattern, limit)):
        if source.kind == "auto" and any(map(_is_shard, match(listing.pattern))):
            return _folder_of_shards(source, listing)
        endings = " ".join(sorted(ending[1:] for ending in MEDIA_ENDINGS))
        raise SourceError(f"folder {source.clips!r} holds no media files ({endings}); name other files with a glob")
    return listing


def _folder_of_shards(source: ClipSource, listing: Listing) -> Listing:
    there = [
        path
        for path in match(listing.pattern)
        if _is_shard(path) and _is_media(path, replace(listing, any_ending=True))
    ]
    if not there:
        raise SourceError(f"folder {source.clips!r} holds no shards (.tar)")
    return _shards(source, there, listing.root)


def _find(source: ClipSource) -> Listing:
    clips = source.clips
    if source.files:
        return _named_media(source, source.files)
    if _is_folder(clips):
        return _folder(source)
    if "{" in clips and _is_shard(clips) and source.kind in ("auto", "shards") and (found := _braced_shards(source)):
        return found
    named = FileSystems.exists(clips)  # asked before wildcards: downloaders write names such as 'Title [id].mp4'
    if not named and not _has_wildcard(clips):
        raise SourceError(f"clips {clips!r} does not exist: check the spelling, or give a folder, a glob or a list")
    if not named and not match(clips):
        raise SourceError(f"nothing matches clips {clips!r}: check the glob ('**' matches across folders)")
    if source.kind == "shards" or (source.kind == "auto" and _is_shard(clips)):
        return _shards(source, [clips] if named else match(clips), _folder_of(_before_wildcard(clips)))
    if source.kind != "media" and (source.kind != "auto" or clips.lower().endswith(_LISTS)):
        return _lists(source, (clips,) if named else tuple(match(clips)))
    return _named_media(source, (clips,)) if named else _globbed_media(source)


def _named_media(source: ClipSource, files: tuple[str, ...]) -> Listing:
    for path in files:
        if _is_folder(path) or not FileSystems.exists(path):
            raise SourceError(f"{path!r} is no file: check the spelling")
    return Listing(source, "media", files=files, root=_folder_of(posixpath.commonprefix(files)))


def _globbed_media(source: ClipSource) -> Listing:
    root = _folder_of(_before_wildcard(source.clips))
    listing = Listing(source, "media", pattern=source.clips, root=root, any_ending=True)
    if not any(_is_media(path, listing) for path in match(source.clips)):
        raise SourceError(f"clips {source.clips!r} matches hidden files only: give a folder or another glob")
    return listing


def _lists(source: ClipSource, files: tuple[str, ...]) -> Listing:
    if unreadable := [path for path in files if not is_text(path)]:
        raise SourceError(f"the name of the list {shown(unreadable[0])} is not UTF-8: rename it")
    kind = _kind_of_list(files[0]) if source.kind == "auto" else source.kind
    for path in files if kind == "earshot" else ():
        if not path.lower().endswith(".jsonl"):
            earshot_columns(path, _first_fields(path)[1], source.media)
    names = _class_names(source.class_labels) if source.class_labels else {}
    return Listing(source, kind, files=files, class_names=names)


def _kind_of_list(path: str) -> str:
    if path.lower().endswith(".jsonl"):
        return "earshot"
    line, fields = _first_fields(path)
    if line.startswith("#"):
        return "audioset"
    if set(COLUMNS) & {field.strip() for field in fields}:
        return "earshot"
    if len(fields) == 4 and _is_number(fields[1]):
        return "audioset" if _is_number(fields[2]) else "vggsound"
    raise SourceError(
        f"{path}: cannot tell what kind of list this is from its first line {shown(line)}. Say which by "
        f"--source-format: audioset, vggsound or earshot. Earshot's own CSV "
        f"begins with a header that names some of {', '.join(COLUMNS)}"
    )


def _first_fields(path: str) -> tuple[str, list[str]]:
    """The first line that is not blank, and its fields where it is CSV at all."""
    with open_text(path) as stream:
        line = next(filter(str.strip, iter(lambda: stream.readline(_FIRST_LINE), "")), "")
    try:
        return line, next(csv.reader([line], strict=True, skipinitialspace=True), [])
    except csv.Error:
        return line, []


def _class_names(path: str) -> dict[str, str]:
    if not FileSystems.exists(path):
        raise SourceError(f"class_labels {path!r} does not exist: give AudioSet's class_labels_indices.csv")
    with open_text(path) as stream:
        table = csv.DictReader(stream, strict=True)
        try:
            if not {"mid", "display_name"} <= set(table.fieldnames or ()):
                raise ValueError("it has no columns mid and display_name")
            return {row["mid"]: row["display_name"] for row in table if row["mid"] and row["display_name"]}
        except (csv.Error, ValueError) as error:
            raise SourceError(f"class_labels {path!r}: {error}; give AudioSet's class_labels_indices.csv") from error


def _is_folder(clips: str) -> bool:
    """Whether `clips` is a folder; object stores have none, so there it is whatever has files below it."""
    if "://" not in clips:
        return posixpath.isdir(clips)
    if _has_wildcard(clips) or (FileSystems.exists(clips) and not clips.endswith("/")):
        return False
    return bool(match(clips.rstrip("/") + "/**", limit=1))


def _is_media(path: str, listing: Listing) -> bool:
    """Whether a matched file is a clip: below the root, not hidden, and with media's ending unless any will do."""
    hidden = any(part.startswith(".") for part in path[len(listing.root) :].split("/"))
    ending = posixpath.splitext(path)[1].lower()
    return path.startswith(listing.root) and not hidden and (listing.any_ending or ending in MEDIA_ENDINGS)


def _has_wildcard(path: str) -> bool:
    return re.search(r"[\[*?]", path) is not None


def _before_wildcard(path: str) -> str:
    return re.split(r"[\[*?]", path, maxsplit=1)[0]


def _folder_of(path: str) -> str:
    """What of `path` goes before its last name, with the slash; empty where there is no slash."""
    return path[: path.rfind("/") + 1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it holds no lone surrogates."""
    return text.isascii() or re.search("[\ud800-\udfff]", text) is None


def percent_encoded(text: str) -> str:
    """A file's name as a clip's id: what is neither letter, digit nor one of ``-._~/`` is encoded."""
    keep = "-._~/"
    return "".join(
        c if c.isalnum() or c in keep else "".join(f"%{byte:02X}" for byte in c.encode(errors="surrogateescape"))
        for c in text
    )


def shown(value: object) -> str:
    """`value` for an error message: quoted, escaped, and no longer than a line."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."
