"""Captions in several forms and languages from one request: what is asked, what is read, what is checked and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, writer

from beam_pipeline.config import Profile, load_profile
from beam_pipeline.one_clip import one_clip
from beam_pipeline.run import run
from beam_pipeline.show import console
from model_handlers.api_writer import ApiWriter
from model_handlers.base import Item, Items
from model_handlers.forms import Asked, ask_for
from model_handlers.llm import MOST_AMBIGUITIES, MOST_LETTERS, answer_form, load_prompt, read_answer
from model_handlers.template_writer import TemplateWriter
from model_handlers.writers import Brief, Draft, SoundEvent, Version
from tests.asking import HEADINGS, brief
from tests.datasets import records
from tests.llm_server import llm_server
from transforms.answers import written
from transforms.avro import avro_schema, from_record, read_avro, to_record
from transforms.caption import Terms, settle
from transforms.checks import Checks
from transforms.ingest import ClipSource
from transforms.publish import digest_of
from transforms.records import Caption, Clip, Cue, CueSheet, Written

FORMS = ("short", "detailed", "speech", "music", "sound", "place")
CUES: dict[str, Items] = {
    "audio_tags": (Item("Dog", 0.9), Item("Speech", 0.8), Item("Music", 0.05)),
    "speech": (Item("no speech", 0.1), Item("language en", 0.9), Item("come over here now then", 0.9, 0.0, 1.0)),
    "place": (Item("a kitchen", 0.8),),
}
TEXTS = {
    "short": "A dog barks and somebody speaks.",
    "detailed": (
        "A dog barks sharply several times close by, pauses, and barks again, while somebody speaks in a low, steady "
        "voice a little further away; the sounds echo from the hard walls of a kitchen, and both go on to the end."
    ),
    "speech": "Somebody speaks in a low, steady voice.",
    "music": "",
    "sound": "A dog barks sharply several times.",
    "place": "in a kitchen",
}
GERMAN = "Ein Hund bellt mehrmals laut, während jemand in der Küche mit tiefer Stimme spricht."
EVENTS = (SoundEvent("a dog barks", ("audio_tags",)), SoundEvent("somebody speaks", ("speech",)))


def answer(**fields: Any) -> str:
    events = [{"sound": event.text, "cues": list(event.cues)} for event in EVENTS]
    return json.dumps({"caption": "A dog barks while somebody speaks.", "events": events, "abstained": "", **fields})


def api(**fields: Any) -> ApiWriter:
    return ApiWriter(**{"model": "any", "headings": HEADINGS, "key_env": "", **fields})


def draft(texts: dict[str, str] | None = None, german: str = "") -> Draft:
    versions = tuple(Version(name, "", text) for name, text in ({**TEXTS, **(texts or {})}).items())
    translated = (Version("caption", "de", german),) if german else ()
    return Draft("A dog barks while somebody speaks.", events=EVENTS, versions=versions + translated)


def settled(
    *drafts: Draft,
    cues: dict[str, Items] | None = None,
    checks: Checks | None = None,
    then: Checks | None = None,
    **asked: Any,
) -> Any:
    """What becomes of a clip with these answers, by checks that may have changed since they were given."""
    told = {**CUES, **(cues or {})}
    sheet = CueSheet(Clip("c1", "c1.mp4"), tuple(Cue("c1", name, "f", "m", items) for name, items in told.items()))
    wanted = ask_for(asked.get("forms", FORMS), asked.get("languages", ()))
    terms = Terms("ApiWriter:f", tuple(told), checks or Checks(boilerplate=0), True, "m", "p", wanted)
    for one in drafts:
        asked_now = settle(sheet, terms)
        assert isinstance(asked_now, Brief)
        sheet = replace(sheet, written=(*sheet.written, written(asked_now, one, terms.writer)))
    return settle(sheet, replace(terms, checks=then or terms.checks))


# What is asked for.


def test_forms_and_languages_are_asked_for_in_the_same_request_with_the_form_of_the_answer() -> None:
    with llm_server() as server:
        told = api(base_url=server.url, forms=("short", "music"), languages=("de",), prompt="fusion_audio-2")
        (found,) = told.write([brief()], told.load())
        (body,) = server.bodies
    system = body["messages"][0]["content"]
    for part in ('- "short": one sentence of at most 12 words', '- "music": ', '- "de": the caption', '"languages"'):
        assert part in system
    assert '"detailed"' not in system
    schema = body["response_format"]["json_schema"]["schema"]
    assert set(schema["required"]) == {"caption", "events", "abstained", "forms", "languages", "ambiguities"}
    assert schema["$defs"]["Forms"]["required"] == ["short", "music"]
    assert schema["$defs"]["Languages"]["additionalProperties"] is False
    assert [(v.form, v.language) for v in found.versions] == [("short", ""), ("music", ""), ("caption", "de")]
    assert found.ambiguities == ("how far away it is",)


def test_a_row_that_asks_for_nothing_more_is_told_nothing_more() -> None:
    assert api().conversation(brief()) == load_prompt("auto_acd-1").conversation(brief(), HEADINGS)
    assert not api().asked
    assert TemplateWriter().asked == Asked()


def test_without_forms_and_languages_a_writer_s_fingerprint_is_what_it_was_before_there_were_any() -> None:
    assert api(headings={"audio_tags": "what is heard"}).fingerprint() == "ApiWriter:2e096a31165f176b"
    assert TemplateWriter().fingerprint() == "TemplateWriter:dde9eba4680148fb"
    assert load_profile("auto_acd").writer().fingerprint() == "ApiWriter:eb796b9d698605a2"
    assert load_profile("demo").writer().fingerprint() == "LocalWriter:eef36fc043bf505f"


def test_what_is_asked_for_is_part_of_a_fingerprint() -> None:
    rows = [{}, {"forms": ("short",)}, {"forms": ("short", "music")}, {"languages": ("de",)}, {"languages": ("fr",)}]
    assert len({api(**row).fingerprint() for row in rows}) == len(rows)


def test_the_file_of_forms_is_as_it_was_when_it_was_first_used() -> None:
    assert ask_for(FORMS, ("de",)).digest == "b9b28968eb16d891"  # another wording is a new file


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"forms": ("shrot",)}, "no form 'shrot'; it has short, detailed"),
        ({"forms": ("short", "short")}, "one is there twice"),
        ({"languages": ("xx",)}, "'xx' cannot be told from others"),
        ({"languages": ("German",)}, "'German' cannot be told"),
        ({"forms": ("short",), "form_set": "forms-0"}, "there are no forms 'forms-0'"),
    ],
)
def test_a_wrong_row_is_refused_with_what_there_is(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        api(**row)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('forms = "a"\nlanguages = "b"\n[form.x]\nask = "x"\nleast_words = 5\nmost_words = 3', "below least_words"),
        (
            'forms = "a"\nlanguages = "b"\n[form.x]\nask = "x"\nleast_words = 1\nmost_words = 3\nabuot = "music"',
            "abuot",
        ),
        ('forms = "a"\nlanguages = "b"\n[form.X]\nask = "x"\nleast_words = 1\nmost_words = 3', "match pattern"),
        (
            'forms = "a"\nlanguages = "b"\n[form.caption]\nask = "x"\nleast_words = 1\nmost_words = 3',
            "the name is taken",
        ),
        ('forms = "a"\nlanguages = "b"\n[form.json]\nask = "x"\nleast_words = 1\nmost_words = 3', "the name is taken"),
        ('forms = "a"\nlanguages = "b"\n[form.model_config]\nask = "x"\nleast_words = 1\nmost_words = 3', "is taken"),
        ('forms = "a"\nlanguages = "b"\n[form.music]\nask = "x"\nleast_words = 1\nmost_words = 3', "about = 'music'"),
        ('forms = "a"', "languages"),
        ("forms = ", "Invalid value"),
    ],
)
def test_a_wrong_file_of_forms_is_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(content)
    with pytest.raises(ValueError, match=said):
        ask_for(("x",), (), str(tmp_path / "mine.toml"))


def test_a_form_is_not_called_as_a_language_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'forms = "a"\nlanguages = "b"\n[form.de]\nask = "x"\nleast_words = 1\nmost_words = 3'
    )
    assert ask_for(("de",), ("fr",), str(tmp_path / "mine.toml"))
    with pytest.raises(ValueError, match="'de' is a language"):
        ask_for(("de",), ("fr", "de"), str(tmp_path / "mine.toml"))


def test_questions_have_neither_forms_nor_languages() -> None:
    with pytest.raises(ValueError, match="questions have none of them"):
        api(prompt="questions-1", forms=("short",))
    with pytest.raises(ValueError, match="questions have none of them"):
        api(prompt="questions-1", form_set="my.toml")


def test_a_profile_s_own_forms_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'forms = "More:"\nlanguages = ""\n[form.haiku]\nask = "three lines"\nleast_words = 5\nmost_words = 17'
    )
    text = PROFILE.format(url="http://127.0.0.1:9/v1", checks="").replace('["short", "detailed", "sound"]', '["haiku"]')
    (tmp_path / "mine.toml").write_text(text.replace("languages =", 'form_set = "own.toml"\nlanguages ='))
    found = load_profile(str(tmp_path / "mine.toml")).writer().asked
    assert [(form.name, form.most_words) for form in found.forms] == [("haiku", 17)]
    assert found.told.startswith('More:\n- "haiku": three lines')


# How an answer is read.


@pytest.mark.parametrize(
    "forms",
    [
        None,
        {},
        {"short": "A dog barks."},
        {"short": "A dog barks.", "music": "", "long": ""},
        {"short": "A dog barks.", "music": None},
        {"short": "A dog barks.", "music": ["", ""]},
        ["A dog barks.", ""],
    ],
)
def test_a_form_that_is_missing_or_unknown_makes_an_answer_unreadable(forms: object) -> None:
    form = answer_form(("short", "music"))
    assert read_answer(answer(forms=forms), form).unreadable
    assert read_answer(answer(), form).unreadable
    assert read_answer(answer(forms={"short": "A dog barks.", "music": ""})).unreadable  # nobody asked for them
    found = read_answer(answer(forms={"short": "A dog\nbarks.", "music": ""}), form)
    assert found.versions == (Version("short", "", "A dog barks."), Version("music", "", ""))


def test_languages_whose_codes_are_words_of_python_are_read_like_others() -> None:
    codes = ("is", "as", "or", "de")
    found = read_answer(answer(languages=dict.fromkeys(codes, "Hundur geltir.")), answer_form((), codes))
    assert [version.language for version in found.versions] == list(codes)


def test_a_writer_that_abstains_writes_no_versions() -> None:
    said = {"caption": "", "abstained": "nothing is sure", "forms": {"short": "A dog."}, "ambiguities": ["all"]}
    found = read_answer(answer(**said), answer_form(("short",), (), True))
    assert found == Draft(abstained="nothing is sure")


def test_ambiguities_are_few_short_and_harmless() -> None:
    form = answer_form((), (), True)
    many = ["<b>dog</b> or\nfox\u202e", "", *(f"open {n} " + "x" * 900 for n in range(40))]
    found = read_answer(answer(ambiguities=many), form).ambiguities
    assert found[0] == "‹b›dog‹/b› or fox"
    assert len(found) == MOST_AMBIGUITIES
    assert max(map(len, found)) <= MOST_LETTERS
    assert read_answer(answer(ambiguities=[3]), form).unreadable
    assert read_answer(answer(), form).unreadable
    assert read_answer(answer(ambiguities=[])).unreadable


# What is checked, and what is kept.


def test_forms_and_translations_that_pass_are_on_the_record_with_their_languages() -> None:
    found = settled(replace(draft(german=GERMAN), ambiguities=("a dog or a fox",)), languages=("de",))
    assert isinstance(found, Caption)
    kept = {(version.form, version.language): version.text for version in found.versions}
    assert kept == {(name, "en"): text for name, text in TEXTS.items() if text} | {("caption", "de"): GERMAN}
    assert found.ambiguities == ("a dog or a fox",)
    assert avro_round(found) == found


def avro_round(caption: Caption) -> Caption:
    return from_record(Caption, to_record(caption))


BAD = {
    "short: length": {"short": "A dog barks sharply and loudly several times while somebody speaks in a low voice."},
    "detailed: length": {"detailed": "A dog barks while somebody speaks in a kitchen."},
    "short: length of nothing": {"short": ""},
    "short: colours": {"short": "A brown dog barks."},
    "detailed: inaudible": {"detailed": TEXTS["detailed"].replace("sharply", "visibly")},
    "sound: brackets": {"sound": "A dog barks (loudly)."},
    "speech: quoted_speech": {"speech": "Somebody speaks: come over here now then."},
    "speech: facet": {"speech": "Somebody speaks over quiet music."},
    "speech: facet of another part": {"speech": "A dog barks in a kitchen."},
    "speech: facet of what only other cues say": {"speech": "Somebody speaks while a dog barks."},
    "music: facet": {"music": "A slow waltz is played on a piano."},
    "sound: facet of an instrument": {"sound": "A dog barks and a guitar plays."},
    "sound: facet of singing": {"sound": "A dog barks and somebody sings."},
    "place: facet of no place": {"place": "with a dog that barks"},
    "place: facet of a sound in a place": {"place": "in a kitchen with a dog"},
    "sound: facet": {"sound": "A dog barks and somebody speaks."},
    "place: facet": {"place": "on a beach"},
    "place: length": {"place": "in a large kitchen with hard walls and a stone floor, at home"},
    "short: language": {"short": "Ein Hund bellt laut in der Küche."},
    "short: assistant_speak": {"short": "Sure, here is a short caption."},
}


@pytest.mark.parametrize(("which", "texts"), BAD.items())
def test_a_form_that_fails_a_check_is_asked_for_again_with_its_name(which: str, texts: dict[str, str]) -> None:
    name, check = next(iter(texts)), which.split(": ")[1].split(" ")[0]
    again = settled(draft(texts))
    assert isinstance(again, Brief)
    (attempt,) = again.attempts
    assert (attempt.answer, attempt.check) == (draft().caption, check)
    assert attempt.complaint.startswith(f"{name}: ")
    whole = settled(draft(texts), draft())
    assert isinstance(whole, Caption)
    assert whole.attempts == (attempt,)


def test_a_translation_in_another_language_or_of_another_length_is_refused_with_its_code() -> None:
    for text in (
        "A dog barks loudly several times while somebody speaks in a low voice in the kitchen.",
        "Un chien aboie plusieurs fois pendant que quelqu'un parle à voix basse dans la cuisine.",
        "Bellt.",
        "Ein Hund bellt " * 60,
        "",
    ):
        again = settled(draft(german=text or " "), languages=("de",))
        assert isinstance(again, Brief), text
        assert again.attempts[0].complaint.startswith("de: ")
        assert again.attempts[0].check in ("language", "length")


def test_checks_made_of_english_words_leave_translations_alone() -> None:
    german = "Auf dem Video bellt ein Hund im Camp, please, und jemand spricht in der Küche mit tiefer Stimme dazu."
    strict = Checks(boilerplate=0, on=("uncertainty", "gender_age", "moods", "topic"))
    assert isinstance(settled(draft(german=german), languages=("de",), checks=strict), Caption)
    with_brackets = settled(draft(german=GERMAN.replace("laut", "(laut)")), languages=("de",))
    assert with_brackets.attempts[0].check == "brackets"
    english = settled(draft({"short": "A dog barks in the video."}), checks=strict)
    assert english.attempts[0].check == "cue_speak"


SILENT: dict[str, Items] = {"audio_tags": (Item("Dog", 0.9), Item("Speech", 0.05)), "speech": (Item("no speech", 0.9),)}


def test_the_speech_form_is_for_clips_in_which_a_cue_hears_somebody() -> None:
    nobody = replace(draft({"speech": TEXTS["speech"]}), caption="A dog barks in a kitchen.", events=EVENTS[:1])
    refused = settled(nobody, cues=SILENT)
    assert refused.attempts[0].complaint.startswith("speech: No cue says that anybody speaks")
    quiet = replace(
        nobody, versions=draft({"speech": "", "short": "A dog barks.", "detailed": TEXTS["detailed"]}).versions
    )
    assert isinstance(settled(quiet, cues=SILENT), Caption)


@pytest.mark.parametrize(
    ("cue", "passes"),
    [
        (Item("Music", 0.7), True),
        (Item("Music", 0.05), False),
        (Item("Piano", 0.4), True),
        (Item("Dog", 0.9), False),
        (Item("genre: waltz; instruments: piano; tempo: slow; mood: sad"), True),
    ],
)
def test_the_music_form_is_for_clips_in_which_a_cue_hears_music(cue: Item, passes: bool) -> None:
    music = draft({"music": "A slow piece of music is played."})
    found = settled(music, cues={"music": (cue,)})
    assert isinstance(found, Caption) is passes
    if not passes:
        assert found.attempts[0].complaint.startswith("music: No cue says that there is music")


@pytest.mark.parametrize(
    ("cue", "said"),
    [("Music", "waltz"), ("Piano", "waltz"), ("genre: waltz; instruments: flute", "piano"), ("a waltz on a piano", "")],
)
def test_the_music_form_names_no_genre_and_instrument_that_no_cue_says(cue: str, said: str) -> None:
    found = settled(draft({"music": "A slow waltz is played on a piano."}), cues={"music": (Item(cue, 0.9),)})
    assert isinstance(found, Caption) is (not said)
    if said:
        assert found.attempts[0].complaint == f'music: No cue says "{said}" of the music; leave it out.'


def test_the_music_form_leaves_out_what_only_other_cues_say() -> None:
    cues: dict[str, Items] = {"music": (Item("Music", 0.9),)}
    assert settled(draft({"music": "Music plays while a dog barks."}), cues=cues).attempts[0].check == "facet"


def test_a_detailed_text_may_be_left_empty() -> None:
    found = settled(draft({"detailed": ""}))
    assert isinstance(found, Caption)
    assert "detailed" not in {version.form for version in found.versions}


def test_another_complaint_about_the_same_answer_is_no_reason_to_ask_again() -> None:
    bad = draft({"short": "A brown dog barks.", "place": "on a beach"})
    complaints = []
    for off in ((), ("colours",)):
        found = settled(bad, draft(), checks=Checks(boilerplate=0), then=Checks(boilerplate=0, off=off))
        assert isinstance(found, Caption)
        complaints.append(found.attempts[0].complaint.split(":")[0])
    assert complaints == ["short", "place"]


# Datasets and stores.


def test_a_caption_without_versions_has_the_digest_that_it_had_before_there_were_any() -> None:
    plain = Caption(
        Clip("c1", "c1.mp4", labels=("Dog",)), "A dog barks.", "w", (), events=(SoundEvent("a dog barks", ("labels",)),)
    )
    assert digest_of(plain) == 112117537305697984573173197938103650656
    digests = {
        digest_of(plain),
        digest_of(replace(plain, versions=(Version("short", "en", "A dog."),))),
        digest_of(replace(plain, ambiguities=("a dog or a fox",))),
    }
    assert len(digests) == 3


def test_one_clip_is_shown_with_its_versions_and_what_is_open() -> None:
    found = replace(settled(draft(german=GERMAN), languages=("de",)), ambiguities=("a dog or [red]a fox",))
    with console.capture() as captured:
        one_clip(found)
    said = " ".join(captured.get().split())
    for part in (
        f"en short: {TEXTS['short']}",
        f"de caption: {GERMAN}",
        "open: a dog or [red]a fox",
        "en place: in a kitchen",
    ):
        assert part in said


def test_records_and_answers_written_before_there_were_versions_are_read(tmp_path: Path) -> None:
    clip = Clip("c1", "c1.mp4", labels=("Dog",))
    caption = Caption(clip, "A dog barks.", "w", (), events=EVENTS)
    answered = Written(caption="A dog barks.", events=EVENTS, clip_id="c1", key="k")
    for record in (caption, answered):
        schema = avro_schema(type(record))
        new = {"versions", "ambiguities", "pairs"}
        schema["fields"] = [field for field in schema["fields"] if field["name"] not in new]
        with (tmp_path / "old.avro").open("wb") as file:
            writer(file, parse_schema(schema), [{k: v for k, v in to_record(record).items() if k not in new}])
        assert list(read_avro(str(tmp_path / "old.avro"), type(record))) == [record]


PROFILE = """
description = "labels alone"
[cues]
labels = {{ handler = "dataset_labels:DatasetLabels" }}
[caption]
handler = "api_writer:ApiWriter"
model = "any"
base_url = "{url}"
key_env = ""
prompt = "fusion_audio-2"
forms = ["short", "detailed", "sound"]
languages = ["de", "fr"]
[checks]
{checks}
"""


def profile(folder: Path, url: str, checks: str = "") -> Profile:
    (folder / "mine.toml").write_text(PROFILE.format(url=url, checks=checks))
    return load_profile(str(folder / "mine.toml"))


def test_a_run_asks_once_for_all_forms_keeps_them_and_asks_again_only_where_one_fails(tmp_path: Path) -> None:
    rows = (
        {"clip_id": f"c{n}", "uri": f"/none/{n}.mp4", "end_s": 10, "labels": [s]} for n, s in enumerate(("Dog", "Rain"))
    )
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source, data = ClipSource(str(tmp_path / "clips.jsonl")), str(tmp_path / "data")
    with llm_server(faults={"500": 0.3, "wrong_schema": 0.2}, faulty=2, seed=2) as server:
        first = run(profile(tmp_path, server.url), source, data, quiet=True)
        asked = server.answered
        again = run(profile(tmp_path, server.url), source, data, quiet=True)
        assert (again.unchanged, server.answered) == (True, asked)
        longer = run(profile(tmp_path, server.url, "most_words = 60"), source, data, quiet=True)
        assert server.answered == asked
        refused = run(profile(tmp_path, server.url, 'language = "es"'), source, data, quiet=True)
    for record in records(first).values():
        assert isinstance(record, Caption)
        assert [(v.form, v.language) for v in record.versions] == [
            *(("short", "en"), ("detailed", "en"), ("sound", "en"), ("caption", "de"), ("caption", "fr"))
        ]
        assert record.ambiguities == ("how far away it is",)
    of_each = dict.fromkeys(("de", "detailed", "fr", "short", "sound"), 2)
    assert first.manifest["versions"] == {"published": of_each, "missing": {}}
    assert longer.unchanged
    assert refused.manifest["counts"]["captions"] == 0
    assert (first.manifest["forms"], first.manifest["languages"]) == (["short", "detailed", "sound"], ["de", "fr"])


def test_an_answer_that_abstains_may_leave_out_what_else_is_asked_for() -> None:
    form = answer_form(FORMS, ("de",), True)
    abstained = '{"caption": "", "events": [], "abstained": "no sound is sure"}'
    assert read_answer(abstained, form) == Draft(abstained="no sound is sure")
    assert read_answer(abstained.replace('""', '"A dog barks."').replace("no sound is sure", ""), form).unreadable
