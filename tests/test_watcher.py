"""The demo's video language model: what it is asked, and what it begins as."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Blip2ForConditionalGeneration, Idefics3Processor

from beam_pipeline.config import load_profile
from demo import training
from demo.drawing import render_frame
from demo.films import EVERY_S, FACTS, FRAMES, GRID, SHORT_SIDE, SIDE, TIMES_S, glimpsed
from demo.occasions import KINDS, make_occasion
from demo.watcher import (
    END,
    EYES,
    LOUD,
    MOST_TOKENS,
    QUESTION,
    WIDTH,
    attend,
    dialogue,
    directions,
    make_model,
    make_processor,
    seen,
)
from model_handlers.chat import Chat
from model_handlers.views import MomentsView

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def processor() -> Idefics3Processor:
    return make_processor()


def test_every_word_of_question_and_answers_is_known(processor: Idefics3Processor) -> None:
    answers = [
        glimpsed(make_occasion(training.TRAINING_SEED, index, kind), TIMES_S) for kind in KINDS for index in range(40)
    ]
    tokens, asked = dialogue(answers, TIMES_S, processor)
    assert processor.tokenizer.unk_token_id not in tokens
    assert asked == 1 + 5 * FRAMES + len(QUESTION.split()) + 2  # a time, a frame and three marks around it
    assert tokens.shape[1] - asked <= MOST_TOKENS
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
        given = seen(model, model.model.vision_model(inputs["pixel_values"][0]).last_hidden_state)[None]
        hidden, middle = attend(model, tokens, given)
        inputs = inputs | {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        theirs = loaded.model(**inputs).logits
        assert torch.allclose(model.lm_head(hidden), theirs, atol=1e-4)
    assert middle.shape == (*tokens.shape, WIDTH)
    assert processor.tokenizer.decode(tokens[0, asked:]) == f"{answer} {END}"


def test_the_eyes_begin_as_those_of_the_captioner(processor: Idefics3Processor) -> None:
    ours = make_model(processor.tokenizer).model.vision_model.eval()
    theirs = Blip2ForConditionalGeneration.from_pretrained(EYES).vision_model.eval()
    pixels = torch.randn(2, 3, SIDE // 2, SIDE // 2)
    twice = pixels.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.inference_mode():
        looked = theirs.embeddings(pixels)[:, 1:]
        assert torch.allclose(ours.embeddings(twice, torch.ones(2, GRID, GRID, dtype=torch.bool)), looked, atol=1e-5)
        for layer in theirs.encoder.layers:
            looked = layer(looked)
        assert torch.allclose(ours(twice).last_hidden_state, theirs.post_layernorm(looked), atol=1e-3)


def test_facts_can_be_read_off_a_token() -> None:
    facts = torch.rand(5, FACTS)
    assert torch.allclose(facts @ directions() @ directions().T / LOUD**2, facts, atol=1e-5)


def test_the_demo_asks_as_it_was_trained() -> None:
    row = next(one for one in load_profile("fusion_audio_demo").handlers() if one.name == "video")
    assert isinstance(row, Chat)
    asked = (row.question, row.every_s, row.most_frames, row.short_side, row.max_new_tokens)
    assert asked == (QUESTION, EVERY_S, FRAMES, SHORT_SIDE, MOST_TOKENS)
