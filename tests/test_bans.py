"""What the prompt of FusionAudio forbids: each ban has a check, each check finds what it is for, and nothing else."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from beam_pipeline.config import load_profile
from model_handlers.base import Item, Items
from model_handlers.llm import load_prompt
from model_handlers.writers import SoundEvent
from transforms.bans import QUOTED
from transforms.checks import NAMES, ON_REQUEST, Checks, Subject, complaint
from transforms.parts import credited

# Each line of the prompt's list, by its first words, and the checks that refuse what it forbids.
BANS: dict[str, tuple[str, ...]] = {
    "anything that is only seen": ("sight_only", "inaudible", "colours"),
    "what is said": ("quoted_speech", "topic"),
    "confidences, percentages, times": ("numbers",),
    "a doubt": ("uncertainty",),
    "whether somebody is a man": ("gender_age",),
    "a mood, a feeling": ("moods", "boilerplate"),
    "a sound that no cue of the sound": ("unsupported", "sight_only", "ungrounded"),
    "that there are cues, models": ("cue_speak",),
    "anything addressed to a reader": ("assistant_speak", "markup", "brackets"),
}
CHECKS = replace(load_profile("fusion_audio").checks, boilerplate=0)  # but for the share that may have stock phrases
SAID = "my mother is painting the old bicycle"
CUES: dict[str, Items] = {
    "audio_tags": (Item("Engine", 0.8), Item("Dog", 0.7), Item("Speech", 0.6)),
    "sound": (Item("an engine idles while a dog barks, and somebody speaks"),),
    "music": (Item("genre: waltz; instruments: flute, piano; tempo: slow; mood: sad"),),
    "speech": (Item("no speech", 0.1), Item("language en", 0.9), Item(SAID, 0.8, 1.0, 3.0)),
    "place": (Item("a farmyard", 0.7),),
    "video": (Item("00:00 a woman with a tractor and a wooden ladder in a farmyard; 00:03 a cow eats"),),
}
EVENTS = (SoundEvent("a dog barks", ("audio_tags", "sound")),)
VOICES = (
    "Male speech, man speaking",
    "Female speech, woman speaking",
    "Child speech, kid speaking",
    "Baby cry, infant cry",
)
TELLING = {**CUES, "audio_tags": (*CUES["audio_tags"], *(Item(voice, 0.5) for voice in VOICES))}

PLANTED: dict[str, list[str]] = {
    "uncertainty": [
        "It is unclear whether a dog or a fox barks.",
        "A dog barks, and it is not clear what else runs.",
        "A dog possibly barks.",
        "A dog barks, and perhaps an engine runs.",
        "There may be a dog barking.",
        "An engine runs that could be a tractor's.",
        "A dog probably barks in a farmyard.",
        "A dog barks, likely at somebody.",
        "A dog seems to bark at an engine.",
        "What sounds like a dog barks in a farmyard.",
        "An engine appears to idle in a farmyard.",
        "A dog barks and an unidentified machine runs.",
        "A dog barks and it is hard to tell what runs.",
        "A dog barks, presumably in a farmyard.",
        "A dog barks; maybe an engine idles.",
        "An engine or some other machine runs.",
        "A dog barks and the source of the rumble is unknown.",
        "A dog barks, suggesting that somebody comes.",
        "A bark is heard, whether of a dog or of a fox.",
        "Either a dog or a fox barks in a farmyard.",
        "A dog barks, ostensibly at an engine.",
        "A car or a truck drives past.",
        "A machine hums, a drill or a saw.",
        "An engine resembling a tractor idles.",
        "An engine rattles as if it were loose.",
        "What could pass for a dog barks.",
        "A dog barks, or so it sounds.",
    ],
    "gender_age": [
        "A man speaks while a dog barks.",
        "A woman's voice is heard beside an engine.",
        "Men speak while a dog barks.",
        "A female voice speaks over an engine.",
        "A boy calls a dog that barks.",
        "A little girl speaks and a dog barks.",
        "Children speak while a dog barks.",
        "A baby babbles and a dog barks.",
        "An elderly person speaks near an engine.",
        "An old man speaks near an engine.",
        "A young person speaks near an engine.",
        "A teenager speaks near an engine.",
        "An adult speaks near an engine.",
        "A person speaks about her dog, which barks.",
        "Somebody speaks to himself while a dog barks.",
        "A mother speaks while a dog barks.",
        "A schoolboy speaks while a dog barks.",
        "A granny speaks to a dog.",
        "A bloke speaks to a dog.",
        "A housewife speaks to a dog.",
        "A businessman speaks to a dog.",
        "A saleswoman laughs at a dog.",
        "A masculine-sounding person speaks.",
        "A person speaks in a deep, manly voice.",
    ],
    "moods": [
        "A dog barks happily at an engine.",
        "A cheerful dog barks in a farmyard.",
        "An eerie rumble of an engine is heard.",
        "A dog barks and the engine runs peacefully.",
        "A person speaks angrily while a dog barks.",
        "An engine rumbles ominously.",
        "Tense music plays while a dog barks.",
        "A dog barks in a calm and serene farmyard.",
        "A person speaks in a playful voice.",
        "A person speaks excitedly and a dog barks.",
        "A person speaks, upset, while a dog barks.",
        "A person speaks, frustrated, while a dog barks.",
        "A person sounds nervous as a dog barks.",
        "A jolly dog barks.",
        "An intimate voice speaks.",
        "A person speaks in a tender voice.",
    ],
    "topic": [
        "A person speaks about a bicycle.",
        "Somebody talks of painting while a dog barks.",
        "A bicycle rolls by and a dog barks.",
        "A person talks about politics and the weather.",
        "A person speaks in English about cooking.",
        "A person announces that a train departs.",
        "A person asks passengers to board.",
        "A person tells others why an engine idles.",
    ],
    "sight_only": [
        "A dog barks beside a tractor.",
        "A dog barks and an engine idles near a ladder.",
        "A cow and a dog are heard.",
        "A wooden gate and a dog are heard.",
    ],
    "ungrounded": [
        "A helicopter lands on a roof while a tiger roars.",
        "A dog barks, and a helicopter lands.",
        "A dog barks as tigers roar.",
        "A dog barks with a phone ringing beside it.",
        "A dog barks before a glass shatters on the floor.",
        "A dog barks; a violin is played in a farmyard.",
        "An engine idles, and people laugh.",
        "A tiger roars in a farmyard.",
        "A cow eats and an engine idles.",
    ],
}
PASSES: dict[str, list[str]] = {
    "uncertainty": [
        "Somebody pushes with all their might and groans.",
        "An indistinct voice speaks far away.",
        "Some kind of machine hums steadily.",
        "A dog barks as loudly as possible.",
        "A bird sings and something heavy falls.",
        "A train appears in the distance with a whistle.",
        "Several people speak at once in May.",
        "A bird could be heard while an engine idles.",
        "A machine hums with an apparent rise in pitch.",
        "A toy fires whether pressed or not.",
        "An engine idles for a minute or two.",
    ],
    "gender_age": [
        "A person speaks while a dog barks.",
        "Somebody speaks and people laugh.",
        "A mother hen clucks to the chicks.",
        "A baby goat bleats in a barn.",
        "A manual drill whirs.",
        "A human voice calls.",
        "A manhole cover clanks.",
        "New age music plays.",
        "A grandfather clock chimes in a hall.",
        "A hen clucks to her chicks.",
        "A dog barks near a baby rattle.",
        "A guy rope flaps in the wind.",
        "A young goat bleats and an adult sheep answers.",
    ],
    "moods": [
        "A slow, sad waltz is played on flute and piano.",
        "Calm waters lap at a shore.",
        "An engine idles gently.",
        "Loud music plays in a hall.",
        "A merry-go-round plays organ music.",
        "A crowd sings Happy Birthday and claps.",
        "A boring machine drills into rock.",
        "A cable under tension snaps with a crack.",
        "A tender passes and blows its horn.",
        "A calm voice speaks over soft music.",
        "A mournful waltz is played on a flute.",
    ],
    "topic": [
        "A person speaks while a dog barks.",
        "Somebody talks beside an idling engine.",
        "Somebody speaks in a foreign language, no word of which is clear.",
        "A person speaks out of breath, close to the microphone.",
        "A person speaks at a steady pace.",
    ],
    "ungrounded": [
        "A dog barks in a farmyard.",
        "An engine idles roughly, rattles a little, and then stops.",
        "A dog barks sharply with a hollow echo, pauses, and barks again in a large hall.",
        "A low rumble is heard while somebody speaks a little further away.",
        "A slow, sad waltz is played on flute and piano.",
        "A machine hums and music plays in the background.",
        "In a farmyard, an engine starts with a loud bang.",
        "A person talks over the steady drone of an engine.",
    ],
    "sight_only": [
        "A dog barks in a farmyard.",
        "An engine idles while a dog barks and somebody speaks.",
        "A slow waltz is played on a flute.",
        "A dog barks sharply outside, then an engine moves slowly away.",
    ],
}


def subject(caption: str, **fields: object) -> Subject:
    return Subject(**{"clip_id": "clip", "caption": caption, "events": EVENTS, "cues": CUES, **fields})  # type: ignore[arg-type]


def failed(name: str, caption: str, **fields: object) -> str:
    others = tuple(other for other in NAMES if other != name)
    found = complaint(
        subject(caption, **fields), Checks(sight=("video",), on=(name,) if name in ON_REQUEST else (), off=others)
    )
    return found[1] if found else ""


def prompt_s_bans() -> list[str]:
    listed = load_prompt("fusion_audio-2").system.partition("Never write:\n")[2].partition("\n\n")[0]
    return [line.removeprefix("- ") for line in listed.splitlines()]


def test_every_ban_of_the_prompt_has_a_check_that_runs_in_the_profile_and_is_tested() -> None:
    bans = prompt_s_bans()
    assert len(bans) == len(BANS)
    for ban in bans:
        checks = [names for start, names in BANS.items() if ban.startswith(start)]
        assert len(checks) == 1, ban
        for name in checks[0]:
            assert name in NAMES or name in CHECKS.on, f"{name} does not run"
            assert name not in CHECKS.off


def test_no_check_on_request_is_without_a_ban() -> None:
    assert set(ON_REQUEST) <= {name for names in BANS.values() for name in names}
    assert set(ON_REQUEST) | {"sight_only"} == set(PLANTED) == set(PASSES)


@pytest.mark.parametrize(("name", "caption"), [(name, caption) for name, some in PLANTED.items() for caption in some])
def test_what_is_banned_is_found_and_the_complaint_is_one_short_line(name: str, caption: str) -> None:
    wrong = failed(name, caption)
    assert wrong.endswith(".")
    assert "\n" not in wrong
    assert len(wrong) < 160 + QUOTED
    assert complaint(subject(caption), CHECKS) is not None


@pytest.mark.parametrize(("name", "caption"), [(name, caption) for name, some in PASSES.items() for caption in some])
def test_what_only_resembles_it_passes(name: str, caption: str) -> None:
    assert failed(name, caption) == ""


# One caption for each further ban, in the order of the list: checks of all captions refuse it.
FURTHER = {
    "inaudible": "A person wearing a hat speaks to a dog.",
    "colours": "A brown dog barks.",
    "quoted_speech": "A person says that my mother is painting the shed.",
    "numbers": "A dog barks with a probability of 0.7.",
    "boilerplate": "A dog barks, creating a lively atmosphere.",
    "unsupported": "A violin plays.",
    "cue_speak": "The video has a dog that barks.",
    "assistant_speak": "Sure, here is a caption: a dog barks.",
    "markup": "A **dog** barks.",
    "brackets": "A dog barks (loudly).",
}


@pytest.mark.parametrize("name", sorted({name for names in BANS.values() for name in names} - set(PLANTED)))
def test_the_bans_that_hold_for_all_captions_are_checked_as_well(name: str) -> None:
    events = (SoundEvent("a violin plays", ("sound",)),) if name == "unsupported" else EVENTS
    assert failed(name, FURTHER[name], events=events)


GOOD = [
    "An engine idles roughly in a farmyard, a dog barks a few times, and somebody speaks close by.",
    "A slow, sad waltz is played on flute and piano while an engine runs steadily in the distance.",
    "A dog barks sharply, then an engine starts, revs up and fades as somebody talks.",
    "Somebody speaks indistinctly over the low rumble of an engine.",
]


@pytest.mark.parametrize("caption", GOOD)
def test_good_captions_of_the_profile_pass_all_its_checks(caption: str) -> None:
    assert complaint(subject(caption), CHECKS) is None


def test_captions_that_people_might_write_pass_where_the_cues_tell_who_speaks() -> None:
    lines = (Path(__file__).parent / "good_captions.txt").read_text(encoding="utf-8").splitlines()
    who = (Item("a boy and a girl, an elderly couple, adults and teenagers, excitedly"),)
    only = Checks(on=ON_REQUEST, off=NAMES)
    for line in lines:
        cues = {"audio_tags": TELLING["audio_tags"], "sound": (*who, Item(line))}
        assert complaint(subject(line, cues=cues), only) is None, line


@pytest.mark.parametrize("caption", PLANTED["gender_age"][:8])
def test_who_speaks_may_be_said_where_a_cue_of_the_sound_tells_it(caption: str) -> None:
    boy = {**TELLING, "sound": (Item("a boy and a girl are heard"),)}
    assert failed("gender_age", caption, cues=boy) == ""


def test_what_a_cue_hardly_believes_bears_out_neither_who_speaks_nor_a_mood() -> None:
    for score, passes in ((0.5, True), (0.02, False)):
        cues = {**CUES, "audio_tags": (Item("Male speech, man speaking", score), Item("Happy music", score))}
        assert (failed("gender_age", "A man speaks.", cues=cues) == "") == passes
        assert (failed("moods", "A happy waltz plays.", cues=cues) == "") == passes


def test_neither_a_transcript_nor_the_picture_tells_who_speaks() -> None:
    assert "mother" in str(CUES["speech"])
    assert "woman" in str(CUES["video"])
    assert failed("gender_age", "A mother speaks.")
    assert failed("gender_age", "A woman speaks.")


@pytest.mark.parametrize(
    ("event", "cues", "passes"),
    [
        ("a dog barks", ("sound",), True),
        ("a dog barks", ("video", "sound"), True),
        ("a cow moos", ("video",), False),  # it rests on nothing that is heard
        ("a cow moos", ("video", "audio_tags"), True),  # "Engine" is general …
        ("a tractor runs", ("audio_tags", "video"), True),  # … and this is what it was for
        ("a cow moos", ("music", "video"), False),  # nothing general in that cue
        ("a cow moos", ("sound", "video"), True),  # so is an engine in a description …
        ("a cow moos", ("speech", "video"), False),  # … and a transcript is no such thing
        ("a ladder", ("place",), False),
    ],
)
def test_the_picture_may_only_tell_what_makes_a_sound_of_a_general_kind(
    event: str, cues: tuple[str, ...], passes: bool
) -> None:
    wrong = failed("sight_only", "A dog barks.", events=(SoundEvent(event, cues),))
    assert (wrong == "") is passes


def heard(*tags: str, **cues: Items) -> dict[str, Items]:
    return {"audio_tags": tuple(Item(tag, 0.9) for tag in tags), **cues}


SQUEAK = (
    Item("no speech", 0.01),
    Item("start the car and let it warm up a bit, it has a pretty loud tone", 0.9, 0.0, 9.0),
)


@pytest.mark.parametrize(
    ("caption", "passes"),
    [
        ("A person speaks as a car idles with a warm rumble.", True),
        ("A person speaks in a pretty even tone.", True),
        ("A person speaks slightly out of breath, a bit far away.", True),
        ("A person speaks as a car starts and a dog barks at a train.", True),
    ],
)
def test_words_in_which_sounds_are_told_are_no_topic_one_by_one(caption: str, passes: bool) -> None:
    assert (failed("topic", caption, cues=heard("Speech", "Vehicle", "Dog", speech=SQUEAK)) == "") is passes


def test_two_things_that_only_talk_names_are_a_topic() -> None:
    talk = (*SQUEAK, Item("then the brakes of the car", 0.9, 9.0, 11.0))
    assert failed("topic", "A person speaks as a car brakes.", cues=heard("Speech", speech=talk))


def test_a_choir_of_boys_is_told_by_children_who_sing_and_a_boy_who_speaks_is_not() -> None:
    children = heard("Child singing", "Choir", "Child speech, kid speaking")
    assert failed("gender_age", "A choir of boys sings in a church.", cues=children) == ""
    assert failed("gender_age", "A choir of boys sings in a church.", cues=heard("Choir"))
    assert failed("gender_age", "A boy speaks.", cues=children)


def test_a_mood_may_be_said_in_another_word_than_the_cue_has_but_not_become_another() -> None:
    music: Items = (Item("genre: blues; mood: melancholic"),)
    assert failed("moods", "A guitar plays a sad song.", cues=heard("Guitar", music=music)) == ""
    assert failed("moods", "A guitar plays a cheerful song.", cues=heard("Guitar", music=music))


def test_an_event_bears_out_only_those_of_its_clauses_that_a_cue_says() -> None:
    stuffed = (SoundEvent("a dog barks as a helicopter lands", ("audio_tags",)),)
    assert failed("ungrounded", "A helicopter lands and a dog barks.", events=stuffed, cues=heard("Dog"))
    assert failed("ungrounded", "A dog barks.", events=stuffed, cues=heard("Dog")) == ""
    tractor = (SoundEvent("a tractor runs", ("audio_tags", "video")),)
    seen: Items = (Item("00:00 a tractor in a field"),)
    assert failed("ungrounded", "A tractor runs.", events=tractor, cues=heard("Engine", video=seen)) == ""
    assert failed("ungrounded", "A tractor runs.", events=tractor, cues=heard("Dog", video=seen))


def test_neither_a_place_nor_a_faint_tag_says_that_something_sounds() -> None:
    fall = (SoundEvent("a waterfall roars", ("place",)),)
    told = heard("Dog", place=(Item("waterfall", 0.9),))
    assert failed("ungrounded", "A dog barks and a waterfall roars.", events=fall, cues=told)
    faint: dict[str, Items] = {"audio_tags": (Item("Dog", 0.9), Item("Bell", 0.02))}
    assert failed("ungrounded", "A dog barks and a bell rings.", cues=faint)


def test_what_is_no_caption_and_no_form_of_one_may_name_what_no_cue_says() -> None:
    assert failed("ungrounded", "a tiger roars, a helicopter lands", events=(), grounded=False) == ""


def test_that_somebody_sings_in_the_picture_does_not_take_speech_away() -> None:
    cues = heard("Music", speech=(Item("start the car", 0.8, 0.0, 3.0),), video=(Item("00:00 a woman sings"),))
    speaks = (SoundEvent("music plays", ("audio_tags",)), SoundEvent("somebody speaks", ("speech",)))
    assert failed("unsupported", "Music plays while somebody speaks.", events=speaks, cues=cues) == ""
    sung = {**cues, "audio_tags": (Item("Singing", 0.9),)}
    assert failed("unsupported", "Music plays while somebody speaks.", events=speaks[1:], cues=sung)


def test_an_event_is_credited_to_those_of_its_cues_that_speak_of_it() -> None:
    cues = {
        "audio_tags": (Item("Cat", 0.9), Item("Music", 0.8), Item("Engine", 0.7)),
        "audio_caption": (Item("a car honks and a typewriter clacks"),),
        "music": (Item("genre: waltz; instruments: flute"),),
        "speech": (Item("start the car", 0.9, 0.0, 2.0),),
        "video": (Item("00:00 a tractor in a field"),),
        "image_label": (),
    }

    def by(text: str, *named: str) -> tuple[str, ...]:
        return credited(SoundEvent(text, named), cues, Checks()).cues

    assert by("a car honks", "audio_caption", "video", "image_label", "nothing") == ("audio_caption",)
    assert by("a cat yowls", "audio_tags", "audio_caption", "image_label") == ("audio_tags",)
    assert by("a slow waltz is played", "music", "audio_tags") == ("music", "audio_tags")
    assert by("somebody speaks", "speech", "audio_caption") == ("speech",)
    assert by("a tractor runs", "audio_tags", "video") == ("audio_tags", "video")  # an engine may be a tractor's
    assert by("a lion roars", "audio_caption") == ("audio_caption",)  # that is for the checks to say


def test_an_event_does_not_smuggle_in_what_is_only_seen() -> None:
    seen: Items = (Item("00:00 a dog beside a red sofa with a tractor"),)
    beside = (SoundEvent("a dog barks beside a sofa", ("audio_tags", "video")),)
    assert failed("sight_only", "A dog barks beside a sofa.", events=beside, cues=heard("Dog", "Knock", video=seen))
    engine = (SoundEvent("a tractor's engine runs", ("audio_tags", "video")),)
    assert failed("sight_only", "A tractor's engine runs.", events=engine, cues=heard("Engine", video=seen)) == ""


def test_what_is_only_seen_is_not_looked_for_in_translations() -> None:
    radio: dict[str, Items] = heard("Dog", video=(Item("00:00 a dog and a radio"),))
    text = subject("Ein Hund bellt, im Radio klingt es leise.", cues=radio, language="de", grounded=False)
    assert complaint(text, CHECKS) is None


def test_without_cues_of_sight_nothing_is_looked_for() -> None:
    events = (SoundEvent("a tractor", ("video",)),)
    off = Checks(off=tuple(name for name in NAMES if name != "sight_only"))
    assert complaint(subject("A tractor and a wooden ladder.", events=events), off) is None


def test_the_checks_on_request_run_only_where_they_are_asked_for() -> None:
    doubt = subject("A dog possibly barks at a woman's cheerful engine.")
    assert complaint(doubt, replace(CHECKS, on=(), sight=(), off=("unsupported",))) is None
    for name in ("uncertainty", "gender_age", "moods"):
        found = complaint(doubt, Checks(on=(name,), sight=("video",), off=("sight_only",)))
        assert found is not None
        assert found[0] == name
    with pytest.raises(ValueError, match=r"no such check 'colours'.*uncertainty"):
        Checks(on=("colours",))
    with pytest.raises(ValidationError):
        TypeAdapter(Checks).validate_python({"on": ["doubt"]})


def test_they_know_english_and_leave_other_languages_alone() -> None:
    german = Checks(language="de", on=ON_REQUEST, off=("unsupported",))
    for caption in ("Ein Mann in der Hose ruft laut im Hof.", "Boys und Girls singen auf der Straße laut mit."):
        assert complaint(subject(caption), german) is None


def test_a_transcript_in_which_nothing_is_said_is_no_evidence_of_speech() -> None:
    silent: dict[str, Items] = {"speech": (Item("no speech", 0.97),), "audio_tags": (Item("Dog", 0.9),)}
    speaks = subject("Somebody speaks.", events=(SoundEvent("somebody speaks", ("speech",)),), cues=silent)
    found = complaint(speaks, Checks(least_words=2))
    assert found is not None
    assert found[0] == "unsupported"
    said = {**silent, "speech": (*silent["speech"], Item("language en", 0.9), Item("hello", 0.5, 0.0, 1.0))}
    assert complaint(subject("Somebody speaks.", events=speaks.events, cues=said), Checks(least_words=2)) is None


@pytest.mark.parametrize("name", [*ON_REQUEST, "sight_only", "facet"])
def test_no_answer_holds_a_check_up(name: str) -> None:
    for text in (
        "a possibly seems to be what " * 4000,
        "his her cheerful tractor " * 4000,
        "x" * 100_000,
        "\ud800" * 99,
    ):
        started = time.process_time()
        wrong = failed(name, text, cues={**CUES, "video": (Item(text),)}, events=(SoundEvent(text[:200], ("sound",)),))
        assert time.process_time() - started < 3
        assert not re.search(r"[\n<>]", wrong)
