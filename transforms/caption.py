"""Cue sheets → captions: the writer is told what is known of a clip, and its answer is joined to what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.pvalue import TaggedOutput

from model_handlers.writers import Brief, CaptionWriter, Draft
from transforms.progress import Tick
from transforms.records import Caption, CueSheet, Rejection


def brief(sheet: CueSheet) -> Brief:
    """What a writer is told of a clip."""
    return Brief(sheet.clip.clip_id, {cue.name: cue.items for cue in sheet.cues if cue.items})


def to_caption(sheet: CueSheet, draft: Draft, writer: str) -> Caption | Rejection:
    """The clip's caption; a rejection where the writer abstained."""
    if draft.abstained:
        return Rejection(sheet.clip, "no_caption", draft.abstained, sheet.cues)
    return Caption(sheet.clip, draft.caption, writer, sheet.cues)


@dataclass
class WriteCaptions(beam.PTransform):
    """Cue sheets → ``captions`` and ``rejected``."""

    writer: CaptionWriter
    progress: str = ""

    def expand(self, sheets: beam.PCollection[CueSheet]) -> beam.pvalue.DoOutputsTuple:
        return (
            sheets
            | "brief" >> beam.Map(lambda sheet: (sheet, brief(sheet)))
            | "write" >> RunInference(KeyedModelHandler(self.writer))
            | "done" >> Tick("caption", self.progress)
            | "caption" >> beam.FlatMap(_captions, self.writer.fingerprint()).with_outputs("rejected", main="captions")
        )


def _captions(answer: tuple[CueSheet, Draft], writer: str) -> Iterator[Caption | TaggedOutput]:
    outcome = to_caption(*answer, writer)
    yield TaggedOutput("rejected", outcome) if isinstance(outcome, Rejection) else outcome
