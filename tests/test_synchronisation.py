import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from demo.world import make_scenes, write_clip
from model_handlers.base import Example, Item
from model_handlers.nets.synchformer import Synchformer, windows
from model_handlers.synchronisation import (
    Draw,
    Synchronisation,
    draw_evaluations,
    hits,
    near_truth,
    offset_s,
    parse_evaluation,
    segment_starts,
    to_item,
)
from model_handlers.views import AudioVideoView
from model_handlers.weights import ModelError
from tests.test_synchformer import SMALL, write_small
from transforms.media import decode


@pytest.fixture
def handler(tmp_path: Path) -> Synchronisation:
    torch.manual_seed(0)
    folder = write_small(tmp_path, dict(Synchformer(SMALL).state_dict()))
    return Synchronisation(name="sync", model=str(folder), device="cpu", short_side=36, crop=32)


def clip(clip_id: str, seconds: float) -> Example:
    rng = np.random.default_rng(len(clip_id))
    frames = rng.integers(0, 256, (round(25 * seconds), 32, 32, 3), dtype=np.uint8)
    return Example(clip_id, AudioVideoView(frames, rng.uniform(-0.5, 0.5, round(16_000 * seconds)).astype(np.float32)))


def item(true_class: int, predicted_class: int) -> Item:
    return to_item(Draw(true_class, 0, 0), [0.9 if c == predicted_class else 0.005 for c in range(21)])


def test_draws_depend_on_the_clip_alone_and_stay_when_more_are_drawn() -> None:
    assert draw_evaluations("a", 250) == draw_evaluations("a", 250)
    assert draw_evaluations("a", 250) != draw_evaluations("b", 250)
    assert draw_evaluations("a", 250, 8)[:5] == draw_evaluations("a", 250)
    assert draw_evaluations("a", 250) == (Draw(7, 96, 81), *draw_evaluations("a", 250)[1:])


@pytest.mark.parametrize("frames", [125, 127, 130, 149, 160, 175, 200, 250, 750])
def test_both_crops_lie_in_the_clip_and_their_distance_is_the_offset(frames: int) -> None:
    for number in range(200):
        for draw in draw_evaluations(f"clip{number}", frames):
            assert 0 <= draw.video_start <= frames - 125
            assert 0 <= draw.audio_start <= frames - 125
            assert (draw.audio_start - draw.video_start) / 25 == pytest.approx(offset_s(draw.true_class))


def test_all_offsets_are_drawn_about_equally_often_from_seven_seconds_on() -> None:
    for frames in (175, 250):
        counts = Counter(d.true_class for n in range(2000) for d in draw_evaluations(f"clip{n}", frames))
        assert sorted(counts) == list(range(21))
        assert min(counts.values()) > 0.8 * 10_000 / 21


def test_short_clip_gets_the_offsets_that_fit_and_one_below_five_seconds_none() -> None:
    assert {d.true_class for n in range(300) for d in draw_evaluations(f"clip{n}", 150)} == set(range(5, 16))
    assert {d.true_class for n in range(50) for d in draw_evaluations(f"clip{n}", 125)} == {10}
    assert draw_evaluations("a", 124) == ()


def test_starts_are_multiples_of_eight_frames_so_that_evaluations_share_segments() -> None:
    draws = [d for n in range(200) for d in draw_evaluations(f"clip{n}", 250)]
    assert all(d.video_start % 8 == 0 for d in draws)
    assert len({s for d in draws for s in segment_starts(d.video_start)}) == 29
    # 7 s and +-2 s leave one start, on no multiple of eight
    assert {d.video_start for n in range(300) for d in draw_evaluations(f"c{n}", 175) if d.true_class == 0} == {50}


def test_segments_are_centred_in_the_window() -> None:
    starts = segment_starts(0)
    assert len(starts) == 14
    assert (starts[0], starts[1], starts[-1] + 16) == (2, 10, 122)


def test_item_says_offset_guess_and_probabilities_and_reads_back() -> None:
    probabilities = np.full(21, 0.01)
    probabilities[13] = 0.8
    written = to_item(Draw(12, 80, 90), probabilities)
    assert written.text.startswith("true=+0.4 predicted=+0.6 probabilities=0.0100,0.0100,")
    assert (written.score, written.start_s, written.end_s) == (0.8, 3.2, 8.2)
    read = parse_evaluation(written)
    assert (read.true_class, read.predicted_class) == (12, 13)
    assert read.probabilities == pytest.approx(probabilities)
    assert len(written.text) < 190


@pytest.mark.parametrize("true_class", range(21))
def test_every_class_reads_back(true_class: int) -> None:
    assert parse_evaluation(item(true_class, 20 - true_class)).true_class == true_class
    assert parse_evaluation(item(true_class, 20 - true_class)).predicted_class == 20 - true_class


