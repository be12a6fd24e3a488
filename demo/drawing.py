"""The demo world's pictures: a backdrop, and one to three things that move exactly when they sound.

A picture is drawn once for each scene, each thing once for each of nine levels of activity; frames are put together
from these by copying, so a 10 s clip costs little more than its memory.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from demo.pen import Colour, Pen, jitter
from demo.places import BACKDROPS
from demo.scenes import Scene, drawn, envelope
from demo.things import DRAWINGS, INK

WIDTH, HEIGHT = 320, 240  # the units that everything is drawn in
LEVELS = 8
REACH = 1.25  # a thing's box is ±1; its rays reach this far
SIZES = {1: (52.0, 64.0), 2: (38.0, 42.0), 3: (26.0, 28.0)}  # half a thing's width, by how many there are


def render_frames(scene: Scene, width: int = 320, height: int = 240, fps: float | None = None) -> np.ndarray:
    """Returns the scene's frames: uint8 RGB, shape (round(duration_s * fps), height, width, 3).

    Frame i shows the instant i / fps. The picture is 4:3; another width and height squeeze it. (A view of
    `AudioVideo(short_side=72, crop=64)` is the middle 64 × 64 of 96 × 72.)

    Args:
        scene: what to draw.
        width: pixels.
        height: pixels.
        fps: frames per second; the scene's own by default.
    """
    fps = fps or scene.fps
    times = np.arange(round(scene.duration_s * fps)) / fps
    picture = _picture(scene, width, height)
    frames = np.empty((len(times), height, width, 3), np.uint8)
    frames[:] = picture.backdrop
    for index in range(len(drawn(scene))):
        levels = np.rint(envelope(scene, index, times) * LEVELS).astype(int)
        y, x = picture.corner(index)
        for level in np.unique(levels):
            patch = picture.patch(index, int(level))
            frames[levels == level, y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    return frames


def render_frame(scene: Scene, t_s: float, width: int = 320, height: int = 240) -> np.ndarray:
    """Returns what is seen at `t_s` seconds: uint8 RGB, shape (height, width, 3)."""
    picture = _picture(scene, width, height)
    frame = picture.backdrop.copy()
    for index in range(len(drawn(scene))):
        level = round(float(envelope(scene, index, np.array(t_s))) * LEVELS)
        patch = picture.patch(index, level)
        y, x = picture.corner(index)
        frame[y : y + patch.shape[0], x : x + patch.shape[1]] = patch
    return frame


def thing_boxes(scene: Scene) -> tuple[tuple[float, float, float, float], ...]:
    """Returns where each thing in the scene's picture stands: (x0, y0, x1, y1) in 0..1 of the picture, tight, at rest.

    While a thing sounds it moves within a few hundredths of this box; its rays and shadow are not part of it.
    """
    picture = _picture(scene, WIDTH, HEIGHT)
    return tuple(picture.box(index) for index in range(len(drawn(scene))))


@lru_cache(maxsize=2)
def _picture(scene: Scene, width: int, height: int) -> _Picture:
    return _Picture(scene, width, height)


class _Picture:
    """One scene at one size: its backdrop, and for each thing the patch of the frame that it covers at each level."""

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        self._scale = np.array([width / WIDTH, height / HEIGHT])
        self._oversample = 2 if height >= 120 else 4
        canvas = Image.new("RGB", (width * self._oversample, height * self._oversample))
        pen = Pen(ImageDraw.Draw(canvas), np.diag([*(self._scale * self._oversample), 1])[:2])
        rng = np.random.default_rng([scene.seed, 1])
        BACKDROPS[scene.place](pen, rng)
        names = drawn(scene)
        spots = _spots(len(names), rng)
        self._things = [_Thing(name, x, SIZES[len(names)], rng) for name, x in zip(names, spots, strict=True)]
        for thing in self._things:
            thing.shadow(pen)
        self.backdrop = np.asarray(canvas.reduce(self._oversample))
        self._patches: dict[tuple[int, int], np.ndarray] = {}

    def corner(self, index: int) -> tuple[int, int]:
        """The (y, x) of thing `index`'s patch in pixels."""
        thing = self._things[index]
        x, y = ((np.array([thing.x, thing.y]) - REACH * thing.size) * self._scale).astype(int)
        return max(int(y), 0), max(int(x), 0)

    def box(self, index: int) -> tuple[float, float, float, float]:
        """What thing `index` covers at rest: (x0, y0, x1, y1) in 0..1 of the picture."""
        image = Image.new("RGBA", (WIDTH, HEIGHT))
        self._things[index].draw(Pen(ImageDraw.Draw(image), np.eye(3)[:2]), 0.0)
        x0, y0, x1, y1 = image.getchannel("A").getbbox() or (0, 0, WIDTH, HEIGHT)
        return x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT

    def patch(self, index: int, level: int) -> np.ndarray:
        """The pixels of thing `index` at `level` (0..LEVELS) on its backdrop: uint8 RGB."""
        if (index, level) not in self._patches:
            self._patches[index, level] = self._draw(index, level)
        return self._patches[index, level]

    def _draw(self, index: int, level: int) -> np.ndarray:
        thing = self._things[index]
        y, x = self.corner(index)
        wide, tall = np.ceil(2 * REACH * thing.size * self._scale).astype(int) + 1
        under = self.backdrop[y : y + tall, x : x + wide].astype(np.float32)
        tall, wide = under.shape[:2]
        n = self._oversample
        image = Image.new("RGBA", (int(wide) * n, int(tall) * n))
        (sx, sy) = self._scale * n
        active = level / LEVELS
        matrix = np.array([[sx, 0, -x * n], [0, sy, -y * n]])
        thing.draw(Pen(ImageDraw.Draw(image), matrix, 0.28 * active), active)
        over = np.asarray(_outlined(image, max(1, round(1.6 * sy))).convert("RGBa").reduce(n), np.float32)
        return np.clip(under * (1 - over[..., 3:] / 255) + over[..., :3] + 0.5, 0, 255).astype(np.uint8)


