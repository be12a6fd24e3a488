"""From whatever lists the clips to `Clip` records: every row or file becomes a clip or a failure, and ids are unique.

`ReadClips` does it in a pipeline, reading files in the workers; `read_clips` does the same without Beam. What a source
is, and which formats there are, is in `transforms.sources`.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TextIO

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.lines import MAX_ROW, BadRow, Records, csv_records, numbered_lines
from transforms.pieces import Member
from transforms.records import Clip, Failure
from transforms.remote import check_bucket
from transforms.shards import Sample, json_values, label_lines
from transforms.sources import (
    COLUMNS,
    ClipSource,
    Listing,
    SourceError,
    earshot_columns,
    is_text,
    listed_shard,
    media_files,
    open_text,
    percent_encoded,
    resolve,
    shown,
    template_fields,
)

__all__ = ["BadRow", "ClipSource", "Read", "ReadClips", "Row", "SourceError", "read_clips", "read_rows"]

MAX_SECONDS = 1e8  # three years; larger times are milliseconds or rubbish
VGGSOUND_SECONDS = 10.0  # "10 s" clips: Chen et al., VGGSound (ICASSP 2020), section 3


@dataclass(frozen=True)
class Row:
    """One listed row or file: a clip, or with an `error` what is known of it.

    `path` and `line` say where it was listed, and order rows; the line of a media file is 0, that of a clip in a shard
    its number there. `shard` tells clips of one id apart that are in different shards.
    """

    path: str
    line: int
    clip: Clip
    error: str = ""
    shard: str = ""

    @property
    def place(self) -> tuple[str, int]:
        """What rows are ordered by."""
        return self.path, self.line

    def failure(self) -> Failure:
        """The failure that a row with an error becomes."""
        return Failure(self.clip, "ingest", f"{self.clip.origin}: {self.error}")


def read_clips(source: ClipSource) -> tuple[list[Clip], list[Failure]]:
    """Returns the clips of `source` and the rows that name none, both in order of origin.

    Of several rows with one clip id the first stays, unless they are in different shards: then all stay, and each gets
    its shard's name before its id, as in ``train/0001:abc``. Raises as `resolve` does.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in read_rows(resolve(source)):
        key, _ = _keyed(row)
        groups.setdefault(key, []).append(row)
    ended = sorted((end for rows in groups.values() for end in _settled(rows)), key=lambda end: end[0])
    return (
        [end for _, end in ended if isinstance(end, Clip)],
        [end for _, end in ended if isinstance(end, Failure)],
    )


class Read(NamedTuple):
    """What `ReadClips` gives: `Clip` with unique ids, `Failure`, and the origin (str) of every listed row or file."""

    clips: beam.PCollection
    failed: beam.PCollection
    listed: beam.PCollection


@dataclass
class ReadClips(beam.PTransform):
    """Reads `source` in the workers.

    Grouping by id makes the ids unique and leaves the clips redistributed over the workers, so that no reshuffle has to
    follow. `resolve` is asked while the pipeline is being built, so that a source without clips is an error then, and
    so is a list of clips in a bucket that cannot be read.
    """

    source: ClipSource

    def expand(self, pbegin: beam.pvalue.PBegin) -> Read:
        listing = resolve(self.source)
        _check_bucket(listing)
        rows = (
            pbegin
            | "lists" >> beam.Create(_parts(listing))
            | "spread" >> beam.Reshuffle()
            | "read rows" >> beam.FlatMap(read_rows)
        )
        grouped = rows | "by id" >> beam.Map(_keyed) | "group by id" >> beam.GroupByKey()
        kept = grouped | "keep first" >> beam.FlatMap(_keep_first).with_outputs("failed", main="clips")
        return Read(kept.clips, kept.failed, rows | "origins" >> beam.Map(_origin))


def _check_bucket(listing: Listing) -> None:
    """Raises `SourceError` where a list's first clip is in a bucket that does not exist, or may not be read."""
    if listing.kind in ("media", "shards"):
        return  # they were found there
    first = next((row.clip.uri for row in islice(read_rows(listing), 100) if not row.error), "")
    member = Member.of(first)
    place = member.shard if member else first
    if place.startswith("gs://"):
        try:
            check_bucket(place)
        except (OSError, ValueError) as error:
            raise SourceError(f"the media of {listing.source.clips!r} cannot be read: {error}") from error


