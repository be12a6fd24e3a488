"""Text in cues that wants to be obeyed: it cannot forge a prompt, and an answer that obeyed it does not pass."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import replace

import pytest

from model_handlers.base import Item
from model_handlers.llm import MOST_LETTERS, harmless, load_prompt, read_answer, shown_cues
from model_handlers.writers import Attempt, Brief, SoundEvent
from tests.injections import HIDDEN, INJECTIONS, LIKE_CAPTIONS
from transforms.checks import NAMES, Checks, Subject, complaint

HEADINGS = {"labels": "what the dataset says", "speech": "what is said", "audio_tags": "what is heard"}
TAGS = (Item("Dog", 0.91), Item("Bark", 0.8))
STRICT = Checks(boilerplate=0)
EVENTS = (SoundEvent("a dog barks", ("audio_tags",)),)
# What chat templates and models' tokenisers take for the ends of messages and for roles.
SPECIAL = ("<", ">", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]")
NAMED = pytest.mark.parametrize("text", INJECTIONS, ids=lambda text: ascii(text[:30]))


def brief(text: str) -> Brief:
    return Brief("clip", {"labels": (Item(text),), "speech": (Item(text, None, 0.0, 2.0),), "audio_tags": TAGS})


def test_there_are_many_and_each_is_there_once() -> None:
    assert len(INJECTIONS) >= 40
    assert len(set(INJECTIONS)) == len(INJECTIONS)


@NAMED
def test_in_the_prompt_it_stays_one_string_of_its_own_cue(text: str) -> None:
    shown = shown_cues(brief(text), HEADINGS)
    first, *lines, last = shown.split("\n")
    assert (first, last) == ("<cues>", "</cues>")
    assert shown.count("<") == shown.count(">") == 2
    rows = [json.loads(line) for line in lines]
    assert [row["cue"] for row in rows] == ["labels", "speech", "audio_tags"]
    assert [row["is"] for row in rows] == [HEADINGS[row["cue"]] for row in rows]
    assert rows[2]["says"] == [{"text": "Dog", "confidence": 0.91}, {"text": "Bark", "confidence": 0.8}]
    for row, keys in zip(rows[:2], ({"text"}, {"text", "seconds"}), strict=True):
        (item,) = row["says"]
        assert set(item) == keys
        assert item["text"] == harmless(text)


@NAMED
def test_what_is_shown_of_it_is_short_and_hides_nothing(text: str) -> None:
    shown = harmless(text)
    assert len(shown) <= MOST_LETTERS
    assert not [letter for letter in shown if unicodedata.category(letter)[0] == "C" or letter in "\u2028\u2029"]
    # Tokenisers that put text into compatibility form first must not find a mark there either.
    for special in SPECIAL:
        assert special not in unicodedata.normalize("NFKC", shown)
    assert not [letter for letter in shown if 0xFE00 <= ord(letter) <= 0xFE0F or 0xE0100 <= ord(letter) <= 0xE01EF]


@NAMED
def test_it_adds_no_message_to_the_conversation(text: str) -> None:
    """Neither as a cue, nor as an answer that has to be written again, nor by way of the complaint about it."""
    subject = Subject("clip", text, EVENTS, brief(text).cues)
    _, wrong = complaint(subject, STRICT) or ("", "")
    asked = replace(brief(text), attempts=(Attempt(text, "markup", wrong), Attempt(text, "markup", wrong)))
    messages = load_prompt("auto_acd-1").conversation(asked, HEADINGS)
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[0] == load_prompt("auto_acd-1").conversation(Brief("clip", {}), {})[0]
    for message in messages[2:]:
        content = unicodedata.normalize("NFKC", message["content"])
        assert not [special for special in SPECIAL if special in content]


@NAMED
def test_a_model_that_answers_with_it_has_not_answered(text: str) -> None:
    draft = read_answer(text)
    if draft.unreadable:
        assert not draft.caption
    else:  # a whole answer of its own: one without events, so it rests on nothing
        subject = Subject("clip", draft.caption, draft.events, {"audio_tags": TAGS})
        assert complaint(subject, STRICT)


@NAMED
def test_a_model_that_writes_it_as_its_caption_is_refused(text: str) -> None:
    """Whether it passed through `read_answer`, which leaves hidden characters out, or not."""
    answer = json.dumps(
        {"caption": text, "events": [{"sound": "a dog barks", "cues": ["audio_tags"]}], "abstained": ""}
    )
    draft = read_answer(answer)
    for caption in (text, text if text in HIDDEN else draft.caption or text):
        found = complaint(Subject("clip", caption, EVENTS, {"audio_tags": TAGS}), STRICT)
        assert found is not None, caption
        assert found[0] in NAMES
        assert len(found[1]) < 250
        assert "\n" not in found[1]


@pytest.mark.parametrize(("text", "left"), HIDDEN.items(), ids=lambda text: ascii(text[:30]))
def test_hidden_characters_are_left_out_of_an_answer(text: str, left: str) -> None:
    draft = read_answer(json.dumps({"caption": text, "events": [], "abstained": ""}))
    assert draft.unreadable or draft.caption == left


@NAMED
def test_an_event_that_is_it_is_refused(text: str) -> None:
    caption = "Rain drips from a roof."
    cues = brief(text).cues
    for event in (
        SoundEvent("a dog barks", (text,)),
        SoundEvent(text, ("speech",)),
        SoundEvent(text, (text,)),
    ):
        found = complaint(Subject("clip", caption, (event,), cues), STRICT)
        assert found is not None
        assert found[0] == "unsupported"


@pytest.mark.parametrize("text", LIKE_CAPTIONS)
def test_what_reads_like_a_caption_is_refused_where_no_other_cue_bears_it_out(text: str) -> None:
    assert complaint(Subject("clip", text, EVENTS, {"audio_tags": TAGS}), STRICT) is None
    said = Subject("clip", text, (SoundEvent(text, ("speech",)),), {"speech": (Item(text),), "audio_tags": TAGS})
    found = complaint(said, STRICT)
    assert found is not None
    assert found[0] in {"unsupported", "quoted_speech"}
