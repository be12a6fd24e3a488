"""What the demo's audio language model learns from, and how it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress
from transformers import Qwen2AudioProcessor

from demo import training
from demo.mixtures import FRAMES, RATE, SOUNDS, TOKEN_S, Sounds, gather, make_clip, make_extractor, perform
from demo.music import INSTRUMENTS
from demo.occasions import APART_S, MUSIC, make_occasion
from demo.scenes import PLACES
from demo.spectrograms import mel_power, unpacked
from demo.train_listener import (
    HEARD,
    PIECE,
    PLAYED,
    TEMPLATE,
    WHERE,
    WORDS,
    answer_loss,
    dialogue,
    held_out_music,
    make_model,
    make_tokenizer,
    measure_sounds,
    mix,
    named,
    parts,
)
from demo.train_speech import held_out_occasions
from demo.world import write_clip
from model_handlers.chat import Chat
from model_handlers.views import Audio
from transforms.media import Limits, decode

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sounds() -> Iterator[Sounds]:
    with Progress(disable=True) as bar:
        yield gather(1, 2, 3, bar)


def test_clips_hold_what_is_said_of_them(sounds: Sounds) -> None:
    rng = np.random.default_rng(0)
    clips = [make_clip(sounds, rng) for _ in range(40)]
    for clip in clips:
        assert clip.power.shape == (128, FRAMES)
        assert {SOUNDS[n] for n in clip.active.any(0).nonzero().flatten()} == {one.name for one in clip.soundings}
        assert (clip.piece is not None) == (MUSIC in {one.name for one in clip.soundings})
        starts = [one.start_s for one in clip.soundings]
        assert all(after - before >= APART_S for before, after in pairwise(starts))
    assert len({one.name for clip in clips for one in clip.soundings}) > 8


def test_training_hears_music_as_a_run_does(tmp_path: Path) -> None:
    power, music, start, end = next(one for one in map(perform, range(100)) if one[1].instruments == ("flute",))
    occasion = replace(make_occasion(1, 0, "music"), piece=music, piece_s=(start, end))
    write_clip(occasion, tmp_path / "clip.mp4")
    audio = decode(tmp_path / "clip.mp4", 0.0, None, Audio(RATE), Limits())
    decoded = mel_power(audio, make_extractor()).mean(1)
    louder = (decoded / unpacked(torch.from_numpy(power)).mean(1)).log10()
    breath = louder[96:120].mean() - louder.median()  # 4 to 7 kHz, where a flute has nothing else
    assert abs(float(breath)) < 0.2


def test_who_plays_is_known_frame_by_frame(sounds: Sounds) -> None:
    for piece in sounds.pieces:
        assert (piece.held >= piece.notes).all()
        assert not piece.held[: int(piece.start_s / TOKEN_S)].any()
        assert {list(INSTRUMENTS)[n] for n in piece.held.any(0).nonzero().flatten()} == set(piece.music.instruments)
    assert sum(piece.held.sum() for piece in sounds.pieces) > sum(piece.notes.sum() for piece in sounds.pieces)


def test_several_processes_play_the_same_pieces(sounds: Sounds) -> None:
    with Progress(disable=True) as bar:
        again = gather(1, 1, 3, bar, processes=2)
    assert [one.music for one in again.pieces] == [one.music for one in sounds.pieces]
    assert all(torch.equal(one.power, other.power) for one, other in zip(again.pieces, sounds.pieces, strict=True))


def test_training_asks_as_the_handler_does(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(WORDS)
    Qwen2AudioProcessor(make_extractor(), tokenizer, chat_template=TEMPLATE).save_pretrained(tmp_path)
    model = make_model(tokenizer).eval()
    training.save_pretrained(tmp_path, model)
    loaded = Chat(name="sound", model=str(tmp_path), sees="audio", question=HEARD, device="cpu").load()
    answer = "a dog barks, then a bell rings"
    tokens = dialogue(HEARD, [answer], tokenizer)
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    inputs = loaded.processor(
        text=[f"{loaded.prompt} {answer}<|im_end|>"],
        audio=[noise],
        return_tensors="pt",
        text_kwargs={"padding": True},
        audio_kwargs={"sampling_rate": 16_000},
    )
    with torch.inference_mode():
        encoded = model.model.audio_tower(inputs["input_features"]).last_hidden_state
        logits = model(**inputs).logits[0]
        count = len(tokenizer(f" {answer}<|im_end|>")["input_ids"])
        own = torch.nn.functional.cross_entropy(logits[-count - 1 : -1], inputs["input_ids"][0, -count:])
        assert answer_loss(model, encoded, tokens) == pytest.approx(float(own), abs=1e-4)


def test_a_batch_has_an_answer_on_music_for_each_clip_with_music_and_one_on_the_place_for_each(sounds: Sounds) -> None:
    tokenizer = make_tokenizer(WORDS)
    batch = mix(sounds, 12, tokenizer, np.random.default_rng(3))
    assert len(batch.music) == len(batch.pieces) == len(batch.playing) > 0
    assert len(batch.sounds) == len(batch.where) == len(batch.places) == 12
    for row, place in zip(batch.where, batch.places, strict=True):
        phrase = list(PLACES.values())[int(place)].phrase
        assert f"{WHERE}<|im_end|><|im_start|> {phrase}<|im_end|>" in tokenizer.decode(row)
    for row, piece in zip(batch.music, batch.pieces, strict=True):
        text = tokenizer.decode(row)
        assert f"{PLAYED}<|im_end|>" in text
        assert f" {piece.music.described()}<|im_end|>" in text


def test_every_word_of_an_answer_is_one_token() -> None:
    tokenizer = make_tokenizer(WORDS)
    assert len(tokenizer(" a door is knocked on, then a pair of hands claps")["input_ids"]) == 12
    assert len(tokenizer(f" {PIECE}")["input_ids"]) == 17  # eight words, two of them pairs, and what stands between


def test_descriptions_of_music_are_read_part_by_part() -> None:
    said = parts(PIECE)
    assert said == {"genre": "waltz", "instruments": "flute, piano", "tempo": "fast", "mood": "cheerful"}
    assert parts("music") == {"music": ""}


def test_music_is_measured_on_clips_of_worlds_of_their_own() -> None:
    clips = held_out_music(100)
    assert all(one.piece for one in clips)
    assert [len(one.heard()) for one in clips[:4]] == [1, 2, 1, 2]
    assert len({one.clip_id for one in (*clips, *held_out_occasions(200))}) == 300


def test_sounds_are_counted_as_named_invented_and_in_order() -> None:
    assert named("a dog barks, then a bell rings") == ["dog", "bell"]
    sequence = {"sound": "a dog barks, then a bell rings", "order": ["dog", "bell"]}
    both = {"sound": "a cat meows and music plays", "order": []}
    found = [
        ("a dog barks, then a bell rings", sequence),
        ("a bell rings, then a dog barks", sequence),
        ("a cat meows and a person speaks", both),
        ("a cat meows", both),
    ]
    assert measure_sounds(found) == {"exact": 0.25, "named": 0.75, "invented": 0.1429, "order": 0.5}
