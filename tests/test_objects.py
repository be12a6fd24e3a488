"""Objects by Grounding DINO: the demo's model finds what is there, and the handler loads and runs any of its kind."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
)

from demo.drawing import thing_boxes
from demo.train_objects import THINGS, make_processor
from demo.world import make_scene, make_scenes, render_frame, write_clip
from model_handlers.base import Example, Item, Loaded
from model_handlers.objects import VOCABULARY, Detector, Objects, box_overlap, suppress, widened
from model_handlers.views import MiddleFrame
from model_handlers.weights import ModelError, local_path
from transforms.media import Limits, decode

pytestmark = pytest.mark.usefixtures("one_thread")

DEMO = "pkg://demo/models/objects"
NAMES = ("dog", "fire truck", "Vacuum  cleaner")
KINDS = {
    "grounding-dino": (GroundingDinoConfig, GroundingDinoForObjectDetection),
    "mm-grounding-dino": (MMGroundingDinoConfig, MMGroundingDinoForObjectDetection),
}


def save_random_model(folder: Path, kind: str, max_text_len: int = 64) -> None:
    """Writes a tiny random model as the published ones are built, Swin and all."""
    config_class, model_class = KINDS[kind]
    processor = make_processor()
    torch.manual_seed(0)
    model = model_class(
        config_class(
            backbone_config={
                "model_type": "swin",
                "embed_dim": 16,
                "depths": [1, 1, 1],
                "num_heads": [2, 2, 2],
                "window_size": 4,
                "out_indices": [2, 3],
            },
            text_config={
                "model_type": "bert",
                "vocab_size": len(processor.tokenizer),
                "hidden_size": 32,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
            },
            d_model=32,
            num_feature_levels=3,
            num_queries=10,
            encoder_layers=1,
            encoder_ffn_dim=64,
            encoder_attention_heads=4,
            decoder_layers=2,
            decoder_ffn_dim=64,
            decoder_attention_heads=4,
            max_text_len=max_text_len,
        )
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module", params=list(KINDS))
def random_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    save_random_model(folder, request.param)
    return folder


@pytest.fixture(scope="module")
def random_frames() -> list[Example]:
    """Frames of three sizes, one of them twice."""
    rng = np.random.default_rng(0)
    sizes = [(240, 320), (120, 90), (64, 200), (240, 320)]
    return [Example(str(i), rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for i, size in enumerate(sizes)]


def finder(model: Path | str, **parameters: Any) -> Objects:
    return Objects(**({"name": "objects", "model": str(model), "device": "cpu"} | parameters))


@pytest.fixture(scope="module")
def handler() -> Objects:
    return finder(DEMO, vocabulary=THINGS)


@pytest.fixture(scope="module")
def detector(handler: Objects) -> Detector:
    return handler.load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the demo's model that a test may spoil."""
    return shutil.copytree(local_path(DEMO), tmp_path / "model")


@pytest.fixture(scope="module")
def scenes() -> list[Any]:
    return make_scenes(150, 12, "good")


@pytest.fixture(scope="module")
def examples(scenes: list[Any]) -> list[Example]:
    """Frames of different sizes, as clips have them."""
    sizes = [(320, 240), (640, 480), (200, 150)]
    return [Example(s.clip_id, render_frame(s, 5.0, *sizes[i % 3])) for i, s in enumerate(scenes)]


def numbers(items: tuple[Item, ...]) -> np.ndarray:
    return np.array([(item.score, *(item.box or ())) for item in items])


def test_demo_model_finds_the_things_of_scenes_it_never_saw(
    handler: Objects, detector: Detector, scenes: list[Any], examples: list[Example]
) -> None:
    answers = handler.run_inference(examples, Loaded.of(detector))
    assert [answer.error for answer in answers] == [None] * len(scenes)
    hits = [name in {item.text for item in a.items} for a, s in zip(answers, scenes, strict=True) for name in s.sources]
    false = [item for a, s in zip(answers, scenes, strict=True) for item in a.items if item.text not in s.sources]
    assert sum(hits) >= 0.9 * len(hits)
    assert len(false) <= 1


