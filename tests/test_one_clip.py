"""`earshot show`: one clip in the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipeline.cli import main
from beam_pipeline.one_clip import one_clip
from beam_pipeline.run import Result, run
from beam_pipeline.show import console
from model_handlers.audio_embedding import embedding_item
from tests.datasets import CLIPS, listed, profile, rows
from transforms.records import Attempt, Caption, Clip, Cue, Item, Pair, Rejection, SoundEvent


@pytest.fixture(scope="module")
def result(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("dataset")
    known = rows(world)[:CLIPS]
    source = listed(folder, world, *known, known[0], {"clip_id": "gone", "uri": "gone.mp4"})
    return run(profile(folder), source, str(folder / "out"), quiet=True)


def shown(*arguments: Any) -> str:
    with console.capture() as capture:
        assert main(["show", *map(str, arguments)]) == 0
    return " ".join(capture.get().split())


def test_a_captioned_clip_shows_its_caption_its_cues_and_where_it_is_from(result: Result) -> None:
    caption = next(caption for caption in result.read("captions") if caption.clip.clip_id != "demo4321_00000")
    said = shown(result.root, caption.clip.clip_id)
    assert caption.caption in said
    for cue in caption.cues:
        assert cue.name in said
    assert f"{caption.cues[-1].items[0].text} ({caption.cues[-1].items[0].score:.2f})" in said
    assert f"split {caption.split}" in said
    assert "list.jsonl" in said


def test_a_clip_that_failed_shows_the_step_and_whether_a_retry_may_help(result: Result) -> None:
    assert "failed in" in (said := shown(result.root, "gone"))
    assert "no such file" in said
    assert "a run takes it up again" in said


def test_a_clip_that_is_listed_twice_shows_both_ends(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", result.root, "demo4321_00000", "--json"]) == 0
    ends = sorted(one["end"] for one in json.loads(capsys.readouterr().out)["outcomes"])
    assert ends in (["captions", "failed"], ["failed", "rejected"])


def test_a_clip_that_is_not_there_is_one_line_with_ids_like_it(
    result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", result.root, "demo4321_0000"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no clip 'demo4321_0000'; there is 'demo4321_0000" in said


CLIP = Clip("a", "file.mp4", 1.0, None, video_id="v")
SYNC = Cue("a", "sync", "f", "m", (Item("true=+1.0 predicted=-0.4 probabilities=0.1,0.9", 0.2, 0.0, 5.0),))


def printed(*given: Any) -> str:
    with console.capture() as capture:
        one_clip(*given)
    return " ".join(capture.get().split())


def test_answers_that_did_not_pass_are_shown_with_the_complaint_and_the_price() -> None:
    attempts = (Attempt("a red dog barks", "colours", "'red' cannot be heard"),)
    rejection = Rejection(CLIP, "checks", "3 answers", (SYNC,), "", attempts, 0.2, 1200, 30, 0.0015)
    said = printed(rejection, (), {"similarity": {"least": 0.35}})
    assert "answer 1: a red dog barks colours: 'red' cannot be heard" in said
    assert "0.200 of caption and sound, required 0.35" in said
    assert "1,200 tokens in, 30 out, 0.00150 dollars" in said
    assert "+1.0 s heard as -0.4 s (0.20) 0.0–5.0 s" in said


def test_events_questions_and_embeddings_are_shown_as_what_they_are() -> None:
    clap = Cue("a", "clap", "f", "m", (embedding_item(np.full(64, 1 / 8)),))
    cues = (clap, Cue("a", "music", "f", "m", (), "nobody plays"))
    caption = Caption(CLIP, "A dog barks.", "w", cues, events=(SoundEvent("a dog barks", ("tags", "sound")),))
    pair = Pair("a", "v", "", 1.0, None, "", (), "what", "choice", "What barks?", "a dog", ("a dog", "a cat"), (), "w")
    said = printed(caption, (pair,), {})
    assert "a dog barks (tags, sound)" in said
    assert "clap an embedding" in said
    assert "not applicable: nobody plays" in said
    assert "What barks? (a dog; a cat) a dog" in said


def test_text_from_outside_cannot_forge_what_the_terminal_shows() -> None:
    hostile = "\x1b[2J[bold red]rejected:[/] \x07"
    cue = Cue("a", hostile, "f", hostile, (Item(hostile),))
    caption = Caption(Clip(hostile, hostile, labels=(hostile,)), hostile, "w", (cue,), ambiguities=(hostile,))
    with console.capture() as capture:
        one_clip(caption, (), {})
    assert "\x1b" not in capture.get()
    assert "\x07" not in capture.get()
    assert capture.get().count("[bold red]rejected:[/]") >= 5


def test_an_id_that_begins_with_a_hyphen_is_found_after_two(result: Result, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", result.root, "--", "-abc_000010"]) == 2
    assert "no clip '-abc_000010'" in capsys.readouterr().err


def test_what_a_message_quotes_from_clips_cannot_steer_the_terminal(
    result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", result.root, "\x1b[31mevil\x1b]0;title\x07"]) == 2
    assert "\x1b" not in (said := capsys.readouterr().err)
    assert "\\x1b[31mevil" in said
