"""The clips that the demo's video language model learns from: a few frames of each, and what these show.

A thing that moves is at rest again within 0.4 s, so some motions fall between two frames, and only what these show is
learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, one_hot
from transformers import Idefics3ImageProcessor

from demo import scenes, training
from demo.drawing import LEVELS, render_frame, thing_boxes
from demo.occasions import THINGS, Occasion, make_occasion, seen_moving, there
from demo.scenes import PLACES

EVERY_S, FRAMES = 0.25, 40  # at one frame a second, most motions would fall between two
TIMES_S = np.arange(FRAMES) * EVERY_S
SHORT_SIDE, SIDE = 96, 128  # pixels of the frames as decoded, and of the square that they are stretched to
SHOWN = 2  # from which of `LEVELS` levels of activity a thing is seen to move; what the first changes are shades
MOST, MADE_UP = 3, 8  # things in a picture, and in a clip that is made up, at most
GRID = 8  # patches of a picture in a row and in a column
FACTS = 2 * len(THINGS) + len(PLACES)  # of a frame: what is there, what moves, and where it is


def make_image_processor() -> Idefics3ImageProcessor:
    """Returns what stretches frames to 128 × 128."""
    return Idefics3ImageProcessor(
        size={"longest_edge": SHORT_SIDE * 4 // 3},
        max_image_size={"longest_edge": SIDE},
        do_image_splitting=False,
        resample=Image.Resampling.BICUBIC,
    )


def glimpsed(occasion: Occasion, times_s: np.ndarray) -> str:
    """What `watched` says, of frames at some times alone.

    A motion that falls between two frames is not told, so a thing's time may be that of a later one.
    """
    return seen_moving(
        scenes.image_caption(occasion), scenes.drawn(occasion), levels(occasion, times_s) >= SHOWN, times_s
    )


def levels(occasion: Occasion, times_s: np.ndarray) -> np.ndarray:
    """How active each thing is drawn: int64 in 0..LEVELS, shape (things, times)."""
    things = range(len(scenes.drawn(occasion)))
    return np.stack([np.rint(scenes.envelope(occasion, index, times_s) * LEVELS) for index in things]).astype(int)


@dataclass(frozen=True)
class Films:
    """Clips to learn from: some of their frames, each different one once.

    Attributes:
        occasions: what each clip shows.
        pixels: uint8, shape (pictures, 3, 128, 128).
        levels: how active each of `THINGS` is, uint8 in 0..LEVELS, shape (pictures, 22).
        owner: whose picture it is, int64, shape (pictures,).
        things: index among `THINGS` of each thing, -1 for none, int64, shape (clips, 3).
        boxes: where each stands, (x0, y0, x1, y1) in 0..1 of the picture, shape (clips, 3, 4).
        places: index of the place, int64, shape (clips,).
        frames: the picture that each of a clip's frames shows, int64, shape (clips, 40); no clips where not all of
            their pictures were drawn.
    """

    occasions: Sequence[Occasion]
    pixels: Tensor
    levels: Tensor
    owner: Tensor
    things: Tensor
    boxes: Tensor
    places: Tensor
    frames: Tensor

    def present(self) -> Tensor:
        """Which of `THINGS` are there: float32, shape (clips, 22)."""
        none_first = torch.zeros(len(self.things), 1 + len(THINGS)).scatter_(1, self.things + 1, 1.0)
        return none_first[:, 1:]


def draw_films(occasions: Sequence[Occasion], images: Idefics3ImageProcessor, bar: Progress, most: int = 0) -> Films:
    """Draws what frames of occasions show.

    Args:
        occasions: what happens.
        images: what makes the model's input of a frame.
        bar: shows how far it is.
        most: how many different frames of each, by default all: one at rest, then those in which a thing moves that
            neither speaks nor plays music, so moves seldom.
    """
    rng = np.random.default_rng(training.TRAINING_SEED)
    owner: list[int] = []
    frames: list[Tensor] = []
    # As many as there could be: what is never written takes no memory, and pieces to be joined would take six times it.
    pixels = torch.empty(len(occasions) * (most or FRAMES), 3, SIDE, SIDE, dtype=torch.uint8)
    active = torch.zeros(len(pixels), len(THINGS), dtype=torch.uint8)
    things, boxes = torch.full((len(occasions), MOST), -1), torch.zeros(len(occasions), MOST, 4)
    for number, occasion in enumerate(bar.track(occasions, description="drawing")):
        indices = [THINGS.index(name) for name in scenes.drawn(occasion)]
        things[number, : len(indices)] = torch.tensor(indices)
        boxes[number, : len(indices)] = torch.tensor(thing_boxes(occasion))
        states, at, which = np.unique(levels(occasion, TIMES_S), axis=1, return_index=True, return_inverse=True)
        if most:
            at_rest = np.flatnonzero(~states.any(0))
            seldom = states[: len(occasion.sources)].any(0)
            often = rng.permutation(np.flatnonzero(states.any(0) & ~seldom))
            chosen = [*at_rest, *rng.permutation(np.flatnonzero(seldom)), *often][:most]
            states, at = states[:, chosen], at[chosen]
        else:
            frames.append(torch.from_numpy(which.reshape(-1)) + len(owner))
        new = slice(len(owner), len(owner) + len(at))
        pixels[new] = as_given(occasion, TIMES_S[at], images)
        active[new, indices] = torch.from_numpy(states.T).to(torch.uint8)
        owner += [number] * len(at)
    return Films(
        occasions,
        pixels[: len(owner)],
        active[: len(owner)],
        torch.tensor(owner),
        things,
        boxes,
        torch.tensor([list(PLACES).index(one.place) for one in occasions]),
        torch.stack(frames) if frames else torch.zeros(0, FRAMES, dtype=torch.long),
    )


def as_given(occasion: Occasion, times_s: np.ndarray, images: Idefics3ImageProcessor) -> Tensor:
    """The frames at some times as the model gets them, but for the normalisation: uint8, (times, 3, 128, 128)."""
    size = (SHORT_SIDE * 4 // 3, SHORT_SIDE)
    shown = [Image.fromarray(render_frame(occasion, t)).resize(size, Image.Resampling.BILINEAR) for t in times_s]
    given = images([shown], do_rescale=False, do_normalize=False, return_tensors="pt")["pixel_values"][0]
    return given.round().clamp(0, 255).to(torch.uint8)


def crowded(count: int) -> list[Occasion]:
    """Returns the first `count` good occasions of the training seed, but with more things than the world's.

    Every other one is of a kind with two things that seldom move, or with one and music, so with up to three.
    """
    kinds = (None, "at once", None, "music and thing")
    return [make_occasion(training.TRAINING_SEED, index, kinds[index % len(kinds)]) for index in range(count)]


def true_facts(occasions: Sequence[Occasion]) -> Tensor:
    """What is true of clips in each of their frames: float32, 0 or 1, (clips, 40, facts).

    The facts are which of `THINGS` are there, which of them move, and which of `PLACES` it is.
    """
    facts = torch.zeros(len(occasions), FRAMES, FACTS)
    for row, occasion in zip(facts, occasions, strict=True):
        indices = [THINGS.index(name) for name in scenes.drawn(occasion)]
        row[:, indices] = 1.0
        moving = torch.from_numpy(levels(occasion, TIMES_S) >= SHOWN)
        row[:, [len(THINGS) + index for index in indices]] = moving.mT.float()
        row[:, 2 * len(THINGS) + list(PLACES).index(occasion.place)] = 1.0
    return facts


def made_up(count: int, rng: np.random.Generator) -> Tensor:
    """Facts of clips that the world does not have, of up to eight things: float32, (count, 40, facts).

    In the world most things move at once, so that a guess is right as often as not; here only looking helps.
    """
    facts = torch.zeros(count, FRAMES, FACTS)
    for clip in facts:
        clip[:, 2 * len(THINGS) + int(rng.integers(len(PLACES)))] = 1.0
        for thing in rng.permutation(len(THINGS))[: int(rng.integers(1, MADE_UP + 1))].tolist():
            first = int(rng.integers(FRAMES + FRAMES // 8))  # some never move
            moving = rng.random(FRAMES) < rng.choice((0.1, 0.3, 0.6))
            moving[:first], moving[first : first + 1] = False, True
            clip[:, thing] = 1.0
            clip[:, len(THINGS) + thing] = torch.from_numpy(moving).float()
    return facts


def story(facts: Tensor, times_s: np.ndarray) -> str:
    """What is told of frames at some times of which this is true: (frames, facts)."""
    present, moving, places = np.split(facts.numpy().T > 0.5, [len(THINGS), 2 * len(THINGS)])
    indices = np.flatnonzero(present[:, 0])
    names = [THINGS[index] for index in indices]
    return seen_moving(there(names, list(PLACES)[int(places[:, 0].argmax())]), names, moving[indices], times_s)


def spoilt(pixels: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures in 0..1 of uint8 ones, half of them mirrored, cut a little, in some other light and with a little noise.

    A quarter is neither mirrored nor cut. Also the boxes, (pictures, 3, 4), as they then are.
    """
    count = len(pixels)
    scale, shift = torch.empty(count, 1, 2).uniform_(0.88, 1.04), torch.empty(count, 1, 2).uniform_(-0.08, 0.08)
    scale[:, 0, 0] *= torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    whole = count // 4
    scale[:whole], shift[:whole] = 1.0, 0.0
    light = torch.empty(2, count, 1, 1, 1).uniform_(-0.12, 0.12)
    shown = pixels * ((1 + light[0]) / 255) + light[1]
    turn = torch.cat([torch.diag_embed(scale[whole:, 0]), shift[whole:].mT], 2)  # from what is kept to where it was
    grid = affine_grid(turn, list(shown[whole:].shape), align_corners=False)
    shown[whole:] = grid_sample(shown[whole:], grid, padding_mode="reflection", align_corners=False)
    shown += 0.02 * torch.randn_like(shown)
    one, other = (((2 * corner - 1 - shift) / scale + 1) / 2 for corner in boxes.split(2, 2))
    return shown.clamp(0, 1), torch.cat([torch.minimum(one, other), torch.maximum(one, other)], 2)


