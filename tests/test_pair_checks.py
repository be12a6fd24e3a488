"""The checks on questions and answers: what each refuses, and what passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model_handlers.base import Item
from model_handlers.questions import KINDS, Question, Questions
from transforms import pair_checks
from transforms.checks import Checks
from transforms.pair_checks import Posed, complaint, for_pairs, sequence_wording

CUES = {
    "sound": (Item("a dog barks, then a bell rings", 0.9),),
    "audio_tags": (Item("Dog", 0.9), Item("Bell", 0.8), Item("Cat", 0.04)),
    "music": (Item("genre: waltz; instruments: flute, piano; tempo: fast; mood: cheerful", 0.9),),
    "speech": (Item("no speech", 0.02), Item("language en", 0.9), Item("open the old door now", 0.9, 1.0, 2.5)),
    "place": (Item("kitchen", 0.8), Item("office", 0.15)),
    "video": (Item("00:00 a duck in a kitchen; 00:03 the duck moves"),),
    "steps": (Item("a hammer strikes an anvil", 0.9, 0.5, 1.0), Item("a frog croaks", 0.8, 4.0, 5.0)),
    "strikes": (Item("a drum is struck three times", 0.9),),
}
CAPTION = "A dog barks, then a bell rings in a kitchen."
BOTH = ("audio_tags", "sound")


def pair(kind: str, question: str, answer: str, *choices: str, cues: tuple[str, ...] = BOTH) -> Question:
    return Question(kind, question, answer, choices, cues)


def posed(one: Question, wanted: Questions | None = None, **rules: Any) -> Posed:
    rules = {"sight": ("video", "place"), **rules}
    return Posed(one, "a clip", CAPTION, CUES, wanted or Questions(), for_pairs(Checks(**rules)))


GOOD = [
    pair("sound", "What can be heard?", "A dog barks, then a bell rings."),
    pair("sound", "Which of these can be heard?", "a dog", "a dog", "a sheep", "a car horn", "a saw"),
    pair("sound", "Does a dog bark?", "Yes, a dog barks."),
    pair("sound", "Is there a cat?", "No, there is no cat."),
    pair("source", "What rings?", "A bell."),
    pair("source", "What is it that rings after the barking?", "a bell", "a bell", "a phone", "an alarm", "a clock"),
    pair("count", "How many different sounds can be heard?", "two", "one", "two", "three", "four"),
    pair("count", "How many instruments are played?", "Two.", cues=("music",)),
    pair("count", "How many times is the drum struck?", "Three times.", cues=("strikes",)),
    pair("count", "How many times does somebody speak?", "once", cues=("speech",)),
    pair("order", "What can be heard first?", "A dog barks."),
    pair("order", "What follows the barking of the dog?", "A bell rings."),
    pair("order", "What is heard before the bell rings?", "A dog barks."),
    pair("order", "In which order are the sounds heard?", "A dog barks, then a bell rings."),
    pair("order", "Which comes last, the dog or the bell?", "the bell", "the bell", "the dog", "a cow", "a train"),
    pair("order", "What is heard after the hammer?", "a frog croaks", cues=("steps",)),
    pair("place", "Where does this take place?", "In a kitchen.", cues=("place",)),
    pair("place", "Where is it?", "in a kitchen", "in a kitchen", "on a beach", "in a cave", "at sea", cues=("place",)),
    pair("music", "What kind of music plays?", "A waltz.", cues=("music",)),
    pair("music", "Which instruments can be heard?", "A flute and a piano.", cues=("music",)),
    pair("music", "What is the mood of the music?", "Cheerful.", cues=("music",)),
    pair("music", "Is there any music?", "Yes, there is.", cues=("music",)),
    pair("speech", "Does anybody speak?", "Yes, somebody speaks.", cues=("speech",)),
    pair("speech", "Who can be heard besides the dog?", "A person who speaks.", cues=("speech", "sound")),
]

PLANTED: dict[str, list[Question]] = {
    "kind": [pair("colour", "What can be heard?", "A dog barks."), pair("", "What can be heard?", "A dog barks.")],
    "question": [
        pair("sound", "Say what can be heard.", "A dog barks."),
        pair("sound", "What can be heard? And when?", "A dog barks."),
        pair("sound", "What?", "A dog barks."),
        pair("sound", "?", "A dog barks."),
        pair("sound", "What " + "really " * 45 + "can be heard?", "A dog barks."),
        pair("speech", "What does the person say?", "To open the door.", cues=("speech",)),
        pair("speech", "What is being said about the door?", "That it opens.", cues=("speech",)),
        pair("speech", "Which language is spoken?", "English.", cues=("speech",)),
        pair("speech", "What are they talking about?", "A door.", cues=("speech",)),
    ],
    "answer": [
        pair("sound", "What can be heard?", ""),
        pair("sound", "What can be heard?", "Is it a dog that barks?"),
        pair("sound", "What can be heard?", "a dog barks " * 20),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a sheep", "", "a saw"),
    ],
    "choices": [
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a sheep", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a sheep", "sheep", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "A dog.", "a cow", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "the dog", "a sheep", "a cow", "a saw"),
    ],
    "cues": [
        pair("sound", "What can be heard?", "A dog barks.", cues=()),
        pair("sound", "What can be heard?", "A dog barks.", cues=("image_caption",)),
        pair("sound", "What quacks?", "A duck.", cues=("video",)),
        pair("source", "What makes the noise?", "A duck.", cues=("video", "place")),
    ],
    "count": [
        pair("count", "How many different sounds can be heard?", "three"),
        pair("count", "How many different sounds can be heard?", "a few"),
        pair("count", "How many times does the dog bark?", "four times"),
        pair("count", "How many times does the dog bark?", "once"),
        pair("count", "How many times is the drum struck?", "twice", cues=("strikes",)),
        pair("count", "How many ducks move?", "one", cues=("video", "sound")),
        pair("count", "How many people speak?", "two", cues=("speech",)),
    ],
    "order": [
        pair("order", "What can be heard first?", "A bell rings."),
        pair("order", "What can be heard last?", "A dog barks."),
        pair("order", "What follows the ringing of the bell?", "A dog barks."),
        pair("order", "What is heard before the dog barks?", "A bell rings."),
        pair("order", "In which order are the sounds heard?", "A bell rings, then a dog barks."),
        pair("order", "Does the dog bark before the bell rings?", "Yes, it does."),
        pair("order", "Which tag comes first?", "A dog.", cues=("audio_tags",)),
        pair("order", "What is heard after the frog?", "a hammer strikes an anvil", cues=("steps",)),
        pair("order", "What is heard after the hammer?", "a cow", cues=("steps",)),
    ],
    "place": [
        pair("place", "Where does this take place?", "In an office.", cues=("place",)),
        pair("place", "Where does this take place?", "Somewhere else.", cues=("place",)),
    ],
    "grounded": [
        pair("sound", "What can be heard?", "A cat meows and hisses."),
        pair("sound", "What can be heard?", "A large angry wolf howls."),
        pair("source", "What opens?", "A door.", cues=("speech",)),  # what is said is no evidence of a door
        pair("music", "What kind of music plays?", "A waltz.", cues=("audio_tags",)),
        pair("sound", "Does a sheep bleat?", "Yes, it does."),
        pair("sound", "Does a dog bark?", "No, it does not."),
        pair("speech", "Does anybody speak?", "No, nobody speaks.", cues=("speech",)),
        pair("speech", "Does anybody speak?", "Yes, somebody speaks.", cues=("sound",)),
        pair("sound", "Which faint sound is there?", "A cat."),  # its score says that there is none
    ],
    "given_away": [
        pair("sound", "Which animal can be heard, as a dog barks?", "A dog."),
        pair("source", "What makes the bell ring?", "The ringing bell."),
    ],
    "distractors": [
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a bell", "a cow", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog barks", "a dog barks", "a dog", "a cow", "a saw"),
        pair("count", "How many different sounds can be heard?", "two", "two", "2 sounds", "three", "four"),
        pair("order", "Which comes last?", "the bell", "the bell", "a ringing bell", "a dog", "a saw"),
        pair("music", "Which instrument plays?", "a flute", "a flute", "a piano", "a tuba", "a harp", cues=("music",)),
        pair("place", "Where is it?", "a kitchen", "a kitchen", "an office", "a cave", "a ship", cues=("place",)),
    ],
    # what captions are refused for
    "markup": [pair("sound", "What **can** be heard?", "A dog barks.")],
    "brackets": [pair("sound", "What can be heard?", "A dog barks (and a bell rings).")],
    "numbers": [pair("sound", "What can be heard with a probability of 90%?", "A dog barks.")],
    "cue_speak": [
        pair("sound", "What can be heard in this clip?", "A dog barks."),
        pair("sound", "Which sound is detected first?", "A dog."),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a sheep", "what the video shows", "a saw"),
    ],
    "quoted_speech": [pair("speech", "Does anybody speak?", "Yes, open the old door now.", cues=("speech",))],
    "assistant_speak": [pair("sound", "What can be heard, as an AI would tell it?", "A dog barks.")],
    "colours": [pair("source", "What does the brown dog do?", "A dog barks.")],
    "inaudible": [pair("sound", "What can be seen and barks?", "A dog barks.")],
    "language": [pair("sound", "Welche Geräusche kann man in dieser Aufnahme alle deutlich hören?", "A dog barks.")],
}


@pytest.mark.parametrize("one", GOOD, ids=lambda one: one.question)
def test_a_good_pair_passes(one: Question) -> None:
    assert complaint(posed(one)) is None


@pytest.mark.parametrize(
    ("name", "one"), [pytest.param(n, one, id=f"{n}-{i}") for n, some in PLANTED.items() for i, one in enumerate(some)]
)
def test_a_planted_pair_is_refused_for_its_reason(name: str, one: Question) -> None:
    found = complaint(posed(one))
    assert found is not None
    assert found[0] == name
    assert found[1].endswith(".")


def test_every_check_has_planted_pairs_and_every_kind_good_ones() -> None:
    assert pair_checks._CHECKS.keys() <= PLANTED.keys()
    assert {one.kind for one in GOOD} == set(KINDS)


ON = ("uncertainty", "gender_age", "moods", "topic")


def test_what_a_profile_forbids_in_captions_is_forbidden_in_pairs_and_music_may_have_a_mood() -> None:
    moody = pair("music", "What is the mood?", "cheerful", "cheerful", "sad", "tense", "calm", cues=("music",))
    for one in (*GOOD, moody):
        assert complaint(posed(one, on=ON)) is None
    refused = {
        "uncertainty": pair("sound", "What can be heard?", "Possibly a dog barks."),
        "gender_age": pair("speech", "Does a woman speak?", "Yes, a woman speaks.", cues=("speech",)),
        "moods": pair("sound", "What does the sad dog do, and what rings?", "It barks, then a bell rings."),
        "sight_only": pair("order", "What can be heard while the duck moves, first?", "A dog barks."),
    }
    for name, one in refused.items():
        found = complaint(posed(one, on=ON))
        assert found
        assert found[0] == name


def test_a_kind_that_the_profile_does_not_want_is_refused() -> None:
    one = pair("sound", "What can be heard?", "A dog barks.")
    assert complaint(posed(one, Questions(kinds=("order", "music")))) == (
        "kind",
        '"sound" is not wanted; the kinds are order, music.',
    )


def test_without_cues_of_sight_named_as_such_a_picture_counts_as_evidence() -> None:
    one = pair("source", "What quacks?", "A duck.", cues=("video",))
    assert complaint(posed(one, sight=())) is None


def test_a_checks_name_that_a_profile_has_turned_off_is_off_for_pairs_too() -> None:
    one = pair("sound", "What can be heard in this clip?", "A dog barks.")
    assert complaint(posed(one, off=("cue_speak",))) is None


def test_questions_are_english_where_captions_are_not() -> None:
    english = pair("sound", "What can be heard, one after the other?", "A dog barks, then a bell rings.")
    german = pair("sound", "Welche Geräusche kann man hier alle deutlich hören?", "A dog barks.")
    assert complaint(posed(english, language="de")) is None
    found = complaint(posed(german, language="de"))
    assert found
    assert found[0] == "language"


def test_speech_is_not_even_mentioned_where_captions_may_not_and_never_quoted_where_they_may() -> None:
    spoken = pair("speech", "Does anybody speak?", "Yes, somebody speaks.", cues=("speech",))
    found = complaint(posed(spoken, speech="none"))
    assert found
    assert found[0] == "quoted_speech"
    quote = pair("speech", "Does anybody speak?", "Yes, open the old door now.", cues=("speech",))
    found = complaint(posed(quote, speech="quote"))
    assert found
    assert found[0] == "quoted_speech"


def test_a_transcript_of_nothing_is_no_evidence_of_speech() -> None:
    silent = {**CUES, "speech": (Item("no speech", 0.98),)}
    no = pair("speech", "Does anybody speak?", "No, nobody speaks.", cues=("speech",))
    yes = pair("speech", "Does anybody speak?", "Yes, somebody speaks.", cues=("speech",))
    assert complaint(replace(posed(no), cues=silent)) is None
    assert complaint(replace(posed(yes), cues=silent)) is not None


def test_options_that_differ_in_number_or_order_are_different_and_in_case_or_article_are_not() -> None:
    assert sequence_wording("two dogs") != sequence_wording("three dogs")
    assert sequence_wording("a dog barks, then a bell rings") != sequence_wording("a bell rings, then a dog barks")
    assert sequence_wording("The dog barks.") == sequence_wording("a dog barks")
    assert sequence_wording("one") != sequence_wording("two") != ()


@pytest.mark.parametrize("text", ["", "?", "\ud800?", "What " + "a" * 500 + "?", "؟", "What\nis it?", "??" * 100])
def test_nothing_that_an_answer_may_hold_upsets_a_check(text: str) -> None:
    assert complaint(posed(pair("sound", text, text, text, text, cues=(text,))))
    assert complaint(posed(pair(text, "What can be heard?", "A dog barks.")))
    for kind in KINDS:
        complaint(posed(pair(kind, "What can be heard?", text, cues=("sound", "steps", "speech", "music"))))
