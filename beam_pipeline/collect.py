"""``earshot gc``: what no version of a dataset needs goes, and many small store files become few.

What a kept version names is never removed, and whatever is young stays as well, since it may belong to a run under way,
or to one that was stopped and is to be taken up. A stop at any moment leaves a dataset that reads and reruns as before:
a version's manifest goes before its records, and merged rows are in their new file before the old ones go; a row that
is in both counts once. The next collection takes up what is left.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from rich.filesize import decimal
from rich.progress import track
from rich.table import Table

from beam_pipeline.compare import published
from beam_pipeline.config import ConfigError
from beam_pipeline.show import console, errors, plain
from transforms import versions
from transforms.avro import read_avro
from transforms.records import Finding, Written
from transforms.similarity import NAME as SIMILARITY
from transforms.store import FOLDER, safe, write_rows

DAY_S = 86_400.0
# A run opens every file of its fingerprints: a few more or less do not matter.
MANY_FILES = 64
# How much goes into one merged file. One worker reads it, and its rows are in memory while it is written.
MERGED_BYTES = 4 << 20
AT_ONCE = 16  # files that are read or removed at a time; on an object store each takes a request
Place = tuple[str, ...]  # a folder below the dataset's: ("versions", "3"), ("store", "cues", name, fingerprint) …


@dataclass(frozen=True)
class File:
    """A file, its size in bytes, and when it was written, in seconds since the epoch."""

    path: str
    size: int
    written_s: float


@dataclass(frozen=True)
class Step:
    """Files that go together: they are removed, or merged into few.

    Attributes:
        place: the folder in which they lie.
        why: they can go.
        files: in the order in which they go.
        merge: whether their rows stay, in new files.
        version: the number of the version that goes with them, if any.
    """

    place: Place
    why: str
    files: tuple[File, ...]
    merge: bool = False
    version: int | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True)
class Plan:
    """What a collection does.

    Attributes:
        root: the dataset's folder.
        kept: the versions that stay.
        running: versions that were claimed lately and are not published: runs under way, or stopped ones. While there
            are any, nothing is merged, and of the store only goes what no version names: such a run may be reading.
        steps: in the order in which they are taken.
    """

    root: str
    kept: tuple[int, ...]
    running: tuple[int, ...]
    steps: tuple[Step, ...]


def plan(root: str, keep: int | None = None, older_than_days: float = 7.0) -> Plan:
    """Says what can go; changes nothing.

    Args:
        root: the dataset's folder, on any file system that Beam knows.
        keep: how many versions stay: the latest ones, and the current one in any case; ``None`` for all.
        older_than_days: for how long what no version names may still be wanted. It has to be longer than any run
            takes, from its start: a run that is older than that is taken for stopped.

    Raises:
        ConfigError: there is no dataset, or it cannot be told for sure what its versions need.
    """
    if keep is not None and keep < 1:
        raise ConfigError(f"--keep {keep}: one version has to stay at least")
    if not older_than_days >= 0:
        raise ConfigError(f"--older-than {older_than_days}: a number of days, 0 or more")
    try:
        places, now = _places(root), versions.current(root)
    except (OSError, BeamIOError, ValueError) as error:
        raise ConfigError(f"{root}: cannot be read: {error}") from None
    if not places:
        raise ConfigError(f"{root}: no dataset of Earshot; name the folder that `earshot run --output` was given")
    manifests = published(root)
    if now is not None and now not in manifests:
        raise ConfigError(f"{root}: the current version is {now}, and that is not published; nothing is removed")
    kept = set(list(manifests)[-keep:] if keep else manifests) | (set() if now is None else {now})
    return _Planning(root, places, manifests, kept, older_than_days * DAY_S).plan()


class _Planning:
    """The rules of `plan`."""

    def __init__(
        self,
        root: str,
        places: dict[Place, list[File]],
        manifests: dict[int, dict[str, Any]],
        kept: set[int],
        stale_s: float,
    ):
        self.root, self.places, self.manifests, self.kept = root, places, manifests, kept
        now = time.time()
        self.stale, self.settled = now - stale_s, now - min(stale_s, DAY_S)
        self.folders = {int(place[1]): files for place, files in places.items() if _is_version(place)}
        unpublished = self.folders.keys() - manifests.keys()
        # Jobs that nobody waited for leave a manifest also where they found all as it was; the last one tells a
        # schedule's check what has been looked at.
        echoes = {number for number in unpublished if versions.published(root, number)}
        self.echo = {max(echoes)} if echoes else set()
        self.running = {number for number in unpublished - echoes if not self._are_stale(self.folders[number])}
        self.needed = {place for number in kept for place in _named(manifests[number])}
        self.dropped = {place for content in manifests.values() for place in _named(content)} - self.needed

    def plan(self) -> Plan:
        # The store before the versions that name it: once they are gone, it would have to become stale.
        removals = [*self._store(), *self._versions()]
        going = {step.place for step in removals}
        parts = [step for step in self._parts() if step.place not in going]
        merges = [] if self.running else list(self._merges())
        return Plan(self.root, tuple(sorted(self.kept)), tuple(sorted(self.running)), (*removals, *parts, *merges))

    def _are_stale(self, files: Iterable[File]) -> bool:
        return all(file.written_s <= self.stale for file in files)

    def _store(self) -> Iterator[Step]:
        for place, files in sorted(self.places.items()):
            if place[:1] != (FOLDER,) or place in self.needed:
                continue
            if place in self.dropped and not self.running:
                yield Step(place, "only versions that go need it", tuple(files))
            elif place not in self.dropped and self._are_stale(files):
                yield Step(place, "no version needs it", tuple(files))

    def _versions(self) -> Iterator[Step]:
        for number, files in sorted(self.folders.items()):
            if number in self.kept | self.running | self.echo:
                continue
            stopped = "it holds what another does" if versions.published(self.root, number) else "its run was stopped"
            why = "not kept" if number in self.manifests else stopped
            ordered = tuple(sorted(files, key=_manifest_to_claim))
            yield Step((versions.VERSIONS, str(number)), why, ordered, version=number)

    def _parts(self) -> Iterator[Step]:
        for place, files in sorted(self.places.items()):
            parts = [file for file in files if file.path.endswith(".part") and self._are_stale([file])]
            if parts:
                yield Step(place, "their writing was stopped", tuple(parts))

    def _merges(self) -> Iterator[Step]:
        for place in sorted(self.needed & self.places.keys()):
            small = [
                file
                for file in self.places[place]
                if file.path.endswith(".avro") and file.size < MERGED_BYTES // 2 and file.written_s <= self.settled
            ]
            if len(small) > MANY_FILES:
                yield Step(place, "many small files", tuple(small), merge=True)


def _manifest_to_claim(file: File) -> int:
    """The manifest goes first, so that no half of a version is read; the claim last: till then the number is taken."""
    return {versions.MANIFEST: 0, versions.CLAIM: 2}.get(file.path.rsplit("/", 1)[-1], 1)


def _named(manifest: dict[str, Any]) -> Iterator[Place]:
    """What of the store a version rests on."""
    for name, cue in manifest["cues"].items():
        yield FOLDER, "cues", name, cue["fingerprint"]
    if similarity := manifest.get("similarity"):
        yield FOLDER, "cues", SIMILARITY, similarity["fingerprint"]
    writers = [manifest["writer"], *([manifest["questions"]["writer"]] if "questions" in manifest else [])]
    for writer in writers:
        for kind in ("written", "asked"):
            yield FOLDER, kind, safe(writer)


def _is_version(place: Place) -> bool:
    return place[:1] == (versions.VERSIONS,)


def _places(root: str) -> dict[Place, list[File]]:
    """The files of a dataset, by place. What Earshot did not make is left out."""
    places: dict[Place, list[File]] = {}
    wanted = (FOLDER, "**"), (versions.VERSIONS, "**"), (f"{versions.CURRENT}.part",)
    patterns = [FileSystems.join(root, *parts) for parts in wanted]
    base = FileSystems.join(root, "")
    for match in FileSystems.match(patterns):
        for found in match.metadata_list:
            place = _place(found.path.replace("\\", "/").removeprefix(base).split("/"))
            if place is not None:
                file = File(found.path, found.size_in_bytes, found.last_updated_in_seconds)
                places.setdefault(place, []).append(file)
    return places


def _place(parts: list[str]) -> Place | None:
    match parts:
        case [versions.VERSIONS, number, _, *_] if number.isdigit():
            return versions.VERSIONS, number
        case ["store", "cues", name, fingerprint, _]:
            return FOLDER, "cues", name, fingerprint
        case ["store", "written", writer, _]:
            return FOLDER, "written", writer
        case ["store", "asked", writer, _]:
            return FOLDER, "asked", writer
        case [_]:
            return ()
    return None


def collect(todo: Plan) -> list[str]:
    """Does what a plan says, with a progress bar; returns the store files that stay because they cannot be read whole.

    Raises:
        ConfigError: a file cannot be removed or written.
    """
    unread: list[str] = []
    gone = (file for step in todo.steps for file in _taken(todo.root, step, unread))
    total = sum(len(step.files) for step in todo.steps)
    try:
        for _ in track(gone, "collecting", total, console=errors, transient=True, disable=not errors.is_terminal):
            pass
    except (OSError, BeamIOError) as error:
        raise ConfigError(f"{todo.root}: {error}; the dataset is whole, and gc may be run again") from error
    return unread


def _taken(root: str, step: Step, unread: list[str]) -> Iterator[File]:
    """Takes one step, and yields its files one by one as they are gone."""
    if step.merge:
        cls = Finding if step.place[1] == "cues" else Written
        for some in _portions(step.files):
            yield from _merged(FileSystems.join(root, *step.place), some, cls, unread)
        return
    if step.version is not None and versions.current(root) == step.version:
        raise OSError(f"version {step.version} has become the current one meanwhile")
    for files in (step.files[:1], step.files[1:-1], step.files[1:][-1:]):  # the first and the last matter
        yield from _removed(files)
    if "://" not in root:
        _prune(root, step)


def _portions(files: Iterable[File]) -> Iterator[list[File]]:
    """Files by age, in portions that make one file each; none of a single file."""
    portion: list[File] = []
    size = 0
    for file in sorted(files, key=lambda file: file.written_s):
        portion.append(file)
        size += file.size
        if size >= MERGED_BYTES:
            yield portion
            portion, size = [], 0
    if len(portion) > 1:
        yield portion


def _merged(folder: str, files: list[File], cls: type[Finding | Written], unread: list[str]) -> Iterator[File]:
    """Writes the rows of `files` into one new file, and removes them."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(partial(_rows, cls=cls), files))
    unread += [file.path for file, rows in zip(files, found, strict=True) if rows is None]
    whole = [file for file, rows in zip(files, found, strict=True) if rows is not None]
    if distinct := list(dict.fromkeys(row for rows in found for row in rows or ())):
        write_rows(folder, distinct)
    yield from _removed(whole)


