"""What earlier runs know meets the clips of this one, and what is still to be computed is what they lack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from model_handlers.base import CueHandler
from model_handlers.views import View
from transforms import telemetry
from transforms.cues import CueInfo, subject
from transforms.progress import Tick
from transforms.records import Clip, Finding, Work, Written
from transforms.store import Store, pack, read_rows, unpack

Row = Finding | Written


@dataclass(frozen=True)
class Wanted:
    """Something that a run wants of every clip.

    Attributes:
        name: of the cue.
        fingerprint: of what determines its value.
        view: that it is computed from; ``None`` for scores of captions, of which a clip may have several.
    """

    name: str
    fingerprint: str
    view: View | None

    @classmethod
    def of(cls, handler: CueHandler) -> Wanted:
        """What a handler computes."""
        return cls(handler.name, CueInfo.of(handler).fingerprint, handler.view)


def recalled(clip: Clip, rows: Iterable[Row], wanted: Iterable[Wanted], retry_failed: bool = False) -> Work:
    """Returns the clip with those of `rows` that this run wants, in the order of `wanted`.

    A row counts where cue, fingerprint and subject are what this run would compute. Of several, which are the same but
    for a score's last digits, the first is taken.

    Args:
        clip: whose rows these are.
        rows: of this clip; what a store holds twice may come twice.
        wanted: the run's cues.
        retry_failed: leaves out what failed, so that it is computed again.
    """
    wanted = tuple(wanted)
    scores = {(cue.name, cue.fingerprint) for cue in wanted if cue.view is None}
    known: dict[tuple[str, str, str], Finding] = {}
    written: dict[str, Written] = {}
    for row in sorted(rows, key=_failed):  # what was mended stays mended
        if row.error and retry_failed:
            continue
        if isinstance(row, Written):
            written.setdefault(row.key, row)
        else:
            known.setdefault((row.name, row.fingerprint, row.subject), row)
    keys = ((cue.name, cue.fingerprint, subject(clip, cue.view)) for cue in wanted if cue.view is not None)
    scored = tuple(row for key, row in known.items() if key[:2] in scores)
    return Work(clip, tuple(known[key] for key in keys if key in known), tuple(written.values()), scored)


def _failed(row: Row) -> bool:
    return bool(row.error)


@dataclass
class Recall(beam.PTransform):
    """Clips → `Work`s: each clip with what the store knows of it.

    Attributes:
        store: of the dataset; one without a root knows nothing.
        wanted: the run's cues.
        writers: fingerprints of the writers whose answers are wanted.
        retry_failed: whether what failed is computed again.
        progress: where ticks go; what is known counts as done.
    """

    store: Store
    wanted: tuple[Wanted, ...]
    writers: tuple[str, ...]
    retry_failed: bool = False
    progress: str = ""

    def expand(self, clips: beam.PCollection[Clip]) -> beam.PCollection[Work]:
        if not self.store.root:
            return clips | "nothing known" >> beam.Map(Work)
        known = stored_rows(clips.pipeline, self._kinds())
        return (
            {"clips": clips | "by id" >> beam.Map(lambda clip: (clip.clip_id, clip)), "rows": known}
            | "meet" >> beam.CoGroupByKey()
            | "recall" >> beam.FlatMap(_works, self.wanted, self.retry_failed)
            | "known" >> beam.ParDo(_Count(self.wanted, self.progress))
        )

    def _kinds(self) -> list[tuple[str, type[Row]]]:
        """The patterns of the files of the cues that are wanted, and of the writers."""
        findings = [(self.store.files(cue.name, cue.fingerprint), Finding) for cue in self.wanted]
        return [*findings, *((self.store.written_files(writer), Written) for writer in self.writers)]


def stored_rows(pipeline: beam.Pipeline, kinds: list[tuple[str, type[Row]]]) -> beam.PCollection[tuple[str, bytes]]:
    """The rows of store files, packed, by clip id; for use within a transform's `expand`.

    Args:
        pipeline: the job.
        kinds: patterns of files, each with what is in them.
    """
    return (
        pipeline
        | "kinds" >> beam.Create(kinds)
        | "files" >> beam.FlatMap(_files)  # as it runs: a job that an engine repeats finds what it has paid for
        | "spread files" >> beam.Reshuffle()
        | "read" >> beam.FlatMap(_rows).with_output_types(tuple[str, bytes])
    )


def answers_of(packed: Iterable[bytes], retry_failed: bool = False) -> tuple[Written, ...]:
    """A clip's answers among its packed rows, each once; without those that failed where these are asked for again."""
    return recalled(Clip("", ""), unpacked(packed), (), retry_failed).written


def unpacked(packed: Iterable[bytes]) -> Iterator[Row]:
    """Packed rows, each once, in an order that does not depend on the run."""
    return map(unpack, sorted(set(packed)))


def _files(kind: tuple[str, type[Row]]) -> Iterator[tuple[str, type[Row]]]:
    pattern, of = kind
    for found in FileSystems.match([pattern])[0].metadata_list:
        yield found.path, of


def _rows(file: tuple[str, type[Row]]) -> Iterator[tuple[str, bytes]]:
    path, kind = file
    for record in read_rows(path, kind):
        yield record["clip_id"], pack(record, kind)


def _works(group: tuple[str, dict], wanted: tuple[Wanted, ...], retry_failed: bool) -> Iterator[Work]:
    _, grouped = group
    for clip in grouped["clips"]:  # none where the store knows a clip that is not listed
        yield recalled(clip, unpacked(grouped["rows"]), wanted, retry_failed)


class _Count(beam.DoFn):
    """Counts what is known as `Tick` counts what is done, and as ``known`` of ``earshot.<cue>``."""

    def __init__(self, wanted: tuple[Wanted, ...], progress: str):
        self.ticks = {cue.name: Tick(cue.name, progress) for cue in wanted}

    def process(self, work: Work) -> Iterator[Work]:
        for finding in work.findings:
            self.ticks[finding.name].tick(finding)
            telemetry.count(finding.name, "known")
        yield work
