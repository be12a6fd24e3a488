"""The checks on questions and answers: what each refuses, and what passes."""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random
from string import ascii_lowercase
from typing import Any

import pytest

from model_handlers.base import Item
from model_handlers.questions import KINDS, Question, Questions
from transforms import pair_checks
from transforms.checks import Checks
from transforms.evidence import affirmed, borne_out, heard
from transforms.pair_checks import Posed, complaint, for_pairs, sequence_wording
from transforms.words import stem

CUES = {
    "sound": (Item("a dog barks, then a bell rings", 0.9),),
    "audio_tags": (Item("Dog", 0.9), Item("Bell", 0.8), Item("Cat", 0.04)),
    "music": (Item("genre: waltz; instruments: flute, piano; tempo: fast; mood: cheerful", 0.9),),
    "speech": (Item("no speech", 0.02), Item("language en", 0.9), Item("open the old door now", 0.9, 1.0, 2.5)),
    "place": (Item("kitchen", 0.8), Item("office", 0.15)),
    "ambience": (Item("a busy kitchen", 0.7),),
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
    pair("sound", "What do you hear?", "A dog barks, then a bell rings."),
    pair("sound", "Can you hear a dog?", "Yes, a dog barks."),
    pair("sound", "What can one hear first?", "A dog barks."),
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
    pair("place", "Where does this take place?", "In a kitchen.", cues=("place", "ambience")),
    pair(
        "place", "Where is it?", "in a kitchen", "in a kitchen", "on a beach", "in a cave", "at sea", cues=("ambience",)
    ),
    pair("music", "What kind of music plays?", "A waltz.", cues=("music",)),
    pair("music", "Which instruments can be heard?", "A flute and a piano.", cues=("music",)),
    pair("music", "What is the mood of the music?", "Cheerful.", cues=("music",)),
    pair("music", "Is there any music?", "Yes, there is.", cues=("music",)),
    pair("music", "Is the music a fast waltz on flute and piano?", "Yes, it is.", cues=("music",)),
    pair("sound", "Is there a cat?", "No, but a dog barks."),
    pair("source", "Which animal barks in the background?", "A dog."),
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
        pair("order", "Which sound does not come first?", "A dog barks."),
        pair("sound", "Which of these isn't heard?", "a bell"),
        pair("speech", "What are they talking about?", "A door.", cues=("speech",)),
    ],
    "answer": [
        pair("sound", "What can be heard?", ""),
        pair("sound", "What can be heard?", "Is it a dog that barks?"),
        pair("sound", "What can be heard?", "a dog barks " * 20),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a sheep", "", "a saw"),
        pair("sound", "What can be heard?", "dog dog dog dog"),
        pair("sound", "What can be heard?", "a dog barks, " * 4),
    ],
    "choices": [
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a sheep", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a sheep", "sheep", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "A dog.", "a cow", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "the dog", "a sheep", "a cow", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a d\u0301og", "a cow", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a steam-engine", "a steam engine", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a cow moos", "a mooing cow", "a saw"),
        pair("count", "How many times does the dog bark?", "twice", "twice", "three times", "thrice", "four"),
        pair("source", "What rings?", "a bell", "a bell", "all of the above", "a saw", "a train"),
        pair("source", "What rings?", "a bell", "a bell", "none of these", "a saw", "a train"),
        pair("source", "What rings?", "both", "both", "a cow", "a saw", "a train"),
    ],
    "cues": [
        pair("sound", "What can be heard?", "A dog barks.", cues=()),
        pair("sound", "What can be heard?", "A dog barks.", cues=("image_caption",)),
        pair("sound", "What quacks?", "A duck.", cues=("video",)),
        pair("source", "What makes the noise?", "A duck.", cues=("video", "place")),
        pair("place", "Where does this take place?", "In a kitchen.", cues=("place",)),  # it is only seen
    ],
    "count": [
        pair("count", "How many different sounds can be heard?", "three"),
        pair("count", "How many different sounds can be heard?", "a few"),
        pair("count", "How many times does the dog bark?", "four times"),
        pair("count", "How many times does the dog bark?", "once"),
        pair("count", "How many times is the drum struck?", "twice", cues=("strikes",)),
        pair("count", "How many people speak?", "two", cues=("speech",)),
        pair("count", "How many people speak?", "one", cues=("speech",)),  # one segment may be of two people
        pair(
            "count", "How many anvils sound?", "three", cues=("strikes", "steps")
        ),  # it is the drum that is three times
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
        pair("place", "Where does this take place?", "In an office.", cues=("place", "ambience")),
        pair("place", "Where does this take place?", "Somewhere else.", cues=("ambience",)),
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
        pair("speech", "Does anybody speak?", "Yes, somebody speaks while a helicopter lands.", cues=("speech",)),
        pair("sound", "Does a dog bark?", "Yes, and a choir of whales sings."),
        pair("sound", "Does a dog bark?", "Yes, but no bell rings."),
        pair("sound", "Does a dog ring?", "Yes."),
        pair("sound", "Does a dog bark and a sheep bleat?", "Yes."),
        pair("sound", "Is there a cat?", "No, but a helicopter crashes."),
        pair("sound", "Is there a cat?", "No, and there is no dog."),
        pair("sound", "Is there a cat?", "Nobody barks."),
        pair("sound", "What is heard in the distance?", "Nothing but thunder and an explosion."),
        pair("sound", "What can be heard?", "A dog barks and a bell rings near a helicopter."),
        pair("sound", "What can be heard?", "A dog barks, a bell rings, then thunder."),
        pair("sound", "What moves in the kitchen?", "A dog."),
        pair("source", "What rings?", "A dog."),
        pair("source", "What rings?", "The dog rings a bell."),
        pair("source", "What makes the barking?", "A bell."),
        pair("source", "What meows?", "A dog."),
        pair("music", "What is the genre of the music?", "Cheerful.", cues=("music",)),
        pair("music", "How does the music feel?", "Fast.", cues=("music",)),
        pair("music", "What is the tempo of the music?", "Flute and piano.", cues=("music",)),
        pair("music", "Is the music a fast waltz on violin?", "Yes.", cues=("music",)),
    ],
    "given_away": [
        pair("sound", "Which animal can be heard, as a dog barks?", "A dog."),
        pair("source", "What makes the bell ring?", "The ringing bell."),
    ],
    "distractors": [
        pair("sound", "Which of these can be heard?", "a dog", "a dog", "a bell", "a cow", "a saw"),
        pair("sound", "Which of these can be heard?", "a dog barks", "a dog barks", "a dog", "a cow", "a saw"),
        pair("count", "How many different sounds can be heard?", "two", "two", "several", "three", "four"),
        pair("order", "Which comes last?", "the bell", "the bell", "a ringing bell", "a dog", "a saw"),
        pair("music", "Which instrument plays?", "a flute", "a flute", "a piano", "a tuba", "a harp", cues=("music",)),
        pair("place", "Where is it?", "a kitchen", "a kitchen", "an office", "a cave", "a ship", cues=("ambience",)),
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
    "sight_only": [pair("count", "How many ducks move?", "one", cues=("video", "sound"))],
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
    assert {check.__name__ for check in (*pair_checks._OF_FORM, *pair_checks._OF_TRUTH)} <= PLANTED.keys()
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
    one = pair("source", "What moves?", "A duck.", cues=("video",))
    assert complaint(posed(one))
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


def test_a_songs_words_are_no_evidence_of_speech() -> None:
    yes = pair("speech", "Does anybody speak?", "Yes, somebody speaks.", cues=("speech",))
    no = pair("speech", "Does anybody speak?", "No, nobody speaks.", cues=("speech",))
    for tags, speaks in (
        ((Item("Singing", 0.8), Item("Dog", 0.9)), False),
        ((Item("Singing", 0.8), Item("Speech", 0.6)), True),
        ((Item("Choir", 0.2), Item("Dog", 0.9)), True),
    ):
        cues = {"audio_tags": tags, "speech": CUES["speech"]}
        assert (complaint(replace(posed(yes), cues=cues)) is None) == speaks
        assert (complaint(replace(posed(no), cues=cues)) is None) == (not speaks)
        assert (stem("speech") in borne_out(cues, ("speech",))) == speaks
    seen = {**CUES, "audio_tags": (Item("Music", 0.9),), "video": (Item("00:00 a woman sings"),)}
    assert complaint(replace(posed(yes), cues=seen)) is None  # that somebody sings is only seen


@pytest.mark.parametrize(
    ("told", "passes"),
    [
        ({"audio_tags": (Item("Speech", 0.2),)}, False),
        ({"audio_tags": (Item("Speech", 0.7),)}, True),
        ({"audio_tags": (Item("Speech", 0.2),), "sound": (Item("somebody speaks", 0.3),)}, True),
        ({"audio_tags": (Item("Speech", 0.2),), "labels": (Item("Speech"),)}, True),
        ({"audio_tags": (Item("Speech", 0.2),), "video": (Item("00:00 a person speaks"),)}, False),
        ({"audio_tags": (Item("Speech", 0.2),), "speech": (Item("thank you", 0.2, 1.0, 2.0),)}, True),
    ],
)
def test_that_something_is_there_takes_a_cue_that_is_sure_or_two(told: dict[str, Any], passes: bool) -> None:
    yes = pair("speech", "Does anybody speak?", "Yes, somebody speaks.", cues=("audio_tags",))
    assert (complaint(replace(posed(yes), cues=told)) is None) is passes


@pytest.mark.parametrize(("places", "passes"), [(("place", "ambience"), False), (("place",), True)])
def test_where_it_is_heard_to_be_is_no_evidence_of_what_sounds_there(places: tuple[str, ...], passes: bool) -> None:
    cues = {"ambience": (Item("at a train station", 0.9),), "audio_tags": (Item("Dog", 0.9),)}
    train = pair("sound", "Is there a train?", "Yes, there is a train.", cues=("ambience",))
    assert (complaint(replace(posed(train, places=places), cues=cues)) is None) is passes


def test_an_unsure_transcript_alone_is_no_evidence_of_speech() -> None:
    for score, passes in ((0.2, False), (0.8, True)):
        yes = pair("speech", "Does anybody speak?", "Yes, somebody speaks.", cues=("speech",))
        cues = {"speech": (Item("Thank you.", score, 1.0, 2.0),)}
        assert (complaint(replace(posed(yes), cues=cues)) is None) is passes


@pytest.mark.parametrize(
    ("tags", "said", "question"),
    [
        (("Dog", "Bark"), "A dog barks loudly.", "Does a dog bark?"),
        (("Vehicle horn, car horn, honking",), "A car horn honks in the street.", "Does a car horn honk?"),
        (("Engine", "Idling"), "An engine idles.", "Does an engine idle?"),
    ],
)
def test_tags_that_say_it_together_bear_out_an_unsure_description(
    tags: tuple[str, ...], said: str, question: str
) -> None:
    cues = {"audio_tags": tuple(Item(tag, 0.9) for tag in tags), "sound": (Item(said, 0.4),)}
    yes = pair("sound", question, f"Yes, {said.lower()}")
    assert complaint(replace(posed(yes), cues=cues)) is None


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


NO_MORE = "A dog barks on a street. There is no speech and no music in this audio."
NEITHER = "speech and music are absent, but a dog barks"


@pytest.mark.parametrize("told", [NO_MORE, NEITHER, "a dog barks without speech, music or other sounds"])
@pytest.mark.parametrize("more", [{}, {"speech": (Item("no speech", 0.98),)}])
def test_what_a_cue_says_is_not_there_is_no_evidence_of_it(told: str, more: dict[str, Any]) -> None:
    told_so = {"sound": (Item(told, 0.9),), **more}
    true = [
        pair("speech", "Does anybody speak?", "No, nobody speaks."),
        pair("music", "Is there any music?", "No, there is no music."),
        pair("sound", "Does a dog bark?", "Yes, a dog barks."),
    ]
    false = [
        pair("speech", "Does anybody speak?", "Yes, somebody speaks."),
        pair("music", "Is there any music?", "Yes, there is music."),
        pair("sound", "Does a dog bark?", "No, no dog barks."),
        pair("sound", "What can be heard?", "Music and speech."),
    ]
    for one in true:
        assert complaint(replace(posed(one), cues=told_so)) is None, one
    for one in false:
        found = complaint(replace(posed(one), cues=told_so))
        assert found is not None, one
        assert found[0] == "grounded"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A dog barks; nobody speaks.", "a dog barks"),
        ("There is no speech, background music, or human activity.", ""),
        ("No music plays, the wind howls", "the wind howls"),
        ("a dog barks and it doesn't stop", "a dog barks"),
        ("A bell rings, not far away", "A bell rings, not far away"),
        ("Nothing but thunder", "Nothing but thunder"),
        ("Knocking, notes and nonsense", "Knocking, notes and nonsense"),
        ("", ""),
    ],
)
def test_what_is_left_of_a_text_that_denies(text: str, left: str) -> None:
    assert affirmed(text) == left
    assert affirmed(text, "de") == text  # "not" may mean anything there


