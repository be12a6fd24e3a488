"""The writer of FusionAudio's cues that needs no model: what it believes, in which order, and that it is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.config import load_profile
from beam_pipeline.run import run
from demo.occasions import LABELS, make_occasions
from demo.scenes import PLACES, SOURCES, truth
from model_handlers.base import Item, Items
from model_handlers.forms import ask_for
from model_handlers.fusion_template import FusionTemplate, described, piece
from model_handlers.writers import Brief, Draft
from tests.datasets import records
from transforms.answers import written
from transforms.caption import Terms, settle
from transforms.checks import ON_REQUEST, Checks
from transforms.ingest import ClipSource
from transforms.records import Caption, Clip, Cue, CueSheet

FORMS = ("short", "detailed", "speech", "music", "sound", "place")
CLAUSES = {source.label: f"{source.phrase} {source.verb}" for source in SOURCES.values()}
WHERE = {place.name: place.phrase for place in PLACES.values()}
MUSIC = Item("genre: waltz; instruments: flute, piano; tempo: fast; mood: cheerful", 0.9)
SAID = (Item("no speech", 0.02), Item("language en", 0.9), Item("the train leaves at nine", 0.9, 1.0, 2.5))


def row(**fields: Any) -> FusionTemplate:
    return FusionTemplate(**{"clauses": CLAUSES, "places": WHERE, "forms": FORMS, **fields})


def tags(**scores: float) -> Items:
    names = {
        **{name: source.label for name, source in SOURCES.items()},
        "speech": "Speech",
        "music": "Music",
        "singing": "Singing",
    }
    return tuple(Item(names[name], score) for name, score in scores.items())


def drafted(sound: str = "", **cues: Items) -> Draft:
    told = {"sound": (Item(sound, 0.8),) if sound else (), **cues}
    return row().drafted(Brief("clip", {name: items for name, items in told.items() if items}))


def text_of(draft: Draft, form: str) -> str:
    return next(version.text for version in draft.versions if version.form == form)


def test_what_a_tag_bears_out_of_the_description_is_written_in_its_order_with_the_place() -> None:
    found = drafted(
        "a dog barks, then a bell rings", audio_tags=tags(dog=0.9, bell=0.35), place=(Item("kitchen", 0.9),)
    )
    assert found.caption == "A dog barks, then a bell rings in a kitchen."
    assert [(event.text, event.cues) for event in found.events] == [
        ("a dog barks", ("audio_tags", "sound")),
        ("a bell rings", ("audio_tags", "sound")),
    ]
    assert found.ambiguities == ()


def test_what_only_the_description_has_is_left_out_and_noted() -> None:
    found = drafted("a dog barks, then a bell rings", audio_tags=tags(dog=0.9, bell=0.2))
    assert found.caption == "A dog barks."
    assert found.ambiguities == ('only the description of the sound has "a bell rings": left out',)


def test_a_label_bears_out_as_much_as_a_tag_and_adds_what_the_description_lacks() -> None:
    labels = (Item("Dog"), Item("Clapping"))
    found = drafted("a dog barks and a bell rings", labels=labels, audio_tags=tags(bell=0.1, frog=0.4))
    assert found.caption == "A dog barks and a pair of hands claps."
    assert found.events[1].cues == ("labels",)
    assert any("Clapping" in said for said in found.ambiguities)


def test_a_label_that_people_rarely_found_right_is_not_enough() -> None:
    assert drafted("a dog barks", labels=(Item("Dog", 0.1),), audio_tags=tags(dog=0.1)).abstained


def test_a_sure_tag_is_written_without_any_description() -> None:
    found = drafted(audio_tags=tags(dog=0.9, bell=0.6, frog=0.4))
    assert found.caption == "A dog barks and a bell rings."


@pytest.mark.parametrize(
    ("cues", "speaks"),
    [
        ({"audio_tags": tags(dog=0.9, speech=0.6)}, True),
        ({"audio_tags": tags(dog=0.9, speech=0.4)}, False),
        ({"audio_tags": tags(dog=0.9, singing=0.8, speech=0.05), "speech": SAID}, False),
        ({"audio_tags": tags(dog=0.9, singing=0.8, speech=0.6), "speech": SAID}, True),
        ({"audio_tags": tags(dog=0.9, singing=0.3), "speech": SAID}, True),
        ({"audio_tags": tags(dog=0.9), "speech": SAID}, True),
        ({"audio_tags": tags(dog=0.9), "speech": SAID[:1]}, False),
        ({"audio_tags": tags(dog=0.9), "labels": (Item("Speech"),)}, True),
    ],
)
def test_somebody_speaks_where_words_or_a_sure_tag_say_so(cues: dict[str, Items], speaks: bool) -> None:
    for sound in ("a dog barks", "a dog barks and a person speaks"):
        found = drafted(sound, **cues)
        assert found.caption == ("A dog barks and a person speaks." if speaks else "A dog barks.")
        assert text_of(found, "speech") == ("A person speaks." if speaks else "")


@pytest.mark.parametrize(
    ("cues", "said"),
    [
        (
            {"audio_tags": tags(music=0.8), "music": (MUSIC,)},
            "A cheerful waltz piece plays at a fast tempo on flute and piano.",
        ),
        ({"audio_tags": tags(music=0.8)}, "Music plays."),
        ({"audio_tags": tags(music=0.8), "music": (Item("A song of our time."),)}, "Music plays."),
        ({"audio_tags": tags(music=0.4, dog=0.9), "music": (MUSIC,)}, "A dog barks."),
    ],
)
def test_a_description_of_music_counts_only_where_there_is_music(cues: dict[str, Items], said: str) -> None:
    assert drafted("music plays", **cues).caption == said


def test_an_unsure_place_is_left_out_and_noted() -> None:
    found = drafted(
        "a dog barks", audio_tags=tags(dog=0.9), place=(Item("kitchen", 0.4), Item("cave", 0.3), Item("indoor", 0.9))
    )
    assert found.caption == "A dog barks."
    assert text_of(found, "place") == ""
    assert found.ambiguities == ("where it is: no place is sure, kitchen the likeliest",)


@pytest.mark.parametrize(
    ("heard", "caption"),
    [
        ((Item("in a kitchen", 0.9),), "A dog barks in a kitchen."),
        ((Item("In a kitchen.", 0.9),), "A dog barks in a kitchen."),
        ((Item("in a kitchen", 0.1),), "A dog barks."),
        ((Item("in a cave", 0.9), Item("in a kitchen", 0.1)), "A dog barks."),
        ((Item("not in a kitchen, rather in a cave", 0.9),), "A dog barks."),
        ((), "A dog barks."),
    ],
)
def test_a_place_is_written_only_where_it_is_heard_as_well(heard: Items, caption: str) -> None:
    cues: dict[str, Items] = {"audio_tags": tags(dog=0.9), "place": (Item("kitchen", 0.9),), "scene": heard}
    found = row(acoustic_scene="scene").drafted(Brief("c", {**cues, "sound": (Item("a dog barks"),)}))
    assert found.caption == caption
    left_out = ('it looks as if it were "in a kitchen", and does not sound so: left out',)
    assert found.ambiguities == (left_out if caption == "A dog barks." else ())
    assert row(acoustic_scene="scene").needs[-1] == "scene"


def test_a_row_that_names_no_acoustic_scene_is_the_row_that_it_was() -> None:
    assert "acoustic_scene" not in row().facts()
    assert row().fingerprint() != row(acoustic_scene="scene").fingerprint()


@pytest.mark.parametrize(
    ("name", "phrase"),
    [("office", "in an office"), ("apartment building, outdoor", "in an apartment building"), ("cave", "in a cave")],
)
def test_a_place_without_a_phrase_of_its_own_is_named_with_an_article(name: str, phrase: str) -> None:
    cues = {"audio_tags": tags(dog=0.9), "place": (Item(name, 0.9),)}
    assert row(places={}).drafted(Brief("c", cues)).caption == f"A dog barks {phrase}."


@pytest.mark.parametrize("cues", [{}, {"audio_tags": tags(dog=0.2)}, {"music": (MUSIC,)}, {"speech": SAID[:1]}])
def test_where_nothing_is_sure_it_abstains_and_says_why(cues: dict[str, Items]) -> None:
    found = drafted("a dog barks", **cues)
    assert not found.caption
    assert "no sound is sure" in found.abstained


def test_descriptions_are_taken_apart_at_their_joints() -> None:
    assert described((Item("A dog barks, then a pair of hands claps and music plays."),)) == [
        (" and ", "a dog barks"),
        (", then ", "a pair of hands claps"),
        (" and ", "music plays"),
    ]
    assert described(()) == []
    assert described((Item(", then "),)) == []


def test_music_is_put_in_words_from_as_many_attributes_as_there_are() -> None:
    assert (
        piece((Item("genre: waltz; instruments: flute, guitar, piano"),))
        == "a waltz piece plays on flute, guitar and piano"
    )
    assert piece((Item("genre: opera; tempo: slow"),)) == "an opera piece plays at a slow tempo"
    assert piece((Item("genre: ; tempo: slow"),)) == ""
    assert piece(()) == ""


@pytest.mark.parametrize("sound", ["and", ", then , then", "(((", "\x00", "a " * 500, "\ud800 barks", "then and, "])
def test_odd_descriptions_do_no_harm(sound: str) -> None:
    assert drafted(sound, audio_tags=tags(dog=0.9)).caption.startswith("A dog barks")


def test_a_detailed_text_says_only_what_the_cues_tell_and_is_empty_where_that_is_little() -> None:
    open_ = drafted("a dog barks, then a frog croaks", audio_tags=tags(dog=0.9, frog=0.2))
    assert any("frog" in said for said in open_.ambiguities)
    assert text_of(open_, "detailed") == ""
    full = drafted(
        "a dog barks, then a person speaks, then a bell rings", audio_tags=tags(dog=0.9, bell=0.9, speech=0.9)
    )
    said = text_of(full, "detailed")
    assert "one after the other" in said
    assert "talk" in said
    for cues in ({"dog": 0.9, "bell": 0.9, "frog": 0.9, "music": 0.9}, {"dog": 0.9, "bell": 0.9, "speech": 0.9}):
        text = text_of(drafted("a dog barks and a bell rings", audio_tags=tags(**cues)), "detailed")
        assert not any(word in text.lower() for word in ("nobody", "nothing", "no music", "only"))


def test_no_order_is_told_of_what_only_tags_have_or_of_what_comes_together_and_apart() -> None:
    scores = {"dog": 0.9, "bell": 0.9, "frog": 0.9, "speech": 0.9, "music": 0.9}
    for sound in ("a dog barks, then a bell rings", "a dog barks, then a bell rings and a frog croaks"):
        text = text_of(drafted(sound, audio_tags=tags(**scores)), "detailed")
        assert text
        assert "one after the other" not in text
        assert "same time" not in text


def test_what_is_left_out_makes_nothing_simultaneous() -> None:
    found = drafted("a dog barks, then a frog croaks and a bell rings", audio_tags=tags(dog=0.9, bell=0.9))
    assert found.caption == "A dog barks, then a bell rings."


def test_its_row_is_checked_and_is_part_of_its_fingerprint() -> None:
    with pytest.raises(ValueError, match="min_score"):
        row(min_score=0.6)
    with pytest.raises(ValueError, match="no form"):
        row(forms=("long",))
    prints = {w.fingerprint() for w in (row(), row(forms=()), row(min_score=0.2), row(clauses={}), row(sound="audio"))}
    assert len(prints) == 5
    assert row().fingerprint() == row(batch_size=3).fingerprint()
    assert row(music="", place="").needs == ("sound", "speech", "audio_tags", "labels")


PROFILE = """
description = "labels alone"
[cues]
labels = { handler = "dataset_labels:DatasetLabels" }
[caption]
handler = "fusion_template:FusionTemplate"
sound = ""
music = ""
speech = ""
place = ""
tags = "labels"
forms = ["short", "detailed", "sound"]
[caption.clauses]
Dog = "a dog barks"
Bell = "a bell rings"
[checks]
least_words = 2
"""


def test_a_run_writes_captions_in_all_forms_without_any_model_and_again_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PROFILE)
    labels = (["Dog"], ["Bell", "Dog"], ["Rain"])
    rows = ({"clip_id": f"c{n}", "uri": f"/none/{n}.mp4", "end_s": 10, "labels": some} for n, some in enumerate(labels))
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine, source = load_profile(str(tmp_path / "mine.toml")), ClipSource(str(tmp_path / "clips.jsonl"))
    first = run(mine, source, str(tmp_path / "data"), quiet=True)
    found = {record.clip.clip_id: record for record in records(first).values() if isinstance(record, Caption)}
    assert {clip: record.caption for clip, record in found.items()} == {
        "c0": "A dog barks.",
        "c1": "A bell rings and a dog barks.",
    }
    assert first.manifest["reasons"] == {"rejected/no_caption": 1}
    for clip in ("c0", "c1"):
        assert [version.form for version in found[clip].versions] == ["short", "sound"]  # too little for more
        assert found[clip].events[0].cues == ("labels",)
    again = run(mine, source, str(tmp_path / "data"), quiet=True)
    assert again.unchanged
    assert "caption" not in again.costs


# Over the demo world, by cues that are right, every caption and every form is true and passes the checks.

CHECKS = Checks(least_words=2, most_words=60, boilerplate=0, sight=("video",), on=ON_REQUEST)


def sheet(told: dict[str, Any], clip_id: str) -> CueSheet:
    labels = {LABELS[name] for name in LABELS if LABELS[name] in told["labels"]}
    cues: dict[str, Items] = {
        "labels": tuple(Item(label) for label in told["labels"]) if told["tagged"] else (),
        "audio_tags": tuple(Item(label, 0.9 if label in labels else 0.02) for label in LABELS.values()),
        "sound": (Item(told["sound"], 0.9),),
        "music": (Item(told["music"], 0.9),) if told["music"] else (),
        "speech": (Item("no speech", 0.1), *([Item(told["transcript"], 0.9, 1.0, 3.0)] if told["transcript"] else [])),
        "place": (Item(told["place"], 0.9), Item("indoor", 0.9)),
        "video": (Item(told["video"], 0.9),),
    }
    return CueSheet(Clip(clip_id, "c.mp4"), tuple(Cue(clip_id, name, "f", "m", items) for name, items in cues.items()))


def test_in_the_demo_world_right_cues_give_true_captions_in_all_forms_that_pass_the_checks() -> None:
    writer = row()
    terms = Terms.of(writer, CHECKS)
    assert terms.asked == ask_for(FORMS, ())
    occasions = [o for o in make_occasions(1000, 120, "good") if o.heard()]
    detailed = 0
    for occasion in occasions:
        told = {**truth(occasion), "tagged": occasion.tagged}
        whole = sheet(told, occasion.clip_id)
        asked = settle(whole, terms)
        assert isinstance(asked, Brief)
        draft = writer.drafted(asked)
        found = settle(CueSheet(whole.clip, whole.cues, (written(asked, draft, terms.writer),)), terms)
        assert isinstance(found, Caption), (draft, found)
        assert found.caption.replace(" piece plays", " plays") == told["caption"].replace(" piece plays", " plays")
        forms = {version.form: version.text for version in found.versions}
        assert ("speech" in forms) == bool(told["transcript"])
        assert ("music" in forms) == bool(told["music"])
        assert ("sound" in forms) == bool(occasion.sources)
        assert forms["place"] == PLACES[told["place"]].phrase
        assert "short" in forms
        detailed += "detailed" in forms
        assert all(SOURCES[name].phrase.split()[-1] in forms["sound"].lower() for name in occasion.sources)
    assert len(occasions) > 110
    assert detailed > 20
