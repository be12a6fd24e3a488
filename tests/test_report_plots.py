"""A report's plots: true to their numbers, in the page's colours, and harmless whatever the labels say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from beam_pipeline.pages.render import file
from beam_pipeline.report.plots import FONT, Line, Meter, Part, cloud, compact, histogram, meters, strips
from beam_pipeline.report.svg import WIDTH
from beam_pipeline.report.wording import label

HOSTILE = (
    "$x^2_{$",
    "\\frac{1}{$2$}",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&amp; ]]> <!-- --",
    "\u202emoor\u202c gnihtab",
    "a\x00b\x1b[31mred\x07",
    "line\nbreak\ttab",
    "שלום עולם",
    "鸟叫声 🐦",
    "\ufffe\uffff\u2028",
    "x" * 5000,
    "",
    "#e01d00 url(#here) var(--ink)",
)
ENDS = (Part("captioned", "kept"), Part("rejected", "rejected"), Part("failed", "failed"))


def _meters(name: str, texts: tuple[str, ...] = ("one", "two")) -> str:
    return meters(name, "said", [Meter(text, text, (3, 2, 1), text) for text in texts], ENDS)


def _histogram(name: str, texts: tuple[str, ...] = ("one", "two")) -> str:
    series = [(Part(colour, texts[0]), [1.0, 2.0]) for colour in ("captioned", "rejected")]
    return histogram(name, texts[0], [0, 1, 2], series, texts[0], [Line(1.0, texts[0])], band=(0.5, 1.5))


def _strips(name: str, texts: tuple[str, ...] = ("one", "two")) -> str:
    return strips(name, "said", [(text, text, [1, 0, 2]) for text in texts], texts[0])


def _cloud(name: str, texts: tuple[str, ...] = ("one", "two")) -> str:
    return cloud(name, "said", [(text, 99 - number) for number, text in enumerate(texts)])


DRAWN: tuple[Callable[..., str], ...] = (_meters, _histogram, _strips, _cloud)


def texts_of(svg: str) -> list[str]:
    return [found.text or "" for found in ET.fromstring(svg).iter() if found.tag.endswith("}text")]


def bars(svg: str, colour: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of the shapes of that colour, in the plot's own pixels."""
    found = []
    for path in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}path"):
        if f"fill: var(--{colour})" in path.get("style", "") and path.get("d"):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.attrib["d"])]
            found.append((min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])))
    return found


@pytest.mark.parametrize("draw", DRAWN)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_label_stays_text(draw: Callable[..., str], text: str) -> None:
    svg = draw("plot", (text, "two"))
    root = ET.fromstring(svg)
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "g", "path", "text", "defs", "clipPath", "rect", "pattern", "use")
    }
    assert not [name for element in root.iter() for name in element.attrib if name.lower().startswith("on")]
    assert all(shown.isprintable() and len(shown) <= 60 for shown in texts_of(svg))
    first = label(text, 24)[:20]
    assert any(shown.startswith(first.rstrip("…")) for shown in texts_of(svg))
    assert not re.search(r"<(?!/?(svg|g|path|text|defs|clipPath|rect|pattern|use)\b)", svg)


@pytest.mark.parametrize("draw", DRAWN)
def test_a_plot_takes_its_colours_and_its_type_from_the_page(draw: Callable[..., str]) -> None:
    svg = draw("plot")
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    used = set(re.findall(r"var\((--[a-z]+)\)", svg))
    assert used
    assert used <= set(re.findall(r"(--[a-z]+):", file("pages/style.css")))
    assert "font-family" not in svg
    root = ET.fromstring(svg)
    assert root.attrib.keys() == {"viewBox", "role", "aria-label", "style"}
    assert root.get("viewBox", "").startswith(f"0 0 {WIDTH} ")
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert all(token not in svg for token in ("<style", "<metadata", "<!DOCTYPE", "<?xml", "http://www.w3.org/1999"))


@pytest.mark.parametrize("draw", DRAWN)
def test_ids_are_the_plots_own_and_lead_somewhere(draw: Callable[..., str]) -> None:
    svg = draw("this-plot")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(ids) == len(set(ids))
    assert all(found.startswith("this-plot-") for found in ids)
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)[)"]', svg)) == set(ids)


def test_the_same_numbers_give_the_same_bytes_in_any_process() -> None:
    code = (
        "import sys, tests.test_report_plots as t;"
        "sys.stdout.buffer.write(''.join(draw('plot', t.HOSTILE) for draw in t.DRAWN).encode())"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
        for seed in ("1", "2")
    ]
    assert runs[0].stdout
    assert runs[0].stdout == runs[1].stdout