def test_boxes_lie_where_the_things_stand(
    handler: Objects, detector: Detector, scenes: list[Any], examples: list[Example]
) -> None:
    overlaps = []
    for scene, items in zip(scenes, handler.predict(examples, detector), strict=True):
        truth = dict(zip(scene.sources, thing_boxes(scene), strict=True))
        for item in items:
            assert item.box is not None
            x0, y0, x1, y1 = item.box
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1
            if item.text in truth:
                overlaps.append(box_overlap(item.box, truth[item.text]))
    assert min(overlaps) > 0.3
    assert float(np.mean(overlaps)) > 0.7


def test_demo_model_finds_things_in_the_middle_frame_of_a_real_clip(
    handler: Objects, detector: Detector, tmp_path: Path
) -> None:
    scene = make_scene(151, 0, duration_s=2.0)
    write_clip(scene, tmp_path / "clip.mp4")
    frame = decode(tmp_path / "clip.mp4", 0.0, None, handler.view, Limits())
    (items,) = handler.predict([Example(scene.clip_id, frame)], detector)
    assert {item.text for item in items} == set(scene.sources)


def test_what_is_not_asked_for_is_not_mistaken_for_another_thing(scenes: list[Any], examples: list[Example]) -> None:
    for scene, example in list(zip(scenes, examples, strict=True))[:4]:
        others = finder(DEMO, vocabulary=tuple(name for name in THINGS if name not in scene.sources))
        assert others.predict([example], others.load()) == [()]


def test_threshold_and_top_are_honoured_and_the_surest_comes_first(detector: Detector, examples: list[Example]) -> None:
    low = finder(DEMO, vocabulary=THINGS, threshold=0.05, top=100)
    everything = low.predict(examples, detector)
    scores = [item.score or 0.0 for items in everything for item in items]
    assert any(score < 0.35 for score in scores)
    assert all(score > 0.05 for score in scores)
    for items in everything:
        assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)  # type: ignore[type-var]
    higher = replace(low, threshold=0.35).predict(examples, detector)
    for items, fewer in zip(everything, higher, strict=True):
        assert fewer == tuple(item for item in items if (item.score or 0.0) > 0.35)
    first = replace(low, top=1).predict(examples, detector)
    assert first == [items[:1] for items in everything]


def test_a_vocabulary_of_several_prompts_finds_what_one_prompt_finds(
    handler: Objects, detector: Detector, folder: Path, examples: list[Example]
) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_text_len": 14}))
    split = finder(folder, vocabulary=THINGS)
    parts = split.load()
    assert [len(prompt.names) for prompt in parts.prompts] == [6, 6, 4]
    assert [len(prompt.names) for prompt in detector.prompts] == [16]
    whole = handler.predict(examples, detector)
    for items, pieces in zip(whole, split.predict(examples, parts), strict=True):
        sure, again = ({item.text: item for item in found if (item.score or 0) > 0.45} for found in (items, pieces))
        for name in sure:
            found = again.get(name) or next(item for item in pieces if item.text == name)
            assert found.score == pytest.approx(sure[name].score, abs=0.15)
            assert found.box == pytest.approx(sure[name].box, abs=0.05)


def test_the_default_vocabulary_fits_one_prompt_and_its_other_names_draw_no_false_find(
    handler: Objects, detector: Detector, examples: list[Example]
) -> None:
    assert set(THINGS) < set(VOCABULARY)
    everything = finder(DEMO)
    model = everything.load()
    assert [prompt.names for prompt in model.prompts] == [VOCABULARY]
    for items, more in zip(handler.predict(examples, detector), everything.predict(examples, model), strict=True):
        assert {item.text for item in items} == {item.text for item in more}


