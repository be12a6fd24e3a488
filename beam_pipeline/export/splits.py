"""Which split a clip is exported in, and with which caption: what people reviewed becomes the test split.

Auto-ACD's was made so: of 1,000 clips people took wrong information out of the captions and rewrote what did not fit
(arXiv:2309.11500, the datasets of its experiments). With reviews:

- A clip whose caption a person found to correspond is ``test``, with the text that the person left.
- One whose caption was found not to correspond is left out, unless that person rewrote it: what was rewritten is used.
- Of several raters of a caption most decide; a tie is no. The text is that of the latest who said yes.
- What people say belongs to the caption that they saw. Where a rerun has written another one since, a yes keeps the
  text that it was said of, corrected or not: that is what somebody heard and approved. A no says nothing of the new
  caption, so the clip is as if nobody had reviewed it.
- Whoever corrected a caption has said yes to the corrected one, whatever was said of the one that was shown.
- ``held_out`` are the clips that the run had put in ``test`` and nobody reviewed, which are not corrected, and those of
  the video of a clip that is now ``test``, which training must not see.
- A clip on a list of benchmark clips stays ``benchmark``, corrected if it was.

Without reviews the splits are those of the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beam_pipeline.config import ConfigError
from transforms.splits import BENCHMARK, TEST, TRAIN, VALIDATION

if TYPE_CHECKING:
    from beam_pipeline.review.ratings import Review

HELD_OUT, UNSPLIT = "held_out", "unsplit"  # the latter of datasets that were made before there were splits
SPLITS = (TRAIN, VALIDATION, TEST, BENCHMARK, HELD_OUT, UNSPLIT)
NOT_CORRESPONDING = "reviewed as not corresponding"


@dataclass(frozen=True)
class Placed:
    """Where a clip goes.

    Attributes:
        split: one of `SPLITS`.
        caption: with which text.
        reviewed: whether a person found that the text corresponds, or wrote it.
        left_out: why it goes nowhere; empty where it goes.
        corrected: whether the text is another than the version's.
    """

    split: str
    caption: str
    reviewed: bool = False
    left_out: str = ""
    corrected: bool = False


class Splits:
    """Places clips, one by one; remembers those that were reviewed, for their questions.

    Args:
        reviews: of the dataset, the latest of each rater of each caption.
    """

    def __init__(self, reviews: Sequence[Review]) -> None:
        self._has_reviews = bool(reviews)
        self._reviews: dict[str, list[Review]] = {}
        for review in sorted(reviews, key=lambda one: one.at):
            self._reviews.setdefault(review.clip_id, []).append(review)
        # A clip may have no caption in this version; its video is held out all the same, rather than read all first.
        self._videos = {one.video_id for group in self._reviews.values() for one in group if _vote(one)} - {""}
        self._placed: dict[str, Placed] = {}

    def place(self, record: dict[str, Any]) -> Placed:
        """Where a record of captions goes, as `Dataset.rows` gives it. Raises `ConfigError` as `unreviewed` does."""
        clip, caption = record["clip"], record["caption"]
        text = judged(self._reviews.get(clip["clip_id"], ()), caption)
        if text is None:
            return Placed(self.unreviewed(record["split"], clip["video_id"]), caption)
        split = record["split"] if record["split"] == BENCHMARK else TEST
        placed = Placed(split, text, bool(text), "" if text else NOT_CORRESPONDING, bool(text) and text != caption)
        self._placed[clip["clip_id"]] = placed
        return placed

    def of_pair(self, record: dict[str, Any]) -> Placed:
        """Where a question goes: with its clip, which was placed before."""
        found = self._placed.get(record["clip_id"])
        return found or Placed(self.unreviewed(record["split"], record["video_id"]), "")

    def unreviewed(self, split: str, video_id: str) -> str:
        """The split of a clip that nobody has reviewed. Raises `ConfigError` where the record's is none."""
        split = split or UNSPLIT
        if split not in SPLITS:
            raise ConfigError(f"a record's split is {split!r}; Earshot has {', '.join(SPLITS[:4])}")
        if not self._has_reviews or split == BENCHMARK:
            return split
        return HELD_OUT if split == TEST or video_id in self._videos else split


def judged(reviews: Iterable[Review], caption: str) -> str | None:
    """What people make of a clip's caption: the text to take, empty for none; ``None`` where they say nothing of it.

    Args:
        reviews: of the clip, by the time at which they were saved.
        caption: that the clip has now.
    """
    votes = [(review, vote) for review in reviews if (vote := _vote(review)) is not None]
    shown = [pair for pair in votes if pair[0].caption == caption]
    if not shown and votes:  # all of an earlier caption: what counts was said of the one that was reviewed last
        last = votes[-1][0].caption
        shown = [pair for pair in votes if pair[0].caption == last]
        if 2 * sum(vote for _, vote in shown) <= len(shown):
            return None
    if not shown:
        return None
    if 2 * sum(vote for _, vote in shown) <= len(shown):
        return ""
    return next(_text(review) for review, vote in reversed(shown) if vote)


def _vote(review: Review) -> bool | None:
    if not _text(review):
        return False  # whoever takes every word away leaves nothing to correspond
    return True if review.corrected.split() != review.caption.split() else review.corresponds


def _text(review: Review) -> str:
    """The text that a person left; lone surrogates, which no file here can hold, become U+FFFD."""
    return review.corrected.strip().encode("utf-8", "replace").decode().strip()
