"""The cue that embeds sounds by CLAP. The model is tiny and random: what is shown is plumbing."""

from __future__ import annotations

import base64
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ClapModel, ClapProcessor

from model_handlers.audio_embedding import RATE, AudioEmbedding, embedding_item, embedding_of
from model_handlers.base import Item
from model_handlers.nets import clap
from model_handlers.nets.clap import embedded
from model_handlers.views import Audio
from model_handlers.weights import ModelError
from tests.test_audio_label import make_model, sounds

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("clap"))


def row(folder: Path, **changes: Any) -> AudioEmbedding:
    return AudioEmbedding(name="clap", model=str(folder), **{"device": "cpu", **changes})


def test_a_vector_survives_as_an_item_to_the_rounding_of_half_precision() -> None:
    rng = np.random.default_rng(0)
    for width in (16, 512):
        vectors = rng.normal(size=(50, width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        again = np.stack([embedding_of((embedding_item(vector),)) for vector in vectors])
        assert again.dtype == np.float32
        assert np.abs(again @ vectors.T - vectors @ vectors.T).max() < 5e-4
    assert embedding_item(np.array([0.0, 1.0], np.float32)).text == base64.b64encode(b"\0\0\0\x3c").decode()


@pytest.mark.parametrize(
    "items",
    [
        (),
        (Item("AAAAPA=="), Item("AAAAPA==")),
        (Item("dog", 0.9),),
        (Item("a sentence, with spaces"),),
        (Item("AAAA"),),  # three bytes are no float16s
        (Item(""),),
        (Item(base64.b64encode(np.ones(4, "<f2")).decode()),),  # of length 2
        (Item(base64.b64encode(np.array([np.nan, 1], "<f2")).decode()),),
    ],
)
def test_what_is_no_embedding_is_refused(items: tuple[Item, ...]) -> None:
    with pytest.raises(ValueError, match="embedding"):
        embedding_of(items)


def test_embeddings_are_those_of_the_whole_model(folder: Path) -> None:
    handler, batch = row(folder), sounds(10.0, 4.0)
    processor = ClapProcessor.from_pretrained(folder)
    inputs = processor(audio=[example.view for example in batch], sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        expected = ClapModel.from_pretrained(folder).eval().get_audio_features(**inputs).pooler_output.numpy()
    found = np.stack([embedding_of(items) for items in handler.predict(batch, handler.load())])
    assert np.abs(found - expected).max() < 5e-4
    assert found[0] @ found[1] < 0.9999  # else this would show nothing


def test_a_long_clip_is_judged_by_its_middle_and_alike_alone_and_together(folder: Path) -> None:
    handler = row(folder)
    model, batch = handler.load(), sounds(14.0, 3.0, 10.0)
    together = np.stack([embedding_of(items) for items in handler.predict(batch, model)])
    middle = replace(batch[0], view=batch[0].view[2 * RATE : 12 * RATE])
    for example, expected in zip((middle, *batch[1:]), together, strict=True):
        (alone,) = handler.predict([example], model)
        assert np.abs(embedding_of(alone) - expected).max() < 1e-3


def test_what_is_empty_or_broken_fails_alone(folder: Path) -> None:
    handler, batch = row(folder), sounds(1.0, 1.0, 1.0)
    batch[1] = replace(batch[1], view=batch[1].view[:0])
    batch[2].view[3] = np.inf
    answers = handler.run_inference(batch, handler.load_model())
    assert [answer.error is None for answer in answers] == [True, False, False]
    assert not any(answer.retryable for answer in answers)


@pytest.mark.parametrize("bad", [[[np.nan, 1.0]], [[0.0, 0.0]], [[np.inf, 1.0]]])
def test_embeddings_that_are_no_numbers_are_an_error(bad: list[list[float]]) -> None:
    with pytest.raises(FloatingPointError, match="no numbers"):
        embedded(torch.tensor(bad))


def test_a_row_says_what_is_decoded_travels_and_counts_what_matters(folder: Path) -> None:
    handler = row(folder, decoder="tensorflow-io")
    assert handler.view == Audio(RATE, "tensorflow-io")
    assert row(folder).view == Audio(RATE)
    assert pickle.loads(pickle.dumps(handler)) == handler
    assert handler.fingerprint() != row(folder).fingerprint()
    assert row(folder, batch_size=3).fingerprint() == row(folder).fingerprint()
    assert (RATE, AudioEmbedding.patterns) == (clap.RATE, clap.FILES)


def test_a_model_that_does_not_serve_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"clap: .*nothing at .*Any CLAP"):
        row(tmp_path / "nowhere").load_model().get()
    with pytest.raises(ModelError, match=r"clap: .*hears 16000 Hz"):
        row(make_model(tmp_path / "slow", rate=16_000)).load_model().get()
    other = make_model(tmp_path / "other")
    state = load_file(other / "model.safetensors")
    save_file(
        {name: values for name, values in state.items() if not name.startswith("audio_projection")},
        other / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError, match=r"clap: .*not a whole CLAP .*audio_projection"):
        row(other).load_model().get()
    (other / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(ModelError, match="of a clip, not of a clap"):
        row(other).load_model().get()