def read_rows(listing: Listing) -> Iterator[Row]:
    """Yields every row or file of `listing` in order of origin, as many as the source's limit allows."""
    found = {"media": _media_rows, "shards": _shard_rows}.get(listing.kind, _listed_rows)
    return islice(found(listing), listing.source.limit)


def _parts(listing: Listing) -> list[Listing]:
    """What can be read independently: single lists, unless a limit holds for all of them together."""
    if listing.kind == "media" or listing.source.limit is not None:
        return [listing]
    return [replace(listing, files=(path,)) for path in listing.files]


def _origin(row: Row) -> str:
    return row.clip.origin


def _keyed(row: Row) -> tuple[tuple[str, str], Row]:
    """Keys a clip by its id and a row that names none by its origin."""
    return ("", row.clip.origin) if row.error else (row.clip.clip_id, ""), row


def _keep_first(group: tuple[tuple[str, str], Iterable[Row]]) -> Iterator[Clip | TaggedOutput]:
    """What rows of one key become: a clip, or several of different shards; what else there is fails."""
    for _, end in _settled(group[1]):
        yield end if isinstance(end, Clip) else TaggedOutput("failed", end)


def _settled(rows: Iterable[Row]) -> Iterator[tuple[tuple[str, int], Clip | Failure]]:
    """Yields the places of rows of one key, each with what becomes of the row."""
    rows = sorted(rows, key=lambda row: row.place)
    apart = len({row.shard for row in rows}) > 1
    first: dict[str, Row] = {}
    for row in rows:
        if row.error:
            yield row.place, row.failure()
        elif row.shard in first:
            yield row.place, _duplicate(row, first[row.shard].clip)
        else:
            first[row.shard] = row
            clip_id = f"{row.shard}:{row.clip.clip_id}" if apart else row.clip.clip_id
            yield row.place, replace(row.clip, clip_id=clip_id)


def _duplicate(row: Row, first: Clip) -> Failure:
    return replace(row, error=f"clip_id {shown(first.clip_id)} is a duplicate of {first.origin}").failure()


def _media_rows(listing: Listing) -> Iterator[Row]:
    source = listing.source.name or "folder"
    for path, clip_id in media_files(listing):
        if is_text(path):
            video_id = posixpath.splitext(posixpath.basename(path))[0]
            yield Row(path, 0, Clip(clip_id, path, source=source, video_id=video_id, origin=path))
        else:  # neither a record nor a shuffle can carry the path as it is
            path = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
            yield Row(path, 0, Clip("", "", source=source, origin=path), "the file's name is not UTF-8: rename it")


def _shard_rows(listing: Listing) -> Iterator[Row]:
    source = listing.source.name or "shards"
    for path in listing.files:
        found = listed_shard(path)
        shard = percent_encoded(path[len(listing.root) :].removesuffix(".tar"))
        for number, sample in enumerate(found.samples, 1):
            member = sample.clip or sample.at
            bare = Clip("", "", source=source, origin=member.uri)
            try:
                if sample.error:
                    raise BadRow(sample.error)
                yield Row(path, number, _sample_clip(sample, bare), shard=shard)
            except BadRow as error:
                yield Row(path, number, bare, str(error))
        if found.error:
            # What comes after the damage, of which nobody knows how many clips it was.
            yield Row(path, len(found.samples) + 1, Clip("", "", source=source, origin=path), found.error)


def _sample_clip(sample: Sample, bare: Clip) -> Clip:
    """The clip of a shard's sample, which was cut before it was packed. Raises `BadRow`."""
    try:
        told = json_values(sample.told["json"]) if "json" in sample.told else {}
    except ValueError as error:
        raise BadRow(str(error)) from error
    if not is_text(sample.key):
        raise BadRow("the file's name is not UTF-8: rename it")
    labels = (*told.get("labels", ()), *label_lines(sample.told.get("cls", b"")))
    own = told.get("clip_id")
    own = own.replace(":", "%3A") if isinstance(own, str) else own  # a colon is what follows a shard's name in an id
    told |= {"clip_id": own or percent_encoded(sample.key), "labels": tuple(dict.fromkeys(labels))}
    told.setdefault("video_id", posixpath.basename(sample.key))
    media_start = _seconds("media_start_s", told["media_start_s"]) if _is_set(told, "media_start_s") else 0.0
    uri = sample.clip.uri if sample.clip else ""
    source = bare.source if bare.source != "shards" else _text("source", told.get("source")) or bare.source
    clip = _clip_of(told, uri, source, bare.origin)
    return replace(clip, media_start_s=media_start)


