"""Zero-shot audio labels by CLAP, by changing the row only. The model is tiny and random: what is shown is plumbing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, PreTrainedTokenizerFast

from model_handlers.audio_label import RATE, AudioLabel
from model_handlers.base import Example
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = ("dog", "bell", "rain")


def make_model(folder: Path, rate: int = RATE) -> Path:
    words = ("<s>", "<pad>", "</s>", "<unk>", "This", "is", "a", "sound", "of", ".", *LABELS)
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    text = {"vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 64, "pad_token_id": 1}
    audio = {"patch_embeds_hidden_size": 8, "hidden_size": 64, "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    torch.manual_seed(0)
    model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=16))
    with torch.no_grad():
        for parameter in model.text_model.parameters():
            parameter.mul_(5)  # so that sentences differ
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(sampling_rate=rate, truncation="rand_trunc", padding="repeatpad")
    ClapProcessor(extractor, fast).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("clap"))


def row(folder: Path, **changes: Any) -> AudioLabel:
    return AudioLabel(name="audio_label", model=str(folder), **{"labels": LABELS, "device": "cpu", **changes})


def sounds(*seconds: float) -> list[Example]:
    rng = np.random.default_rng(0)
    return [Example(f"c{n}", rng.normal(0, 0.1, int(RATE * s)).astype(np.float32)) for n, s in enumerate(seconds)]


def test_scores_are_those_of_the_models_own_forward_pass(folder: Path) -> None:
    handler = row(folder)
    loaded, batch = handler.load(), sounds(10.0, 4.0)
    processor = ClapProcessor.from_pretrained(folder)
    sentences = [f"This is a sound of {label}." for label in LABELS]
    inputs = processor(
        text=sentences, audio=[e.view for e in batch], sampling_rate=RATE, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        expected = loaded.model(**inputs).logits_per_audio.softmax(1)
    assert expected.std(1).min() > 1e-4
    for items, wanted in zip(handler.predict(batch, loaded), expected, strict=True):
        found = {item.text: item.score for item in items}
        np.testing.assert_allclose([found[label] for label in LABELS], wanted.numpy(), atol=1e-5)


def test_a_clip_longer_than_the_model_hears_is_judged_by_its_middle_and_always_alike(folder: Path) -> None:
    handler = row(folder)
    loaded, (long,) = handler.load(), sounds(14.0)
    before = np.random.get_state()[1].copy()  # the extractor's own crop would draw from it
    (first,), (second,) = handler.predict([long], loaded), handler.predict([long], loaded)
    (middle,) = handler.predict([Example("m", long.view[2 * RATE : 12 * RATE])], loaded)
    assert first == second == middle
    assert np.array_equal(np.random.get_state()[1], before)


def test_clips_are_labelled_alike_alone_and_together(folder: Path) -> None:
    handler = row(folder)
    loaded, batch = handler.load(), sounds(10.0, 3.0, 12.0)
    for example, items in zip(batch, handler.predict(batch, loaded), strict=True):
        (alone,) = handler.predict([example], loaded)
        np.testing.assert_allclose([i.score for i in alone], [i.score for i in items], atol=1e-5)


def test_labels_may_come_from_a_file_and_another_template_is_another_cue(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    listed = row(folder, labels=(), labels_file=str(tmp_path / "labels.txt"))
    batch = sounds(2.0)
    assert listed.predict(batch, listed.load()) == row(folder).predict(batch, row(folder).load())
    assert row(folder, template="{label}").fingerprint() != row(folder).fingerprint()


def test_what_is_empty_or_broken_fails_alone(folder: Path) -> None:
    handler, (good, broken) = row(folder), sounds(1.0, 1.0)
    broken.view[3] = np.nan
    batch = [good, Example("empty", good.view[:0]), broken]
    errors = [answer.error for answer in handler.run_inference(batch, handler.load_model())]
    assert [error is None for error in errors] == [True, False, False]


def test_another_rate_missing_weights_and_another_architecture_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="hears 16000 Hz"):
        row(make_model(tmp_path / "slow", rate=16_000)).load()
    other = make_model(tmp_path / "other")
    state = load_file(other / "model.safetensors")
    state.pop("logit_scale_a")
    save_file(state, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not a whole CLAP"):
        row(other).load()
    (other / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="of a clip, not of a clap"):
        row(other).load()


@pytest.mark.parametrize(
    "wrong", [{"labels": ()}, {"labels_file": "x.txt"}, {"top": 0}, {"template": "a sound"}, {"labels": ("a", "a")}]
)
def test_a_row_that_cannot_be_meant_is_refused(folder: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="audio_label: "):
        row(folder, **wrong)
