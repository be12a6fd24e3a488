"""Cues that are wanted only where another cue says so: a music model only where music is heard.

Conditions are data, in a profile's rows. They are judged on stored values, so a new threshold computes no more than the
clips that it lets in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import apache_beam as beam
from pydantic import ConfigDict

from transforms.cues import CueInfo
from transforms.records import Finding, Work


@dataclass(frozen=True)
class Condition:
    """A cue is computed only where another one names something.

    Attributes:
        cue: the other one.
        any_of: what it has to name, one of these at least; empty for anything at all.
        min_score: with what score, at least, if any; an item without a score has any.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    cue: str
    any_of: tuple[str, ...] = ()
    min_score: float | None = None

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


def judged(work: Work, level: Mapping[str, Condition], infos: Mapping[str, CueInfo]) -> Work:
    """Returns the work with a skipped finding for each cue of `level` whose condition does not hold.

    What the store knows of such a cue is left out: it was found under another condition. A clip of which a cue has
    failed is a failure whatever follows, so nothing more is computed for it.

    Args:
        work: of which the cues that conditions refer to are known.
        level: cue → its condition, for cues whose conditions refer to earlier cues only.
        infos: of the same cues.
    """
    known = {finding.name: finding for finding in work.findings}
    failed = next((finding.name for finding in work.findings if finding.error), "")
    for name, condition in level.items():
        reason = f"{failed} failed" if failed else condition.unmet(known[condition.cue])
        if reason:
            known[name] = infos[name].finding(work.clip.clip_id, "", skipped=f"not wanted: {reason}")
    return replace(work, findings=tuple(known.values()))


def levels(
    names: tuple[str, ...], conditions: Mapping[str, Condition], first: Iterable[str] = ()
) -> tuple[tuple[str, ...], ...]:
    """Orders cues so that each comes after the one that its condition refers to.

    Args:
        names: the cues.
        conditions: of those that have one.
        first: cues that come before all others but those that they themselves depend on.

    Returns:
        The names that can be computed together, level by level.

    Raises:
        ValueError: conditions go in a circle, or refer to a cue that is not among `names`.
    """
    for name, condition in conditions.items():
        if condition.cue not in names:
            raise ValueError(f"{name}: its condition refers to the cue {condition.cue!r}, which the profile has not")
    found: list[tuple[str, ...]] = []
    done: set[str] = set()
    for some in (_with_needed(first, conditions), set(names)):
        while some - done:
            level = tuple(n for n in names if n in some - done and (n not in conditions or conditions[n].cue in done))
            if not level:
                circle = ", ".join(n for n in names if n in some - done)
                raise ValueError(f"the conditions of {circle} go in a circle")
            found.append(level)
            done |= set(level)
    return tuple(found)


def _with_needed(names: Iterable[str], conditions: Mapping[str, Condition]) -> set[str]:
    """The names, and all that their conditions refer to, directly or not."""
    found: set[str] = set()
    open_ = list(names)
    while open_:
        name = open_.pop()
        if name not in found:
            found.add(name)
            open_ += [conditions[name].cue] if name in conditions else []
    return found


@dataclass
class Judge(beam.PTransform):
    """Works → works, with what conditions rule out marked as skipped (`judged`)."""

    level: Mapping[str, Condition]
    infos: Mapping[str, CueInfo]

    def expand(self, works: beam.PCollection[Work]) -> beam.PCollection[Work]:
        return works | beam.Map(judged, self.level, self.infos) if self.level else works
