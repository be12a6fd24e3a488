"""Filters: each a pure function that returns ``None`` to keep a clip, or the reason and the numbers to drop it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from model_handlers.synchronisation import heard_as, hits
from transforms.records import Clip, CueSheet, Rejection, Work

# A reason in snake_case, the same for all clips it drops; and what was measured on this one.
Verdict = tuple[str, str] | None


def drop_labels(clip: Clip, all_of: tuple[str, ...], sources: tuple[str, ...]) -> Verdict:
    """Drops a clip whose dataset labels include all of `all_of` (Auto-ACD, section 3.3: speech and music)."""
    if not _applies(clip, sources) or not set(all_of) <= set(clip.labels):
        return None
    return "labelled_" + "_and_".join(label.lower() for label in all_of), f"labels: {', '.join(clip.labels)}"


def drop_no_audio(sheet: CueSheet, cue: str) -> Verdict:
    """Drops a clip in whose file there is no sound track to describe; `cue` is one computed from the sound."""
    skipped = next(c.skipped for c in sheet.cues if c.name == cue)
    return ("no_audio", skipped) if skipped else None


def drop_silent(sheet: CueSheet, cue: str, below_dbfs: float) -> Verdict:
    """Drops a clip whose loudest sample is below `below_dbfs`."""
    for item in sheet.items(cue):
        if item.text == "peak" and item.score is not None and item.score < below_dbfs:
            return "silent", f"peak {item.score:.1f} dBFS, required {below_dbfs:g}"
    return None


def drop_out_of_sync(
    sheet: CueSheet, cue: str, required_hits: int, tolerance: int, least_probability: float, sources: tuple[str, ...]
) -> Verdict:
    """Drops a clip of whose synchronisation evaluations fewer than `required_hits` are right (Auto-ACD: 1 of 5).

    What is right is in `model_handlers.synchronisation.hits`.

    A clip that could not be evaluated (no picture, or shorter than the model's window) is kept: nothing speaks
    against it.
    """
    evaluations = sheet.items(cue)
    if not evaluations or not _applies(sheet.clip, sources):
        return None
    found = hits(evaluations, tolerance, least_probability)
    if found >= required_hits:
        return None
    offsets = ", ".join(map(heard_as, evaluations))
    return "out_of_sync", f"{found} of {len(evaluations)} evaluations right, required {required_hits}: {offsets}"


def _applies(clip: Clip, sources: Collection[str]) -> bool:
    return not sources or clip.source in sources


def first_verdict(subject: Clip | CueSheet, checks: tuple[Callable, ...]) -> Verdict:
    """The verdict of the first filter that drops the clip or sheet; ``None`` when all keep it."""
    return next((verdict for check in checks if (verdict := check(subject))), None)


@dataclass
class Filter(beam.PTransform):
    """Clips, works or cue sheets → ``kept`` and ``rejected``. The first of `checks` that drops one gives the reason.

    A work is judged by its cues `names`, and these stay with its rejection.
    """

    checks: tuple[Callable, ...]
    names: tuple[str, ...] = ()

    def expand(self, subjects: beam.PCollection[Clip | Work | CueSheet]) -> beam.pvalue.DoOutputsTuple:
        return subjects | "filter" >> beam.FlatMap(_filter, self.checks, self.names).with_outputs(
            "rejected", main="kept"
        )


def _filter(subject: Clip | Work | CueSheet, checks: tuple[Callable, ...], names: tuple[str, ...]) -> Iterator[Any]:
    judged = subject.sheet(names) if isinstance(subject, Work) else subject
    verdict = first_verdict(judged, checks)
    if verdict is None:
        yield subject
    elif isinstance(judged, Clip):
        yield TaggedOutput("rejected", Rejection(judged, *verdict))
    else:
        yield TaggedOutput("rejected", Rejection(judged.clip, *verdict, cues=judged.cues))
