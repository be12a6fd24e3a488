"""What a report consists of: sections of plots and tables, as data. What is on them is drawn elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Numbers in rows.

    Attributes:
        head: the columns' names.
        rows: as many texts each; the first one names the row.
        title: above it; may be empty.
        note: below it: where the numbers come from, if not from the dataset.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """A picture of numbers.

    Attributes:
        name: unique in the report, in kebab-case.
        title: what is plotted.
        said: what there is to see, in a sentence; whoever cannot see the picture has this and the table.
        svg: an ``<svg>`` element whose colours are the page's (``var(--ink)``…), and whose ids nothing else uses.
        table: the same numbers.
    """

    name: str
    title: str
    said: str
    svg: str
    table: Table | None = None


@dataclass(frozen=True)
class Section:
    """A part of the report that has a heading.

    Attributes:
        name: unique in the report, in kebab-case.
        title: its heading.
        said: what it says, in a sentence or two.
        parts: in their order.
    """

    name: str
    title: str
    said: str
    parts: tuple[Plot | Table, ...]