def test_a_name_counts_the_mean_of_its_tokens_and_keeps_its_spelling(
    random_folder: Path, random_frames: list[Example]
) -> None:
    handler = finder(random_folder, vocabulary=NAMES, threshold=0.0, overlap=1.0, top=1000)
    model = handler.load()
    (items,) = handler.predict(random_frames[:1], model)
    assert {item.text for item in items} == set(NAMES)
    processor = AutoProcessor.from_pretrained(random_folder)
    inputs = processor(
        images=random_frames[0].view,
        text=[["dog", "fire truck", "vacuum cleaner"]],
        input_data_format="channels_last",
        return_tensors="pt",
    )
    with torch.inference_mode():
        output = model.model(**inputs)
    assert inputs["input_ids"].tolist() == model.prompts[0].ids.tolist()
    tokens = output.logits[0].sigmoid()
    # [CLS] dog . fire truck . vacuum cleaner . [SEP]
    expected = {"dog": tokens[:, 1], "fire truck": tokens[:, 3:5].mean(1), "Vacuum  cleaner": tokens[:, 6:8].mean(1)}
    for name, scores in expected.items():
        mine = [item.score for item in items if item.text == name]
        assert mine == pytest.approx(sorted(scores[: len(scores)].tolist(), reverse=True)[: len(mine)], abs=1e-5)
    # The published post-processing gives a box the score of its likeliest token: never less than any name's.
    best = processor.post_process_grounded_object_detection(output, threshold=0.0)[0]["scores"].max()
    assert items[0].score <= best + 1e-6  # type: ignore[operator]


def test_an_answer_does_not_depend_on_batch_mates_of_other_sizes(
    random_folder: Path, random_frames: list[Example]
) -> None:
    handler = finder(random_folder, vocabulary=NAMES, threshold=0.0, top=1000)
    model = handler.load()
    for example, items in zip(random_frames, handler.predict(random_frames, model), strict=True):
        (alone,) = handler.predict([example], model)
        assert [item.text for item in items] == [item.text for item in alone]
        np.testing.assert_allclose(numbers(items), numbers(alone), atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_both_kinds_run_in_half_precision(random_folder: Path, random_frames: list[Example], precision: str) -> None:
    # Random weights pick other queries after rounding, so the trained model shows that the answers agree.
    handler = finder(random_folder, vocabulary=("dog",), threshold=0.0, overlap=1.0, top=1000, precision=precision)
    answers = handler.run_inference(random_frames, Loaded.of(handler.load()))
    assert [answer.error for answer in answers] == [None] * len(random_frames)
    assert all(0 < item.score <= 1 for answer in answers for item in answer.items if item.score is not None)
    assert all(answer.items for answer in answers)


def test_half_precision_finds_the_same_things(handler: Objects, detector: Detector, examples: list[Example]) -> None:
    half = replace(handler, precision="bf16")
    for items, rounded in zip(handler.predict(examples, detector), half.predict(examples, detector), strict=True):
        sure = {item.text for item in items if (item.score or 0) > 0.4}
        assert sure <= {item.text for item in rounded}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_finds_the_same_things(handler: Objects, detector: Detector, examples: list[Example]) -> None:
    on_gpu = replace(handler, device="cuda")
    for items, rounded in zip(
        handler.predict(examples, detector), on_gpu.predict(examples, on_gpu.load()), strict=True
    ):
        assert {item.text for item in items if (item.score or 0) > 0.4} <= {item.text for item in rounded}


def test_the_same_thing_twice_is_suppressed_and_another_thing_is_not() -> None:
    box, near, far = (0.1, 0.1, 0.5, 0.5), (0.12, 0.1, 0.52, 0.5), (0.6, 0.6, 0.9, 0.9)
    dog, again, other = Item("dog", 0.8, box=box), Item("dog", 0.9, box=near), Item("dog", 0.4, box=far)
    cat = Item("cat", 0.5, box=box)
    assert suppress([dog, again, other, cat], 0.5) == [again, cat, other]
    assert suppress([dog, again], 0.95) == [again, dog]


def test_overlap_of_known_boxes() -> None:
    assert box_overlap((0, 0, 1, 1), (0, 0, 1, 1)) == 1
    assert box_overlap((0, 0, 1, 1), (0.5, 0, 1.5, 1)) == pytest.approx(1 / 3)
    assert box_overlap((0, 0, 0.4, 1), (0.5, 0, 1, 1)) == 0
    assert box_overlap((0.5, 0.5, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)) == 0


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ((), "empty"),
        (("dog", "Dog"), "the same"),
        (("fire truck", "fire  truck"), "the same"),
        (("",), "no name"),
        (("  ",), "no name"),
        (("[CLS]",), "no name"),
        (("dog [SEP]",), "no name"),
        ((".",), "no name"),
        (("dog. cat",), "no name"),
        (("a dog?",), "no name"),
        (("dog\ncat",), "no name"),
        (("-",), "no name"),
    ],
)
def test_a_vocabulary_that_the_model_would_misread_is_refused(vocabulary: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        finder(DEMO, vocabulary=vocabulary)


@pytest.mark.parametrize("parameters", [{"threshold": 1.5}, {"threshold": -0.1}, {"overlap": 2.0}, {"top": 0}])
def test_parameters_out_of_range_are_refused(parameters: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="has to be"):
        finder(DEMO, **parameters)


def test_a_name_that_the_model_cannot_read_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="'zyzzyva' in the vocabulary is unknown"):
        finder(DEMO, vocabulary=("dog", "zyzzyva")).load()
    with pytest.raises(ModelError, match="too long"):
        finder(DEMO, vocabulary=(" ".join(["dog"] * 300),)).load()


