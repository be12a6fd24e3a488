"""The training of the demo's object detector: it sees the right scenes, and its boxes and losses are true."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.progress import Progress

from demo.boxes import box_loss, focal, overlaps
from demo.drawing import thing_boxes
from demo.train_objects import _spoil, draw_pictures, look, make_model, make_processor, train
from demo.training import training_scenes
from demo.world import make_scenes, render_frame
from model_handlers.objects import box_overlap

pytestmark = pytest.mark.usefixtures("one_thread")


def test_training_is_deterministic_and_moves_every_part() -> None:
    processor = make_processor()
    with Progress(disable=True) as progress:
        pictures = draw_pictures(4, processor, progress)
        seen, again = (look(pictures, processor, 2, progress) for _ in range(2))
        first, second = (train(pictures, processor, seen, 2, progress).state_dict() for _ in range(2))
    torch.manual_seed(1)
    untrained = make_model(processor).state_dict()
    assert all(torch.equal(seen[name], again[name]) for name in seen)
    assert all(torch.equal(first[name], second[name]) for name in first)
    for part in ("backbone", "text_backbone", "input_proj_vision", "encoder.", "decoder.", "bbox_embed"):
        assert any(not torch.equal(first[n], untrained[n]) for n in first if part in n), part


def test_training_never_sees_held_out_scenes() -> None:
    scenes = list(training_scenes(6))
    assert [len(scene.sources) for scene in scenes] == [1, 2, 1, 2, 1, 2]
    assert all(scene.clip_id.startswith("demo1000_") and not scene.faults for scene in scenes)


def test_true_boxes_lie_where_something_moves_when_it_sounds() -> None:
    for scene in [s for s in make_scenes(152, 12, "good") if len(s.sources) == 1]:
        (box,) = thing_boxes(scene)
        onset = next(t for t in scene.events[0] if t > 0)
        moved = np.abs(render_frame(scene, onset).astype(int) - render_frame(scene, onset - 0.05)).max(-1) > 8
        rows, columns = np.flatnonzero(moved.any(1)), np.flatnonzero(moved.any(0))
        seen = (columns[0] / 320, rows[0] / 240, (columns[-1] + 1) / 320, (rows[-1] + 1) / 240)
        # Rays surround a thing that sounds, so what moves is larger by up to a quarter each way.
        assert box_overlap(box, seen) > 0.4, scene.sources
        assert all(abs(b - s) < 0.12 for b, s in zip(box, seen, strict=True)), scene.sources


def test_boxes_follow_the_crop_of_a_training_picture() -> None:
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[60:180, 80:200] = 255
    rng = np.random.default_rng(3)
    for _ in range(5):
        spoilt, (near, far) = _spoil(frame, rng)
        bright = np.asarray(spoilt).min(-1) > 128
        rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
        seen = [columns[0] / 320, rows[0] / 240, (columns[-1] + 1) / 320, (rows[-1] + 1) / 240]
        true = (np.array([[80 / 320, 60 / 240], [200 / 320, 180 / 240]]) - near) / (far - near)
        np.testing.assert_allclose(true.ravel(), seen, atol=0.01)


def test_losses_of_known_boxes() -> None:
    true = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    assert overlaps(true[None], true[None]).item() == pytest.approx(1)
    assert overlaps(true[None] + torch.tensor([0.1, 0, 0, 0]), true[None]).item() == pytest.approx(1 / 3)
    assert box_loss(true, true).item() == pytest.approx(0, abs=1e-5)
    away = true + torch.tensor([0.4, 0, 0, 0])  # apart: IoU 0, and a third of the box around both is empty
    assert box_loss(away, true).item() == pytest.approx(5 * 0.4 + 2 * (1 + 1 / 3), abs=1e-5)
    sure, unsure = torch.tensor([4.0, -4.0]), torch.tensor([0.0, 0.0])
    wanted = torch.tensor([1.0, 0.0])
    assert focal(unsure, wanted, 0.5).item() == pytest.approx(0.25 * np.log(2), abs=1e-5)
    assert focal(sure, wanted, 0.5) < 0.01 * focal(unsure, wanted, 0.5)
