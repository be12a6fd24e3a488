"""Cues meet their clip again, by clip id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.records import Clip, Cue, CueFailure, CueSheet, Failure

Outcome = Cue | CueFailure


def join_cues(clip: Clip, outcomes: Iterable[Outcome], names: tuple[str, ...]) -> CueSheet | Failure:
    """Returns the clip's sheet, cues in the order of `names`; or its failure, when any cue failed.

    A clip given without an end gets the end that the cue called ``media`` found. Raises `RuntimeError` when a cue is
    missing or came twice: that is a bug, and a dataset with such a hole must not be published.
    """
    found: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.name in found:
            raise RuntimeError(f"clip {clip.clip_id!r}: two outcomes for the cue {outcome.name!r}")
        found[outcome.name] = outcome
    if missing := [name for name in names if name not in found]:
        raise RuntimeError(f"clip {clip.clip_id!r}: no outcome for {', '.join(missing)}")
    in_order = [found[name] for name in names]
    for outcome in in_order:
        if isinstance(outcome, CueFailure):
            return Failure(clip, outcome.name, outcome.error, outcome.retryable)
    cues = tuple(outcome for outcome in in_order if isinstance(outcome, Cue))
    if clip.end_s is None:
        ends = [item.end_s for cue in cues for item in cue.items if cue.name == "media" and item.end_s is not None]
        clip = replace(clip, end_s=clip.start_s + max(ends)) if ends else clip
    return CueSheet(clip, cues)


@dataclass
class JoinCues(beam.PTransform):
    """(clips, outcomes) → ``sheets`` and ``failed``."""

    names: tuple[str, ...]

    def expand(self, inputs: tuple[beam.PCollection[Clip], beam.PCollection[Outcome]]) -> beam.pvalue.DoOutputsTuple:
        clips, outcomes = inputs
        keyed = {
            "clips": clips | "clips by id" >> beam.Map(lambda clip: (clip.clip_id, clip)),
            "outcomes": outcomes | "outcomes by id" >> beam.Map(lambda outcome: (outcome.clip_id, outcome)),
        }
        return (
            keyed
            | "group by id" >> beam.CoGroupByKey()
            | "sheet" >> beam.FlatMap(_sheets, self.names).with_outputs("failed", main="sheets")
        )


def _sheets(group: tuple[str, dict], names: tuple[str, ...]) -> Iterator[CueSheet | TaggedOutput]:
    clip_id, grouped = group
    clips = list(grouped["clips"])
    if len(clips) != 1:
        raise RuntimeError(f"clip {clip_id!r}: {len(clips)} clips with this id at the join, where there has to be one")
    joined = join_cues(clips[0], grouped["outcomes"], names)
    yield TaggedOutput("failed", joined) if isinstance(joined, Failure) else joined
