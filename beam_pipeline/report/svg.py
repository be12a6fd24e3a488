"""From matplotlib's figures to ``<svg>`` elements of a page: in the page's colours and type, light and dark.

Figures are drawn in colours that stand for the page's own, and these are put in their places afterwards. Text stays
text, in the page's font. The same figure gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from beam_pipeline.report.wording import label

WIDTH = 360  # of every plot, in CSS pixels at its natural size: that of a small phone, where text still is 11 px
TEXT, SMALL = 12, 11  # px at that size

# What stands for `var(--name)` of pages/style.css while matplotlib draws. No colour map or default has these values.
_NAMES = ("ink", "soft", "line", "card", "mark", "captioned", "rejected", "failed", "one", "two", "three", "four")
COLOURS = {name: f"#{0xE01D00 + number:06x}" for number, name in enumerate(_NAMES)}
_STANDS_FOR = {colour: f"var(--{name})" for name, colour in COLOURS.items()}

_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"\s*font-family:[^;]*;?")
_ROUNDED = re.compile(r"-?\d+\.\d{3,}")
_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """What holds while a figure is made and written: text is text and never a formula; ids hang on `name` alone."""
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "svg.id": None,
        "text.parse_math": False,
        "font.family": ["DejaVu Sans"],  # only to measure with; comes with matplotlib
        "font.size": SMALL,
        "hatch.linewidth": 1,
        "axes.edgecolor": COLOURS["line"],
        "axes.labelcolor": COLOURS["soft"],
        "xtick.color": COLOURS["soft"],
        "ytick.color": COLOURS["soft"],
        "text.color": COLOURS["ink"],
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # Glyphs that the measuring font lacks: the page's fonts have them, or draw a box.
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def canvas(height: float) -> Figure:
    """An empty figure, `WIDTH` by `height` px, without a ground of its own."""
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    figure.patch.set_visible(False)
    return figure


def inline(figure: Figure, name: str, said: str) -> str:
    """A figure as an ``<svg>`` element.

    Args:
        figure: drawn within `drawing` of the same name.
        name: of the plot: its ids begin with it, so that those of two plots on a page differ.
        said: what there is to see, for whoever cannot.
    """
    written = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(written, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ET.fromstring(written.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    return element(root, name, said)


def element(root: ET.Element, name: str, said: str) -> str:
    """An SVG tree as an element of a page: themed, named and described.

    Args:
        root: the tree, with its ``viewBox``; it is changed.
        name: as `inline` has it.
        said: as `inline` has it.
    """
    used = {match for one in root.iter() for value in one.attrib.values() for match in _REFERENCE.findall(value)}
    used |= {value[1:] for one in root.iter() for key, value in one.attrib.items() if key in (_HREF, "href")}
    for one in root.iter():
        one.tag = one.tag.rpartition("}")[2]
        one.tail = None
        if one.tag != "text":
            one.text = None
        one.attrib = {key.replace(_HREF, "href"): _themed(key, value, name, used) for key, value in one.items()}
        one.attrib = {key: value for key, value in one.items() if value}
        painted = [f"{key}: {one.attrib.pop(key)}" for key in ("fill", "stroke") if "var(" in one.get(key, "")]
        if painted:  # a variable is for style sheets, not for attributes
            one.set("style", "; ".join([*painted, *filter(None, [one.get("style")])]))
    viewed = root.attrib["viewBox"]
    root.attrib = {
        "xmlns": _SVG,
        "viewBox": viewed,
        "role": "img",
        "aria-label": label(said, 1000),
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    return ET.tostring(root, encoding="unicode")


def _themed(key: str, value: str, name: str, used: set[str]) -> str:
    """An attribute's value as a page may have it; empty where it needs none."""
    if key == "id":
        return f"{name}-{value}" if value in used else ""
    if key in (_HREF, "href"):
        return f"#{name}-{value[1:]}"
    if key in ("style", "fill", "stroke"):
        value = _FONT.sub("", _COLOUR.sub(lambda found: _STANDS_FOR.get(found.group(), found.group()), value))
    if key in ("d", "x", "y", "style", "width", "height"):  # not a transform: a scale would lose its digits
        value = _ROUNDED.sub(lambda found: f"{float(found.group()):.2f}".rstrip("0").rstrip("."), value)
    return _REFERENCE.sub(lambda found: f"url(#{name}-{found.group(1)})", value).strip()
