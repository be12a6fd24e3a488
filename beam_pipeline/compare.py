"""``earshot diff``: what two versions of a dataset say differently, clip by clip, and why.

The first version is kept in memory as digests, the second is streamed past them, and the few clips that are shown are
read again. The digests take 280 bytes a clip (measured with 100 000 clips of eight cues, three items each); those of
its questions another 150, while a version is read.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from rich.progress import track
from rich.table import Table

from beam_pipeline.config import ConfigError
from beam_pipeline.show import console, errors, plain
from transforms import versions
from transforms.avro import read_records
from transforms.publish import DATASETS, QA
from transforms.records import Clip, Item

Record = dict[str, Any]  # of an outcome, as Avro holds it: making dataclasses of it would take as long again

# Values in an order of ours: that of a record's fields depends on the version of Earshot that wrote it.
_STRETCH = itemgetter("start_s", "end_s", "media_start_s")
_LISTING = itemgetter(*sorted({field.name for field in fields(Clip)} - {"start_s", "end_s", "media_start_s", "labels"}))
_ITEM = itemgetter(*(field.name for field in fields(Item)))
_VERSION = itemgetter("form", "language", "text")
_PAIR = itemgetter("kind", "question", "answer", "choices", "writer")
# What may become of a clip from one version to the next, and how a reader is told.
KINDS = {
    "added": "added",
    "removed": "removed",
    "rewritten": "another caption",
    "ended_otherwise": "another end",
    "details": "same end and caption, other details",
    "unchanged": "unchanged",
}


@dataclass(frozen=True)
class Side:
    """How a clip ended in one version: ``captioned``, ``rejected: <reason>`` or ``failed: <step>``, and its text.

    `text` is the caption, the filter's evidence or the error.
    """

    end: str
    text: str

    @classmethod
    def of(cls, name: str, record: Record) -> Side:
        """Reads it off a record of ``captions``, ``rejected`` or ``failed``."""
        if name == "captions":
            return cls("captioned", record["caption"])
        if name == "rejected":
            return cls(f"rejected: {record['reason']}", record["evidence"])
        return cls(f"failed: {record['step']}", record["error"])


@dataclass(frozen=True)
class Example:
    """One clip that differs; `old` or `new` is missing where a version lacks the clip."""

    clip_id: str
    origin: str
    old: Side | None
    new: Side | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What differs from version `old` to version `new`.

    Attributes:
        root: the dataset's folder.
        old: number of the first version.
        new: number of the second.
        counts: clips, by kind (`KINDS`).
        reasons: clips, by kind and reason; a clip may have several reasons.
        examples: a few clips of each kind.
    """

    root: str
    old: int
    new: int
    counts: dict[str, int]
    reasons: dict[str, dict[str, int]]
    examples: dict[str, list[Example]]


def published(root: str) -> dict[int, dict[str, Any]]:
    """The manifests of the versions that can be read, ascending by number.

    A folder whose manifest says that it is the `same_as` another is no version: its run had yet to remove it.

    Raises:
        ConfigError: the folder or a manifest cannot be read.
    """
    try:
        [match] = FileSystems.match([FileSystems.join(root, versions.VERSIONS, "*", versions.MANIFEST)])
        names = (found.path.replace("\\", "/").split("/")[-2] for found in match.metadata_list)
        manifests = {number: versions.manifest(root, number) for number in sorted(int(n) for n in names if n.isdigit())}
    except (OSError, BeamIOError, ValueError) as error:
        raise ConfigError(f"{root}: its versions cannot be read: {error}") from None
    for number, content in manifests.items():
        if not isinstance(content, dict) or not content.keys() >= {"files", "counts", "cues", "filters", "writer"}:
            raise ConfigError(f"{versions.folder(root, number)}: its {versions.MANIFEST} is not one that Earshot wrote")
    return {number: content for number, content in manifests.items() if "same_as" not in content}


def chosen(root: str, there: Iterable[int], old: int | None, new: int | None) -> tuple[int, int]:
    """Which of the versions `there` are compared: see `compare`. Raises `ConfigError` as that does."""
    numbers = sorted(there)
    if not numbers:
        raise ConfigError(f"{root}: no dataset of Earshot; name the folder that `earshot run --output` was given")
    shown = ", ".join(map(str, numbers))
    if new is None:
        try:
            new = versions.current(root)
        except (OSError, BeamIOError, ValueError) as error:
            raise ConfigError(str(error)) from None
    if new is None:
        raise ConfigError(f"{root}: no version is the current one; name two of {shown}")
    if old is None:
        before = [number for number in numbers if number < new]
        if not before:
            raise ConfigError(f"{root}: nothing was published before version {new}; there is {shown}")
        old = before[-1]
    for number in (old, new):
        if number not in numbers:
            raise ConfigError(f"{root}: there is no version {number}; there is {shown}")
    return old, new


