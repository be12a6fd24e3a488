"""A place that keeps models' files: the cache on this machine, or a folder that `earshot models fetch` filled.

Both have the same layout: ``hub/<owner>/<name>/<revision>/…``, ``files/<hash>/<name>``, and ``models.json``, which
lists what is there in full, and is written after a model's last file. A place may also be in one of Beam's file systems
(``gs://…``); then what is needed is copied to the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from filelock import FileLock
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from model_handlers.downloads import (
    ModelError,
    Progress,
    Source,
    download,
    listed,
    quiet,
    storage_errors,
    verified,
)
from model_handlers.references import Reference, folder_digest, safe_path, sources

INDEX = "models.json"


@dataclass(frozen=True)
class Facts:
    """A file's length in bytes, and the hexadecimal digits of its SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One model.

    Attributes:
        path: its folder, or its file, within the place.
        files: each file's path within the place, and what it holds.
        patterns: which files of a hub repository these are; all where empty.
    """

    path: str
    files: dict[str, Facts]
    patterns: tuple[str, ...] = ()

    def covers(self, patterns: tuple[str, ...]) -> bool:
        """Whether the files of these patterns are among its own."""
        return not self.patterns or (bool(patterns) and set(patterns) <= set(self.patterns))

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(facts.size for facts in self.files.values())


_INDEX = TypeAdapter(dict[str, Entry])


def cache() -> Store:
    """The store for what this machine has downloaded: ``$EARSHOT_CACHE``, or ``~/.cache/earshot/models``."""
    return Store(Path(os.environ.get("EARSHOT_CACHE") or "~/.cache/earshot/models").expanduser())


class Store:
    """A place on this machine's disk. Processes may share it: what one brings, the others wait for."""

    def __init__(self, root: Path):
        self.root = root

    def index(self) -> dict[str, Entry]:
        """What is there, by `Reference.key`."""
        path = self.root / INDEX
        return _read_index(path.read_bytes(), str(path)) if path.is_file() else {}

    def find(self, key: str, patterns: tuple[str, ...] = (), like: Entry | None = None) -> Entry | None:
        """A model that is there in full; ``None`` where it is not, or where its files are not those of `like`."""
        entry = self.index().get(key)
        if entry is None or not entry.covers(patterns) or (like and entry.files != like.files):
            return None
        return entry if not self.faults(entry) else None

    def faults(self, entry: Entry, *, thorough: bool = False) -> list[str]:
        """What is wrong with a model's files: one that is missing or of another length, or (`thorough`) content."""
        found = []
        for name, facts in entry.files.items():
            path = self.root / name
            if not path.is_file():
                found.append(f"{path} is missing")
            elif path.stat().st_size != facts.size:
                found.append(f"{path} has {path.stat().st_size:,} bytes, not {facts.size:,}")
            elif thorough and folder_digest(path) != f"sha256:{facts.sha256}":
                found.append(f"the SHA-256 of {path} is not {facts.sha256}")
        return found

    def bring(self, reference: Reference, patterns: tuple[str, ...] = (), progress: Progress = quiet) -> Entry:
        """Returns a model that is there in full, downloading what is not.

        A URL without a hash is downloaded as well; its entry's key is the hash that was found. Raises `ModelError`.
        """
        if not reference.pin:
            return self._bring_new(reference, progress)
        with self._lock(reference.key):
            if found := self.find(reference.key, patterns):
                return found
            known = self.index().get(reference.key)
            if known and known.covers(patterns):
                patterns = known.patterns
            elif known:
                patterns = (*known.patterns, *patterns) if patterns else ()
            path, wanted = sources(reference, patterns)
            entry = self._download(path, wanted, patterns, progress)
            if reference.kind == "url" and (digest := self._folder_digest(entry)) not in ("", reference.pin):
                shutil.rmtree(self.root / path)
                raise ModelError(f"model {reference.text!r}: the folder's hash is {digest}; what was copied is removed")
            self._record(reference.key, entry)
            return entry

    def copy(self, key: str, entry: Entry, place: str, progress: Progress = quiet) -> Path:
        """Returns the local path of a model whose files lie in another place, copying what is not here yet."""
        with self._lock(key):
            if not self.find(key, entry.patterns, like=entry):
                wanted = [
                    Source(safe_path(name), join(place, name), f"sha256:{facts.sha256}", facts.size)
                    for name, facts in entry.files.items()
                ]
                self._record(key, self._download(safe_path(entry.path), wanted, entry.patterns, progress))
        return self.root / entry.path

    def remove(self, key: str) -> None:
        """Drops a model and its files."""
        with self._lock(key), self._lock(INDEX):
            index = self.index()
            if entry := index.pop(key, None):
                self._write_index(index)
                for name in entry.files:
                    (self.root / name).unlink(missing_ok=True)

    def _bring_new(self, reference: Reference, progress: Progress) -> Entry:
        with self._lock(reference.place):
            path, wanted = sources(reference)
            shutil.rmtree(self.root / Path(path).parent, ignore_errors=True)
            entry = self._download(path, wanted, (), progress)
            digest = folder_digest(self.root / path)
            place = f"files/{digest.replace(':', '-')}"
            shutil.rmtree(self.root / place, ignore_errors=True)
            (self.root / Path(path).parent).rename(self.root / place)
            moved = {name.replace(str(Path(path).parent), place, 1): facts for name, facts in entry.files.items()}
            entry = Entry(f"{place}/{Path(path).name}", moved)
            self._record(digest, entry)
            return entry

    def _download(self, path: str, wanted: Sequence[Source], patterns: tuple[str, ...], progress: Progress) -> Entry:
        files = {}
        for source in wanted:
            target = self.root / source.name
            if target.is_file():  # left by a run that was killed; whole, but perhaps not of this content
                try:
                    sha256 = verified(target, source, remove=True) if source.digest else ""
                except ModelError:
                    sha256 = ""
            else:
                sha256 = ""
            sha256 = sha256 or download(source, target, progress)
            files[source.name] = Facts(target.stat().st_size, sha256)
        return Entry(path, files, patterns)

    def _folder_digest(self, entry: Entry) -> str:
        """The hash of an entry that is a folder, after removing what does not belong to it."""
        folder = self.root / entry.path
        if not folder.is_dir():
            return ""
        for file in [file for file in folder.rglob("*") if file.is_file()]:
            if file.relative_to(self.root).as_posix() not in entry.files:
                file.unlink()
        return folder_digest(folder)

    def _record(self, key: str, entry: Entry) -> None:
        with self._lock(INDEX):
            self._write_index({**self.index(), key: entry})

    def _write_index(self, index: dict[str, Entry]) -> None:
        fresh = self.root / f"{INDEX}.part"
        fresh.write_bytes(_index_bytes(index))
        fresh.replace(self.root / INDEX)

    @contextmanager
    def _lock(self, what: str) -> Iterator[None]:
        """Keeps other processes, and other threads, from doing the same at the same time."""
        try:
            folder = self.root / "locks"
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.lock", thread_local=False)
            lock.acquire()
        except OSError as error:
            raise ModelError(f"cannot write to {self.root}: {error}") from error
        try:
            yield
        finally:
            lock.release()


