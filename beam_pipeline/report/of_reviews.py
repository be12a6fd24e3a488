"""The section about what people said of captions, beside what people said of the papers' captions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from beam_pipeline.report import published
from beam_pipeline.report.parts import Section, Table
from beam_pipeline.report.wording import NONE, clips, number

if TYPE_CHECKING:
    from beam_pipeline.review.figures import ReviewFigures, Share

_ACD_7 = f"Auto-ACD ({published.AUTO_ACD}, table 7)"
_ACD_75 = f"Auto-ACD ({published.AUTO_ACD}, section 7.5)"
_FUSION = f"FusionAudio ({published.FUSION_AUDIO})"


def reviews(found: ReviewFigures | None) -> Section | None:
    """The papers' figures for this dataset, with 95 % intervals; what nobody was asked is left out."""
    if found is None or not found.reviews:
        return None
    said = (
        f"{clips(found.reviews, 'review')} of {clips(found.clips)} by {clips(len(found.raters), 'person', 'people')}. "
    )
    if found.corresponds is not None:
        said += f"{100 * found.corresponds.value:.1f} % of the captions correspond to the sound "
        said += f"(95 % interval {_interval(found.corresponds, 100, 1)} %)."
    parts = [table for table in (_figures(found), _cues(found), _agreement(found)) if table is not None]
    return Section("review", "What people heard", said.strip(), tuple(parts))


def _figures(found: ReviewFigures) -> Table | None:
    asked: tuple[tuple[str, Share | None, float | None, str, int], ...] = (
        ("captions that correspond", found.corresponds, published.CORRESPONDENCE, _ACD_7, 3),
        ("words changed", found.modified_words, published.MODIFIED_WORDS, _ACD_7, 3),
        ("captions with inaudible words", found.inaudible_captions, published.INAUDIBLE, _ACD_7, 3),
        ("inaudible words", found.inaudible_words, None, NONE, 3),
        ("detail, of 3", found.detail, published.DETAIL, _FUSION, 2),
        ("hallucination, of 5 (5 is none)", found.hallucination, published.HALLUCINATION, _FUSION, 2),
        ("hallucination rated 2 or less", found.low_hallucination, published.LOW_HALLUCINATION, _FUSION, 3),
        ("captions right as they are", found.caption_right, None, NONE, 3),
        ("clips with four of Auto-ACD's six cues right", found.four_cues, published.FOUR_CUES, _ACD_75, 3),
    )
    rows = (
        (what, *_shown(share, decimals), number(theirs, decimals), source)
        for what, share, theirs, source, decimals in asked
        if share is not None
    )
    head = ("figure", "here", "95 % interval", "of", "published", "by")
    note = "Rates are shares of 1."
    if found.corresponds is not None:
        note += f" Of captions that align with the sound {_ACD_75} reports {published.ALIGNED:.3f}, of 200 clips."
    return _table(head, rows, "Beside the papers' own checks", note)


def _cues(found: ReviewFigures) -> Table | None:
    rows = []
    for name, share in found.cues.items():
        model, theirs = published.CUE_ACCURACY.get(name, (NONE, None))
        rows.append((name, *_shown(share, 3), number(theirs, 3), model))
    head = ("cue", "right", "95 % interval", "of", "Auto-ACD", "its model")
    note = f"{published.AUTO_ACD}, table 8: 200 clips; a cue is wrong that contradicts the sound."
    return _table(head, rows, "Cues that were right", note)


def _agreement(found: ReviewFigures) -> Table | None:
    rows = [(question, number(alpha, 3)) for question, alpha in found.agreement.items()]
    note = "1 is agreement, 0 what chance would give; a dash where no clip has two reviews, or all say the same."
    title = "Agreement of the raters (Krippendorff's alpha)"
    return _table(("question", "alpha"), rows if len(found.raters) > 1 else (), title, note)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], title: str, note: str) -> Table | None:
    kept = tuple(rows)
    return Table(head, kept, title, note) if kept else None


def _shown(share: Share, decimals: int) -> tuple[str, str, str]:
    """A figure, its interval, and of how many it is."""
    return f"{share.value:.{decimals}f}", _interval(share, 1, decimals), number(share.count)


def _interval(share: Share, times: float, decimals: int) -> str:
    if not share.has_width:
        return NONE
    return f"{times * share.low:.{decimals}f}–{times * share.high:.{decimals}f}"
