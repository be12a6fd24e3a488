from typing import Any

import pytest

from model_handlers.base import Item
from transforms.join import join_cues
from transforms.records import Clip, CueSheet, Failure, Finding

CLIP = Clip("a", "a.mp4", start_s=30.0, end_s=40.0, origin="list.csv:1")


def cue(name: str, *items: Item, **what: Any) -> Finding:
    return Finding("a", name, "0" * 16, "model", items=items, **what)


def test_cues_come_in_the_profiles_order() -> None:
    sheet = join_cues(CLIP, [cue("tags"), cue("media"), cue("sync")], ("media", "sync", "tags"))
    assert isinstance(sheet, CueSheet)
    assert [c.name for c in sheet.cues] == ["media", "sync", "tags"]


def test_a_clip_of_which_one_cue_failed_is_a_failure_that_names_the_cue_and_why() -> None:
    outcome = join_cues(
        CLIP, [cue("media"), cue("sync", error="truncated: audio ends at 3.2 s", retryable=True)], ("media", "sync")
    )
    assert outcome == Failure(CLIP, "sync", "truncated: audio ends at 3.2 s", retryable=True)


def test_the_first_failure_in_the_profiles_order_is_the_one_reported() -> None:
    failures = [cue("sync", error="late"), cue("media", error="early")]
    outcome = join_cues(CLIP, failures, ("media", "sync"))
    assert isinstance(outcome, Failure)
    assert outcome.error == "early"


def test_a_missing_cue_stops_the_run_instead_of_leaving_a_hole() -> None:
    with pytest.raises(RuntimeError, match="nothing found for sync"):
        join_cues(CLIP, [cue("media")], ("media", "sync"))


def test_a_cue_that_came_twice_stops_the_run() -> None:
    with pytest.raises(RuntimeError, match="two findings for the cue 'media'"):
        join_cues(CLIP, [cue("media"), cue("media")], ("media",))


def test_a_whole_file_gets_the_end_that_its_media_has() -> None:
    whole = Clip("a", "a.mp4", start_s=0.0, end_s=None, origin="a.mp4")
    media = cue("media", Item("video", start_s=0.0, end_s=9.5), Item("audio", start_s=0.0, end_s=9.75))
    sheet = join_cues(whole, [media], ("media",))
    assert isinstance(sheet, CueSheet)
    assert sheet.clip.end_s == 9.75