def _listed_rows(listing: Listing) -> Iterator[Row]:
    for path in listing.files:
        folder = posixpath.dirname(path) or "."
        with open_text(path) as stream:
            records, parse = _format(listing, path, stream)
            for line, record in records:
                origin = f"{path}:{line}"
                try:
                    if isinstance(record, BadRow):
                        raise record
                    yield Row(path, line, _clip(parse(record), listing, folder, origin))
                except BadRow as error:
                    source = listing.source.name or listing.kind
                    yield Row(path, line, Clip("", "", source=source, origin=origin), str(error))


def _format(listing: Listing, path: str, stream: TextIO) -> tuple[Records, Callable[[Any], dict[str, Any]]]:
    """Returns the numbered records of a list, and the function that gives one record's values by column."""
    lines = numbered_lines(stream)
    if listing.kind == "audioset":
        stem = posixpath.splitext(posixpath.basename(path))[0]
        split = stem.removesuffix("_segments") if stem.endswith("_segments") else ""
        return csv_records(lines, 1, comment="#"), partial(_audioset, listing.class_names, split)
    if listing.kind == "vggsound":
        return csv_records(lines, 1), _vggsound
    if path.lower().endswith(".jsonl"):
        return ((number, line) for number, line in lines if line != "\n"), _earshot_json
    records = csv_records(lines, MAX_ROW)
    _, header = next(records, (0, []))
    return records, partial(_earshot_csv, earshot_columns(path, header, listing.source.media))


def _audioset(names: Mapping[str, str], split: str, fields: list[str]) -> dict[str, Any]:
    _expect(fields, "YTID", "start_seconds", "end_seconds", "positive_labels")
    labels = tuple(names.get(mid.strip(), mid.strip()) for mid in fields[3].split(",") if mid.strip())
    return {
        "video_id": fields[0],
        "start_s": _seconds("start_s", fields[1]),
        "end_s": _seconds("end_s", fields[2]),
        "labels": labels,
        "split": split,
    }


def _vggsound(fields: list[str]) -> dict[str, Any]:
    _expect(fields, "video id", "start", "label", "split")
    start = _seconds("start_s", fields[1])
    return {
        "video_id": fields[0],
        "start_s": start,
        "end_s": start + VGGSOUND_SECONDS,
        "labels": (fields[2],),
        "split": fields[3],
    }


def _earshot_csv(columns: list[str], fields: list[str]) -> dict[str, Any]:
    _expect(fields, *columns)
    values: dict[str, Any] = dict(zip(columns, fields, strict=True))
    values["labels"] = tuple(label.strip() for label in values.get("labels", "").split(";") if label.strip())
    return values