def compare(root: str, old: int | None = None, new: int | None = None, examples: int = 5) -> Comparison:
    """Compares two versions of the dataset at `root`.

    Clips are matched by id. A row that names none is matched by its origin, and so is one that names a clip which
    another row has already: it is a duplicate that failed.

    Args:
        root: the dataset's folder, on any file system that Beam knows.
        old: number of the first version; ``None`` for the one that was published before `new`.
        new: number of the second; ``None`` for the current one.
        examples: how many clips of each kind are shown; which these are depends on their ids only.

    Raises:
        ConfigError: there is no dataset, no such version, or a version that cannot be read.
    """
    manifests = published(root)
    old, new = chosen(root, manifests, old, new)
    try:
        return _Comparing(root, (old, new), (manifests[old], manifests[new]), examples).done()
    except (OSError, BeamIOError, ValueError) as error:
        raise ConfigError(f"{root}: versions {old} and {new} cannot be compared: {error}") from error


@dataclass(frozen=True)
class _Print:
    """What of a record is compared: digests where values may be long."""

    end: str
    writer: str
    cues: tuple[tuple[str, str], ...]  # names and fingerprints
    text: bytes
    stretch: bytes
    labels: bytes
    listing: bytes
    split: bytes
    versions: bytes
    pairs: bytes
    items: tuple[bytes, ...]

    @classmethod
    def of(cls, name: str, record: Record, pairs: int = 0) -> _Print:
        clip, side, cues = record["clip"], Side.of(name, record), record.get("cues", ())
        return cls(
            side.end,
            record.get("writer", ""),
            tuple((cue["name"], cue["fingerprint"]) for cue in cues),
            _digest(side.text, record.get("retryable")),
            _digest(_STRETCH(clip)),
            _digest(clip["labels"]),
            _digest(_LISTING(clip)),
            _digest(record.get("split", ""), record.get("benchmarks", [])),
            _digest([_VERSION(one) for one in record.get("versions", ())], record.get("ambiguities", [])),
            (pairs if name == "captions" else 0).to_bytes(8, "big"),
            tuple(_digest([_ITEM(item) for item in cue["items"]], cue["skipped"]) for cue in cues),
        )


def _digest(*values: Any) -> bytes:
    """64 bits: of a million pairs that differ, one is taken for equal with a probability of 5e-14."""
    return hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=8).digest()


class _Prints:
    """`_Print`s of many clips, packed: what most records share (ends, writers, cues) is kept once."""

    _HEAD = struct.Struct("<I8s8s8s8s8s8s8s")

    def __init__(self) -> None:
        self.packed: dict[bytes, bytes] = {}
        self.shared: list[tuple[str, str, tuple[tuple[str, str], ...]]] = []
        self.index: dict[Any, int] = {}

    def pack(self, key: bytes, it: _Print) -> None:
        shared = it.end, it.writer, it.cues
        place = self.index.setdefault(shared, len(self.shared))
        if place == len(self.shared):
            self.shared.append(shared)
        head = self._HEAD.pack(place, it.text, it.stretch, it.labels, it.listing, it.split, it.versions, it.pairs)
        self.packed[key] = head + b"".join(it.items)

    def take(self, key: bytes) -> _Print | None:
        """What is known under a key, which then counts as `taken`."""
        packed = self.packed.get(key)
        self.packed[key] = b""
        if not packed:
            return None
        place, text, stretch, labels, listing, split, versions, pairs = self._HEAD.unpack_from(packed)
        items = tuple(packed[at : at + 8] for at in range(self._HEAD.size, len(packed), 8))
        end, writer, cues = self.shared[place]
        return _Print(end, writer, cues, text, stretch, labels, listing, split, versions, pairs, items)

    def taken(self, key: bytes) -> bool:
        return self.packed.get(key) == b""

    def left(self) -> list[bytes]:
        """The keys that were never taken."""
        return [key for key, packed in self.packed.items() if packed]

    def end(self, key: bytes) -> str:
        return self.shared[self._HEAD.unpack_from(self.packed[key])[0]][0]


