"""Cues that are wanted only where another cue says so: a music model only where music is heard.

Of several conditions one has to hold: that a tag or a label says so. Conditions are data, in a profile's rows. They are
judged on stored values, so a new threshold computes no more than the clips that it lets in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import apache_beam as beam
from pydantic import ConfigDict, Field

from transforms.cues import CueInfo
from transforms.records import Finding, Work


@dataclass(frozen=True)
class Condition:
    """Another cue names something.

    Attributes:
        cue: the other one.
        any_of: what it has to name, one of these at least; empty for anything at all.
        min_score: with what score, at least, if any; an item without a score has any.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    cue: str
    any_of: tuple[str, ...] = ()
    min_score: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None

    def unmet(self, finding: Finding) -> str:
        """Why the condition does not hold; empty where it does."""
        if finding.error:
            return f"{self.cue} failed"
        for item in finding.items:
            enough = self.min_score is None or item.score is None or item.score >= self.min_score
            if enough and (not self.any_of or item.text in self.any_of):
                return ""
        what = " or ".join(self.any_of) or "anything"
        return f"{self.cue} does not name {what}" + ("" if self.min_score is None else f" with {self.min_score:g}")


# Of each cue that is not wanted of all clips: the conditions of which one has to hold.
Conditions = Mapping[str, tuple[Condition, ...]]


def judged(work: Work, level: Conditions, infos: Mapping[str, CueInfo]) -> Work:
    """Returns the work with a skipped finding for each cue of `level` none of whose conditions holds.

    What the store knows of such a cue is left out: it was found under other conditions. A clip of which an earlier cue
    has failed is a failure whatever follows, so nothing more is computed for it.

    Args:
        work: of which the cues that conditions refer to are known.
        level: cue → its conditions, for cues whose conditions refer to earlier cues only.
        infos: of the same cues.
    """
    known = {finding.name: finding for finding in work.findings}
    failed = next((finding.name for finding in work.findings if finding.error and finding.name not in level), "")
    for name, conditions in level.items():
        reasons = [condition.unmet(known[condition.cue]) for condition in conditions]
        if failed or all(reasons):
            reason = f"{failed} failed" if failed else " and ".join(reasons)
            known[name] = infos[name].finding(work.clip.clip_id, "", skipped=f"not wanted: {reason}")
    return replace(work, findings=tuple(known.values()))


def levels(names: tuple[str, ...], conditions: Conditions, first: Iterable[str] = ()) -> tuple[tuple[str, ...], ...]:
    """Orders cues so that each comes after those that its conditions refer to.

    Args:
        names: the cues.
        conditions: of those that have one.
        first: cues that come before all others but those that they themselves depend on.

    Returns:
        The names that can be computed together, level by level.

    Raises:
        ValueError: conditions go in a circle, or refer to a cue that is not among `names`.
    """
    needed = {name: cues_of(some) for name, some in conditions.items()}
    for name, cues in needed.items():
        for cue in sorted(cues - {*names}):
            raise ValueError(f"{name}: its condition refers to the cue {cue!r}, which the profile has not")
    found: list[tuple[str, ...]] = []
    done: set[str] = set()
    for some in (_with_needed(first, needed), set(names)):
        while some - done:
            level = tuple(n for n in names if n in some - done and needed.get(n, set()) <= done)
            if not level:
                circle = ", ".join(n for n in names if n in some - done)
                raise ValueError(f"the conditions of {circle} go in a circle")
            found.append(level)
            done |= set(level)
    return tuple(found)


def cues_of(conditions: Iterable[Condition]) -> set[str]:
    """The cues that conditions refer to."""
    return {condition.cue for condition in conditions}


def _with_needed(names: Iterable[str], needed: Mapping[str, set[str]]) -> set[str]:
    """The names, and all that they need, directly or not."""
    found: set[str] = set()
    open_ = list(names)
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            open_ += needed.get(name, ())
    return found


@dataclass
class Judge(beam.PTransform):
    """Works → works, with what conditions rule out marked as skipped (`judged`)."""

    level: Conditions
    infos: Mapping[str, CueInfo]

    def expand(self, works: beam.PCollection[Work]) -> beam.PCollection[Work]:
        return works | beam.Map(judged, self.level, self.infos) if self.level else works
