"""From answers to captions: what is accepted, what is asked for again, and what ends without a caption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from model_handlers.base import Item
from model_handlers.writers import Attempt, Brief, Draft, SoundEvent
from tests.counted import FOLDER, CountedWriter, count
from transforms.answers import written
from transforms.caption import NOT_THE_FORM, UNREADABLE, Terms, WriteCaptions, brief, settle
from transforms.checks import Checks
from transforms.records import Caption, Clip, Cue, CueSheet, Failure, Rejection
from transforms.store import Store

CLIP = Clip("c1", "c1.mp4", 0.0, 10.0, origin="list.csv:1")
SHEET = CueSheet(
    CLIP,
    (
        Cue("c1", "audio_tags", "f", "m", (Item("Dog", 0.9),)),
        Cue("c1", "media", "f", "m", (Item("10 s"),)),
        Cue("c1", "image_caption", "f", "m", (), "no picture"),
    ),
)
TERMS = Terms("ApiWriter:f", ("audio_tags", "image_caption"), Checks(tries=3), True, "some-model", "auto_acd-1")
EVENTS = (SoundEvent("a dog barks", ("audio_tags",)),)
GOOD = Draft("A dog barks loudly nearby.", events=EVENTS, tokens_in=100, tokens_out=20, dollars=0.5)
LEAKY = replace(GOOD, caption="A dog barks with a probability of 0.9.", dollars=0.25)


def answered(*drafts: Draft, sheet: CueSheet = SHEET, terms: Terms = TERMS) -> CueSheet:
    """The sheet with these answers to what is asked of it, one after the other."""
    for draft in drafts:
        asked = settle(sheet, terms)
        assert isinstance(asked, Brief)
        sheet = replace(sheet, written=(*sheet.written, written(asked, draft, terms.writer)))
    return sheet


def test_the_writer_is_told_the_cues_that_it_needs_and_that_say_something() -> None:
    assert settle(SHEET, TERMS) == Brief("c1", {"audio_tags": (Item("Dog", 0.9),)}) == brief(SHEET, TERMS.needs)


def test_a_good_answer_is_the_caption_with_all_that_it_rests_on() -> None:
    caption = settle(answered(GOOD), TERMS)
    assert isinstance(caption, Caption)
    assert (caption.caption, caption.events, caption.attempts) == (GOOD.caption, EVENTS, ())
    assert (caption.writer, caption.model, caption.prompt) == ("ApiWriter:f", "some-model", "auto_acd-1")
    assert (caption.tokens_in, caption.tokens_out, caption.dollars) == (100, 20, 0.5)
    assert caption.cues == SHEET.cues


def test_an_answer_that_will_not_do_is_asked_for_again_with_the_reason() -> None:
    again = settle(answered(LEAKY), TERMS)
    assert isinstance(again, Brief)
    ((answer, check, complaint),) = [(a.answer, a.check, a.complaint) for a in again.attempts]
    assert (answer, check) == (LEAKY.caption, "numbers")
    assert complaint
    caption = settle(answered(LEAKY, GOOD), TERMS)
    assert isinstance(caption, Caption)
    assert caption.attempts == again.attempts
    assert (caption.tokens_in, caption.dollars) == (200, 0.75)  # what all attempts cost


def test_after_so_many_tries_the_clip_is_rejected_and_every_attempt_is_kept() -> None:
    rejection = settle(answered(LEAKY, Draft(unreadable="Sure!"), LEAKY), TERMS)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "caption_numbers"
    assert [a.check for a in rejection.attempts] == ["numbers", UNREADABLE, "numbers"]
    assert rejection.attempts[1] == Attempt("Sure!", UNREADABLE, NOT_THE_FORM)
    assert rejection.caption == LEAKY.caption
    assert rejection.dollars == 0.5


def test_a_writer_may_abstain_at_any_time() -> None:
    for drafts in ([], [LEAKY]):
        rejection = settle(answered(*drafts, Draft(abstained="nothing is sure")), TERMS)
        assert isinstance(rejection, Rejection)
        assert (rejection.reason, rejection.evidence) == ("no_caption", "nothing is sure")
        assert len(rejection.attempts) == len(drafts)


@pytest.mark.parametrize("retryable", [True, False])
def test_a_clip_that_gets_no_answer_fails(retryable: bool) -> None:
    failure = settle(answered(Draft(error="the server is down", retryable=retryable)), TERMS)
    assert failure == Failure(CLIP, "caption", "the server is down", retryable)


def test_a_changed_check_judges_the_stored_answers_and_asks_only_where_they_fail() -> None:
    sheet = answered(LEAKY, GOOD)
    lenient = replace(TERMS, checks=Checks(off=("numbers", "cue_speak")))
    caption = settle(sheet, lenient)
    assert isinstance(caption, Caption)
    assert caption.caption == LEAKY.caption
    strict = replace(TERMS, checks=Checks(least_words=6))
    asked = settle(sheet, strict)
    assert isinstance(asked, Brief)
    assert [a.check for a in asked.attempts] == ["numbers", "length"]


def test_answers_to_other_cues_or_of_another_writer_do_not_count() -> None:
    sheet = answered(GOOD)
    assert isinstance(settle(sheet, replace(TERMS, writer="ApiWriter:g")), Brief)
    changed = replace(sheet, cues=(Cue("c1", "audio_tags", "f", "m", (Item("Cat", 0.9),)),))
    assert isinstance(settle(changed, TERMS), Brief)


def test_what_another_gpu_rounds_otherwise_is_not_paid_for_again() -> None:
    def heard(dog: Item) -> CueSheet:
        return replace(answered(GOOD), cues=(Cue("c1", "audio_tags", "f", "m", (dog,)),))

    assert isinstance(settle(heard(Item("Dog", 0.9004)), TERMS), Caption)
    assert isinstance(settle(heard(Item("Dog", 0.91)), TERMS), Brief)


def test_a_writer_that_is_asked_three_times_loads_its_model_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    sheets = [replace(SHEET, clip=replace(CLIP, clip_id=f"c{number}")) for number in range(5)]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        refused = WriteCaptions(CountedWriter(scene=""), Checks(tries=3, least_words=30), Store(str(tmp_path / "data")))
        ended = pipeline | beam.Create(sheets) | refused
        reasons = ended["rejected"] | beam.Map(lambda rejection: f"{rejection.reason} {len(rejection.attempts)}")
        _ = reasons | beam.io.WriteToText(str(tmp_path / "reasons"), shard_name_template="")
    assert (tmp_path / "reasons").read_text().splitlines() == ["caption_length 3"] * 5
    assert (count("caption"), count("load")) == (15, 1)
