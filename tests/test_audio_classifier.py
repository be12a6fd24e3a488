"""Audio tags by AST, by changing the row only. The models are tiny and random: what is shown is plumbing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from model_handlers.audio_classifier import AudioClassifier
from model_handlers.base import Example
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES = {0: "Speech", 1: "Dog", 2: "Bell", 3: "Rain"}


def make_model(folder: Path, **config: Any) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    shape = {"max_length": 128, "num_mel_bins": 32}
    model = ASTForAudioClassification(
        ASTConfig(**sizes, **shape, id2label=NAMES, label2id={v: k for k, v in NAMES.items()}, **config)
    )
    torch.nn.init.normal_(model.classifier.dense.weight, std=1.0)
    model.save_pretrained(folder)
    ASTFeatureExtractor(**shape).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("ast"))


def row(folder: Path, **changes: Any) -> AudioClassifier:
    return AudioClassifier(name="audio_tags", model=str(folder), **{"device": "cpu", "top": 4, **changes})


def sounds(*lengths: int) -> list[Example]:
    rng = np.random.default_rng(0)
    return [Example(f"c{n}", rng.normal(0, 0.1, size).astype(np.float32)) for n, size in enumerate(lengths)]


@pytest.mark.parametrize(
    ("config", "changes", "function"),
    [
        ({}, {}, torch.sigmoid),
        ({}, {"multi_label": False}, lambda logits: logits.softmax(1)),
        ({"problem_type": "single_label_classification"}, {}, lambda logits: logits.softmax(1)),
        ({"problem_type": "multi_label_classification"}, {"multi_label": False}, torch.sigmoid),
    ],
)
def test_probabilities_are_those_of_the_models_own_call(
    tmp_path: Path, config: dict[str, Any], changes: dict[str, Any], function: Any
) -> None:
    handler = row(make_model(tmp_path, **config), **changes)
    loaded = handler.load()
    for example in sounds(16_000, 40_000):
        inputs = loaded.extractor(example.view, sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            expected = function(loaded.model(**inputs).logits)[0]
        (items,) = handler.predict([example], loaded)
        assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)
        found = {item.text: item.score for item in items}
        np.testing.assert_allclose([found[name] for name in NAMES.values()], expected.numpy(), atol=1e-5)


def test_clips_of_different_lengths_are_classified_as_they_are_alone(folder: Path) -> None:
    handler = row(folder)
    loaded, batch = handler.load(), sounds(16_000, 9_000, 16_000, 50_000)
    for example, items in zip(batch, handler.predict(batch, loaded), strict=True):
        (alone,) = handler.predict([example], loaded)
        assert [item.text for item in alone] == [item.text for item in items]
        np.testing.assert_allclose([i.score for i in alone], [i.score for i in items], atol=1e-5)


def test_only_as_many_as_wanted_are_named(folder: Path) -> None:
    handler = row(folder, top=2)
    (items,) = handler.predict(sounds(16_000), handler.load())
    assert len(items) == 2


def test_what_is_empty_too_short_or_broken_fails_alone(folder: Path) -> None:
    handler, (good, broken) = row(folder), sounds(16_000, 16_000)
    broken.view[3] = np.inf
    batch = [good, Example("empty", good.view[:0]), Example("short", good.view[:10]), broken]
    errors = [answer.error for answer in handler.run_inference(batch, handler.load_model())]
    assert [error is None for error in errors] == [True, False, False, False]


def test_another_rate_missing_weights_and_another_architecture_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="set rate = 16000"):
        row(folder, rate=32_000).load()
    other = make_model(tmp_path / "other")
    state = load_file(other / "model.safetensors")
    state.pop("classifier.dense.weight")
    save_file(state, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not a whole ASTForAudioClassification"):
        row(other).load()
    (other / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="cannot be loaded"):
        row(other).load()