def _keys(record: Record) -> list[bytes]:
    """Under which keys a clip may be known, the better one first."""
    clip_id, origin = record["clip"]["clip_id"], record["clip"]["origin"]
    named = ([f"id {clip_id}"] if clip_id else []) + [f"origin {origin}"]
    return [hashlib.blake2b(name.encode(), digest_size=12).digest() for name in named]


class _Comparing:
    """One comparison under way."""

    def __init__(self, root: str, numbers: tuple[int, int], manifests: tuple[dict[str, Any], ...], examples: int):
        self.root, self.numbers, self.manifests, self.wanted = root, numbers, manifests, examples
        self.counts: Counter[str] = Counter()
        self.reasons: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self.shown: dict[str, dict[bytes, Example]] = {kind: {} for kind in KINDS}
        self.prints = _Prints()

    def done(self) -> Comparison:
        self._first()
        self._second()
        left = self.prints.left()
        for key in left:
            self._count("removed", [self.prints.end(key)])
        self._recall(set(heapq.nsmallest(self.wanted, left)))
        return Comparison(
            self.root,
            *self.numbers,
            {kind: self.counts[kind] for kind in KINDS},
            {kind: dict(found.most_common()) for kind, found in self.reasons.items() if found},
            {kind: sorted(found.values(), key=_name) for kind, found in self.shown.items() if found},
        )

    def _first(self) -> None:
        pairs = self._pairs(0)
        for name, record in self._records(0, "reading version"):
            keys = _keys(record)
            free = (key for key in keys if key not in self.prints.packed)
            self.prints.pack(next(free, keys[-1]), _Print.of(name, record, pairs.get(record["clip"]["clip_id"], 0)))

    def _second(self) -> None:
        pairs = self._pairs(1)
        for name, record in self._records(1, "comparing version"):
            keys = _keys(record)
            key = next((key for key in keys if not self.prints.taken(key)), keys[-1])
            new = _Print.of(name, record, pairs.get(record["clip"]["clip_id"], 0))
            old = self.prints.take(key)
            kind, why = ("added", [new.end]) if old is None else self._judged(old, new)
            self._count(kind, why)
            if kind != "unchanged":
                self._show(kind, key, _example(record, None, Side.of(name, record), why))

    def _judged(self, old: _Print, new: _Print) -> tuple[str, list[str]]:
        """The kind of a difference, and its reasons."""
        if old == new:
            return "unchanged", []
        why = list(differences(old, new))
        if old.end != new.end:
            return "ended_otherwise", [f"{old.end} → {new.end}", *why, *self._recipe(old, new)]
        if old.text == new.text:
            return "details", why
        if old.end == "captioned":
            return "rewritten", why or self._changed("checks") or ["same cues and writer: the model's answer varies"]
        return "details", [*why, "another error" if old.end.startswith("failed") else "other evidence"]

    def _recipe(self, old: _Print, new: _Print) -> Iterator[str]:
        """What the manifests tell of why a clip ended otherwise, where records do not: a failed clip has no cues."""
        ends = (old.end, new.end)
        if any(end.startswith("rejected") for end in ends):
            yield from self._changed("filters", "checks", "similarity")
        for name in sorted({end.removeprefix("failed: ") for end in ends if end.startswith("failed")}):
            pair = [side["cues"].get(name, {}).get("fingerprint") for side in self.manifests]
            if pair[0] != pair[1]:
                yield f"{name}: " + _verdict(*pair)

    def _changed(self, *tables: str) -> list[str]:
        """Those of a profile's tables that differ."""
        before, after = self.manifests
        return [f"{name}: other rules" for name in tables if before.get(name) != after.get(name)]

    def _count(self, kind: str, why: list[str]) -> None:
        self.counts[kind] += 1
        self.reasons[kind].update(why)

    def _show(self, kind: str, key: bytes, example: Example) -> None:
        """Keeps the examples with the smallest keys, so that they do not depend on the order of records."""
        shown = self.shown[kind]
        shown[key] = example
        if len(shown) > self.wanted:
            del shown[max(shown)]

    def _recall(self, removed: set[bytes]) -> None:
        """Reads the first version again, for the examples."""
        open_ = {key: kind for kind, shown in self.shown.items() if kind != "added" for key in shown}
        open_ |= dict.fromkeys(removed, "removed")
        for name, record in self._records(0, "examples from version") if open_ else ():
            key = next((key for key in _keys(record) if key in open_), None)
            if key is None:
                continue
            kind, side = open_.pop(key), Side.of(name, record)
            if kind == "removed":
                self._show(kind, key, _example(record, side, None, [side.end]))
            else:
                self.shown[kind][key] = replace(self.shown[kind][key], old=side)
            if not open_:
                return

    def _read(self, which: int, name: str) -> Iterator[Record]:
        folder = versions.folder(self.root, self.numbers[which])
        for file in self.manifests[which]["files"].get(name, ()):
            yield from read_records(FileSystems.join(folder, file), DATASETS[name])

    def _pairs(self, which: int) -> dict[str, int]:
        """A digest of each clip's questions, whatever their order: 64 bits, which only clips with questions have."""
        found: dict[str, int] = {}
        for pair in self._read(which, QA):
            digest = int.from_bytes(_digest(_PAIR(pair)), "big")
            found[pair["clip_id"]] = (found.get(pair["clip_id"], 0) + digest) % (1 << 64)
        return found

    def _records(self, which: int, doing: str) -> Iterator[tuple[str, Record]]:
        """A version's records; rows that ingest refused come last, when the clips that they may repeat are known."""
        manifest, number = self.manifests[which], self.numbers[which]

        def read(name: str) -> Iterator[tuple[str, Record]]:
            yield from ((name, record) for record in self._read(which, name))

        def every() -> Iterator[tuple[str, Record]]:
            yield from read("captions")
            yield from read("rejected")
            for refused in (False, True):
                yield from (found for found in read("failed") if (found[1]["step"] == "ingest") is refused)

        total = manifest["counts"]["clips_in"]
        hidden = not errors.is_terminal
        yield from track(every(), f"{doing} {number}", total, console=errors, transient=True, disable=hidden)


