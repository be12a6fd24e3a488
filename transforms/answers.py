"""What writers have answered: kept the moment it is there, because some answers are paid for."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import threading
import uuid
from collections.abc import Sequence
from typing import Any, BinaryIO

from apache_beam.io.filesystems import FileSystems
from fastavro.write import Writer

from model_handlers.writers import Brief, Draft
from transforms.avro import avro_schema, to_record
from transforms.records import Written
from transforms.store import Store, write_rows


def written_key(brief: Brief, writer: str) -> str:
    """16 hex digits of all that goes into an answer: what the writer is told of the clip, and its fingerprint.

    The answers that it gave before are part of what it is told, so each time that it is asked has a key of its own.
    """
    cues = {name: [vars(item) for item in items] for name, items in brief.cues.items()}
    told: list[Any] = [brief.clip_id, writer, cues]
    if brief.attempts:
        told.append([attempt.answer for attempt in brief.attempts])  # another complaint is no reason to pay again
    if brief.caption:
        told.append({"caption": brief.caption})
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def written(brief: Brief, draft: Draft, writer: str) -> Written:
    """A writer's answer to a brief, with its key."""
    return Written(**vars(draft), clip_id=brief.clip_id, key=written_key(brief, writer))


class Answers:
    """Keeps answers in a dataset's store.

    On a disk they are appended to a file, as an Avro block, before the call returns: killing the process loses none
    that was kept, and a file that ends within a block is read up to there. On an object store, where nothing can be
    appended to, they become files at each `flush`.

    A copy (a worker unpickles one) writes files of its own.
    """

    def __init__(self, store: Store, writer: str):
        self.store, self.writer = store, writer
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._pending: list[Written] = []

    def __getstate__(self) -> tuple[Store, str]:
        return self.store, self.writer

    def __setstate__(self, state: tuple[Store, str]) -> None:
        self.store, self.writer = state
        self._begin()

    def __call__(self, answers: Sequence[tuple[Brief, Draft]]) -> None:
        """Keeps some answers; threads may do so at once."""
        rows = [written(brief, draft, self.writer) for brief, draft in answers]
        with self._lock:
            if "://" in self.store.root:
                self._pending.extend(rows)
            elif self.store.root and rows:
                self._append(rows)

    def flush(self) -> None:
        """Sees to it that all answers so far are kept."""
        with self._lock:
            if self._pending:
                write_rows(self._folder, self._pending)
                self._pending = []

    @property
    def _folder(self) -> str:
        return self.store.written_folder(self.writer)

    def _append(self, rows: Sequence[Written]) -> None:
        if self._file is None:
            os.makedirs(self._folder, exist_ok=True)
            path = FileSystems.join(self._folder, f"{uuid.uuid4().hex}.avro")
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115  # as long as this object lives
            self._blocks = io.BytesIO()
            self._avro = Writer(self._blocks, avro_schema(Written), codec="deflate")
        for row in rows:
            self._avro.write(to_record(row))
        self._avro.flush()
        block, start = self._blocks.getvalue(), self._file.tell()
        self._blocks.seek(0)
        self._blocks.truncate()
        try:
            if self._file.write(block) != len(block):
                raise OSError(errno.ENOSPC, "answers could not be kept whole", self._folder)
        except OSError:  # what follows half a block could not be read: the next answer begins a file of its own
            self._file.truncate(start)
            self._file.close()
            self._file = None
            raise
