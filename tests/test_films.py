"""What the demo's video language model learns from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.progress import Progress
from transformers import Idefics3Processor

from demo import training
from demo.drawing import render_frame
from demo.films import (
    GRID,
    SHOWN,
    SIDE,
    TIMES_S,
    Films,
    crowded,
    draw_films,
    glimpsed,
    levels,
    made_up,
    on_patches,
    spoilt,
    story,
    true_facts,
)
from demo.occasions import KINDS, THINGS, make_occasion, watched
from demo.scenes import PLACES, drawn, image_caption
from demo.train_video import moves
from demo.watcher import make_processor, normalise

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def processor() -> Idefics3Processor:
    return make_processor()


@pytest.fixture(scope="module")
def films(processor: Idefics3Processor) -> Iterator[Films]:
    with Progress(disable=True) as bar:
        yield draw_films(
            [make_occasion(training.TRAINING_SEED, 3 + n) for n in range(4)], processor.image_processor, bar
        )


def test_films_hold_what_is_said_of_them(films: Films, processor: Idefics3Processor) -> None:
    facts = true_facts(films.occasions)
    for number, occasion in enumerate(films.occasions):
        assert occasion == make_occasion(training.TRAINING_SEED, 3 + number)
        assert {THINGS[n] for n in films.present()[number].nonzero().flatten()} == set(drawn(occasion))
        assert [THINGS[n] for n in films.things[number] if n >= 0] == list(drawn(occasion))
        assert list(PLACES)[films.places[number]] == occasion.place
        assert set(films.owner[films.frames[number]].tolist()) == {number}
        moving = (films.levels[films.frames[number]] >= SHOWN).numpy()
        firsts = {THINGS[n]: int(TIMES_S[column.argmax()]) for n, column in enumerate(moving.T) if column.any()}
        assert story(facts[number], TIMES_S) == glimpsed(occasion, TIMES_S)
        assert dict(moves(glimpsed(occasion, TIMES_S))) == firsts
        there, moves_there, places = facts[number].split([len(THINGS), len(THINGS), len(PLACES)], 1)
        assert (there == films.present()[number]).all()
        assert (moves_there.numpy() == moving).all()
        assert (places.argmax(1) == films.places[number]).all()
        assert (places.sum(1) == 1).all()
        frame = Image.fromarray(render_frame(occasion, 7.75)).resize((128, 96), Image.Resampling.BILINEAR)
        given = processor.image_processor([frame], return_tensors="pt")["pixel_values"][0]
        kept = normalise(films.pixels[films.frames[number, 31]] / 255, processor)
        assert float((kept - given).abs().mean()) < 0.01  # what rounding to whole levels leaves


def test_a_few_frames_of_each_clip_show_it_at_rest_and_moving(processor: Idefics3Processor) -> None:
    with Progress(disable=True) as bar:
        few = draw_films(crowded(6), processor.image_processor, bar, most=2)
    assert few.owner.bincount().tolist() == [2] * 6
    assert few.levels.bool().any(1).reshape(6, 2).tolist() == [[False, True]] * 6
    assert not len(few.frames)


def test_clips_that_are_learnt_from_show_more_things_and_those_that_seldom_move(processor: Idefics3Processor) -> None:
    occasions = crowded(320)
    counts = np.array([len(drawn(occasion)) for occasion in occasions])
    assert (counts == 1).mean() < 0.15
    assert (counts == 3).mean() > 0.12
    assert {occasion.kind for occasion in occasions} == set(KINDS)
    with_music = [occasion for occasion in occasions if occasion.kind == "music and thing"][:3]
    with Progress(disable=True) as bar:
        films = draw_films(with_music, processor.image_processor, bar, most=3)
    things_levels = films.levels.gather(1, films.things[films.owner, :1])  # the others play, so move in most frames
    assert things_levels.bool().sum() >= 6


def test_what_falls_between_two_frames_is_not_told() -> None:
    occasion = make_occasion(training.TRAINING_SEED, 0, "alone")
    seldom = replace(occasion, sources=("dog",), events=((1.15, 3.45),))  # a dog moves for 0.28 s
    assert watched(seldom).endswith("; moving: the dog 00:01")
    assert glimpsed(seldom, np.arange(40) / 4).endswith("; moving: the dog 00:01")
    assert glimpsed(seldom, np.arange(20) / 2).endswith("; moving: the dog 00:03")
    assert glimpsed(seldom, np.arange(10.0)) == f"00:00 {image_caption(seldom)}"
    assert levels(seldom, np.array([1.14, 1.15, 1.29, 1.44])).tolist() == [[0, 8, 4, 0]]


def test_clips_that_are_made_up_move_at_any_time() -> None:
    facts = made_up(200, np.random.default_rng(0))
    there, moving, places = facts.split([len(THINGS), len(THINGS), len(PLACES)], 2)
    assert (there == there[:, :1]).all()
    assert (places.sum(2) == 1).all()
    assert set(there[:, 0].sum(1).tolist()) == set(range(1, 9))
    assert (moving <= there).all()
    starts = moving.argmax(1)[moving.any(1)] // 10
    assert starts.bincount().min() > 0.2 * len(starts)
    assert 0.05 < 1 - float(moving.any(1).sum() / there[:, 0].sum()) < 0.2  # those that never do
    told = dict(moves(story(facts[0, :8], TIMES_S[:8])))
    assert told.keys() == {THINGS[index] for index in moving[0, :8].any(0).nonzero().flatten()}


def test_patches_tell_what_stands_on_them() -> None:
    bell, dog = THINGS.index("bell"), THINGS.index("dog")
    boxes = torch.zeros(1, 3, 4)
    boxes[0, 0], boxes[0, 1] = torch.tensor([0.0, 0.5, 0.25, 0.75]), torch.tensor([0.90, 0.01, 0.92, 0.03])
    active = torch.zeros(1, len(THINGS), dtype=torch.uint8)
    active[0, bell], active[0, dog] = SHOWN, SHOWN - 1
    wanted, counts = (
        one[0].reshape(GRID, GRID, -1) for one in on_patches(torch.tensor([[bell, dog, -1]]), boxes, active)
    )
    square = torch.zeros(GRID, GRID)
    square[4:6, 0:2] = 1
    corner = torch.zeros(GRID, GRID)
    corner[0, 7] = 1  # smaller than a patch, so it is in none's middle
    assert torch.equal(wanted[..., bell], square)
    assert torch.equal(wanted[..., len(THINGS) + bell], square)
    assert torch.equal(wanted[..., dog], corner)
    assert not wanted[..., len(THINGS) + dog].any()
    assert torch.equal(counts[..., len(THINGS) + dog], 1 - corner)  # whether it moves is not to be seen
    assert wanted.sum() == 9
    assert counts.sum() == counts.numel() - 1


def test_boxes_move_with_pictures() -> None:
    torch.manual_seed(0)
    pixels = torch.zeros(32, 3, SIDE, SIDE, dtype=torch.uint8)
    pixels[:, :, 40:60, 30:80] = 255
    box = torch.tensor([30, 40, 80, 60]) / SIDE
    shown, boxes = spoilt(pixels, box.expand(32, 3, 4))
    assert torch.allclose(boxes[:8], box.expand(8, 3, 4))
    assert not torch.isclose(boxes[8:, 0], box).all(1).any()
    for picture, found in zip(shown, boxes[:, 0], strict=True):
        rows, columns = (picture.mean(0) > 0.5).nonzero().T
        edges = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / SIDE
        assert torch.allclose(edges, found, atol=1.6 / SIDE)
