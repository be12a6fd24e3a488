"""Cues meet their clip again, by clip id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from transforms.records import Clip, CueSheet, Failure, Finding, Work


def join_cues(clip: Clip, findings: Iterable[Finding], names: tuple[str, ...]) -> CueSheet | Failure:
    """Returns the clip's sheet, cues in the order of `names`; or its failure, when any cue failed.

    A clip given without an end gets the end that the cue called ``media`` found. Raises `RuntimeError` when a cue is
    missing or came twice: that is a bug, and a dataset with such a hole must not be published.
    """
    found: dict[str, Finding] = {}
    for finding in findings:
        if finding.name in found:
            raise RuntimeError(f"clip {clip.clip_id!r}: two findings for the cue {finding.name!r}")
        found[finding.name] = finding
    if missing := [name for name in names if name not in found]:
        raise RuntimeError(f"clip {clip.clip_id!r}: nothing found for {', '.join(missing)}")
    for name in names:
        if found[name].error:
            return Failure(clip, name, found[name].error, found[name].retryable)
    cues = tuple(found[name].cue for name in names)
    if clip.end_s is None:
        ends = [item.end_s for cue in cues for item in cue.items if cue.name == "media" and item.end_s is not None]
        clip = replace(clip, end_s=clip.start_s + max(ends)) if ends else clip
    return CueSheet(clip, cues)


@dataclass
class JoinCues(beam.PTransform):
    """(works, findings of the cues `names`) → works that have both. One that lacked none of them is not shuffled."""

    names: tuple[str, ...]

    def expand(self, inputs: tuple[beam.PCollection[Work], beam.PCollection[Finding]]) -> beam.PCollection[Work]:
        works, findings = inputs
        split = works | "whole" >> beam.FlatMap(_whole, self.names).with_outputs("lacking", main="whole")
        keyed = {
            "works": split.lacking,
            "findings": findings | "findings by id" >> beam.Map(lambda finding: (finding.clip_id, finding)),
        }
        joined = keyed | "group by id" >> beam.CoGroupByKey() | "joined" >> beam.Map(_joined)
        return [split.whole, joined] | "all works" >> beam.Flatten()


@dataclass
class MakeSheets(beam.PTransform):
    """Works of which all is known → ``sheets``, with the cues `names` in this order, and ``failed``."""

    names: tuple[str, ...]

    def expand(self, works: beam.PCollection[Work]) -> beam.pvalue.DoOutputsTuple:
        return works | beam.FlatMap(_sheets, self.names).with_outputs("failed", main="sheets")


def _whole(work: Work, names: tuple[str, ...]) -> Iterator[Work | TaggedOutput]:
    yield TaggedOutput("lacking", (work.clip.clip_id, work)) if work.lacks(names) else work


def _joined(group: tuple[str, dict]) -> Work:
    clip_id, grouped = group
    works = list(grouped["works"])
    if len(works) != 1:
        raise RuntimeError(f"clip {clip_id!r}: {len(works)} clips with this id at the join, where there has to be one")
    return replace(works[0], findings=(*works[0].findings, *grouped["findings"]))


def _sheets(work: Work, names: tuple[str, ...]) -> Iterator[CueSheet | TaggedOutput]:
    joined = join_cues(work.clip, work.findings, names)
    yield (
        TaggedOutput("failed", joined)
        if isinstance(joined, Failure)
        else replace(joined, written=work.written, scored=work.scored)
    )
