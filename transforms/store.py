"""The cue store: what earlier runs know, kept as it is found, so that no run computes it twice.

Below a dataset's folder lie

    store/cues/<cue>/<fingerprint>/<name>.avro       `Finding`s
    store/written/<writer>/<name>.avro               `Written`s

Files are only ever added: each is whole from the moment it has its name, and holds what one worker found in a row. A
value that was stored twice is the same value, and counts once. How files of `Written`s grow is in `transforms.answers`.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import apache_beam as beam
import fastavro
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from transforms import telemetry
from transforms.avro import avro_schema, from_record, read_records, to_record
from transforms.records import Finding, Written

FOLDER = "store"
_FIELDS = {cls: tuple(field.name for field in fields(cls)) for cls in (Finding, Written)}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    """Where findings are kept.

    Attributes:
        root: the dataset's folder; empty where nothing is kept.
        every_s: how many seconds of findings may be lost with a worker; at least one batch is.
    """

    root: str
    every_s: float = 0.0

    @classmethod
    def at(cls, root: str) -> Store:
        """The store of a dataset. Files cost more where each is a request, so there fewer are written."""
        return cls(root, 30.0 if "://" in root else 0.0)

    def files(self, name: str, fingerprint: str) -> str:
        """A glob of the files of one cue."""
        return FileSystems.join(self.root, FOLDER, "cues", name, fingerprint, "*.avro")

    def written_files(self, writer: str) -> str:
        """A glob of the files of one writer."""
        return FileSystems.join(self.written_folder(writer), "*.avro")

    def written_folder(self, writer: str) -> str:
        """Where the files of one writer lie."""
        return FileSystems.join(self.root, FOLDER, "written", safe(writer))

    def asked_folder(self, writer: str) -> str:
        """Where one writer notes what it has asked for and not yet got; empty where nothing is kept."""
        return FileSystems.join(self.root, FOLDER, "asked", safe(writer)) if self.root else ""

    def folder(self, finding: Finding) -> str:
        """Where a finding's file lies."""
        return FileSystems.join(self.root, FOLDER, "cues", finding.name, finding.fingerprint)


def safe(name: str) -> str:
    """A name for a file or folder: ``TemplateWriter:0f…`` → ``TemplateWriter-0f…``."""
    return re.sub(r"[^\w.=-]", "-", name)


def write_rows(folder: str, rows: Sequence[Finding | Written]) -> str:
    """Writes rows of one kind into a new file, which is whole when it appears; returns its path."""
    path = FileSystems.join(folder, f"{uuid.uuid4().hex}.avro")
    remote = "://" in path
    part = path if remote else f"{path}.part"
    if not remote:
        os.makedirs(folder, exist_ok=True)
    content = io.BytesIO()  # first, because Beam keeps of a remote file what was written until an error
    fastavro.writer(content, _schema(type(rows[0]).__name__), map(to_record, rows), codec="deflate")
    with FileSystems.create(part, compression_type="uncompressed") as file:
        file.write(content.getbuffer())
    telemetry.count("store", "files_written")
    telemetry.count("store", "rows_written", len(rows))
    telemetry.count("store", "bytes_written", content.tell())
    if not remote:  # an object store shows an object when it is whole
        os.replace(part, path)
    return path


def read_rows(path: str, cls: type[Finding | Written]) -> Iterator[dict[str, Any]]:
    """Yields the rows of a file that can be read, as Avro records.

    All of them, or those before the place where the file is damaged.
    """
    telemetry.count("store", "files_read")
    try:
        yield from read_records(path, cls)
    except (ValueError, OSError, BeamIOError) as error:
        # What is lost is computed again. A file that is gone was removed by somebody who knew better.
        telemetry.count("store", "files_damaged")
        said = telemetry.line({"path": path, "error": str(error)})
        _log.warning("a part of a store file cannot be read, and will be computed again: %s", said)


def pack(record: dict[str, Any], cls: type[Finding | Written]) -> bytes:
    """A row in as few bytes as can be: a run may have to shuffle ten of them for each of millions of clips."""
    return pickle.dumps((cls is Finding, *(record[name] for name in _FIELDS[cls])), 5)


def unpack(packed: bytes) -> Finding | Written:
    """What `pack` made of a row."""
    is_finding, *values = pickle.loads(packed)
    cls: type[Finding | Written] = Finding if is_finding else Written
    return from_record(cls, dict(zip(_FIELDS[cls], values, strict=True)))


@lru_cache(maxsize=8)
def _schema(name: str) -> Any:
    return fastavro.parse_schema(avro_schema({"Finding": Finding, "Written": Written}[name]))


@dataclass
class Keep(beam.PTransform):
    """Findings pass through, and each is kept on the way, unless it is a failure that a retry may mend.

    Attributes:
        store: where.
        batch: how many arrive together; fewer are not worth a file.
    """

    store: Store
    batch: int = 1

    def expand(self, findings: beam.PCollection[Finding]) -> beam.PCollection[Finding]:
        return findings | beam.ParDo(_Keep(self.store, self.batch)) if self.store.root else findings


class _Keep(beam.DoFn):
    def __init__(self, store: Store, batch: int):
        self.store, self.batch = store, batch

    def start_bundle(self) -> None:
        self.findings: list[Finding] = []
        self.since = time.monotonic()

    def process(self, finding: Finding) -> Iterator[Finding]:
        if not finding.retryable:
            self.findings.append(finding)
        if len(self.findings) >= self.batch and time.monotonic() - self.since >= self.store.every_s:
            self._write()
        yield finding

    def finish_bundle(self) -> None:
        self._write()

    def _write(self) -> None:
        by_folder: dict[str, list[Finding]] = {}
        for finding in self.findings:
            by_folder.setdefault(self.store.folder(finding), []).append(finding)
        for folder, findings in by_folder.items():
            write_rows(folder, findings)
        self.findings, self.since = [], time.monotonic()
