"""Audio caption: the demo's trained EffB2-Trm, and what the handler makes of files and clips."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.config import load_profile
from demo.train_audio_caption import RATE, heard
from demo.world import make_scenes, synthesise_audio
from model_handlers.audio_caption import AudioCaption
from model_handlers.base import Example, Loaded
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = Path(__file__).parent.parent / "demo" / "models" / "audio_caption"


@pytest.fixture(scope="module")
def demo() -> AudioCaption:
    (handler,) = (h for h in load_profile("demo").handlers() if h.name == "audio_caption")
    assert isinstance(handler, AudioCaption)
    return handler


def test_the_demo_model_says_what_is_heard(demo: AudioCaption) -> None:
    scenes = make_scenes(4321, 20, "good")
    batch = [Example(scene.clip_id, synthesise_audio(scene, RATE)) for scene in scenes]
    answers = demo.predict(batch, demo.load())
    assert sum(items[0].text == heard(scene) for items, scene in zip(answers, scenes, strict=True)) >= 17
    assert all(0 < items[0].score <= 1 for items in answers if items[0].score is not None)


def test_clips_of_different_lengths_are_captioned_as_they_are_alone(demo: AudioCaption) -> None:
    model, scenes = demo.load(), make_scenes(4321, 4, "good")
    lengths = (160_000, 80_000, 160_000, 33_333)
    batch = [Example(s.clip_id, synthesise_audio(s, RATE)[:n]) for s, n in zip(scenes, lengths, strict=True)]
    together = demo.predict(batch, model)
    for example, items in zip(batch, together, strict=True):
        ((alone,),) = demo.predict([example], model)
        assert alone.text == items[0].text
        assert alone.score == pytest.approx(items[0].score, abs=1e-3)


def test_a_caption_is_no_longer_than_asked(demo: AudioCaption) -> None:
    (scene,) = make_scenes(4321, 1, "good")
    short = replace(demo, max_words=3)
    ((item,),) = short.predict([Example(scene.clip_id, synthesise_audio(scene, RATE))], short.load())
    assert len(item.text.split()) <= 3


def test_a_clip_with_no_sound_or_broken_samples_fails_alone(demo: AudioCaption) -> None:
    (scene,) = make_scenes(4321, 1, "good")
    good = Example(scene.clip_id, synthesise_audio(scene, RATE))
    broken = good.view.copy()
    broken[100] = np.nan
    batch = [good, Example("empty", good.view[:0]), Example("broken", broken)]
    answers = demo.run_inference(batch, Loaded.of(demo.load()))
    assert answers[0].error is None
    assert answers[1].error is not None
    assert "no audio samples" in answers[1].error
    assert answers[2].error is not None
    assert "finite" in answers[2].error


def test_the_vocabulary_may_lie_elsewhere(demo: AudioCaption, tmp_path: Path) -> None:
    model, words = tmp_path / "model", tmp_path / "words"
    model.mkdir()
    words.mkdir()
    for file in DEMO.iterdir():
        shutil.copy(file, words if file.name.startswith("tokenizer") else model)
    with pytest.raises(ModelError, match="a vocabulary cannot be loaded"):
        replace(demo, model=str(model)).load()
    elsewhere = replace(demo, model=str(model), tokenizer=str(words))
    (scene,) = make_scenes(4321, 1, "good")
    batch = [Example(scene.clip_id, synthesise_audio(scene, RATE))]
    assert elsewhere.predict(batch, elsewhere.load()) == demo.predict(batch, demo.load())
    assert elsewhere.fingerprint() != demo.fingerprint()


def test_a_vocabulary_of_another_size_is_refused(demo: AudioCaption, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    shutil.copytree(DEMO, tmp_path / "model")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "model")
    tokenizer.add_tokens(["gurgling"])
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=r"audio_caption: .* words, special ones at"):
        replace(demo, model=str(tmp_path / "model")).load_model().get()


@pytest.mark.parametrize("wrong", [{"num_beams": 0}, {"max_words": 0}])
def test_a_row_that_cannot_be_meant_is_refused(demo: AudioCaption, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        replace(demo, **wrong)
