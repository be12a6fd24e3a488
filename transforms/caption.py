"""Cue sheets → captions: the writer is told what is known of a clip, and its answer is joined to what it rests on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.pvalue import TaggedOutput

from model_handlers.writers import Brief, CaptionWriter, Draft
from transforms.progress import Tick
from transforms.records import Caption, CueSheet, Rejection, Written
from transforms.store import Keep, Store


def brief(sheet: CueSheet, needs: tuple[str, ...] = ()) -> Brief:
    """What a writer is told of a clip: the cues that it needs, or all where it names none."""
    told = {cue.name: cue.items for cue in sheet.cues if cue.items and (not needs or cue.name in needs)}
    return Brief(sheet.clip.clip_id, told)


def written_key(told: Brief, writer: str) -> str:
    """16 hex digits of all that goes into a caption: the clip's id, what the writer is told, and its fingerprint."""
    cues = {name: [asdict(item) for item in items] for name, items in told.cues.items()}
    return hashlib.sha256(json.dumps([told.clip_id, writer, cues], sort_keys=True).encode()).hexdigest()[:16]


def to_caption(sheet: CueSheet, written: Written, writer: str) -> Caption | Rejection:
    """The clip's caption; a rejection where the writer abstained."""
    if written.abstained:
        return Rejection(sheet.clip, "no_caption", written.abstained, sheet.cues)
    return Caption(sheet.clip, written.caption, writer, sheet.cues)


@dataclass
class WriteCaptions(beam.PTransform):
    """Cue sheets → ``captions`` and ``rejected``, and ``fresh``: what had to be written for it.

    A sheet whose caption was written in an earlier run, from the same cues by the same writer, keeps it.
    """

    writer: CaptionWriter
    store: Store
    progress: str = ""

    def expand(self, sheets: beam.PCollection[CueSheet]) -> dict[str, beam.PCollection]:
        fingerprint = self.writer.fingerprint()
        asked = sheets | "brief" >> beam.FlatMap(_asked, self.writer.needs, fingerprint).with_outputs(
            "known", main="unknown"
        )
        fresh = (
            asked.unknown
            | "write" >> RunInference(KeyedModelHandler(self.writer))
            | "written" >> beam.Map(_written)
            | "keep" >> Keep(self.store, self.writer.batch_size, _row, fingerprint)
        )
        ended = (
            [asked.known, fresh]
            | "all written" >> beam.Flatten()
            | "done" >> Tick("caption", self.progress)
            | "caption" >> beam.FlatMap(_captions, fingerprint).with_outputs("rejected", main="captions")
        )
        return {"captions": ended.captions, "rejected": ended.rejected, "fresh": fresh | "rows" >> beam.Map(_row)}


def _asked(sheet: CueSheet, needs: tuple[str, ...], writer: str) -> Iterator[Any]:
    told = brief(sheet, needs)
    key = written_key(told, writer)
    known = next((written for written in sheet.written if written.key == key), None)
    yield TaggedOutput("known", (sheet, known)) if known else ((sheet, key), told)


def _written(answer: tuple[tuple[CueSheet, str], Draft]) -> tuple[CueSheet, Written]:
    (sheet, key), draft = answer
    return sheet, Written(sheet.clip.clip_id, key, draft.caption, draft.abstained, draft.seconds)


def _row(answer: tuple[CueSheet, Written]) -> Written:
    return answer[1]


def _captions(answer: tuple[CueSheet, Written], writer: str) -> Iterator[Caption | TaggedOutput]:
    outcome = to_caption(*answer, writer)
    yield TaggedOutput("rejected", outcome) if isinstance(outcome, Rejection) else outcome
