"""The figures that the papers report of a hand check, with 95 % confidence intervals.

Auto-ACD (arXiv:2309.11500) had 1,000 captions checked for correspondence, modified words and inaudible information
(its Table 7), and the cues of 200 clips (Table 8); FusionAudio (arXiv:2506.01111) had detail and hallucination rated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isclose
from statistics import NormalDist, fmean

import krippendorff
import numpy as np

from beam_pipeline.report.published import CUE_ACCURACY
from beam_pipeline.review.ratings import DETAIL, HALLUCINATION, Review
from transforms.words import tokens

RESAMPLES, SEED = 2000, 0
_RESAMPLED_AT_ONCE = 1 << 21  # clips drawn in one go: 16 MB
LOW = 2  # a hallucination of this or less is what FusionAudio counts as low
FOUR = 4  # right cues, as Auto-ACD counts them
_Z = NormalDist().inv_cdf(0.975)

Ratings = list[list[Review]]  # of each caption, those of its raters


@dataclass(frozen=True)
class Share:
    """A share, a rate or a mean, and the ends of its 95 % confidence interval.

    Attributes:
        value: of the clips that were rated.
        low: end of the interval.
        high: end of the interval.
        count: clips it rests on.
    """

    value: float
    low: float
    high: float
    count: int

    @property
    def has_width(self) -> bool:
        """Whether the interval says anything: resampled clips that all say the same give one without a width."""
        return not isclose(self.low, self.high, abs_tol=1e-9)


@dataclass(frozen=True)
class ReviewFigures:
    """What reviews of published captions come to; ``None`` where nothing was said about it.

    Attributes:
        reviews: that count: those of rejected captions do not.
        clips: with a review.
        raters: in alphabetical order.
        corresponds: share of captions that say what can be heard; Auto-ACD's correspondence.
        modified_words: words that were changed, by words; Auto-ACD's modification. Who refuses a caption and leaves its
            words alone has said nothing of how many would have to be changed: this does not count here.
        inaudible_words: words that nobody can hear, by words.
        inaudible_captions: share of captions with such a word; Auto-ACD's inaudibility.
        detail: mean of 1 to 3.
        hallucination: mean of 1 to 5, where 5 is none.
        low_hallucination: share that is rated 2 or less.
        cues: share of clips in which a cue is right, by cue.
        caption_right: share of captions that correspond and of which no word had to be changed.
        four_cues: share of clips with at least four right cues of the six whose accuracy Auto-ACD reports
            (`published.CUE_ACCURACY`), of clips of which at least four of these were judged.
        agreement: Krippendorff's alpha by question, nominal, and ordinal for detail and hallucination; 1 is agreement
            and 0 what chance gives. ``None`` where no two raters saw the same caption, or all said the same.
    """

    reviews: int = 0
    clips: int = 0
    raters: tuple[str, ...] = ()
    corresponds: Share | None = None
    modified_words: Share | None = None
    inaudible_words: Share | None = None
    inaudible_captions: Share | None = None
    detail: Share | None = None
    hallucination: Share | None = None
    low_hallucination: Share | None = None
    cues: dict[str, Share] = field(default_factory=dict)
    caption_right: Share | None = None
    four_cues: Share | None = None
    agreement: dict[str, float | None] = field(default_factory=dict)


def review_figures(reviews: Iterable[Review]) -> ReviewFigures:
    """Returns the figures of `reviews`, the latest of each rater of each caption (`read_reviews`).

    What several raters say of a caption is averaged first, so that each clip counts once. Shares have Wilson's interval
    over clips; rates of words, and means, the percentiles of 2,000 samples of clips drawn with replacement: the words
    of one caption, and the raters of one clip, are not independent. Where every clip says the same, the latter has no
    width.
    """
    counted = [review for review in reviews if review.outcome == "captions"]
    grouped: dict[tuple[str, str], list[Review]] = defaultdict(list)
    for review in counted:
        grouped[review.clip_id, review.caption].append(review)
    captions = list(grouped.values())
    names = dict.fromkeys(name for review in counted for name, _ in review.cues)
    return ReviewFigures(
        reviews=len(counted),
        clips=len({review.clip_id for review in counted}),
        raters=tuple(sorted({review.rater for review in counted})),
        corresponds=_share(captions, _corresponds),
        modified_words=_rate(captions, _modified),
        inaudible_words=_rate(captions, inaudible_words),
        inaudible_captions=_share(captions, _inaudible),
        detail=_mean(captions, lambda review: review.detail),
        hallucination=_mean(captions, lambda review: review.hallucination),
        low_hallucination=_share(captions, _low),
        cues={name: share for name in names if (share := _share(captions, partial(_cue, name)))},
        caption_right=_share(captions, _right),
        four_cues=_share(captions, _four),
        agreement=_agreement(captions, names),
    )


def changed_words(review: Review) -> int:
    """How many words have to be put in, taken out or replaced to make the corrected caption of the one shown.

    Words are compared without case and punctuation.
    """
    if review.corrected == review.caption:
        return 0
    return distance(tokens(review.caption), tokens(review.corrected))


def inaudible_words(review: Review) -> int:
    """How many words of the caption were marked."""
    return sum(len(tokens(phrase)) for phrase in review.inaudible)


def distance(old: Sequence[str], new: Sequence[str]) -> int:
    """Levenshtein's distance of two sequences."""
    shared = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    old, new = old[shared:], new[shared:]
    row = list(range(len(new) + 1))
    for i, word in enumerate(old, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(new, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (word != other))
    return row[-1]


def wilson(share: float, count: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share of `count` clips.

    The share need not be a whole number of clips: where raters disagree a clip counts in part. Its variance is then
    smaller than that of yes and no, so the interval is rather too wide.
    """
    denominator = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / denominator
    half = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / denominator
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def resampled(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % interval of sum over sum, by drawing clips with replacement; the same every time."""
    rng, above, below = np.random.default_rng(SEED), np.asarray(numerators, float), np.asarray(denominators, float)
    found: list[np.ndarray] = []
    at_once = max(1, _RESAMPLED_AT_ONCE // len(above))
    for start in range(0, RESAMPLES, at_once):
        drawn = rng.integers(len(above), size=(min(at_once, RESAMPLES - start), len(above)))
        found.append(above[drawn].sum(1) / below[drawn].sum(1))
    low, high = np.percentile(np.concatenate(found), (2.5, 97.5))
    return float(low), float(high)


def _corresponds(review: Review) -> bool | None:
    return review.corresponds


def _inaudible(review: Review) -> bool:
    return bool(review.inaudible)


def _low(review: Review) -> bool | None:
    return None if review.hallucination is None else review.hallucination <= LOW


def _modified(review: Review) -> int | None:
    changed = changed_words(review)
    return None if review.corresponds is False and not changed else changed


def _right(review: Review) -> bool | None:
    return None if review.corresponds is None else review.corresponds and not changed_words(review)


def _four(review: Review) -> bool | None:
    judged = [right for name, right in review.cues if name in CUE_ACCURACY]
    return sum(judged) >= FOUR if len(judged) >= FOUR else None


def _cue(name: str, review: Review) -> bool | None:
    return dict(review.cues).get(name)


def _averages(captions: Ratings, question: Callable[[Review], float | None]) -> list[float]:
    """What raters say on average of each caption of which anything was said."""
    said = ([value for review in reviews if (value := question(review)) is not None] for reviews in captions)
    return [fmean(values) for values in said if values]


def _share(captions: Ratings, question: Callable[[Review], bool | None]) -> Share | None:
    values = _averages(captions, question)
    if not values:
        return None
    return Share(fmean(values), *wilson(fmean(values), len(values)), len(values))


def _mean(captions: Ratings, question: Callable[[Review], float | None]) -> Share | None:
    values = _averages(captions, question)
    return Share(fmean(values), *resampled(values, [1] * len(values)), len(values)) if values else None


def _rate(captions: Ratings, count: Callable[[Review], int | None]) -> Share | None:
    """What is counted in the captions by the words they have; captions without any are left out."""
    counts, words = [], []
    for reviews in captions:
        found, length = [one for one in map(count, reviews) if one is not None], len(tokens(reviews[0].caption))
        if found and length:
            counts.append(fmean(found))
            words.append(length)
    return Share(sum(counts) / sum(words), *resampled(counts, words), len(words)) if words else None


def _agreement(captions: Ratings, names: Iterable[str]) -> dict[str, float | None]:
    def asked(question: Callable[[Review], int | None]) -> list[list[int]]:
        return [[value for one in reviews if (value := question(one)) is not None] for reviews in captions]

    cues = [values for name in names for values in asked(partial(_cue, name))]
    return {
        "corresponds": alpha(asked(_corresponds), (0, 1)),
        "caption_right": alpha(asked(_right), (0, 1)),
        "inaudible_captions": alpha(asked(_inaudible), (0, 1)),
        "detail": alpha(asked(lambda one: one.detail), range(1, DETAIL + 1), "ordinal"),
        "hallucination": alpha(asked(lambda one: one.hallucination), range(1, HALLUCINATION + 1), "ordinal"),
        "cues": alpha(cues, (0, 1)),
    }


def alpha(units: Iterable[Sequence[int]], values: Sequence[int], level: str = "nominal") -> float | None:
    """Returns Krippendorff's alpha; ``None`` where no unit has two ratings, or all ratings are the same.

    Args:
        units: the ratings of each thing that was rated.
        values: that a rating may have, ascending.
        level: of measurement: ``nominal`` or ``ordinal``.
    """
    counts = np.array([[list(unit).count(value) for value in values] for unit in units if len(unit) > 1])
    if not counts.size or (counts.sum(0) > 0).sum() < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, value_domain=list(values), level_of_measurement=level))