def remote(place: str) -> bool:
    """Whether a place is in one of Beam's file systems rather than on this machine."""
    return "://" in place


def join(place: str, name: str) -> str:
    """The address of a file in a place."""
    return f"{place.rstrip('/')}/{name}"


def place_index(place: str) -> dict[str, Entry]:
    """What a place holds, empty where there is nothing yet. Raises `ModelError` where it cannot be read."""
    if not remote(place):
        return Store(Path(place).expanduser()).index()
    url = join(place, INDEX)
    if not listed(url):
        return {}
    with storage_errors(url, "read"), FileSystems.open(url, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        return _read_index(stream.read(), url)


def from_place(place: str, reference: Reference, patterns: tuple[str, ...] = ()) -> Path:
    """The local path of a model that was fetched to `place`; from another machine it is copied once.

    Raises `ModelError` where it was not fetched, or not in full.
    """
    index = place_index(place)
    entry = index.get(reference.key)
    advice = "run `earshot models fetch` with this profile and this place"
    if not index:
        raise ModelError(f"model {reference.text!r}: there is no {INDEX} in {place}; {advice}")
    if entry is None or not entry.covers(patterns):
        what = "some of its files were" if entry else "it was"
        raise ModelError(f"model {reference.text!r}: {what} not fetched to {place}; {advice}")
    if remote(place):
        return cache().copy(reference.key, entry, place)
    store = Store(Path(place).expanduser())
    if faults := store.faults(entry):
        raise ModelError(f"model {reference.text!r}: {faults[0]}; {advice}")
    return store.root / entry.path


def upload(store: Store, key: str, entry: Entry, place: str, progress: Progress = quiet) -> None:
    """Copies a model from a store to a place in one of Beam's file systems; `models.json` comes last."""
    with storage_errors(place, "written to"):
        for name, facts in entry.files.items():
            url = join(place, name)
            if (url, facts.size) in listed(url):  # an object store shows a file only when it is whole
                continue
            _upload(store.root / name, url, name, progress)
        _write(join(place, INDEX), _index_bytes({**place_index(place), key: entry}))


def _upload(path: Path, url: str, name: str, progress: Progress) -> None:
    done, total = 0, path.stat().st_size
    with (
        path.open("rb") as stream,
        FileSystems.create(url, compression_type=CompressionTypes.UNCOMPRESSED) as copy,
    ):
        while chunk := stream.read(8 << 20):
            copy.write(chunk)
            done += len(chunk)
            progress(f"{name} (upload)", done, total)


def _write(url: str, content: bytes) -> None:
    with FileSystems.create(url, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(content)


def _index_bytes(index: dict[str, Entry]) -> bytes:
    return json.dumps({key: asdict(entry) for key, entry in sorted(index.items())}, indent=1).encode()


def _read_index(content: bytes, where: str) -> dict[str, Entry]:
    try:
        index = _INDEX.validate_json(content)
        for entry in index.values():
            for path in (entry.path, *entry.files):
                safe_path(path)
    except (ValidationError, ModelError) as error:
        raise ModelError(f"{where}: not a list of models that Earshot wrote: {str(error).splitlines()[0]}") from error
    return index
