"""Forms and translations that a writer cannot get right, and remarks that may not be published: what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipeline.config import load_profile
from beam_pipeline.run import run
from model_handlers.writers import Draft
from tests.datasets import records
from tests.llm_server import llm_server
from tests.test_forms import GERMAN, PROFILE, avro_round, draft, settled
from transforms.caption import missing
from transforms.checks import Checks
from transforms.ingest import ClipSource
from transforms.records import Caption, Failure, Rejection


def test_a_form_that_never_passes_costs_a_clip_the_form_and_not_its_caption() -> None:
    bad = draft({"short": "A brown dog barks.", "place": "on a beach"}, GERMAN)
    found = settled(bad, bad, bad, languages=("de",))
    assert isinstance(found, Caption)
    assert (found.caption, missing(found)) == (bad.caption, ("short", "place"))
    assert {version.form for version in found.versions} == {"detailed", "speech", "sound", "caption"}
    assert [attempt.answer for attempt in found.attempts] == [bad.caption] * 3
    told = 'short: "brown" cannot be heard; leave out colours. place: No cue speaks of that place; leave it empty ("").'
    assert found.attempts[0].complaint == told
    assert found.attempts[2].complaint.startswith(
        'without short, place: "brown" cannot be heard; leave out colours. No'
    )
    assert avro_round(found) == found


def test_a_translation_that_never_passes_is_left_out_alike() -> None:
    found = settled(*[draft(german="Bellt.")] * 3, languages=("de",))
    assert isinstance(found, Caption)
    assert missing(found) == ("de",)
    assert {version.language for version in found.versions} == {"en"}


def test_of_several_captions_without_a_form_the_one_that_lacks_least_is_taken_and_of_equal_ones_the_last() -> None:
    one, two = {"short": "A brown dog barks."}, {"short": "A brown dog barks.", "place": "on a beach"}
    captions = [f"A dog barks while somebody speaks{end}." for end in ("", " once", " again", " close by")]
    for drafts, taken in ((([one, two, two]), 0), ([two, one, one], 2), ([two, one, two], 1)):
        said = [replace(draft(texts), caption=captions[number]) for number, texts in enumerate(drafts)]
        found = settled(*said)
        assert isinstance(found, Caption)
        assert (found.caption, missing(found)) == (captions[taken], ("short",))
        assert [attempt.answer for attempt in found.attempts] == captions[:3]


def test_a_caption_that_passed_is_published_whatever_the_writer_says_when_it_is_asked_about_a_form() -> None:
    bad = draft({"short": "A brown dog barks."})
    coloured = replace(bad, caption="A brown dog barks while somebody speaks.")
    for later in (Draft(abstained="not sure"), Draft(error="the prompt is too long"), coloured, Draft(unreadable="no")):
        found = settled(bad, *[later] * (1 if later.abstained or later.error else 2))
        assert isinstance(found, Caption), later
        assert (found.caption, missing(found)) == (bad.caption, ("short",))
    failed = settled(bad, Draft(error="overloaded", retryable=True))
    assert isinstance(failed, Failure)  # the next run asks again
    assert isinstance(settled(Draft(unreadable="no"), Draft(abstained="not sure")), Rejection)


def test_a_form_that_passes_when_it_is_asked_for_again_is_not_missing() -> None:
    whole = settled(draft({"music": "A slow waltz is played on a piano."}), draft())  # the second has no music at all
    assert isinstance(whole, Caption)
    assert (len(whole.attempts), missing(whole)) == (1, ())


def test_where_no_caption_passes_the_rejection_has_the_last_and_all_attempts() -> None:
    bad = replace(draft(), caption="A brown dog barks while somebody speaks.")
    found = settled(draft({"short": ""}), bad, bad, checks=Checks(boilerplate=0, tries=3, most_words=4))
    assert isinstance(found, Rejection)
    assert (found.reason, found.caption, len(found.attempts)) == ("caption_length", bad.caption, 3)
    assert found.evidence == found.attempts[-1].complaint


@pytest.mark.parametrize(
    ("remark", "stays"),
    [
        ("a dog or a fox, so only an animal is named", True),
        ('only the description of the sound has "a bell rings": left out', True),
        ("whether one or two people speak", True),
        ("audio_tags says dog", False),
        ("somebody says come over here now then", False),
        ("dog (0.4) or fox", False),
        ("a dog, with a confidence of 0.41", False),
        ("**dog** or fox", False),
        ("‹script›alert‹/script›", False),
        ("https://evil.example.com", False),
        ("As an AI language model, I cannot tell", False),
        ("Es ist nicht klar, ob ein Hund oder ein Fuchs in der Ferne bellt, daher nur ein Tier", False),
        ("a dog or " * 30, False),
        ("a\u202edog", False),
    ],
)
def test_what_is_said_to_be_open_is_checked_and_dropped_where_it_will_not_do(remark: str, stays: bool) -> None:
    found = settled(replace(draft(), ambiguities=(remark, "a cat or a baby", remark)))
    assert isinstance(found, Caption)
    assert found.ambiguities == ((remark, "a cat or a baby") if stays else ("a cat or a baby",))


def test_a_run_counts_the_captions_that_are_published_without_a_form_that_never_passed(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'forms = "More:"\nlanguages = "In:"\n[form.short]\nask = "a word"\nleast_words = 1\nmost_words = 1'
    )
    rows = ({"clip_id": f"c{n}", "uri": f"/none/{n}.mp4", "end_s": 10, "labels": ["Dog"]} for n in range(2))
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source, data = ClipSource(str(tmp_path / "clips.jsonl")), str(tmp_path / "data")
    with llm_server() as server:
        text = PROFILE.format(url=server.url, checks="").replace('["short", "detailed", "sound"]', '["short"]')
        (tmp_path / "mine.toml").write_text(text.replace("languages =", 'form_set = "own.toml"\nlanguages ='))
        mine = load_profile(str(tmp_path / "mine.toml"))
        found = run(mine, source, data, quiet=True)
        assert server.answered == 2 * 3
        assert run(mine, source, data, quiet=True).unchanged
        assert server.answered == 2 * 3
    assert found.manifest["counts"]["captions"] == 2
    assert found.manifest["versions"] == {"published": {"de": 2, "fr": 2}, "missing": {"short": 2}}
    assert {missing(record) for record in records(found).values() if isinstance(record, Caption)} == {("short",)}