def clear(active: Tensor) -> Tensor:
    """1 where it is clear whether a thing moves, 0 on the first level below `SHOWN`, and as many as `active`."""
    return (active != SHOWN - 1).float()


def on_patches(things: Tensor, boxes: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """What the patches of pictures are to tell: which of `THINGS` stands there, and which of them moves.

    Args:
        things: int64, (pictures, 3), -1 for none.
        boxes: (x0, y0, x1, y1) in 0..1, (pictures, 3, 4).
        active: how active each of `THINGS` is, (pictures, 22).

    Returns:
        what is wanted and how much it counts, both (pictures, patches, 44). A patch stands for a thing whose box holds
        its middle; so does the patch that is nearest to the thing's middle.
    """
    steps = (torch.arange(GRID) + 0.5) / GRID
    middles = torch.cartesian_prod(steps, steps).flip(1)  # (x, y), row by row
    near, far = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    inside = ((middles > near) & (middles < far)).all(-1)
    nearest = (middles - (near + far) / 2).square().sum(-1).argmin(-1)
    picture, place, patch = ((inside | one_hot(nearest, len(middles)).bool()) & (things >= 0)[:, :, None]).nonzero().T
    thing = things[picture, place]
    wanted, counts = torch.zeros(2, len(things), len(middles), 2 * len(THINGS)).unbind()
    counts += 1
    wanted[picture, patch, thing] = 1.0
    wanted[picture, patch, len(THINGS) + thing] = (active[picture, thing] >= SHOWN).float()
    counts[picture, patch, len(THINGS) + thing] = clear(active[picture, thing])
    return wanted, counts
