"""The clips that the demo's video language model learns from: a few frames of each, and what these show.

Whatever moves is at rest again within 0.4 s, so some motions fall between two frames: only what these show is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress
from torch import Tensor
from transformers import Idefics3ImageProcessor

from demo import scenes, training
from demo.drawing import LEVELS, render_frames
from demo.music import INSTRUMENTS
from demo.occasions import PERSON, Occasion, make_occasion
from demo.scenes import PLACES, SOURCES

EVERY_S, FRAMES = 0.25, 40  # at one frame a second, most motions would fall between two
TIMES_S = np.arange(FRAMES) * EVERY_S
SHORT_SIDE, SIDE = 96, 64  # pixels of the frames as decoded, and of the square that they are squeezed to
SHOWN = 2  # from which of `LEVELS` levels of activity a thing is seen to move; what the first changes are shades
THINGS = (*SOURCES, PERSON, *INSTRUMENTS)
NOUNS = {name: SOURCES[name].phrase.split(maxsplit=1)[1] if name in SOURCES else name for name in THINGS}


def make_image_processor() -> Idefics3ImageProcessor:
    """Returns what squeezes frames to 64 × 64."""
    return Idefics3ImageProcessor(
        size={"longest_edge": SHORT_SIDE * 4 // 3},
        max_image_size={"longest_edge": SIDE},
        do_image_splitting=False,
        resample=Image.Resampling.BICUBIC,
    )


def glimpsed(occasion: Occasion, times_s: np.ndarray) -> str:
    """What frames at some times show, in the words of `demo.occasions.watched`.

    A motion that falls between two frames is not told, so a thing's time may be that of a later one.
    """
    return told(scenes.image_caption(occasion), scenes.drawn(occasion), _levels(occasion, times_s) >= SHOWN, times_s)


def told(caption: str, names: Sequence[str], moving: np.ndarray, times_s: np.ndarray) -> str:
    """The sentence, of things and of when they move: bool, shape (things, times)."""
    moves = [(row.argmax(), NOUNS[name]) for name, row in zip(names, moving, strict=True) if row.any()]
    parts = [f"00:{int(times_s[first]):02d} the {noun} moves" for first, noun in sorted(moves)]
    return "; ".join([f"00:00 {caption}", *parts])


def _levels(occasion: Occasion, times_s: np.ndarray) -> np.ndarray:
    """How active each thing is drawn, 0..LEVELS, shape (things, times)."""
    return np.stack(
        [np.rint(scenes.envelope(occasion, index, times_s) * LEVELS) for index in range(len(scenes.drawn(occasion)))]
    )


@dataclass(frozen=True)
class Films:
    """Clips to learn from: their frames, each different one once.

    Attributes:
        occasions: what each clip shows.
        pixels: uint8, shape (pictures, 3, 64, 64).
        moving: which of `THINGS` is seen to move, float32, shape (pictures, 22).
        owner: whose picture it is, int64, shape (pictures,).
        frames: the picture that each clip's frames show, int64, shape (clips, 40).
        things: which of `THINGS` are there, float32, shape (clips, 22).
        places: index of the place, int64, shape (clips,).
    """

    occasions: list[Occasion]
    pixels: Tensor
    moving: Tensor
    owner: Tensor
    frames: Tensor
    things: Tensor
    places: Tensor


def draw_films(first: int, count: int, images: Idefics3ImageProcessor, bar: Progress) -> Films:
    """Draws the good occasions `first` to `first` + `count` - 1 of the training seed."""
    occasions = [make_occasion(training.TRAINING_SEED, index) for index in range(first, first + count)]
    pixels, moving, owner, frames = [], [], [], []
    pictures = 0
    for number, occasion in enumerate(bar.track(occasions, description="drawing")):
        indices = [THINGS.index(name) for name in scenes.drawn(occasion)]
        levels, at, which = np.unique(_levels(occasion, TIMES_S), axis=1, return_index=True, return_inverse=True)
        drawn = render_frames(occasion, fps=1 / EVERY_S)[at]
        size = (SHORT_SIDE * 4 // 3, SHORT_SIDE)
        small = [Image.fromarray(one).resize(size, Image.Resampling.BILINEAR) for one in drawn]
        squeezed = images([small], do_rescale=False, do_normalize=False, return_tensors="pt")
        pixels.append(squeezed["pixel_values"][0].round().clamp(0, 255).to(torch.uint8))
        moves = torch.zeros(len(at), len(THINGS))
        moves[:, indices] = torch.from_numpy(levels.T >= SHOWN).float()
        moving.append(moves)
        owner += [number] * len(at)
        frames.append(torch.from_numpy(which.reshape(-1)) + pictures)
        pictures += len(at)
    return Films(
        occasions,
        torch.cat(pixels),
        torch.cat(moving),
        torch.tensor(owner),
        torch.stack(frames),
        torch.tensor([[float(name in scenes.drawn(one)) for name in THINGS] for one in occasions]),
        torch.tensor([list(PLACES).index(one.place) for one in occasions]),
    )


def normalise(pixels: Tensor, images: Idefics3ImageProcessor) -> Tensor:
    """As the image processor does it, of pixels in 0..1."""
    return (pixels - torch.tensor(images.image_mean)[:, None, None]) / torch.tensor(images.image_std)[:, None, None]


def story(occasion: Occasion, moving: np.ndarray) -> str:
    """What is told of the first of an occasion's frames that are shown, of which `THINGS` move in each."""
    names = scenes.drawn(occasion)
    rows = moving.T[[THINGS.index(name) for name in names]] > 0
    return told(scenes.image_caption(occasion), names, rows, TIMES_S)