def _example(record: Record, old: Side | None, new: Side | None, why: list[str]) -> Example:
    return Example(record["clip"]["clip_id"], record["clip"]["origin"], old, new, tuple(why))


def _name(example: Example) -> tuple[str, str]:
    return example.clip_id, example.origin


def differences(old: _Print, new: _Print) -> Iterator[str]:
    """Why one clip's records differ, as far as the records tell."""
    if old.stretch != new.stretch:
        yield "clip: another stretch of its file"
    if old.labels != new.labels:
        yield "clip: other labels"
    if old.end == new.end and old.split != new.split:
        yield "split: another"
    if old.listing != new.listing:
        yield "clip: listed otherwise (its file, source, split or line)"
    if old.cues and new.cues:  # else one of them never came so far
        before, after = (
            {name: (fingerprint, items) for (name, fingerprint), items in zip(it.cues, it.items, strict=True)}
            for it in (old, new)
        )
        for name in dict.fromkeys([*after, *before]):
            (was, said), (is_, says) = before.get(name, (None, b"")), after.get(name, (None, b""))
            if was != is_:
                same = was and is_ and said == says
                yield f"{name}: {_verdict(was, is_)}{', same items' if same else ''}"
            elif said != says:
                yield f"{name}: other items"
    if old.versions != new.versions and (old.end, old.text) == (new.end, new.text):
        yield "versions: others (forms, languages or ambiguities)"
    if old.pairs != new.pairs and old.end == new.end:
        yield "questions: others"
    if old.writer != new.writer and old.writer and new.writer:
        yield "writer: another model or parameters"


def _verdict(was: str | None, is_: str | None) -> str:
    """What became of a cue, by its fingerprints."""
    if was is None:
        return "cue added"
    return "cue removed" if is_ is None else "another model or parameters"


def comparison_shown(found: Comparison) -> None:
    """Prints counts with reasons, then the examples of each kind with old and new side by side."""
    title = f"From version {found.old} to version {found.new}"
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for kind, text in KINDS.items():
        table.add_row(f"[bold]{found.counts[kind]}[/]", f"[bold]{text}[/]")
        for reason, number in found.reasons.get(kind, {}).items():
            table.add_row(f"[dim]{number}[/]", f"[dim]  {plain(reason)}[/]")
    console.print(table)
    for kind, examples in found.examples.items():
        console.print(_examples_table(examples, f"{KINDS[kind]}: {len(examples)} of {found.counts[kind]}"))


def _examples_table(examples: list[Example], title: str) -> Table:
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in ("clip", "old", "new", "why"):
        table.add_column(column, overflow="fold")
    for example in examples:
        why = plain("\n".join(example.reasons))
        table.add_row(plain(example.clip_id or example.origin), _side(example.old), _side(example.new), why)
    return table


def _side(side: Side | None) -> str:
    if side is None:
        return "[dim]-[/]"
    if side.end == "captioned":
        return plain(side.text)
    return f"[yellow]{plain(side.end)}[/]\n{plain(side.text)}"
