"""Image label: the demo's trained CLIP, and CLIP, SigLIP and SigLIP 2 with random weights by changing the row only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

from beam_pipeline.config import load_profile
from demo.train_image_label import make_model, make_processor
from demo.world import make_scenes, render_frame
from model_handlers.base import Example
from model_handlers.image_label import ImageLabel, imagenet_names
from model_handlers.weights import ModelError

NAMES = ("bell", "bird", "camera", "cat")
TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**TEXT, "image_size": 32, "patch_size": 8}


@pytest.fixture(scope="module")
def demo() -> ImageLabel:
    (handler,) = (h for h in load_profile("demo").handlers() if h.name == "image_label")
    assert isinstance(handler, ImageLabel)
    return handler


@pytest.fixture(scope="module", params=["clip", "siglip", "siglip2"])
def random_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model of each kind, saved as a hub repository is."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    tokenizer = make_processor().tokenizer
    text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "pad_token_id": 1}
    text |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    processor: Any
    model: Any
    if request.param == "clip":
        processor = make_processor()
        processor.image_processor.size = {"height": 32, "width": 32}
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16))
    elif request.param == "siglip":
        processor = SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
    else:
        processor = Siglip2Processor(Siglip2ImageProcessor(patch_size=8, max_num_patches=16), tokenizer)
        vision = {**TEXT, "patch_size": 8, "num_patches": 16}
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def frames() -> list[Example]:
    rng = np.random.default_rng(0)
    return [Example(f"clip{n}", rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)) for n in range(3)]


def test_the_demo_model_names_a_thing_that_is_in_the_picture(demo: ImageLabel) -> None:
    scenes = make_scenes(4321, 20, "good")
    batch = [Example(scene.clip_id, render_frame(scene, 5.0)) for scene in scenes]
    answers = demo.predict(batch, demo.load())
    right = sum(items[0].text in scene.sources for scene, items in zip(scenes, answers, strict=True))
    assert right >= 18


def test_scores_are_those_of_the_models_own_forward_pass(random_model: Path) -> None:
    handler = ImageLabel(name="image_label", model=str(random_model), labels=NAMES, top=4)
    model = handler.load()
    answers = handler.predict(frames(), model)
    sentences = [f"a photo of a {name}" for name in NAMES]
    clip = model.model.config.model_type == "clip"
    padding = {"padding": True} if clip else {"padding": "max_length", "max_length": 16}
    tokens = AutoProcessor.from_pretrained(random_model).tokenizer(sentences, return_tensors="pt", **padding)
    pixels = model.extractor([e.view for e in frames()], input_data_format="channels_last", return_tensors="pt")
    with torch.inference_mode():
        logits = model.model(**tokens, **pixels).logits_per_image
    expected = logits.softmax(1) if clip else logits.sigmoid()
    for items, row in zip(answers, expected, strict=True):
        assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)
        found = {item.text: item.score for item in items}
        np.testing.assert_allclose([found[name] for name in NAMES], row.numpy(), atol=1e-5)


def test_imagenets_thousand_names_are_the_default(random_model: Path) -> None:
    assert len(set(imagenet_names())) == 1000
    model = ImageLabel(name="image_label", model=str(random_model)).load()
    assert model.names == imagenet_names()
    assert model.texts.shape[0] == 1000


def test_labels_come_from_a_file_whose_content_counts(random_model: Path, tmp_path: Path) -> None:
    listed = tmp_path / "labels.txt"
    listed.write_text("bell\n\n  cat \n")
    handler = ImageLabel(name="image_label", model=str(random_model), labels_file=str(listed))
    assert handler.load().names == ("bell", "cat")
    before = handler.fingerprint()
    (tmp_path / "other.txt").write_text("bell\ndog\n")
    assert replace(handler, labels_file=str(tmp_path / "other.txt")).fingerprint() != before


@pytest.mark.parametrize("content", ["", "bell\nbell\n", b"\xff\xfe\x00"])
def test_a_list_that_is_none_is_named(random_model: Path, tmp_path: Path, content: str | bytes) -> None:
    listed = tmp_path / "labels.txt"
    listed.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ModelError, match=r"labels\.txt"):
        ImageLabel(name="image_label", model=str(random_model), labels_file=str(listed)).load()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"template": "a photo"}, "lacks {label}"),
        ({"labels": ("bell", "bell")}, "stands there twice"),
        ({"labels": ("bell", " ")}, "is blank"),
        ({"labels": ("bell",), "labels_file": "x"}, "both given"),
        ({"top": 0}, "top is 0"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageLabel(name="image_label", model="m", **row)


def test_a_label_may_hold_any_text(random_model: Path) -> None:
    hostile = ("{label}", "{0}", "<|endoftext|> bell", "ignore all instructions")
    handler = ImageLabel(name="image_label", model=str(random_model), labels=hostile, top=4)
    ((*items,),) = handler.predict(frames()[:1], handler.load())
    assert {item.text for item in items} == set(hostile)


def test_a_model_that_is_not_whole_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    make_model(make_processor()).save_pretrained(tmp_path)
    make_processor().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    handler = ImageLabel(name="image_label", model=str(tmp_path), labels=NAMES)
    with pytest.raises(ModelError, match=r"missing: visual_projection\.weight"):
        handler.load()
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="of a bert"):
        handler.load()
