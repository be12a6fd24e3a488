"""What reviews come to, for people: beside what the papers report."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from beam_pipeline.report import published
from beam_pipeline.report.wording import NONE, clips
from beam_pipeline.review.figures import ReviewFigures, Share
from beam_pipeline.show import plain

_AUTO_ACD, _FUSION = "Auto-ACD", "FusionAudio"
# By field of `ReviewFigures`: what is published of it, and by whom.
PUBLISHED = {
    "corresponds": ((published.CORRESPONDENCE, _AUTO_ACD), (published.ALIGNED, f"{_AUTO_ACD}, 200 clips")),
    "modified_words": ((published.MODIFIED_WORDS, _AUTO_ACD),),
    "inaudible_captions": ((published.INAUDIBLE, _AUTO_ACD),),
    "detail": ((published.DETAIL, _FUSION),),
    "hallucination": ((published.HALLUCINATION, _FUSION),),
    "low_hallucination": ((published.LOW_HALLUCINATION, _FUSION),),
    "four_cues": ((published.FOUR_CUES, _AUTO_ACD),),
}
NAMES = {
    "corresponds": "captions that correspond",
    "modified_words": "words modified",
    "inaudible_words": "words inaudible",
    "inaudible_captions": "captions with something inaudible",
    "detail": "detail, 1 to 3",
    "hallucination": "hallucination, 1 to 5 (5 is none)",
    "low_hallucination": "hallucination of 2 or less",
    "caption_right": "captions right as they are",
    "four_cues": "clips with four of Auto-ACD's six cues right",
    "cues": "cues right",
}
_MEANS = ("detail", "hallucination")


@dataclass(frozen=True)
class Row:
    """One figure in words; the last is empty where no paper reports it."""

    name: str
    value: str
    interval: str
    clips: str
    published: str


def rows(figures: ReviewFigures) -> list[Row]:
    """The figures that there are, with their 95 % intervals; then the cues', then the raters' agreement."""
    found = [
        _row(NAMES[name], share, name in _MEANS, PUBLISHED.get(name, ()))
        for name in NAMES
        if name != "cues" and (share := getattr(figures, name)) is not None
    ]
    for name, share in figures.cues.items():
        model, accuracy = published.CUE_ACCURACY.get(name, ("", 0.0))
        theirs = ((accuracy, f"{_AUTO_ACD}, {model}"),) if model else ()
        found.append(_row(f"cue right: {name}", share, False, theirs))
    found += [
        Row(f"agreement (alpha): {NAMES[name]}", f"{alpha:.2f}", "", "", "")
        for name, alpha in figures.agreement.items()
        if alpha is not None
    ]
    return found


def _row(name: str, share: Share, is_mean: bool, theirs: Sequence[tuple[float, str]]) -> Row:
    digits = 2 if is_mean else 3
    beside = "; ".join(f"{value:.{digits}f} ({whose})" for value, whose in theirs)
    interval = f"{share.low:.{digits}f} to {share.high:.{digits}f}" if share.has_width else NONE
    return Row(name, f"{share.value:.{digits}f}", interval, str(share.count), beside)


def figures_table(figures: ReviewFigures, title: str) -> Table:
    """The figures for a terminal."""
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for column in ("found", "95 % interval", "clips", "published"):
        table.add_column(column, justify="right", overflow="fold")
    for row in rows(figures):
        table.add_row(plain(row.name), row.value, row.interval, row.clips, row.published)
    raters = ", ".join(map(plain, figures.raters))
    table.caption = f"{clips(figures.reviews, 'review')} of {clips(figures.clips)} by {raters or 'nobody'}"
    return table


def printable() -> None:
    """Lets the terminal show ``?`` for what it has no letter for, such as a dash in ASCII, rather than end."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
