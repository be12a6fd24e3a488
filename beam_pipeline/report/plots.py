"""A report's plots, by matplotlib: each takes numbers and returns an ``<svg>`` element. Their texts are untrusted."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import ImageFont
from wordcloud import WordCloud

from beam_pipeline.report.svg import COLOURS, SMALL, TEXT, WIDTH, canvas, drawing, element, inline
from beam_pipeline.report.wording import label

_LEGEND, _AXIS = 26, 40  # px: of a line of legend, and of an axis with its name
_METER = 34  # px: of a line of text with a bar under it
_HATCHED = {"rejected": "////", "failed": "xxxx"}  # so that colour is not the only sign
_ROOM = 8  # px beside and above what is drawn
MOST_LABEL = 34  # characters of a label beside a number


@dataclass(frozen=True)
class Part:
    """A stretch of a bar, or a series of a histogram: a colour of `svg.COLOURS`, and what it stands for."""

    colour: str
    name: str = ""


@dataclass(frozen=True)
class Meter:
    """A line of text with a bar under it.

    Attributes:
        label: what is counted; text from outside.
        shown: the number, as it is to be read.
        values: the bar's stretches, one for each `Part`.
        note: a smaller line under the bar; may be empty.
    """

    label: str
    shown: str
    values: tuple[float, ...]
    note: str = ""


def meters(name: str, said: str, rows: Sequence[Meter], parts: Sequence[Part], full: float | None = None) -> str:
    """Bars that lie, each under its name and number: long names fit a phone.

    Args:
        name: as `Plot` has it, and so is `said`.
        said: what there is to see.
        rows: from the top.
        parts: what the stretches of each bar stand for; named ones are in the legend.
        full: what a whole line stands for; the largest bar where nobody says.
    """
    most = full or max((sum(row.values) for row in rows), default=0) or 1
    legend = _LEGEND if any(part.name for part in parts) else 0
    heights = [_METER + (SMALL + 4 if row.note else 0) for row in rows]
    height = sum(heights) + legend + _ROOM
    with drawing(name):
        figure = canvas(height)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        axes.axis("off")
        if legend:
            _legend(axes, parts, (0, 1))
        top = float(legend)
        for row, tall in zip(rows, heights, strict=True):
            _meter(axes, row, parts, top, most)
            top += tall
        return inline(figure, name, said)


def _meter(axes: Axes, row: Meter, parts: Sequence[Part], top: float, most: float) -> None:
    axes.text(0, top + 16, label(row.label, MOST_LABEL), fontsize=TEXT, va="baseline")
    axes.text(WIDTH, top + 16, label(row.shown), fontsize=TEXT, va="baseline", ha="right")
    axes.barh(top + 25, WIDTH, 8, color=COLOURS["line"], alpha=0.55, linewidth=0)
    left = 0.0
    for value, part in zip(row.values, parts, strict=True):
        wide = WIDTH * min(max(value, 0), most) / most
        if wide:
            axes.barh(top + 25, max(wide, 0.8), 8, left=left, **_filled(part.colour))
        left += wide
    if row.note:
        axes.text(0, top + _METER + 9, label(row.note, 60), fontsize=SMALL, va="baseline", color=COLOURS["soft"])


@dataclass(frozen=True)
class Line:
    """An upright line across a histogram, and what it stands for."""

    at: float
    name: str


def histogram(
    name: str,
    said: str,
    edges: Sequence[float],
    series: Sequence[tuple[Part, Sequence[float]]],
    across: str,
    lines: Sequence[Line] = (),
    band: tuple[float, float] | None = None,
    ticks: Sequence[float] = (),
    whole: bool = False,
    height: float = 210,
) -> str:
    """Upright bars, one upon the other where there are several series.

    Args:
        name: as `Plot` has it, and so is `said`.
        said: what there is to see.
        edges: of the bars; one more than there are bars.
        series: counts of each bar.
        across: what is counted along the axis, with its unit.
        lines: to be drawn across.
        band: a stretch of the axis that stands out.
        ticks: where the axis has numbers; chosen where empty.
        whole: whether what is counted is whole numbers.
        height: in px.
    """
    named = [part for part, _ in series if part.name]
    head = (_LEGEND if named else _ROOM) + (18 if lines else 0)
    with drawing(name):
        figure = canvas(height + head)
        axes = figure.add_axes(
            (38 / WIDTH, _AXIS / (height + head), 1 - 48 / WIDTH, (height - _AXIS) / (height + head))
        )
        _frame(axes, across)
        if band:
            axes.axvspan(*band, color=COLOURS["mark"], linewidth=0)
        widths = [b - a for a, b in pairwise(edges)]
        below = [0.0] * len(widths)
        for part, counts in series:
            some = [at for at, count in enumerate(counts) if count]
            left, tall, base = ([values[at] for at in some] for values in (edges, counts, below))
            axes.bar(left, tall, [0.86 * widths[at] for at in some], base, align="edge", **_filled(part.colour))
            below = [a + b for a, b in zip(below, counts, strict=True)]
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(0, max(below, default=0) * 1.05 or 1)
        if whole:
            axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        if ticks:
            axes.set_xticks(list(ticks))
        for line in lines:
            _line(axes, line, edges)
        if named:
            _legend(axes, named, (0, 1 + (18 if lines else 2) / (height - _AXIS)))
        return inline(figure, name, said)


def _line(axes: Axes, line: Line, edges: Sequence[float]) -> None:
    axes.axvline(line.at, color=COLOURS["ink"], linewidth=1.4, linestyle=(0, (4, 3)))
    late = line.at > (edges[0] + edges[-1]) / 2
    transform = axes.get_xaxis_transform()
    side = "right" if late else "left"
    axes.text(line.at, 1.02, label(line.name), transform=transform, fontsize=SMALL, ha=side, va="bottom")


def strips(name: str, said: str, rows: Sequence[tuple[str, str, Sequence[float]]], across: str) -> str:
    """A small histogram a row, all from 0 to 1: shapes to compare, each as high as its own peak.

    Args:
        name: as `Plot` has it, and so is `said`.
        said: what there is to see.
        rows: label, number as it is to be read, and counts.
        across: what is counted along the axis.
    """
    tall, axis = 58, _AXIS
    height = tall * len(rows) + axis
    with drawing(name):
        figure = canvas(height)
        for number, (text, shown, counts) in enumerate(rows):
            top = number * tall
            axes = figure.add_axes((0, 1 - (top + tall - 4) / height, 1, (tall - 24) / height))
            width = 1 / len(counts)
            bars = [(at * width, count) for at, count in enumerate(counts) if count]
            axes.bar([x for x, _ in bars], [y for _, y in bars], width * 0.86, align="edge", **_filled("one"))
            axes.set(xlim=(0, 1), ylim=(0, max(counts, default=0) or 1), yticks=[])
            _spines(axes)
            axes.tick_params(length=0, labelbottom=False)
            if number == len(rows) - 1:
                axes.tick_params(length=3, labelbottom=True)
                axes.set_xlabel(label(across, 60), fontsize=SMALL)
                axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
                axes.get_xticklabels()[0].set_horizontalalignment("left")
                axes.get_xticklabels()[-1].set_horizontalalignment("right")
            figure.text(0, 1 - (top + 14) / height, label(text, MOST_LABEL), fontsize=TEXT)
            figure.text(1, 1 - (top + 14) / height, label(shown), fontsize=TEXT, ha="right")
        return inline(figure, name, said)


_CLOUD = ("one", "three", "four", "two", "ink")
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def cloud(name: str, said: str, words: Sequence[tuple[str, int]], height: int = 240) -> str:
    """Words, the larger the commoner, laid out by wordcloud. Which colour a word has means nothing.

    Args:
        name: as `Plot` has it, and so is `said`.
        said: what there is to see.
        words: with how often they occur; at least one.
        height: in px.
    """
    made = WordCloud(
        font_path=str(FONT),  # wider than most fonts of pages, so that words drawn in those do not touch
        width=WIDTH,
        height=height,
        max_words=len(words),
        prefer_horizontal=1,
        min_font_size=SMALL - 1,
        max_font_size=52,
        relative_scaling=0.6,
        margin=4,
        random_state=1,
    )
    frequencies: dict[str, float] = {}
    for word, count in words:
        frequencies.setdefault(label(word, 24), math.sqrt(count))  # so that a word's area grows with its count
    made.generate_from_frequencies(frequencies)
    root = ET.Element("svg", {"viewBox": f"0 0 {WIDTH} {height}"})
    for number, ((word, _), size, (down, right), _, _) in enumerate(made.layout_):
        left, top, far, _ = ImageFont.truetype(str(FONT), size).getbbox(word, anchor="ls")
        style = f"font-size: {size}px; fill: {COLOURS[_CLOUD[number % len(_CLOUD)]]}"
        placed = {"x": f"{right - left:.0f}", "y": f"{down - top:.0f}", "style": style}
        if not word.isascii():  # the font may lack its letters, and have measured something else
            placed |= {"textLength": f"{far - left:.0f}", "lengthAdjust": "spacingAndGlyphs"}
        ET.SubElement(root, "text", placed).text = word
    return element(root, name, said)


def _filled(colour: str) -> dict[str, Any]:
    """How a bar is filled: kinds that were dropped are hatched as well."""
    hatch = _HATCHED.get(colour)
    return {"facecolor": COLOURS[colour], "linewidth": 0, "hatch": hatch, "edgecolor": COLOURS["card"]}


def _legend(axes: Axes, parts: Sequence[Part], corner: tuple[float, float]) -> None:
    handles = [Patch(label=label(part.name, 24), **_filled(part.colour)) for part in parts if part.name]
    options = {"frameon": False, "fontsize": SMALL, "ncols": len(handles), "borderaxespad": 0.2, "borderpad": 0.2}
    where = "lower left" if corner[1] > 1 else "upper left"
    axes.legend(handles=handles, loc=where, bbox_to_anchor=corner, handlelength=1, columnspacing=1.2, **options)


def _spines(axes: Axes) -> None:
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.patch.set_visible(False)


def _frame(axes: Axes, across: str) -> None:
    """An axis below, pale lines for the counts, and nothing else."""
    _spines(axes)
    axes.set_axisbelow(True)
    axes.yaxis.grid(True, color=COLOURS["line"], linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.tick_params(axis="both", labelsize=SMALL, length=0, pad=5)
    axes.set_xlabel(label(across, 60), fontsize=SMALL, labelpad=4)


def compact(number: float) -> str:
    """A count in few characters: ``12``, ``3.4k``, ``1.2M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            short = number / size
            return f"{short:.0f}{unit}" if short >= 10 or short == math.floor(short) else f"{short:.1f}{unit}"
    return f"{number:g}"