@pytest.mark.parametrize("shape", [(0, 320, 3), (240, 320), (240, 320, 4), (0, 3)])
def test_frame_that_is_none_fails_alone(
    handler: Objects, detector: Detector, examples: list[Example], shape: tuple[int, ...]
) -> None:
    bad = Example("bad", np.zeros(shape, np.uint8))
    answers = handler.run_inference([examples[0], bad, examples[1]], Loaded.of(detector))
    assert [answer.error is None for answer in answers] == [True, False, True]


@pytest.mark.parametrize("size", [(100, 480), (600, 100), (1, 400), (400, 1), (6000, 100)])
def test_a_long_and_narrow_frame_is_looked_at_all_the_same(
    handler: Objects, detector: Detector, size: tuple[int, int]
) -> None:
    (answer,) = handler.run_inference([Example("long", np.zeros((*size, 3), np.uint8))], Loaded.of(detector))
    assert answer.error is None


@pytest.mark.parametrize(("size", "x", "y"), [((240, 1600), 1.0, 400 / 240), ((1600, 240), 400 / 240, 1.0)])
def test_boxes_in_a_long_and_narrow_frame_are_shares_of_that_frame(
    handler: Objects, detector: Detector, scenes: list[Any], size: tuple[int, int], x: float, y: float
) -> None:
    low = replace(handler, threshold=0.02, overlap=1.0, top=1000)
    frame = np.zeros((*size, 3), np.uint8)
    frame[:240, :240] = render_frame(scenes[0], 5.0)[:, :240]
    (items,) = low.predict([Example("long", frame)], detector)
    (shown,) = low.predict([Example("shown", widened(frame))], detector)
    scaled = {(item.text, item.score): np.minimum(np.array(item.box) * [x, y, x, y], 1.0) for item in shown if item.box}
    assert items
    for item in items:
        assert item.box == pytest.approx(scaled[item.text, item.score], abs=1e-5)


@pytest.mark.parametrize("size", [(240, 320), (1080, 1920), (1920, 1080), (100, 400), (400, 100), (1, 1), (3, 3)])
def test_an_ordinary_frame_is_shown_as_it_is(size: tuple[int, int]) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    assert widened(frame) is frame


def test_view_is_the_middle_frame_and_parameters_are_in_the_fingerprint(handler: Objects) -> None:
    assert handler.view == MiddleFrame()
    others = [{"vocabulary": ("dog",)}, {"threshold": 0.3}, {"overlap": 0.4}, {"top": 3}]
    fingerprints = {finder(DEMO, **other).fingerprint() for other in [{}, *others]}  # type: ignore[arg-type]
    assert len(fingerprints) == 5
    assert finder(DEMO, batch_size=1).fingerprint() in fingerprints