class _Thing:
    """One individual: where it stands (units of the picture), its size, colour and stance."""

    def __init__(self, name: str, x: float, sizes: tuple[float, float], rng: np.random.Generator) -> None:
        self._drawing, colours = DRAWINGS[name]
        self._colour: Colour = jitter(colours[int(rng.integers(len(colours)))], rng, 12)
        self.size = float(rng.uniform(*sizes))
        self.x = x
        self.y = float(rng.uniform(190, 212)) - self.size
        self._flip = -1 if rng.random() < 0.5 else 1
        self._lean = float(rng.uniform(-4, 4))

    def shadow(self, pen: Pen) -> None:
        """Darkens the ground under it."""
        pen.disc(self.x, self.y + self.size * 0.98, self.size * 0.95, (60, 52, 50), self.size * 0.12)

    def draw(self, pen: Pen, active: float) -> None:
        """Draws it with `active` in 0..1; `pen` has the picture's units."""
        rays = pen.moved(self.x, self.y, wide=self.size, tall=self.size)
        if active > 0:
            for turn in range(15, 360, 30):
                inner, outer = -REACH + 0.06 + 0.2 * active, -REACH + 0.02
                corners = [(-0.02, inner), (0.02, inner), (0.05, outer), (-0.05, outer)]
                rays.moved(turn=turn).poly(corners, (255, 235, 120))
        squash = rays.moved(0, 1, turn=self._lean, wide=self._flip * (1 + 0.08 * active), tall=1 - 0.10 * active)
        self._drawing(squash.moved(0, -1), self._colour, active)


def _spots(count: int, rng: np.random.Generator) -> list[float]:
    """The x of each thing: near the middle, or side by side in any order, always clear of each other."""
    if count == 1:
        return [float(rng.uniform(135, 185))]
    if count == 3:
        return [(89.0, 160.0, 231.0)[int(i)] for i in rng.permutation(3)]
    spots = [float(rng.uniform(104, 108)), float(rng.uniform(212, 216))]
    return spots if rng.random() < 0.5 else spots[::-1]


def _outlined(image: Image.Image, width: int) -> Image.Image:
    """Puts a dark edge of `width` pixels around what is drawn."""
    alpha = np.asarray(image)[..., 3]
    height, width_px = alpha.shape
    padded = np.pad(alpha, width)
    slant = max(1, round(width * 0.7))
    grown = alpha
    for dx, dy in ((width, 0), (0, width), (slant, slant), (slant, -slant)):
        for x, y in ((width + dx, width + dy), (width - dx, width - dy)):
            grown = np.maximum(grown, padded[y : y + height, x : x + width_px])
    edge = Image.merge("RGBA", [Image.new("L", image.size, c) for c in INK] + [Image.fromarray(grown)])
    edge.alpha_composite(image)
    return edge
