"""Near-copies: of the captions that say the same, so many stay and the others go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import AsDict, TaggedOutput

from transforms.checks import wording
from transforms.records import Caption, Rejection


def place(caption: Caption) -> int:
    """Where a caption stands among those of its wording: drawn by its clip's id, so each run keeps the same ones."""
    return int.from_bytes(hashlib.sha256(caption.clip.clip_id.encode()).digest()[:7], "big")


def single(caption: Caption, last: Mapping[str, int], at_most: int) -> Caption | Rejection:
    """The caption, or its rejection where `at_most` others of its wording stand before it.

    Args:
        caption: that is judged.
        last: of each wording that more than `at_most` captions have, the place of the last that stays.
        at_most: captions of one wording.
    """
    if place(caption) <= last.get(wording(caption.caption), 1 << 60):
        return caption
    return caption.rejected("near_copy", f"more than {at_most} captions read like this one")


@dataclass
class DropCopies(beam.PTransform):
    """Captions → ``kept`` and ``rejected``: at most so many of one wording (`checks.wording`); 0 for any number.

    Which wordings are too many travels as a side input, so that no caption is shuffled for it.
    """

    at_most: int

    def expand(self, captions: beam.PCollection[Caption]) -> beam.pvalue.DoOutputsTuple:
        last: AsDict | dict = {}
        if self.at_most:
            last = AsDict(
                captions
                | "wording" >> beam.Map(lambda caption: (wording(caption.caption), place(caption)))
                | "first of each" >> beam.combiners.Top.SmallestPerKey(self.at_most + 1)
                | "too many" >> beam.FlatMap(_last, self.at_most)
            )
        return captions | "single" >> beam.FlatMap(_single, last, self.at_most).with_outputs("rejected", main="kept")


def _last(group: tuple[str, list[int]], at_most: int) -> Iterator[tuple[str, int]]:
    text, places = group
    if len(places) > at_most:
        yield text, sorted(places)[at_most - 1]


def _single(caption: Caption, last: Mapping[str, int], at_most: int) -> Iterator[Caption | TaggedOutput]:
    outcome = single(caption, last, at_most)
    yield TaggedOutput("rejected", outcome) if isinstance(outcome, Rejection) else outcome
