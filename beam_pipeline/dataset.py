"""A published version of a dataset, as whoever reads it wants it: its records as they are, or as Avro holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.config import ConfigError
from beam_pipeline.status import status
from transforms import versions
from transforms.avro import read_avro, read_records
from transforms.publish import DATASETS


@dataclass(frozen=True)
class Dataset:
    """One version.

    Attributes:
        root: the dataset's folder, on any file system that Beam knows.
        version: which.
        manifest: its manifest.
    """

    root: str
    version: int
    manifest: dict[str, Any]

    @classmethod
    def open(cls, root: str, version: int | None = None) -> Dataset:
        """The version with that number, or the current one.

        Raises:
            ConfigError: there is no such dataset or version, or its files are not Earshot's.
        """
        found = status(root, version)
        if not found.manifest.keys() >= {"files", "counts", "cues", "filters", "writer"}:
            raise ConfigError(f"{versions.folder(root, found.version)}: its manifest is not one that Earshot wrote")
        if "same_as" in found.manifest:
            return cls.open(root, found.manifest["same_as"])
        return cls(root, found.version, found.manifest)

    @property
    def folder(self) -> str:
        """Where the version's files lie."""
        return versions.folder(self.root, self.version)

    def count(self, name: str) -> int:
        """How many records of ``captions``, ``rejected``, ``failed`` or ``qa`` there are."""
        if name in self.manifest["counts"]:
            return self.manifest["counts"][name]
        return (self.manifest.get("pairs") or {}).get("published", 0)

    def read(self, name: str) -> Iterator[Any]:
        """The records of ``captions``, ``rejected``, ``failed`` or ``qa`` as dataclasses (`transforms.records`).

        Nothing where the version has no such file. Raises `ConfigError` where a file cannot be read.
        """
        yield from self._each(name, read_avro)

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """The same as Avro holds them: dictionaries, in half the time."""
        yield from self._each(name, read_records)

    def _each(self, name: str, read: Callable[[str, type], Iterator[Any]]) -> Iterator[Any]:
        for file in self.manifest["files"].get(name, ()):
            path = FileSystems.join(self.folder, file)
            try:
                yield from read(path, DATASETS[name])
            except (OSError, BeamIOError, ValueError) as error:
                raise ConfigError(f"{path}: cannot be read: {error}") from None
