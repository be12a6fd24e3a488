"""How similar captions are to sounds: the plumbing with a random CLAP, the sense of it with the demo's."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import torch
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from safetensors.torch import load_file, save_file
from transformers import ClapModel, ClapProcessor

from demo.sentences import NAMES, WORDS, make_tokenizer, sentence
from demo.train_clap import TOKENS, Scores, best_threshold, captions_of, with_other_sound
from demo.world import make_scene, synthesise_audio
from model_handlers.audio_embedding import RATE, AudioEmbedding, embedding_item
from model_handlers.base import Example, Item, Items
from model_handlers.similarity import Pair, Similarity, SimilarityModel
from model_handlers.weights import ModelError
from tests.test_audio_label import make_model, sounds

pytestmark = pytest.mark.usefixtures("one_thread")
CAPTIONS = ("This is a sound of a dog.", "bell", "This is a sound of rain, rain and a dog, a bell and rain.")
DEMO = AudioEmbedding(name="clap", model="pkg://demo/models/clap", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def heard(folder: Path) -> tuple[Items, ...]:
    """What the cue says of three sounds."""
    handler = row(folder)
    return tuple(handler.predict(sounds(10.0, 3.0, 5.0), handler.load()))


def row(folder: Path, **changes: Any) -> AudioEmbedding:
    return AudioEmbedding(name="clap", model=str(folder), **{"device": "cpu", **changes})


def pairs(heard: tuple[Items, ...]) -> list[Pair]:
    return [Pair(caption, sound) for caption, sound in zip(CAPTIONS, heard, strict=True)]


def test_a_score_is_the_cosine_that_the_whole_model_gives(folder: Path, heard: tuple[Items, ...]) -> None:
    processor, whole = ClapProcessor.from_pretrained(folder), ClapModel.from_pretrained(folder).eval()
    audio = [example.view for example in sounds(10.0, 3.0, 5.0)]
    inputs = processor(text=list(CAPTIONS), audio=audio, sampling_rate=RATE, padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = (whole(**inputs).logits_per_audio / whole.logit_scale_a.exp()).diagonal().numpy()
    model = row(folder).scorer()
    assert expected.std() > 1e-3
    np.testing.assert_allclose(model.predict(pairs(heard), model.load()), expected, atol=5e-4)


def test_a_score_does_not_hang_on_the_other_captions_of_the_batch(folder: Path, heard: tuple[Items, ...]) -> None:
    model = row(folder).scorer()
    reader = model.load()
    alone = [model.predict([pair], reader)[0] for pair in pairs(heard)]
    np.testing.assert_allclose(model.predict(pairs(heard), reader), alone, atol=1e-6)


def test_a_pair_that_cannot_be_compared_fails_alone(folder: Path, heard: tuple[Items, ...]) -> None:
    model = row(folder).scorer()
    other_width = (embedding_item(np.array([0.6, 0.8], np.float32)),)
    batch = [*pairs(heard), Pair("a dog", (Item("dog", 0.9),)), Pair("a dog", other_width), Pair("", heard[0])]
    answers = model.run_inference(batch, model.load_model())
    assert [bool(answer.error) for answer in answers] == [False] * 3 + [True] * 3
    assert "no embedding" in answers[3].error
    assert "blank" in answers[5].error
    assert not any(answer.retryable for answer in answers)
    assert all(answer.seconds > 0 and -1 <= answer.score <= 1 for answer in answers)
    assert all(type(answer.score) is float for answer in answers)


def test_a_text_beyond_the_models_context_is_cut_off_there(folder: Path, heard: tuple[Items, ...]) -> None:
    model = row(folder).scorer()
    reader = model.load()
    assert reader.context == 62  # 64 positions, counted from the padding's id, 1, whatever the tokenizer believes
    assert reader.tokenizer.model_max_length > 10_000
    text = " ".join(["bell"] * 62)
    cut, same = model.predict([Pair(f"{text} rain dog", heard[0]), Pair(text, heard[0])], reader)
    assert cut == same


def test_a_worker_gets_a_small_thing_and_loads_with_the_first_batch(folder: Path, heard: tuple[Items, ...]) -> None:
    model = row(folder, batch_size=5).scorer()
    assert model.batch_elements_kwargs()["min_batch_size"] == model.batch_elements_kwargs()["max_batch_size"] == 64
    assert len(pickle.dumps(model)) < 2000
    assert pickle.loads(pickle.dumps(model)) == model
    assert model.get_num_bytes(pairs(heard)) >= sum(len(sound[0].text) for sound in heard)
    row(folder / "nowhere").scorer().load_model()  # nothing is loaded, so nothing is missed
    with pytest.raises(ModelError, match=r"clap: .*nowhere"):
        row(folder / "nowhere").scorer().load_model().get()
    with pytest.raises(ValueError, match="batch_size is 0"):
        SimilarityModel(sound=row(folder), batch_size=0)


def test_it_runs_in_a_pipeline_keyed(folder: Path, heard: tuple[Items, ...]) -> None:
    model = row(folder).scorer()
    expected = dict(zip(CAPTIONS, model.predict(pairs(heard), model.load()), strict=True))

    def check(found: list[tuple[str, Similarity]]) -> None:
        assert {key: answer.score for key, answer in found} == pytest.approx(expected, abs=1e-6)

    with beam.Pipeline(FnApiRunner()) as pipeline:
        keyed = [(pair.caption, pair) for pair in pairs(heard)]
        answers = pipeline | beam.Create(keyed) | RunInference(KeyedModelHandler(model))
        assert_that(answers, check)


def test_the_fingerprint_follows_the_embedding_and_the_version_not_speed(folder: Path, tmp_path: Path) -> None:
    first = row(folder).scorer()
    assert len(first.fingerprint()) == 16
    assert first.fingerprint() != row(folder).fingerprint()
    assert first.fingerprint() == SimilarityModel(sound=row(folder, batch_size=2), batch_size=3).fingerprint()
    assert first.fingerprint() != row(folder, precision="bf16").scorer().fingerprint()
    newer = row(folder).scorer()
    newer.version = 2  # type: ignore[misc]
    assert newer.fingerprint() != first.fingerprint()
    assert replace(row(folder), model="laion/clap", revision="abc").scorer().model == "laion/clap@abc"
    other = make_model(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["logit_scale_a"] += 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    assert row(other).scorer().fingerprint() != first.fingerprint()


# --- the demo's model -----------------------------------------------------------------------------------------------


def test_the_demo_model_prefers_true_captions_to_those_with_another_sound() -> None:
    ear, model = DEMO.load(), DEMO.scorer()
    reader = model.load()
    true, false, placeless = [], [], []
    for index in range(12):
        scene = make_scene(4322, index)
        (sound,) = DEMO.predict([Example(scene.clip_id, synthesise_audio(scene, RATE))], ear)
        told = [captions_of(scene), captions_of(with_other_sound(scene)), captions_of(scene, placed=False)]
        scores = [model.predict([Pair(caption, sound) for caption in captions], reader) for captions in told]
        true += scores[0]
        false += scores[1]
        placeless += scores[2]
    assert np.mean(np.array(true) > np.array(false)) >= 0.95
    assert np.abs(np.array(true) - placeless).mean() < 0.05


def test_the_demo_tokenizer_covers_any_text_and_takes_a_known_word_as_one_token() -> None:
    tokenizer = DEMO.scorer().load().tokenizer
    assert tokenizer.get_vocab() == make_tokenizer(TOKENS).get_vocab()
    for text in ("a dog barks and a bell rings on a beach.", "wörfs über 雨\t🐕", "qzx-1984"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    assert len(tokenizer("The Dog barks on a beach")["input_ids"]) == 2 + 6


def test_sentences_name_each_sound_and_the_place_that_was_asked_for() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        names = [NAMES[int(i)] for i in rng.permutation(len(NAMES))[: int(rng.integers(1, 4))]]
        text = sentence(names, rng, "on a beach").lower()
        assert "on a beach" in text
        for name in names:
            words = WORDS[name]
            assert any(phrase in text for phrase in (*words.nouns, *words.clauses, *words.doings))
        assert "beach" not in sentence(names, rng, "")


def test_the_threshold_is_where_most_captions_are_judged_rightly_in_the_widest_gap() -> None:
    good, swapped, adjacent = np.array([[0.3, 0.8, 0.9]]), np.array([[0.0, 0.1, 0.2]]), np.array([[0.1, 0.4, 0.5]])
    assert best_threshold(Scores(good, swapped, adjacent, good)) == 0.65
    assert best_threshold(Scores(good + 0.3, swapped, adjacent, good)) == 0.55