def _earshot_json(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise BadRow(f"{shown(values)} is not a JSON object")
    if unknown := [name for name in values if name not in COLUMNS]:
        raise BadRow(f"unknown key {shown(unknown[0])}; the keys are {', '.join(COLUMNS)}")
    labels = values.get("labels")
    if not isinstance(labels, list | None):
        raise BadRow(f"labels {shown(labels)} is not a list")
    return values | {"labels": tuple(labels or ())}


def _expect(fields: list[str], *columns: str) -> None:
    if len(fields) != len(columns):
        raise BadRow(f"{len(fields)} columns instead of {len(columns)} ({', '.join(columns)})")


def _clip(values: Mapping[str, Any], listing: Listing, folder: str, origin: str) -> Clip:
    """Returns the clip that a row's values name, or raises `BadRow`. Relative uris begin in `folder`."""
    uri = _text("uri", values.get("uri"))
    source = listing.source.name or _text("source", values.get("source")) or listing.kind
    clip = _clip_of(values, uri, source, origin)
    if not uri:
        template = listing.source.media
        if not template:
            raise BadRow("uri is empty, and there is no media template")
        names = {"clip_id": clip.clip_id, "video_id": clip.video_id, "split": clip.split}
        if not _text("video_id", values.get("video_id")):
            names["video_id"] = ""
        uri = _fill(template, names, clip.start_s, clip.end_s)
        is_cut = bool(template_fields(template) - {"video_id", "split"})
        return replace(clip, uri=uri, media_start_s=0.0 if is_cut else clip.start_s)
    if "\0" in uri:
        raise BadRow(f"uri {shown(uri)} holds a NUL")
    if not re.match(r"/|[A-Za-z][A-Za-z0-9+.-]*://", uri):
        uri = posixpath.join(folder, uri)
    return replace(clip, uri=uri)


def _clip_of(values: Mapping[str, Any], uri: str, source: str, origin: str) -> Clip:
    """Returns the clip that values name in the file at `uri`, where it begins at its own start; raises `BadRow`."""
    text = {name: _text(name, values.get(name)) for name in ("clip_id", "video_id", "split")}
    labels = tuple(_text("labels", label) for label in values["labels"])
    start = _seconds("start_s", values["start_s"]) if _is_set(values, "start_s") else 0.0
    end = _seconds("end_s", values["end_s"]) if _is_set(values, "end_s") else None
    if end is not None and end <= start:
        raise BadRow(f"end_s {end:.12g} is not after start_s {start:.12g}")
    video_id = text["video_id"] or posixpath.splitext(posixpath.basename(uri))[0]
    if not text["clip_id"] and not video_id:
        raise BadRow("video_id is empty, and so is clip_id")
    clip_id = text["clip_id"] or _default_id(video_id, start)
    for name, value in (("clip_id", clip_id), ("video_id", video_id)):
        if re.search(r"[\x00-\x1f\x7f]", value):
            raise BadRow(f"{name} {shown(value)} holds a control character")
    return Clip(clip_id, uri, start, end, start, source, video_id, labels, text["split"], origin)


def _fill(template: str, names: dict[str, str], start: float, end: float | None) -> str:
    """Returns the path that the template gives; raises `BadRow` where a name could lead out of its folder."""
    used = template_fields(template)
    for name in sorted(used & names.keys()):
        if not names[name]:
            raise BadRow(f"{name} is empty, but the media template names it")
        if re.search(r"[/\\\0]", names[name]):
            raise BadRow(f"{name} {shown(names[name])} holds a slash or NUL, which the media template cannot take")
    if end is None and used & {"end", "end_s"}:
        raise BadRow("end_s is empty, but the media template names it")
    if "start" in used and _milliseconds(start) % 1000:
        raise BadRow(
            f"start_s {start:.12g} is not whole seconds: use {{start_ms}} in the media template, not {{start}}"
        )
    if "end" in used and _milliseconds(end or 0.0) % 1000:
        raise BadRow(f"end_s {end:.12g} is not whole seconds: use {{end_s}} in the media template, not {{end}}")
    whole = {"start": round(start), "end": round(end or 0.0)}
    times = {"start_s": start, "end_s": end, "start_ms": _milliseconds(start)}
    if template.startswith("{"):  # or else '-abc' would read like an option, and 'concat:abc' like a protocol
        template = "./" + template
    path = template.format_map(names | whole | times)
    if _dots(path) > _dots(template):
        raise BadRow(f"{shown(path)} leads out of the media template's folder")
    return path


def _dots(path: str) -> int:
    return sum(part in (".", "..") for part in path.split("/"))


def _default_id(video_id: str, start: float) -> str:
    """The id that AudioSet's and VGGSound's tools give a cut clip; milliseconds follow where seconds are not whole."""
    seconds, milliseconds = divmod(_milliseconds(start), 1000)
    return f"{video_id}_{seconds:06d}" + (f"_{milliseconds:03d}" if milliseconds else "")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _is_set(values: Mapping[str, Any], name: str) -> bool:
    return values.get(name) not in (None, "")


def _seconds(name: str, value: object) -> float:
    """Returns a time in seconds, from a number or its text."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or "_" in str(value):
            raise BadRow(f"{name} {shown(value)} is not a number of seconds")
        seconds = float(value)
    except (ValueError, OverflowError) as error:
        raise BadRow(f"{name} {shown(value)} is not a number of seconds") from error
    if not math.isfinite(seconds) or not 0 <= seconds <= MAX_SECONDS:
        raise BadRow(f"{name} {shown(value)} is not between 0 and {MAX_SECONDS:.0f} seconds")
    return seconds + 0.0  # so that -0 is 0


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow(f"{name} {shown(value)} is not text")
    if not is_text(value):
        raise BadRow(f"{name} {shown(value)} is not UTF-8")
    return value