def _rows(file: File, cls: type[Finding | Written]) -> list[Finding | Written] | None:
    """The rows of a whole file. A run computes again what it cannot read; here that would be lost: so ``None``."""
    try:
        return list(read_avro(file.path, cls))
    except (OSError, BeamIOError, ValueError):
        return None


def _removed(files: Sequence[File]) -> Iterator[File]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(files), 16 * AT_ONCE):  # whoever stops this does not wait for all
            yield from pool.map(_remove, files[start : start + 16 * AT_ONCE])


def _remove(file: File) -> File:
    try:
        FileSystems.delete([file.path])
    except BeamIOError:
        if FileSystems.exists(file.path):  # else another was quicker
            raise
    return file


def _prune(root: str, step: Step) -> None:
    """Removes the folders that a step has left empty; one into which a file came meanwhile stays."""
    stop = os.path.abspath(root)
    folders = {os.path.dirname(os.path.abspath(file.path)) for file in step.files}
    for folder in sorted(folders, key=len, reverse=True):
        with suppress(OSError):
            while folder != stop:
                os.rmdir(folder)
                folder = os.path.dirname(folder)


def plan_shown(todo: Plan, *, applied: bool, unread: Iterable[str] = ()) -> None:
    """Prints what went, or what would go."""
    kept = ", ".join(map(str, todo.kept)) or "none is published"
    console.print(f"versions that stay: {kept}", highlight=False)
    for number in todo.running:
        console.print(
            f"[yellow]Note:[/] version {number} was claimed lately and is not published: a run is under way, or was "
            "stopped. Till it ends, what earlier runs know stays. If no run is under way: --older-than 0",
            highlight=False,
        )
    if todo.steps:
        console.print(_table(todo, applied))
    else:
        console.print("nothing to remove")
    for path in unread:
        console.print(f"[yellow]Note:[/] {plain(path)} cannot be read whole, so it was not merged", soft_wrap=True)
    if todo.steps and not applied:
        console.print("Nothing has been changed: --apply does it.")


def _table(todo: Plan, applied: bool) -> Table:
    table = Table(title="What went" if applied else "What would go", title_justify="left")
    for column in ("what", "why"):
        table.add_column(column, overflow="fold")
    for column in ("files", "size"):
        table.add_column(column, justify="right")
    for step in todo.steps:
        why = f"{step.why}: merged" if step.merge else step.why
        table.add_row(plain("/".join(step.place) or "."), plain(why), str(len(step.files)), decimal(step.size))
    going = [step for step in todo.steps if not step.merge]
    files, size = sum(len(step.files) for step in going), sum(step.size for step in going)
    table.caption = f"{files} files, {decimal(size)}" + (", and what is merged" if len(going) < len(todo.steps) else "")
    return table
