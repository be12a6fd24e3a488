"""How a speech recogniser's tokens are read, and which of its sentences are believed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model_handlers.base import Item
from model_handlers.transcript import CREDITS, RATE, Heard, Segment, doubt, later, segments, to_items

FIRST, END = 1000, 900  # the time stamp 0.00, and the token that ends; words are below
WORDS = {1: " A", 2: " dog", 3: " barks", 4: " ", 5: " Again"}


def stamp(seconds: float) -> int:
    return FIRST + round(seconds / 0.02)


def read(*tokens: int, length_s: float = 10.0) -> list[tuple[str, float, float]]:
    found = segments(tokens, [-0.5] * len(tokens), FIRST, END, lambda some: "".join(map(WORDS.get, some)), length_s)  # type: ignore[arg-type]
    return [(s.text, round(s.start_s, 2), round(s.end_s, 2)) for s in found]


def noise(seconds: float = 10.0, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, round(seconds * RATE)).astype(np.float32)


def test_words_between_time_stamps_are_segments() -> None:
    tokens = (stamp(0.5), 1, 2, 3, stamp(2.0), stamp(3.0), 5, stamp(3.5), END, 7, 7)
    assert read(*tokens) == [("A dog barks", 0.5, 2.0), ("Again", 3.0, 3.5)]


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        ((), []),
        ((END,), []),
        ((stamp(0.0), END), []),
        ((1, 2, END), [("A dog", 0.0, 10.0)]),  # no time stamp at all
        ((stamp(2.0), 1, 2), [("A dog", 2.0, 10.0)]),  # cut off
        ((stamp(2.0), 1, stamp(29.0)), [("A", 2.0, 10.0)]),  # beyond the window's sound
        ((stamp(4.0), 1, stamp(3.0), 2, stamp(5.0)), [("dog", 3.0, 5.0)]),  # backwards: that segment lasts no time
        ((stamp(1.0), 4, stamp(2.0), END), []),  # spaces
        ((stamp(1.0), 1, 950, 2, stamp(2.0), END), [("A dog", 1.0, 2.0)]),  # a special token among the words
    ],
)
def test_whatever_is_written_is_read_and_stays_within_the_sound(tokens: tuple[int, ...], found: list) -> None:
    assert read(*tokens) == found


def test_a_segment_s_probability_is_that_of_its_words() -> None:
    (found,) = segments((stamp(1.0), 1, 2, stamp(2.0)), (-9.0, -1.0, -2.0, -9.0), FIRST, END, lambda _: "A dog", 10.0)
    assert found.log_probability == -1.5


def test_a_later_window_is_heard_later() -> None:
    heard = Heard(0.1, "en", 0.9, (Segment("Hello.", 1.0, 2.0, -0.1),))
    assert later(heard, 30.0).said == (Segment("Hello.", 31.0, 32.0, -0.1),)


@pytest.mark.parametrize(
    "said",
    [
        *("Thank you.", "Thanks for watching!", "you", "Don't forget to subscribe!", "ご視聴ありがとうございました"),
        *("Thank you. Thank you.", "Thank you for watching. Please subscribe to my channel."),
        *("Thanks for watching, bye bye!", "I'll see you in the next video.", "Untertitelung. BR 2018"),
    ],
)
def test_what_is_written_of_silence_is_not_believed_where_nobody_may_be_speaking(said: str) -> None:
    segment = Segment(said, 0.0, 2.0, -0.1)
    assert doubt(segment, 0.3, noise(), 0.6) == "nobody may be speaking, and that is what the model writes then"
    assert doubt(segment, 0.02, noise(), 0.6) == "", "somebody may well say it"


def test_a_sentence_that_is_none_of_them_makes_all_of_it_believed() -> None:
    assert doubt(Segment("Thank you. The door is open.", 0.0, 2.0, -0.1), 0.3, noise(), 0.6) == ""


@pytest.mark.parametrize(
    ("written", "said"),
    [
        *(("[Music]", ""), ("(upbeat music)", ""), ("*laughs*", ""), ("♪ la la la ♪", ""), ("♪", ""), ("【音楽】", "")),
        ("[Applause] Good evening (cheering) everybody.", "Good evening everybody."),
        ("It is 5 * 4.", "It is 5 * 4."),
    ],
)
def test_what_is_written_of_other_sounds_is_no_speech(written: str, said: str) -> None:
    found = segments([5], [-0.1], 100, 50, lambda tokens: written, 3.0)
    assert [one.text for one in found] == ([said] if said else [])


def test_known_sentences_are_in_the_form_that_they_are_compared_in() -> None:
    assert len(CREDITS) > 40
    for said in CREDITS:
        assert doubt(Segment(said, 0.0, 2.0, -0.1), 0.5, noise(), 0.6), said


@pytest.mark.parametrize(
    ("segment", "no_speech", "level", "why"),
    [
        (Segment("A dog barks.", 1.0, 3.0, -0.2), 0.1, 0.1, ""),
        (Segment("A dog barks.", 1.0, 3.0, -1.2), 0.7, 0.1, "unsure"),
        (Segment("A dog barks.", 1.0, 3.0, -0.2), 0.7, 0.1, ""),
        (Segment("A dog barks.", 1.0, 3.0, -1.2), 0.5, 0.1, ""),
        (Segment("A dog barks.", 1.0, 3.0, -0.2), 0.1, 0.0, "nothing can be heard"),
        (Segment("A dog barks.", 1.0, 3.0, -0.2), 0.1, 1e-3, "nothing can be heard"),  # -60 dB
        (Segment("... !", 1.0, 3.0, -0.2), 0.1, 0.1, "no word"),
        (Segment("la la la " * 20, 1.0, 3.0, -0.2), 0.1, 0.1, "repeats itself"),
        (Segment("la la la", 1.0, 3.0, -0.2), 0.1, 0.1, ""),
    ],
)
def test_who_is_believed(segment: Segment, no_speech: float, level: float, why: str) -> None:
    found = doubt(segment, no_speech, noise(level=level), 0.6)
    assert why in found
    assert bool(found) == bool(why)


def test_half_precision_that_overflowed_is_no_answer() -> None:
    with pytest.raises(FloatingPointError):
        doubt(Segment("A dog.", 0.0, 1.0, math.nan), 0.1, noise(), 0.6)


def test_the_items_of_a_clip_are_silence_language_and_segments() -> None:
    first = Heard(0.2, "en", 0.9, (Segment("Hello there, dog.", 1.0, 2.0, -0.1), Segment("you", 4.0, 5.0, -0.1)))
    second = later(Heard(0.05, "de", 0.7, (Segment("Ja.", 0.5, 1.0, -0.2),)), 30.0)
    assert to_items((first, second), noise(40.0), 0.6) == (
        Item("no speech", 0.05),
        Item("language en", 0.9),
        Item("Hello there, dog.", 0.9048, 1.0, 2.0),
        Item("Ja.", 0.8187, 30.5, 31.0),
    )


def test_where_nobody_is_believed_only_that_is_said() -> None:
    assert to_items((Heard(0.93, "en", 0.4, (Segment("you", 0.0, 2.0, -2.0),)),), noise(), 0.6) == (
        Item("no speech", 0.93),
    )
