"""What the demo's video language model learns from, and how it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.progress import Progress
from transformers import Blip2ForConditionalGeneration, Idefics3Processor

from demo import training
from demo.drawing import render_frame
from demo.films import FRAMES, SHORT_SIDE, THINGS, TIMES_S, Films, draw_films, glimpsed, normalise, story
from demo.occasions import KINDS, make_occasion, watched
from demo.scenes import PLACES, drawn, image_caption
from demo.train_video import (
    END,
    EYES,
    QUESTION,
    codes,
    dialogue,
    listen,
    make_model,
    make_processor,
    measure,
    moves,
    seen,
    speak,
    things,
    tokens_of,
)
from model_handlers.chat import Chat
from model_handlers.views import MomentsView

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def processor() -> Idefics3Processor:
    return make_processor()


@pytest.fixture(scope="module")
def films(processor: Idefics3Processor) -> Iterator[Films]:
    with Progress(disable=True) as bar:
        yield draw_films(3, 4, processor.image_processor, bar)


def test_films_hold_what_is_said_of_them(films: Films, processor: Idefics3Processor) -> None:
    for number, occasion in enumerate(films.occasions):
        assert occasion == make_occasion(training.TRAINING_SEED, 3 + number)
        assert {THINGS[n] for n in films.things[number].nonzero().flatten()} == set(drawn(occasion))
        assert list(PLACES)[films.places[number]] == occasion.place
        assert set(films.owner[films.frames[number]].tolist()) == {number}
        moving = films.moving[films.frames[number]].numpy()
        firsts = {THINGS[n]: int(TIMES_S[column.argmax()]) for n, column in enumerate(moving.T) if column.any()}
        assert story(occasion, moving) == glimpsed(occasion, TIMES_S)
        assert sorted(moves(glimpsed(occasion, TIMES_S)).values()) == sorted(firsts.values())
        frame = Image.fromarray(render_frame(occasion, 7.75)).resize((128, 96), Image.Resampling.BILINEAR)
        given = processor.image_processor([frame], return_tensors="pt")["pixel_values"][0]
        kept = normalise(films.pixels[films.frames[number, 31]] / 255, processor.image_processor)
        assert float((kept - given).abs().mean()) < 0.01  # what rounding to whole levels leaves


def test_what_falls_between_two_frames_is_not_told() -> None:
    occasion = make_occasion(training.TRAINING_SEED, 0, "alone")
    seldom = replace(occasion, sources=("dog",), events=((1.15, 3.45),))  # a dog moves for 0.28 s
    assert watched(seldom).endswith("; 00:01 the dog moves")
    assert glimpsed(seldom, np.arange(40) / 4).endswith("; 00:01 the dog moves")
    assert glimpsed(seldom, np.arange(20) / 2).endswith("; 00:03 the dog moves")
    assert glimpsed(seldom, np.arange(10.0)) == f"00:00 {image_caption(seldom)}"


def test_every_word_of_question_and_answers_is_known(processor: Idefics3Processor) -> None:
    answers = [watched(make_occasion(training.TRAINING_SEED, index, kind)) for kind in KINDS for index in range(40)]
    tokens, asked = dialogue(answers, TIMES_S, processor)
    assert processor.tokenizer.unk_token_id not in tokens
    assert asked == 1 + 5 * FRAMES + len(QUESTION.split()) + 2  # a time, a frame and three marks around it
    for row, answer in zip(tokens, answers, strict=True):
        assert processor.tokenizer.decode(row[asked:], skip_special_tokens=True) == answer


def test_training_asks_as_the_handler_does(tmp_path: Path, processor: Idefics3Processor) -> None:
    model = make_model(processor.tokenizer).eval()
    training.save_pretrained(tmp_path, model, processor)
    handler = Chat(
        name="video", model=str(tmp_path), sees="video", question=QUESTION, short_side=SHORT_SIDE, device="cpu"
    )
    loaded = handler.load()
    occasion = make_occasion(training.TRAINING_SEED, 1)
    frames = np.stack([render_frame(occasion, at_s, 128, 96) for at_s in TIMES_S[:6]])
    inputs = handler._inputs(loaded, [MomentsView(frames, TIMES_S[:6])])
    answer = glimpsed(occasion, TIMES_S[:6])
    tokens, asked = dialogue([answer], TIMES_S[:6], processor)
    assert torch.equal(tokens[:, :asked], inputs["input_ids"])
    with torch.inference_mode():
        given = seen(model, inputs["pixel_values"][0])[None]
        hidden, halfway = listen(model, tokens, given)
        inputs = inputs | {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        theirs = loaded.model(**inputs).logits
        assert torch.allclose(model.lm_head(hidden), theirs, atol=1e-4)
    assert halfway.shape == (1, 6, model.config.text_config.hidden_size)
    assert processor.tokenizer.decode(tokens[0, asked:]) == f"{answer} {END}"


def test_the_eyes_are_those_of_the_captioner(processor: Idefics3Processor) -> None:
    ours = make_model(processor.tokenizer).model.vision_model.eval()
    theirs = Blip2ForConditionalGeneration.from_pretrained(EYES).vision_model.eval()
    pixels = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        seen = theirs.embeddings(pixels)[:, 1:]
        assert torch.allclose(ours.embeddings(pixels, torch.ones(2, 8, 8, dtype=torch.bool)), seen, atol=1e-6)
        for layer in theirs.encoder.layers:
            seen = layer(seen)
        assert torch.allclose(ours(pixels).last_hidden_state, theirs.post_layernorm(seen), atol=1e-4)


def test_the_eyes_tokens_come_as_near_to_the_codes_as_they_can(films: Films, processor: Idefics3Processor) -> None:
    torch.manual_seed(0)
    model = make_model(processor.tokenizer).eval()
    wanted = codes(films)
    same = (films.owner == films.owner[0]) & (films.moving == films.moving[0]).all(1)
    assert torch.allclose(wanted[same], wanted[0])  # pictures of which the same is true
    with Progress(disable=True) as bar:
        before = (tokens_of(model, films, processor, bar) - wanted).square().mean()
        speak(model, films, processor, bar)
        after = (tokens_of(model, films, processor, bar) - wanted).square().mean()
    assert after < 0.5 * before


def test_answers_are_read_thing_by_thing() -> None:
    said = "00:00 a car, a person and a flute at a train station; 00:01 the flute moves; 00:07 the car moves"
    assert things(said) == {"car", "person", "flute"}
    assert moves(said) == {"flute": 1, "car": 7}
    assert things("00:00 a pair of hands on a beach") == {"hands"}
    assert moves("00:00 a pair of hands on a beach; 00:02 the pair of hands moves") == {"pair of hands": 2}


def test_figures_count_places_things_and_seconds() -> None:
    true = "00:00 a bell and a dog in a cave; 00:01 the bell moves; 00:03 the dog moves"
    early = "00:00 a bell and a dog in a cave; 00:00 the bell moves; 00:01 the dog moves"
    found = [
        (true, true, early, "cave"),
        ("00:00 a bell on a farm; 00:01 the bell moves; 00:02 the cat moves", true, early, "cave"),
    ]
    assert measure(found) == {
        "exact": 0.5,
        "place_right": 0.5,
        "things_right": 0.5,
        "moves_right": 0.75,
        "moves_invented": 0.25,
        "moves_within_1s": 0.5,
    }
