"""Questions by rule: true of what the cues say, of the forms that are wanted, and none where no cue is sure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from beam_pipeline.config import load_profile
from demo.occasions import make_occasion, make_occasions
from demo.questions import VOCABULARY, is_true
from demo.scenes import truth
from model_handlers.base import Item, Items
from model_handlers.questions import KINDS, Question, Questions
from model_handlers.template_questions import TemplateQuestions
from model_handlers.writers import Brief
from transforms.answers import written
from transforms.checks import Checks
from transforms.pair_checks import Posed, complaint, for_pairs
from transforms.questions import Terms, taken, to_pair
from transforms.records import Caption, Clip, Pair

ROW: dict[str, Any] = dict(VOCABULARY)
SILENT: Items = (Item("no speech", 0.97),)
SPOKEN: Items = (Item("no speech", 0.03), Item("language en", 0.9), Item("open the old door", 0.8, 1.0, 2.0))


def brief(sound: str, *tags: str, clip_id: str = "a clip", **more: Items) -> Brief:
    cues = {"sound": (Item(sound, 0.9),), "audio_tags": tuple(Item(tag, 0.8) for tag in tags), "speech": SILENT, **more}
    return Brief(clip_id, cues, caption="Something can be heard in a kitchen.")


def pairs(told: Brief, **wanted: Any) -> tuple[Question, ...]:
    return TemplateQuestions(questions=Questions(**wanted), **ROW).draft(told).pairs


SEQUENCE = brief("a dog barks, then a bell rings", "Dog", "Bell", place=(Item("kitchen", 0.9), Item("cave", 0.1)))
MUSIC = brief(
    "music plays and a person speaks",
    "Music",
    "Speech",
    music=(Item("genre: waltz; instruments: flute, piano; tempo: fast; mood: sad", 0.9),),
    speech=SPOKEN,
)


def answers(told: Brief, kind: str) -> dict[str, str]:
    return {pair.question: pair.answer for pair in pairs(told, per_clip=20, kinds=(kind,), share_choice=0.0)}


def test_what_the_cues_say_is_asked_and_answered() -> None:
    assert answers(SEQUENCE, "sound")["What can be heard?"] == "A dog barks, then a bell rings."
    assert answers(SEQUENCE, "count") == {"How many different sounds can be heard?": "Two."}
    assert answers(SEQUENCE, "source") == {"What barks?": "A dog.", "What rings?": "A bell."}
    assert answers(SEQUENCE, "order") == {
        "What can be heard first?": "A dog barks.",
        "What can be heard after a dog barks?": "A bell rings.",
    }
    assert answers(SEQUENCE, "place") == {"Where does this take place?": "In a kitchen."}
    assert answers(SEQUENCE, "speech") == {"Does anybody speak?": "No, nobody speaks."}
    assert answers(MUSIC, "speech") == {"Does anybody speak?": "Yes, somebody speaks."}
    assert answers(MUSIC, "music") == {
        "What kind of music plays?": "Waltz.",
        "Which instruments are played in the music?": "Flute and piano.",
        "What is the tempo of the music?": "Fast.",
        "How does the music feel?": "Sad.",
    }
    assert not answers(MUSIC, "order")  # both at once
    assert not answers(MUSIC, "source")


def everything() -> list[Brief]:
    found = [SEQUENCE, MUSIC]
    for number, (sound, label) in enumerate(zip(ROW["sounds"], ROW["labels"], strict=True)):
        other, other_label = ROW["sounds"][number - 7], ROW["labels"][number - 7]
        said = {"speech": SPOKEN} if "Speech" in (label, other_label) else {}
        found.append(brief(sound, label, clip_id=f"one {number}", **({"speech": SPOKEN} if label == "Speech" else {})))
        found.append(brief(f"{sound}, then {other}", label, other_label, clip_id=f"then {number}", **said))
        found.append(brief(f"{sound} and {other}", label, other_label, clip_id=f"and {number}", **said))
    return found


@pytest.mark.parametrize("told", everything(), ids=lambda told: told.cues["sound"][0].text)
def test_all_of_them_pass_the_checks(told: Brief) -> None:
    for share in (0.0, 1.0):
        wanted = Questions(per_clip=20, share_choice=share)
        found = pairs(told, per_clip=20, share_choice=share)
        assert len(found) >= 3
        for pair in found:
            posed = Posed(pair, told.clip_id, told.caption, told.cues, wanted, for_pairs(Checks(sight=("video",))))
            assert complaint(posed) is None, (pair, complaint(posed))


@pytest.mark.parametrize(("heard", "asked"), [(Item("in a kitchen", 0.9), True), (Item("in a cave", 0.9), False)])
def test_a_place_is_asked_for_only_where_it_is_heard_as_well(heard: Item, asked: bool) -> None:
    told = replace(SEQUENCE, cues={**SEQUENCE.cues, "scene": (heard,)})
    wanted = Questions(per_clip=20, kinds=("place",))
    found = TemplateQuestions(questions=wanted, **ROW, acoustic_scene="scene").draft(told).pairs
    assert {pair.cues for pair in found} == ({("scene", "place")} if asked else set())


def known(told: dict[str, Any]) -> Brief | None:
    """What cues that make no mistake say of an occasion; nothing where nothing is heard."""
    if not told["sound"]:
        return None
    spoken = tuple(Item("words", 0.9, start, end) for start, end in told["speech"])
    music = {"music": (Item(told["music"], 0.9),)} if told["music"] else {}
    place = {"place": (Item(told["heard_place"], 0.9),)}
    made = brief(told["sound"], *told["labels"], clip_id=told["clip_id"], **music, **place)
    cues = {**made.cues, "speech": SPOKEN[:2] + spoken if spoken else SILENT}
    return Brief(told["clip_id"], cues, caption=told["caption"])


def records(told: Brief, **wanted: Any) -> list[Pair]:
    writer = TemplateQuestions(questions=Questions(**wanted), **ROW)
    terms = Terms.of(writer, Checks(transcripts=("speech",)))
    caption = Caption(Clip(told.clip_id, ""), told.caption, "", ())
    kept, refused = taken(written(told, writer.draft(told), terms.writer), told, terms)
    assert not refused, refused
    return [to_pair(pair, caption, told, terms) for pair in kept]


def test_of_cues_that_make_no_mistake_every_answer_is_true_of_the_world_and_passes_every_check() -> None:
    kinds: Counter[str] = Counter()
    for occasion in make_occasions(4321, 84):
        if told := known(truth(occasion)):
            for pair in (*records(told), *records(told, per_clip=20, share_choice=1.0)):
                assert is_true(pair, truth(occasion)), (pair, truth(occasion))
                kinds[pair.kind] += 1
    assert set(kinds) == set(KINDS)
    assert min(kinds.values()) > 20


def test_the_right_option_stands_at_any_place_equally_often() -> None:
    places: Counter[int] = Counter()
    for occasion in make_occasions(4321, 84):
        if told := known(truth(occasion)):
            some = records(told, per_clip=20, share_choice=1.0)
            places.update(pair.choices.index(pair.answer) for pair in some if pair.choices)
    assert len(places) == 4
    assert min(places.values()) > 0.8 * sum(places.values()) / 4


def test_an_answer_about_another_clip_is_found_to_be_wrong() -> None:
    occasions = [make_occasion(4321, index, kind="in sequence") for index in range(20)]
    wrong = right = 0
    for one, other in pairwise(occasions):
        told = known(truth(one))
        assert told
        for pair in records(told, per_clip=20, kinds=("sound", "order", "source", "place")):
            wrong += not is_true(pair, truth(other))
            right += is_true(pair, truth(one))
    assert wrong > 0.8 * right > 50


def test_the_number_the_kinds_and_the_share_of_multiple_choice_are_those_wanted() -> None:
    clips = [brief("a dog barks, then a bell rings", "Dog", "Bell", clip_id=str(n)) for n in range(300)]
    for per_clip, share in ((1, 0.5), (2, 0.25), (4, 0.5), (3, 0.0)):
        found = [pairs(told, per_clip=per_clip, share_choice=share) for told in clips]
        assert {len(some) for some in found} == {per_clip}
        multiple = sum(bool(pair.choices) for some in found for pair in some)
        assert multiple / (per_clip * len(clips)) == pytest.approx(share, abs=0.06)
        assert all(len({pair.question for pair in some}) == per_clip for some in found)
    kinds = {pair.kind for told in [*clips, MUSIC, SEQUENCE] for pair in pairs(told, per_clip=6)}
    assert kinds == set(KINDS)
    assert {pair.kind for told in clips for pair in pairs(told, kinds=("order", "source"))} == {"order", "source"}
    assert all(len(pair.choices) in (0, 3) for told in clips for pair in pairs(told, choices=3))


@pytest.mark.parametrize(
    "told",
    [
        brief("a dog barks, then a bell rings", "Dog"),  # no tag bears the bell out
        brief("a dog barks", "Dog", "Bell"),  # and here the sentence lacks it
        brief("a person speaks", "Speech"),  # nothing was understood
        brief("a dog barks", "Dog", speech=SPOKEN),
        brief("a unicorn sings", "Dog"),
        Brief("a clip", {"sound": (Item("a dog barks", 0.1),), "audio_tags": (Item("Dog", 0.8),)}),
        Brief("a clip", {}),
    ],
)
def test_where_cues_do_not_agree_nothing_is_asked_about_the_sounds(told: Brief) -> None:
    asked = pairs(told, per_clip=20, kinds=("sound", "count", "order", "source"))
    assert asked == ()


def test_wrong_options_are_what_no_cue_mentions() -> None:
    for number in range(50):
        told = brief("a dog barks", "Dog", clip_id=str(number))
        unsure = (*told.cues["audio_tags"], Item("Cat", 0.2), Item("Bell", 0.05))
        told = Brief(told.clip_id, {**told.cues, "audio_tags": unsure})
        wrong = {
            option
            for pair in pairs(told, per_clip=20, share_choice=1.0, kinds=("sound", "source"))
            for option in pair.choices
            if option != pair.answer
        }
        assert wrong
        assert not wrong & {"a cat", "a cat meows", "a dog", "a dog barks"}


def test_a_row_that_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        TemplateQuestions(**{**ROW, "labels": ("Dog",)})
    with pytest.raises(ValueError, match="does not begin with"):
        TemplateQuestions(sounds=("a dog barks",), sources=("a cat",), labels=("Dog",))


def test_the_demo_profile_asks_in_the_words_of_its_world() -> None:
    row = load_profile("fusion_audio_demo").questions
    assert {name: tuple(row[name]) for name in VOCABULARY} == VOCABULARY