def test_captions_are_not_borne_out_by_denials_either() -> None:
    told_so = {"sound": (Item(NO_MORE, 0.9),), "speech": (Item("no speech", 0.98),)}
    known = borne_out(told_so, ("speech",))
    assert stem("barks") in known
    assert not known & {stem("speech"), stem("music")}
    assert [item.text for item in heard(told_so, ("speech",), ())] == ["a dog barks on a street"]


@pytest.mark.parametrize(
    ("cues", "asked", "right"),
    [
        ({"audio_tags": ("Dog", "Bell", "Cat")}, "How many different sounds can be heard?", set()),
        ({"audio_tags": ("Burping, eructation, belch",)}, "How many different sounds can be heard?", set()),
        ({"audio_tags": ("Speech", "Male speech, man speaking")}, "How many sounds can be heard?", set()),
        ({"sound": ("A dog barks, loud, sharp, and close by.",)}, "How many different sounds can be heard?", set()),
        ({"sound": ("a dog barks, then a bell rings, then a dog barks",)}, "How many kinds of sounds are there?", {2}),
        ({"sound": ("a dog barks",), "audio_tags": ("Dog", "Bark")}, "How many sounds can be heard?", {1}),
        ({"sound": ("A dog barks and five bells ring",)}, "How many dogs bark?", set()),
        ({"sound": ("A dog barks and five bells ring",)}, "How many bells ring?", {5}),
        ({"sound": ("three cars pass and a bell rings",)}, "How many times does the bell ring?", set()),
    ],
)
def test_a_number_is_that_of_the_thing_that_is_asked_for(
    cues: dict[str, tuple[str, ...]], asked: str, right: set[int]
) -> None:
    told_so = {name: tuple(Item(text, 0.9) for text in texts) for name, texts in cues.items()}
    for number, word in enumerate(("one", "two", "three", "four", "five"), 1):
        one = pair("count", asked, word, cues=tuple(cues))
        assert (complaint(replace(posed(one), cues=told_so)) is None) == (number in right)


