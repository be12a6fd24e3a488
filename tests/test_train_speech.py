"""What the demo's speech recogniser learns from, and how it is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from demo.occasions import make_occasion
from demo.speaking import Voice, say
from demo.spectrograms import mel_power, packed, unpacked, whisper_scale
from demo.train_speech import (
    FRAMES,
    IGNORED,
    RATE,
    SPECIAL,
    Sounds,
    make_extractor,
    make_model,
    make_tokenizer,
    make_utterance,
    mix,
    to_tokens,
    word_errors,
)
from demo.world import synthesise_audio
from model_handlers.base import Example
from model_handlers.speech import Speech

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ("please", "open", "the", "window", "win", "then")


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def test_powers_on_whispers_scale_are_what_its_extractor_makes() -> None:
    extractor, sound = make_extractor(), noise(10.0)
    sound[: 5 * RATE] *= 1e-3  # so that the floor of 80 dB is reached
    wanted = extractor(sound, sampling_rate=RATE, return_tensors="pt").input_features[0]
    assert torch.allclose(whisper_scale(mel_power(sound, extractor)), wanted, atol=1e-4)
    assert torch.allclose(whisper_scale(unpacked(packed(mel_power(sound, extractor)))), wanted, atol=2e-3)


def test_a_mixtures_powers_are_about_the_sum_of_its_sounds() -> None:
    extractor, one, other = make_extractor(), noise(10.0), 0.5 * noise(10.0, 1)
    together = mel_power(one + other, extractor).mean(1)
    apart = (mel_power(one, extractor) + mel_power(other, extractor)).mean(1)
    assert torch.allclose(together, apart, rtol=0.15)


def test_each_word_is_one_token_and_everything_else_can_be_spelt() -> None:
    tokenizer = make_tokenizer(WORDS)
    for text in (" please open the window", " win the window then"):
        tokens = tokenizer.encode(text, add_special_tokens=False)
        assert len(tokens) == len(text.split())
        assert tokenizer.decode(tokens) == text
    other = " Größe, thence?"
    assert tokenizer.decode(tokenizer.encode(other, add_special_tokens=False)) == other


def test_what_is_said_becomes_words_between_time_stamps_and_silence_a_token_of_its_own() -> None:
    tokenizer = make_tokenizer(WORDS)
    words = tuple(tokenizer.encode(" open the window", add_special_tokens=False))
    tokens, targets = to_tokens([[(1.04, words, 2.5)], []], tokenizer)
    start, english, _, transcribe, *_, silence, _ = tokenizer.convert_tokens_to_ids(list(SPECIAL[1:]))
    end = tokenizer.convert_tokens_to_ids(SPECIAL[0])
    first, last, nought = tokenizer.convert_tokens_to_ids(["<|1.00|>", "<|2.50|>", "<|0.00|>"])
    assert tokens[0].tolist() == [start, english, transcribe, first, *words, last]
    assert targets[0].tolist() == [english, transcribe, first, *words, last, end]
    assert targets[1].tolist() == [silence, transcribe, nought, end, *[IGNORED] * 4]


def test_utterances_keep_their_order_and_do_not_overlap() -> None:
    tokenizer, extractor = make_tokenizer(WORDS), make_extractor()
    spoken = [
        make_utterance(packed(mel_power(noise(2.0, n), extractor)), text.split(), tokenizer)
        for n, text in enumerate(("open the window", "please win"))
    ]
    sounds = Sounds(spoken, packed(mel_power(0.01 * noise(10.0), extractor))[None])
    batch = mix(sounds, 24, tokenizer, np.random.default_rng(0), (3,))
    assert batch.features.shape == (24, 80, FRAMES)
    numbers = {one.words for one in spoken}
    for frames in batch.frames:
        assert frames.ne(0).sum() == pytest.approx(3 * 50, abs=6)  # three utterances of 2 s, in frames of 40 ms
        heard = [int(token) for token in torch.unique_consecutive(frames[frames != 0])]
        for words in numbers:
            assert any(tuple(heard[at : at + len(words)]) == words for at in range(len(heard))) or words[0] not in heard
    crowded = mix(sounds, 4, tokenizer, np.random.default_rng(0), (9,))
    assert (crowded.frames != 0).sum(1).max() <= FRAMES // 2  # what has no room is left out


@pytest.mark.parametrize(
    ("said", "true", "errors"),
    [("a b c", "a b c", 0), ("", "a b c", 3), ("a c", "a b c", 1), ("a x b c", "a b d", 2), ("a b", "", 2)],
)
def test_word_errors_are_the_fewest_edits(said: str, true: str, errors: int) -> None:
    assert word_errors(said.split(), true.split()) == errors


def test_an_untrained_model_is_small_and_its_own_kind_of_whisper(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(WORDS)
    model = make_model(tokenizer)
    assert sum(weight.numel() for weight in model.parameters()) < 2e6  # 4 MB in half precision
    assert model.generation_config.lang_to_id == {"<|en|>": tokenizer.convert_tokens_to_ids("<|en|>")}


def test_every_process_numbers_the_words_alike() -> None:
    tokens = make_tokenizer(WORDS).encode(" please open the window", add_special_tokens=False)
    assert tokens == make_tokenizer(WORDS[::-1]).encode(" please open the window", add_special_tokens=False)
    code = "from demo.train_speech import make_tokenizer\n"
    code += f"print(make_tokenizer({WORDS!r}).encode(' please open the window', add_special_tokens=False))"
    said = subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True)
    assert said.stdout.decode().strip() == str(tokens)


def test_the_shipped_model_hears_what_is_said_in_all_of_a_long_clip() -> None:
    handler = Speech(name="speech", model="pkg://demo/models/speech", device="cpu")
    sound = 0.01 * noise(24.0)
    phrases = {2.0: "please open the window", 13.0: "the train leaves at nine"}
    for start_s, phrase in phrases.items():
        said = 0.5 * say(phrase, Voice("en"), RATE)
        sound[round(start_s * RATE) :][: len(said)] += said
    items = handler.predict([Example("long", sound)], handler.load())[0][2:]
    assert [item.text for item in items] == list(phrases.values())
    for item, start_s in zip(items, phrases, strict=True):
        assert item.start_s == pytest.approx(start_s, abs=1.0)


def test_the_shipped_model_writes_nothing_where_nobody_speaks() -> None:
    handler = Speech(name="speech", model="pkg://demo/models/speech", device="cpu")
    scenes = [make_occasion(4321, number, kind) for number, kind in enumerate(("alone", "music", "in sequence"))]
    examples = [Example(scene.clip_id, synthesise_audio(scene, RATE)) for scene in scenes]
    for (item, *said), scene in zip(handler.predict(examples, handler.load()), scenes, strict=True):
        assert not said, scene.kind
        assert item.text == "no speech"
        assert item.score is not None
        assert item.score > 0.5