def test_other_items_are_not_evaluations() -> None:
    with pytest.raises(ValueError, match="not a synchronisation evaluation"):
        parse_evaluation(Item("a dog"))


def test_hits_counts_guesses_within_three_classes_whatever_floats_make_of_them() -> None:
    assert [hits([item(true, true + 3)]) for true in range(18)] == [1] * 18
    assert [hits([item(true, true + 4)]) for true in range(17)] == [0] * 17
    assert hits([item(10, 10), item(10, 8), item(0, 20)]) == 2
    assert hits([item(10, 10), item(10, 8)], tolerance_classes=0) == 1
    assert hits([]) == 0


def test_a_hit_can_be_asked_to_be_sure_and_then_counts_the_whole_neighbourhood() -> None:
    diffuse = to_item(Draw(10, 0, 0), [0.05] * 10 + [0.06] + [0.044] * 10)
    sure = to_item(Draw(10, 0, 0), [0.0] * 9 + [0.3, 0.4, 0.3] + [0.0] * 9)
    assert near_truth(parse_evaluation(diffuse)) == pytest.approx(3 * 0.05 + 0.06 + 3 * 0.044)
    assert near_truth(parse_evaluation(sure)) == pytest.approx(1.0)
    assert hits([diffuse, sure]) == 2
    assert hits([diffuse, sure], least_probability=0.5) == 1
    edge = to_item(Draw(20, 0, 0), [0.0] * 17 + [0.25] * 4)
    assert near_truth(parse_evaluation(edge)) == pytest.approx(1.0)


def test_predictions_are_those_of_the_plain_computation_window_by_window(handler: Synchronisation) -> None:
    model = handler.load_model()
    example = clip("some clip", 10)
    (prediction,) = handler.run_inference([example], model)
    assert prediction.error is None
    frames, audio = torch.from_numpy(example.view.frames), torch.from_numpy(example.view.audio)  # type: ignore[union-attr]
    for draw, got in zip(draw_evaluations("some clip", 250), prediction.items, strict=True):
        pictures = windows(frames, [draw.video_start + 2 + 8 * n for n in range(14)], 16)
        sounds = windows(audio, [640 * draw.audio_start + 1280 + 5120 * n for n in range(14)], 10_240)
        with torch.inference_mode():
            expected = model.get()(pictures[None], sounds[None]).softmax(1)[0]
        assert parse_evaluation(got).probabilities == pytest.approx(expected.tolist(), abs=1e-4)
        assert parse_evaluation(got).true_class == draw.true_class
        assert got.start_s == draw.video_start / 25


def test_clips_of_unlike_lengths_share_a_batch_and_too_short_ones_get_no_items(handler: Synchronisation) -> None:
    predictions = handler.run_inference([clip("a", 10), clip("bc", 4.9), clip("def", 6)], handler.load_model())
    assert [len(p.items) for p in predictions] == [5, 0, 5]
    assert [p.error for p in predictions] == [None] * 3


def test_a_clip_whose_sound_ends_early_is_judged_on_what_both_have(handler: Synchronisation) -> None:
    example = clip("a", 10)
    view = AudioVideoView(example.view.frames, example.view.audio[: 16_000 * 6])  # type: ignore[union-attr]
    (prediction,) = handler.run_inference([Example("a", view)], handler.load_model())
    assert all(item.end_s is not None and item.end_s <= 6 for item in prediction.items)


def test_a_row_whose_crop_is_not_the_models_is_refused_when_the_model_loads(handler: Synchronisation) -> None:
    handler.crop = 224
    with pytest.raises(ModelError, match="set `crop`"):
        handler.load()


def test_fingerprint_knows_the_number_of_evaluations(handler: Synchronisation) -> None:
    more = Synchronisation(name="sync", model=handler.model, short_side=36, crop=32, evaluations=9)
    assert more.fingerprint() != handler.fingerprint()
    assert json.dumps(asdict(handler.view)) == '{"fps": 25, "short_side": 36, "crop": 32, "rate": 16000}'


@pytest.mark.parametrize("kind", ["good", "shifted"])
def test_demo_model_tells_good_clips_from_shifted_ones_in_files_of_a_held_out_world(kind: str, tmp_path: Path) -> None:
    handler = Synchronisation(name="sync", model="pkg://demo/models/synchronisation", short_side=72, crop=64)
    model = handler.load_model()
    found = []
    for scene in make_scenes(101, 3, only=kind):
        write_clip(scene, tmp_path / "clip.mp4")
        view = decode(tmp_path / "clip.mp4", 0.0, None, handler.view)
        (prediction,) = handler.run_inference([Example(scene.clip_id, view)], model)
        found.append(hits(prediction.items, least_probability=0.5))
    assert all((count >= 3) == (kind == "good") for count in found), found
