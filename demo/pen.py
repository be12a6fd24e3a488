"""A pen for the demo world's pictures: PIL polygons under an affine map, so that things can be turned and squashed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]


def _circle(corners: int) -> list[Point]:
    return [(float(np.cos(a)), float(np.sin(a))) for a in np.linspace(0, 2 * np.pi, corners, endpoint=False)]


_ROUND, _SMALL = _circle(32), _circle(12)


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """Returns `a` with `share` (0..1) of `b` in it."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def jitter(colour: Colour, rng: np.random.Generator, amount: float = 16) -> Colour:
    """Returns `colour` with each channel moved by up to `amount`."""
    r, g, b = (int(np.clip(c + rng.uniform(-amount, amount), 0, 255)) for c in colour)
    return r, g, b


class Pen:
    """Draws in its own coordinates (x to the right, y down) on a PIL image that pens share."""

    def __init__(self, draw: ImageDraw.ImageDraw, matrix: np.ndarray, glow: float = 0.0) -> None:
        self._draw = draw
        self._matrix = matrix  # 2 × 3: own coordinates to pixels
        self._glow = glow  # share of warm white in every colour

    def moved(self, x: float = 0.0, y: float = 0.0, turn: float = 0.0, wide: float = 1.0, tall: float = 1.0) -> Pen:
        """Returns a pen whose origin is at (x, y), turned clockwise by `turn` degrees and scaled by (wide, tall)."""
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        local = np.array([[cos * wide, -sin * tall, x], [sin * wide, cos * tall, y], [0, 0, 1]])
        return Pen(self._draw, self._matrix @ local, self._glow)

    def poly(self, points: Sequence[Point], colour: Colour) -> None:
        """Fills a polygon."""
        (a, b, c), (d, e, f) = self._matrix.tolist()
        pixels = [(a * x + b * y + c, d * x + e * y + f) for x, y in points]
        self._draw.polygon(pixels, fill=blend(colour, (255, 250, 220), self._glow) if self._glow else colour)

    def disc(self, x: float, y: float, rx: float, colour: Colour, ry: float | None = None) -> None:
        """Fills an ellipse with half axes `rx` and `ry`."""
        ry = rx if ry is None else ry
        self.poly([(x + rx * u, y + ry * v) for u, v in (_ROUND if rx > 0.15 else _SMALL)], colour)

    def rect(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fills a rectangle."""
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draws a polyline with round ends."""
        for (x0, y0), (x1, y1) in pairwise(points):
            length = float(np.hypot(x1 - x0, y1 - y0)) or 1.0
            nx, ny = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
            self.poly([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], colour)
        for x, y in points:
            self.poly([(x + width / 2 * u, y + width / 2 * v) for u, v in _SMALL], colour)

    def shade(self, y0: float, y1: float, x0: float, x1: float, top: Colour, bottom: Colour, steps: int = 16) -> None:
        """Fills a rectangle with a vertical gradient."""
        edges = np.linspace(y0, y1, steps + 1)
        for step in range(steps):
            self.rect(x0, edges[step], x1, y1, blend(top, bottom, step / (steps - 1)))