def test_segments_of_a_transcript_count_no_people() -> None:
    segments = tuple(Item(text, 0.9, at, at + 1.0) for at, text in enumerate(("hello", "my friend", "goodbye")))
    one = pair("count", "How many people speak?", "Three.", cues=("speech",))
    found = complaint(replace(posed(one), cues={"speech": segments}))
    assert found
    assert found[0] == "count"


def test_hostile_cues_are_looked_at_in_little_time() -> None:
    drawn = Random(1)
    rare = ["".join(drawn.choices(ascii_lowercase, k=8)) for _ in range(2400)]
    of_words = tuple(Item(" ".join(rare[at : at + 200]), 0.9) for at in range(0, 2400, 200))
    of_one = tuple(Item("a" * length, 0.9) for length in range(1400, 1412))
    began = time.process_time()
    for number in range(40):
        answer = f"A dog of {' '.join(drawn.sample(rare, 9))} barks."
        one = pair("sound", f"What is heard of {rare[number]} and of {rare[-number]}?", answer)
        complaint(replace(posed(one, on=ON), cues={"sound": of_words}))
        complaint(replace(posed(pair("count", "How many dogs bark?", "two")), cues={"sound": of_one}))
    assert time.process_time() - began < 4.0  # it takes about half a second; the words of one letter took six
