"""What a report says, in its order; a section of which there is nothing to say is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from beam_pipeline.compare import Comparison
from beam_pipeline.dataset import Dataset
from beam_pipeline.report.figures import Figures
from beam_pipeline.report.of_captions import captions, checks, questions, similarity
from beam_pipeline.report.of_clips import contents, cost, differences, overview
from beam_pipeline.report.of_cues import cues, synchronisation
from beam_pipeline.report.of_reviews import reviews as human
from beam_pipeline.report.parts import Section, Table
from beam_pipeline.report.wording import clips, counts, label

if TYPE_CHECKING:
    from beam_pipeline.review.figures import ReviewFigures

LONG = 600  # characters of a text; no sentence of ours has so many


def sections(
    figures: Figures,
    dataset: Dataset,
    comparison: Comparison | str | None,
    reviews: ReviewFigures | str | None,
    left_out: Mapping[str, int] | None = None,
) -> list[Section]:
    """All sections that have something to say.

    Args:
        figures: of the rows of `dataset`, all of them.
        dataset: the version.
        comparison: with the version before, if there is one; or why there is none all the same.
        reviews: what people said of its captions, if anybody did; or why that cannot be told.
        left_out: reviews that do not count, by why.
    """
    found = (
        overview(figures),
        captions(figures),
        _heard(reviews, left_out or {}),
        cues(figures),
        synchronisation(figures),
        checks(figures),
        similarity(figures),
        contents(figures),
        questions(figures),
        cost(figures),
        differences(comparison),
    )
    return [_harmless(section) for section in found if section is not None]


def _heard(found: ReviewFigures | str | None, left_out: Mapping[str, int]) -> Section | None:
    """What people said, with the reviews that do not count."""
    bare = Section("review", "What people heard", "No review counts.", ())
    if isinstance(found, str):
        return replace(bare, said=f"The reviews cannot be told: {found}")
    section = human(found)
    if not (total := sum(left_out.values())):
        return section
    section = section or bare
    said = f"{section.said} {clips(total, 'review')} {'does' if total == 1 else 'do'} not count."
    table = counts("which", list(left_out.items()), of="reviews", title="Reviews that do not count")
    return replace(section, said=said, parts=(*section.parts, table))


def _harmless(section: Section) -> Section:
    """The same without line breaks, control characters or endless texts, wherever in it they came from clips."""
    parts = tuple(
        _cleaned(part)
        if isinstance(part, Table)
        else replace(part, title=_line(part.title), said=_line(part.said), table=part.table and _cleaned(part.table))
        for part in section.parts
    )
    return replace(section, said=_line(section.said), parts=parts)


def _cleaned(table: Table) -> Table:
    rows = tuple(tuple(map(_line, row)) for row in table.rows)
    return replace(
        table, head=tuple(map(_line, table.head)), rows=rows, title=_line(table.title), note=_line(table.note)
    )


def _line(text: str) -> str:
    return label(text, LONG) if text else ""