def test_bars_are_as_long_as_their_numbers() -> None:
    svg = meters("plot", "said", [Meter("a", "4", (3, 1, 0)), Meter("b", "2", (0, 2, 0))], ENDS)
    [kept] = [found for found in bars(svg, "captioned") if found[2] - found[0] > 20]  # the other is the legend's
    assert (kept[0], kept[2]) == (0, 0.75 * WIDTH)
    halves = [Meter("a", "1", (1,)), Meter("b", "50", (50,))]
    found = bars(meters("plot", "said", halves, (Part("one"),), full=100), "one")
    assert [right - left for left, _, right, _ in found] == [pytest.approx(0.01 * WIDTH), 0.5 * WIDTH]


def test_a_bar_never_leaves_the_plot_and_a_small_one_can_be_seen() -> None:
    rows = [Meter("a", "x", (10**12,)), Meter("b", "y", (1,))]
    whole, small = bars(meters("plot", "said", rows, (Part("one"),)), "one")
    assert whole[2] == WIDTH
    assert small[2] - small[0] >= 0.8
    over = bars(meters("plot", "said", [Meter("a", "x", (500,))], (Part("one"),), full=100), "one")
    assert over[0][2] == WIDTH


def test_a_histogram_stacks_its_series_and_draws_the_threshold_where_it_is() -> None:
    series = [(Part("one"), [4, 0, 2, 0]), (Part("three"), [4, 0, 0, 0])]
    svg = histogram("plot", "said", [0, 0.25, 0.5, 0.75, 1], series, "score", [Line(0.5, "threshold 0.5")])
    first, second = sorted(bars(svg, "one"))
    assert first[3] == pytest.approx(second[3])  # both stand on the axis
    assert first[3] - first[1] == pytest.approx(2 * (second[3] - second[1]), rel=0.01)
    [upon] = bars(svg, "three")
    assert upon[3] == pytest.approx(first[1])
    line = re.search(r'<path d="M ([\d.]+) [^"]+"[^>]*stroke-dasharray', svg)
    assert line
    assert float(line.group(1)) == pytest.approx(second[0], abs=0.02)  # the third bar begins at 0.5
    assert "threshold 0.5" in texts_of(svg)


def test_kinds_that_were_dropped_differ_by_more_than_colour() -> None:
    svg = _meters("plot")
    assert len(re.findall("<pattern ", svg)) == 2
    assert "fill: var(--captioned)" in svg


def test_nothing_to_draw_is_no_error() -> None:
    assert texts_of(meters("plot", "said", [], (Part("one"),))) == []
    assert meters("plot", "said", [Meter("a", "0", (0,))], (Part("one"),))
    assert histogram("plot", "said", [0, 1, 2], [(Part("one", "none"), [0, 0])], "words")
    assert strips("plot", "said", [("place", "median –", [0, 0])], "score")


def test_words_of_the_cloud_are_inside_and_do_not_touch() -> None:
    words = [(f"{word}{number}", 400 // (number + 1)) for number, word in enumerate(["dog", "speaks", "rain"] * 20)]
    taken = np.zeros((240, WIDTH), bool)
    found = list(ET.fromstring(cloud("plot", "said", words)).iter("{http://www.w3.org/2000/svg}text"))
    assert len(found) > 40
    for word in found:
        size = int(word.attrib["style"].split("px")[0].split()[-1])
        picture = Image.new("L", (WIDTH + 100, 340))  # 50 px more on each side
        at = (float(word.attrib["x"]) + 50, float(word.attrib["y"]) + 50)
        ImageDraw.Draw(picture).text(
            at, word.text or "", fill=255, anchor="ls", font=ImageFont.truetype(str(FONT), size)
        )
        inked = np.asarray(picture) > 100
        inside = inked[50:290, 50 : WIDTH + 50]
        assert inside.sum() == inked.sum()
        assert not (inside & taken).any(), word.text
        taken |= inside


def test_a_commoner_word_is_larger() -> None:
    svg = cloud("plot", "said", [("dog", 100), ("cat", 25), ("hen", 1)])
    sizes = {text: int(size) for size, text in re.findall(r"font-size: (\d+)px[^>]*>(\w+)<", svg)}
    assert sizes["dog"] > sizes["cat"] > sizes["hen"] >= 10


def test_counts_in_few_characters() -> None:
    numbers = (0, 7, 999, 1000, 1500, 12_345, 2_000_000, 1_260_000_000, 0.5)
    assert [compact(number) for number in numbers] == ["0", "7", "999", "1k", "1.5k", "12k", "2M", "1.3G", "0.5"]


def test_a_label_is_one_line_that_prints() -> None:
    assert label("a\n b\x00\u202e  c") == "a b c"
    assert label("") == label("\u200b\n") == "(empty)"
    assert label("x" * 50, 10) == "xxxxxxxxx…"
