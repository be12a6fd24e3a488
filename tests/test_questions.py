"""Answers become pairs: what is taken, what is asked for again, and in which form it is asked and read."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import fastavro
import pytest

from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.models import wanted
from beam_pipeline.presets import check_key
from model_handlers.api_writer import ApiWriter
from model_handlers.base import Item
from model_handlers.llm import load_prompt, read_questions
from model_handlers.local_writer import LocalWriter
from model_handlers.questions import Question, Questions
from model_handlers.writers import Brief, Draft
from transforms.answers import written, written_key
from transforms.avro import avro_schema, from_record, to_record
from transforms.caption import told
from transforms.checks import Checks
from transforms.pair_checks import for_pairs, same_questions
from transforms.publish import digest_of
from transforms.questions import Captioned, Questioned, Terms, settle, to_pair
from transforms.records import Caption, Clip, Cue, Failure, Written
from transforms.store import read_rows

CLIP = Clip("a clip", "a.mp4", 3.0, 13.0, source="demo", video_id="a video")
ITEMS = (Item("a dog barks, then a bell rings", 0.9),)
CAPTION = Caption(CLIP, "A dog barks, then a bell rings.", "w", (Cue("a clip", "sound", "f", "m", ITEMS),), "train")
TERMS = Terms("asker:1", ("sound",), Questions(), for_pairs(Checks()), "a model", "questions-1")
CUES = ("sound",)
GOOD = (
    Question("sound", "What can be heard?", "A dog barks, then a bell rings.", (), CUES),
    Question("order", "What can be heard first?", "A dog barks.", (), CUES),
    Question("source", "What rings?", "a bell", ("a bell", "a cow", "a saw", "a train"), CUES),
    Question("count", "How many different sounds are there?", "Two.", (), CUES),
    Question("order", "What can be heard last?", "A bell rings.", (), CUES),
)
BAD = (
    Question("sound", "What can be heard in the clip?", "A dog barks.", (), CUES),
    Question("source", "What meows and hisses?", "A cat.", (), CUES),
)


def settled(*drafts: Draft) -> Questioned | Failure | Brief:
    """What becomes of the caption when the writer has answered so, one answer after the other."""
    captioned = Captioned(CAPTION)
    for draft in drafts:
        asked = settle(captioned, TERMS)
        assert isinstance(asked, Brief)
        captioned = replace(captioned, written=(*captioned.written, written(asked, draft, TERMS.writer)))
    return settle(captioned, TERMS)


def done(*drafts: Draft) -> Questioned:
    found = settled(*drafts)
    assert isinstance(found, Questioned)
    return found


def test_good_pairs_are_taken_with_the_clip_and_what_they_rest_on() -> None:
    found = done(Draft(pairs=GOOD[:4]))
    assert found.caption is CAPTION
    assert found.dropped == ()
    assert [pair.question for pair in found.pairs] == [pair.question for pair in GOOD[:4]]
    (first, _, third, _) = found.pairs
    assert (first.clip_id, first.video_id, first.source, first.start_s, first.end_s, first.split) == (
        *("a clip", "a video", "demo"),
        *(3.0, 13.0, "train"),
    )
    assert (first.form, first.choices, third.form) == ("open", (), "choice")
    assert [(evidence.cue, evidence.items) for evidence in first.evidence] == [("sound", ITEMS)]
    assert (first.writer, first.model, first.prompt) == ("asker:1", "a model", "questions-1")
    assert sorted(third.choices) == sorted(GOOD[2].choices)


def test_what_fails_a_check_is_dropped_with_its_reason_and_the_rest_stays() -> None:
    found = done(Draft(pairs=(GOOD[0], *BAD, GOOD[1], GOOD[0])))
    assert [pair.question for pair in found.pairs] == [GOOD[0].question, GOOD[1].question]
    assert found.dropped == ("cue_speak", "grounded", "duplicate")
    assert done(Draft(pairs=GOOD)).dropped == ("surplus",)


def test_two_questions_of_one_wording_are_one() -> None:
    again = replace(GOOD[0], question="What CAN the heard be?")
    assert done(Draft(pairs=(GOOD[0], again, GOOD[1]))).dropped == ("duplicate",)


@pytest.mark.parametrize("again", ["What is heard?", "What sounds are heard?", "Which sounds can you hear?"])
def test_a_question_in_other_words_with_the_same_answer_is_one_and_with_another_it_is_not(again: str) -> None:
    same = replace(GOOD[0], question=again)
    assert done(Draft(pairs=(GOOD[0], same, GOOD[1]))).dropped == ("duplicate",)
    other = replace(same, answer="A bell rings.")
    assert done(Draft(pairs=(GOOD[0], other))).dropped == ()


def test_questions_that_differ_in_what_they_count_or_in_order_are_two() -> None:
    more = (
        Question("count", "How many instruments are there?", "Two.", (), CUES),
        Question("count", "How many genres are there?", "Two.", (), CUES),
        Question("order", "What comes last?", "A dog barks.", (), CUES),
    )
    keys = [same_questions(pair) for pair in (*GOOD, *more)]
    assert all(one.isdisjoint(other) for one, other in combinations(keys, 2))


def test_where_too_few_pass_the_writer_is_asked_once_more_with_the_complaints_and_what_passed_stays() -> None:
    asked = settled(Draft(pairs=(GOOD[0], *BAD)))
    assert isinstance(asked, Brief)
    assert asked.caption == CAPTION.caption
    (attempt,) = asked.attempts
    assert "clip" in attempt.complaint
    assert '"What meows and hisses?"' in attempt.complaint
    found = done(Draft(pairs=(GOOD[0], *BAD)), Draft(pairs=(GOOD[0], GOOD[1], BAD[0])))
    assert [pair.question for pair in found.pairs] == [GOOD[0].question, GOOD[1].question]
    assert found.dropped == ("cue_speak", "grounded", "cue_speak")


def test_what_cannot_be_read_is_asked_for_once_more_and_then_the_caption_stays_without_questions() -> None:
    unreadable = Draft(unreadable="Here you go")
    assert isinstance(settled(unreadable), Brief)
    found = done(unreadable, unreadable)
    assert (found.pairs, found.dropped) == ((), ("unreadable", "unreadable"))


def test_a_writer_that_finds_no_question_is_believed() -> None:
    found = done(Draft(abstained="the clip is good for no question"))
    assert (found.pairs, found.dropped) == ((), ("no_question",))


def test_a_request_that_a_retry_may_mend_makes_the_clip_a_failure() -> None:
    found = settled(Draft(error="no answer", retryable=True))
    assert found == Failure(CLIP, "questions", "no answer", True)


def test_a_request_that_is_refused_costs_the_clip_its_questions_alone() -> None:
    found = done(Draft(error="refused by a content filter"))
    assert (found.pairs, found.dropped) == ((), ("refused",))


def test_the_key_holds_the_caption_and_that_of_a_caption_is_what_it_was() -> None:
    brief = Brief("c1", {"tags": (Item("Dog", 0.5),)})
    assert written_key(brief, "Writer:0") == "52b4b73b51fe06c9"
    keys = {written_key(replace(brief, caption=text), "Writer:0") for text in ("", "A dog.", "A dog barks.")}
    assert len(keys) == 3


def test_the_right_option_is_in_each_place_equally_often_and_always_in_the_same_for_one_clip() -> None:
    pair, brief = GOOD[2], told("a clip", {"sound": ITEMS}, ["sound"])

    def place(clip_id: str) -> int:
        caption = replace(CAPTION, clip=replace(CLIP, clip_id=clip_id))
        made = to_pair(pair, caption, brief, TERMS)
        return made.choices.index(made.answer)

    places = Counter(place(f"clip {n}") for n in range(4000))
    assert sorted(places) == [0, 1, 2, 3]
    assert all(abs(count - 1000) < 130 for count in places.values())  # 4.7 standard deviations
    assert place("clip 7") == place("clip 7")
    other_order = replace(pair, choices=pair.choices[::-1])
    assert to_pair(other_order, CAPTION, brief, TERMS) == to_pair(pair, CAPTION, brief, TERMS)


def test_a_pairs_evidence_is_what_is_said_what_speaks_of_it_and_nothing_faint() -> None:
    nobody, language = Item("no speech", 0.1), Item("language en", 0.9)
    sentence = Item("open the door", 0.8, 1.0, 2.0)
    tags = (Item("Dog", 0.9), Item("Speech", 0.7), Item("Dog toy", 0.02))
    brief = told("a clip", {"speech": (nobody, language, sentence), "tags": tags}, ["speech", "tags"])
    cues = ("speech", "tags")

    def evidence(question: str, answer: str, told_of: Brief) -> list[tuple[str, ...]]:
        made = to_pair(Question("speech", question, answer, (), cues), CAPTION, told_of, TERMS)
        return [tuple(item.text for item in one.items) for one in made.evidence]

    assert evidence("Does anybody speak?", "Yes, there is speech.", brief) == [("open the door",), ("Speech",)]
    assert evidence("Is there a dog?", "Yes, a dog.", brief)[1] == ("Dog",)
    silent = told("a clip", {"speech": (nobody,), "tags": tags[2:]}, ["speech", "tags"])
    assert evidence("Does anybody speak?", "No, nobody speaks.", silent) == [("no speech",), ("Dog toy",)]


def test_pairs_count_in_a_datasets_digest() -> None:
    found = done(Draft(pairs=GOOD[:4])).pairs
    assert len({digest_of(pair) for pair in found}) == 4


def asker(**fields: Any) -> ApiWriter:
    row = {"model": "any", "key_env": "", "headings": {"sound": "what sounds"}, "prompt": "questions-1", **fields}
    return ApiWriter(**row)


def test_the_caption_and_what_is_wanted_follow_the_cues_as_data() -> None:
    brief = replace(told("a clip", {"sound": ITEMS}, ["sound"]), caption='A dog </caption> "barks" <b>.')
    wanted = Questions(per_clip=6, kinds=("sound", "music"), choices=3, share_choice=0.5)
    system, user = asker(questions=wanted).conversation(brief)
    assert system["role"] == "system"
    cues, _, rest = user["content"].partition("<caption>\n")
    caption, _, ask = rest.partition("\n</caption>\n")
    assert "a dog barks, then a bell rings" in cues
    assert json.loads(caption) == 'A dog ‹/caption› "barks" ‹b›.'
    assert ask == "Write 6 pairs. Of these, 3 are multiple-choice with 3 choices each. Kinds: sound, music."
    assert "{" not in ask


def test_the_prompt_names_every_kind_and_demands_the_form_that_is_read() -> None:
    prompt = load_prompt("questions-1")
    assert prompt.task == "questions"
    assert all(f'"{kind}"' in prompt.system for kind in Questions().kinds)
    form = asker().form.model_json_schema()
    assert set(form["properties"]) == {"pairs"}
    shown = prompt.system[prompt.system.index('{"pairs"') :].strip()
    (pair,) = read_questions(shown).pairs
    assert pair.question == "<one question>"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"pairs": 3}',
        '{"pairs": [{"question": "What?"}]}',
        '{"pairs": [], "note": "hello"}',
        json.dumps({"pairs": [{"kind": "sound", "question": 3, "answer": "", "choices": [], "cues": []}]}),
        json.dumps({"caption": "A dog barks.", "events": [], "abstained": ""}),
    ],
)
def test_an_answer_of_another_form_is_unreadable(text: str) -> None:
    assert read_questions(text).unreadable
    assert not read_questions(text).pairs


def test_an_answer_is_read_out_of_what_models_put_around_it_and_hidden_characters_go() -> None:
    pair = {"kind": "sound", "question": "What can\u200b be\nheard?", "answer": "A dog.", "choices": [], "cues": ["a"]}
    draft = read_questions("<think>hm</think>```json\n" + json.dumps({"pairs": [pair]}) + "\n```")
    assert draft.pairs == (Question("sound", "What can be heard?", "A dog.", (), ("a",)),)
    assert read_questions('{"pairs": []}') == Draft(abstained="the clip is good for no question")


def test_what_is_wanted_is_in_the_fingerprint_of_questions_and_in_no_captions() -> None:
    few = Questions(per_clip=2)
    assert asker().fingerprint() != asker(questions=few).fingerprint()
    captions = asker(prompt="auto_acd-1")
    assert captions.fingerprint() == asker(prompt="auto_acd-1", questions=few).fingerprint()


CUE = {"labels": {"handler": "dataset_labels:DatasetLabels"}}
API = {"handler": "api_writer:ApiWriter", "model": "any", "key_env": ""}


def profile(**questions: Any) -> Profile:
    return Profile("mine", "", {**API}, CUE, questions={**API, "prompt": "questions-1", **questions})


def test_a_profiles_section_builds_the_writer_and_says_what_is_wanted() -> None:
    writer = profile(per_clip=2, kinds=["sound", "order"], share_choice=0).questioner(3.0)
    assert writer
    assert writer.questions == Questions(2, ("sound", "order"), 4, 0.0)
    assert (writer.task, writer.budget_dollars, writer.told_by) == ("questions", 3.0, ("any", "questions-1"))
    assert Profile("mine", "", {**API}, CUE).questioner() is None
    assert [writer.task for writer in profile().writers()] == ["caption", "questions"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"per_clip": 0}, "questions: per_clip"),
        ({"per_clip": "4"}, "questions: per_clip"),
        ({"kinds": ["colour"]}, "questions: kinds"),
        ({"kinds": []}, "questions: kinds"),
        ({"share_choice": 1.5}, "questions: share_choice"),
        ({"choices": 1}, "questions: choices"),
        ({"per_clips": 4}, "no parameter 'per_clips'"),
        ({"forms": ["short"]}, "questions: forms, languages and form_set are for captions"),
        ({"languages": ["de"]}, "questions: forms, languages and form_set are for captions"),
        ({"form_set": "own.toml"}, "questions: forms, languages and form_set are for captions"),
        ({"prompt": "auto_acd-1"}, r"questions: ApiWriter with this prompt writes for \[caption\]"),
        ({"handler": "template_writer:TemplateWriter"}, "questions: TemplateWriter has no parameter"),
    ],
)
def test_a_section_that_cannot_be_used_says_why(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        profile(**row).questioner()


TOML = """
description = "labels alone"
[cues]
labels = {{ handler = "dataset_labels:DatasetLabels" }}
[caption]
handler = "api_writer:ApiWriter"
model = "any"
key_env = ""
{caption}
[questions]
handler = "api_writer:ApiWriter"
model = "any"
key_env = ""
prompt = "questions-1"
{questions}
[checks]
{checks}
"""


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"caption": 'languages = ["fr", "en"]'}, "caption.languages: captions are in 'en' as it is"),
        ({"checks": 'language = "de"'}, r'questions.kinds: "place" is .*; set kinds = \["sound", "count", "order"'),
        ({"checks": 'language = "de"', "questions": 'kinds = ["place", "sound"]'}, r'set kinds = \["sound"\]'),
        ({"questions": 'forms = ["short"]'}, "questions: forms, languages and form_set are for captions"),
        ({"checks": 'language = "de"\n', "questions": 'kinds = ["sound"]', "caption": 'languages = ["en"]'}, ""),
        ({"checks": 'language = ""', "caption": 'languages = ["en"]'}, ""),
    ],
)
def test_what_makes_no_sense_in_its_language_is_refused_when_a_profile_is_loaded(
    sections: dict[str, str], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML.format(**{"caption": "", "questions": "", "checks": "", **sections}))
    if not said:
        assert load_profile(str(path)).questioner()
        return
    with pytest.raises(ConfigError, match=said) as refused:
        load_profile(str(path))
    assert "\n" not in str(refused.value)


def test_a_model_that_writes_captions_and_questions_takes_its_memory_once() -> None:
    local = {"handler": "local_writer:LocalWriter", "model": "org/model"}
    for caption_gb, questions_gb, beyond in ((9.0, 9.0, 0.0), (9.0, 11.5, 2.5), (11.5, 9.0, 0.0)):
        row = {**local, "prompt": "questions-1", "gpu_gb": questions_gb}
        mine = Profile("mine", "", {**local, "gpu_gb": caption_gb}, CUE, questions=row)
        assert mine.gpu_memory() == {"labels": 0.0, "caption": caption_gb, "questions": beyond}
        other = replace(mine, questions={**row, "precision": "bf16"})
        assert other.gpu_memory()["questions"] == questions_gb


def test_the_rows_wants_are_those_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = profile(
        handler="local_writer:LocalWriter", model="org/model", gpu_gb=9.0, prompt="questions-1", key_env=None
    )
    local = {key: value for key, value in mine.questions.items() if key != "key_env"}
    assert replace(mine, questions=local).gpu_memory() == {"labels": 0.0, "caption": 0.0, "questions": 9.0}
    assert ("org/model", "", LocalWriter.patterns) in wanted(replace(mine, questions=local))
    with pytest.raises(ConfigError, match=r"^questions: Dataflow's workers .* into \[questions\] key_secret"):
        check_key(profile(key_env="SOME_KEY"))


def test_answers_that_were_stored_before_there_were_questions_are_still_read(tmp_path: Path) -> None:
    schema = avro_schema(Written)
    schema["fields"] = [
        field for field in schema["fields"] if field["name"] not in ("pairs", "versions", "ambiguities")
    ]
    row = Written(clip_id="c", key="k", caption="A dog barks.")
    old = {name: value for name, value in to_record(row).items() if name != "pairs"}
    with (tmp_path / "old.avro").open("wb") as file:
        fastavro.writer(file, schema, [old])
    assert [from_record(Written, record) for record in read_rows(str(tmp_path / "old.avro"), Written)] == [row]


def test_a_writer_of_questions_writes_no_captions() -> None:
    with pytest.raises(ConfigError, match=r"caption: ApiWriter with this prompt writes for \[questions\]"):
        Profile("mine", "", {**API, "prompt": "questions-1"}, CUE).writer()
