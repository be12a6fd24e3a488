"""The cue that listens to speech. The Whisper is tiny and random: that shows plumbing, not understanding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from model_handlers.base import Example, Item, Loaded
from model_handlers.speech import Speech
from model_handlers.transcript import RATE
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>")
SPECIAL += ("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>")
STAMPS = tuple(f"<|{0.02 * number:.2f}|>" for number in range(1501))


def make_whisper(folder: Path, seed: int = 0) -> Path:
    """Saves a Whisper with a byte's vocabulary, two languages and random weights."""
    torch.manual_seed(seed)
    shown = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]  # GPT-2's names of bytes
    letters = shown + [chr(256 + number) for number in range(256 - len(shown))]
    vocabulary = {token: number for number, token in enumerate((*letters, *SPECIAL, *STAMPS))}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    ids = {token: vocabulary[token] for token in SPECIAL}
    ends = {f"{what}_token_id": ids["<|endoftext|>"] for what in ("pad", "bos", "eos")}
    begin = {"decoder_start_token_id": ids["<|startoftranscript|>"]}
    config = WhisperConfig(
        vocab_size=len(vocabulary),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_target_positions=48,
        **ends,
        **begin,
    )
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():  # so that what it writes hangs on what it hears
        model.model.decoder.layers[0].encoder_attn.v_proj.weight *= 60
        model.model.decoder.layers[0].encoder_attn.out_proj.weight *= 60
    model.generation_config = GenerationConfig(
        **ends,
        **begin,
        is_multilingual=True,
        lang_to_id={name: ids[name] for name in ("<|en|>", "<|de|>")},
        task_to_id={name: ids[f"<|{name}|>"] for name in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        prev_sot_token_id=ids["<|startofprev|>"],
        max_initial_timestamp_index=50,
        return_timestamps=True,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        max_length=48,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("whisper"))


def row(folder: Path, **changes: Any) -> Speech:
    return Speech(name="speech", model=str(folder), **{"device": "cpu", "no_speech_above": 1.0, **changes})


def clip(name: str, seconds: float, level: float = 0.1) -> Example:
    noise = np.random.default_rng(len(name)).normal(0, level, round(seconds * RATE))
    return Example(name, noise.astype(np.float32))


def heard(handler: Speech, *clips: Example) -> list[tuple[Item, ...]]:
    return handler.predict(clips, handler.load())


def test_a_clip_gets_silence_language_and_segments_within_its_length(folder: Path) -> None:
    items = heard(row(folder), clip("a", 10.0))[0]
    assert items[0].text == "no speech"
    assert items[1].text in ("language en", "language de")
    assert len(items) > 2
    for item in items[2:]:
        assert item.score is not None
        assert item.start_s is not None
        assert item.end_s is not None
        assert 0 <= item.start_s < item.end_s <= 10.0
        assert 0 < item.score <= 1


def test_segments_are_those_that_transformers_reads_from_the_same_tokens(folder: Path) -> None:
    handler = row(folder, language="en")
    model, example = handler.load(), clip("a", 29.0)
    features = model.processor.feature_extractor([example.view], sampling_rate=RATE, return_tensors="pt").input_features
    tokens = model.model.generate(
        features, language="en", task="transcribe", return_timestamps=True, force_unique_generate_call=True
    )
    read = model.processor.tokenizer.decode(tokens[0], output_offsets=True)["offsets"]
    wanted = [(part["text"], *map(float, part["timestamp"])) for part in read if part["timestamp"][1] <= 29.0]
    assert len(wanted) > 2
    said = [(item.text, item.start_s, item.end_s) for item in handler.predict([example], model)[0][2:]]
    for one, other in zip(said, wanted, strict=False):  # `said` has one more, cut off where the clip ends
        assert one[0] == other[0]
        assert one[1:] == pytest.approx(other[1:])
    assert len(said) == len(wanted) + 1


def test_results_do_not_hang_on_the_rest_of_the_batch(folder: Path) -> None:
    clips = (clip("a", 10.0), clip("bb", 4.0), clip("ccc", 33.0))
    alone = [heard(row(folder), one)[0] for one in clips]
    for size in (1, 2, 8):
        together = heard(row(folder, batch_size=size), *clips)
        assert [[item.text for item in items] for items in together] == [[item.text for item in one] for one in alone]
        for items, one in zip(together, alone, strict=True):
            assert np.allclose([item.score for item in items], [item.score for item in one], atol=1e-3)


def test_what_is_longer_than_a_window_is_heard_to_its_end(folder: Path) -> None:
    items = heard(row(folder), clip("long", 65.0))[0]
    starts = [item.start_s for item in items[2:]]
    assert starts == sorted(starts)  # type: ignore[type-var]
    assert any(start is not None and start >= 60 for start in starts)


def test_of_silence_nothing_is_believed(folder: Path) -> None:
    (items,) = heard(row(folder), clip("quiet", 10.0, level=0.0))
    assert [item.text for item in items] == ["no speech"]


def test_a_language_may_be_given_and_is_certain_then(folder: Path) -> None:
    assert heard(row(folder, language="de"), clip("a", 10.0))[0][1] == Item("language de", 1.0)
    with pytest.raises(ModelError, match="does not know the language 'xx'"):
        row(folder, language="xx").load()


def test_one_bad_clip_fails_alone(folder: Path) -> None:
    handler = row(folder)
    broken = Example("bad", np.full(RATE, np.nan, np.float32))
    found = handler.run_inference(
        [clip("a", 3.0), broken, Example("none", np.zeros(0, np.float32))], Loaded.of(handler.load())
    )
    assert [bool(prediction.error) for prediction in found] == [False, True, True]


def test_a_model_without_time_stamps_says_what_lacks(folder: Path, tmp_path: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(folder)
    model.generation_config = GenerationConfig(decoder_start_token_id=257, eos_token_id=256)
    model.save_pretrained(tmp_path)
    WhisperProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="time stamps"):
        row(tmp_path).load()


def test_the_fingerprint_follows_language_and_limit(folder: Path) -> None:
    prints = {row(folder).fingerprint(), row(folder, language="de").fingerprint()}
    assert len(prints | {row(folder, no_speech_above=0.5).fingerprint()}) == 3
    assert row(folder, batch_size=2).fingerprint() in prints


def test_a_limit_that_is_no_probability_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="no_speech_above"):
        row(folder, no_speech_above=1.5)
