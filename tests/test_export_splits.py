"""What people reviewed becomes the test split, and nothing of it gets into training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.config import ConfigError
from beam_pipeline.export.export import NO_SOUND, export
from beam_pipeline.export.splits import NOT_CORRESPONDING, Splits, judged
from beam_pipeline.review.ratings import Review, append
from tests.exporting import caption, clip, expected, pairs_of, publish
from transforms.records import Caption

NOW = "A dog barks."


def review(
    clip_id: str, corresponds: bool | None = True, corrected: str = NOW, shown: str = NOW, **more: Any
) -> Review:
    facts = {"at": "2026-01-01T00:00:00+00:00", "version": 1, "outcome": "captions", **more}
    rater = facts.pop("rater", "ada")
    return Review(rater=rater, clip_id=clip_id, caption=shown, corresponds=corresponds, corrected=corrected, **facts)


def later(it: Review, minutes: int, rater: str = "bob") -> Review:
    return replace(it, at=f"2026-01-01T00:{minutes:02d}:00+00:00", rater=rater)


YES, NO, FIXED = review("a"), review("a", False), review("a", True, "A fox barks.")


@pytest.mark.parametrize(
    ("reviews", "text"),
    [
        ([], None),
        ([YES], NOW),
        ([NO], ""),
        ([FIXED], "A fox barks."),
        ([replace(FIXED, corresponds=None)], "A fox barks."),  # who corrects says that the rest is right
        ([replace(FIXED, corresponds=False)], "A fox barks."),  # what was rewritten is used, whatever was answered
        ([replace(NO, corrected=f" {NOW}\n")], ""),  # no word is another
        ([replace(NO, corrected=" ")], ""),
        ([replace(YES, corresponds=None)], None),
        ([review("a", True, "  ")], ""),  # no word was left
        ([review("a", True, " A fox. \ud83d")], "A fox. ?"),
        ([YES, later(NO, 1)], ""),  # a tie
        ([YES, later(NO, 1), later(FIXED, 2, "cy")], "A fox barks."),
        ([FIXED, later(YES, 1), later(NO, 2, "cy")], NOW),  # the latest who said yes
        ([YES, later(replace(FIXED, corresponds=False), 1)], "A fox barks."),
        ([NO, later(replace(FIXED, corresponds=False), 1)], ""),
        # Of another caption than the clip has now:
        ([replace(FIXED, caption="Old.")], "A fox barks."),
        ([replace(YES, caption="Old.", corrected="Old.")], "Old."),
        ([replace(NO, caption="Old.", corrected="Old.")], None),
        ([replace(FIXED, caption="Old."), later(NO, 1)], ""),  # what is said of the new one decides
        ([replace(NO, caption="Older."), later(replace(FIXED, caption="Old."), 1)], "A fox barks."),
        # Of one person, who heard the clip with its old caption and with its new one:
        ([replace(FIXED, caption="Old."), later(NO, 1, "ada")], ""),
        ([replace(NO, caption="Old.", corrected="Old."), later(YES, 1, "ada")], NOW),
        ([YES, later(replace(NO, caption="Newer.", corrected="Newer."), 1, "ada")], NOW),
    ],
)
def test_what_people_say_decides_which_text_is_taken(reviews: list[Review], text: str | None) -> None:
    assert judged(reviews, NOW) == text


def dataset(root: Path, *reviews: Review) -> str:
    """Clips of three videos in all splits, with questions."""
    rows = [
        caption(clip("a1", video_id="a")),
        caption(clip("a2", video_id="a")),
        caption(clip("a3", video_id="a"), split="validation"),
        caption(clip("b1", video_id="b"), split="test"),
        caption(clip("b2", video_id="b"), split="test"),
        caption(clip("c1", video_id="c")),
        caption(clip("c2", video_id="c"), split="validation"),
        caption(clip("d1", video_id="a"), split="benchmark", benchmarks=("audiocaps",)),
        caption(clip("e1")),
        caption(clip("e2")),
    ]
    place = publish(root, 1, rows, pairs_of(rows))
    for one in reviews:
        append(root / "reviews", one)
    return place


def exported(root: str, out: Path, **more: Any) -> dict[str, dict[str, Any]]:
    found = export(root, "jsonl", str(out), **more)
    rows = [json.loads(line) for path in out.glob("[!q]*.jsonl") for line in path.read_text().splitlines()]
    assert found.tally.captions.total() == len(rows)
    return {row["clip_id"]: row for row in rows}


def splits(rows: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {clip_id: row["split"] for clip_id, row in sorted(rows.items())}


def test_without_reviews_the_splits_are_those_of_the_records(tmp_path: Path) -> None:
    root = dataset(tmp_path / "data")
    rows = exported(root, tmp_path / "out")
    assert rows == {row["clip_id"]: row for row in expected(root)}


def test_reviewed_clips_are_the_test_split_and_nothing_of_their_videos_is_trained_on(tmp_path: Path) -> None:
    fixed = review("a1", True, "A fox barks.", video_id="a")
    root = dataset(tmp_path / "data", fixed, review("b1", video_id="b"), review("c1", False, video_id="c"))
    rows = exported(root, tmp_path / "out")
    assert splits(rows) == {
        "a1": "test",
        "a2": "held_out",
        "a3": "held_out",
        "b1": "test",
        "b2": "held_out",
        "c2": "validation",  # c1 is left out, so nothing of its video is tested on
        "d1": "benchmark",
        "e1": "train",
        "e2": "train",
    }
    originals = {row["clip_id"]: row for row in expected(root)}
    corrected = {"caption": "A fox barks.", "original_caption": NOW, "reviewed": True, "split": "test"}
    assert rows["a1"] == originals["a1"] | corrected | {"versions": [], "events": [], "similarity": None}
    assert rows["b1"] == originals["b1"] | {"reviewed": True}
    assert rows["a2"] == originals["a2"] | {"split": "held_out"}
    text = (tmp_path / "out/left_out.csv").read_text()
    assert text.splitlines()[1:] == [f'"c1","c","test","/nowhere/2.mp4","{NOT_CORRESPONDING}"']


def test_a_rewritten_caption_is_used_though_the_one_shown_did_not_correspond(tmp_path: Path) -> None:
    root = dataset(tmp_path / "data", review("a1", False, "A fox barks.", video_id="a"), review("c1", False))
    rows = exported(root, tmp_path / "out")
    assert {"caption": "A fox barks.", "original_caption": NOW, "split": "test"}.items() <= rows["a1"].items()
    assert rows["a2"]["split"] == "held_out"  # of its video
    assert "c1" not in rows
    assert '"a1"' not in (tmp_path / "out/left_out.csv").read_text()


def test_questions_go_with_their_clip_and_not_with_a_caption_that_was_corrected(tmp_path: Path) -> None:
    root = dataset(
        tmp_path / "data", review("a1", True, "A fox barks.", video_id="a"), review("b1"), review("c1", False)
    )
    found = export(root, "jsonl", str(tmp_path / "out"), questions=True)
    files = sorted((tmp_path / "out").glob("qa_*.jsonl"))
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert {row["clip_id"]: row["split"] for row in rows} == {
        **{"a2": "held_out", "a3": "held_out", "b1": "test", "b2": "held_out", "c2": "validation"},
        **{"d1": "benchmark", "e1": "train", "e2": "train"},
    }
    assert all(path.stem == f"qa_{json.loads(line)['split']}" for path in files for line in path.open())
    assert (found.tally.left_out, found.tally.unchecked) == ({NOT_CORRESPONDING: 1}, 2)
    assert found.tally.pairs.total() == len(rows) == 16


def test_reviews_outlive_a_rerun(tmp_path: Path) -> None:
    reviews = [review("a1", True, "A fox barks."), review("a2", True), review("b1", False), review("gone", True)]
    root = dataset(tmp_path / "data", *reviews)
    rerun = [
        caption(clip(name), "Some animal barks.", split)
        for name, split in (("a1", "train"), ("a2", "train"), ("b1", "test"))
    ]
    publish(tmp_path / "data", 2, rerun)
    rows = exported(root, tmp_path / "out")
    assert {name: (row["split"], row["caption"], row["original_caption"]) for name, row in rows.items()} == {
        "a1": ("test", "A fox barks.", "Some animal barks."),
        "a2": ("test", NOW, "Some animal barks."),  # what somebody approved
        "b1": ("held_out", "Some animal barks.", ""),  # nobody has judged that one
    }


def test_an_earlier_version_is_exported_with_what_was_said_of_it_though_a_later_one_was_reviewed(
    tmp_path: Path,
) -> None:
    newer = "Some animal barks."
    root = dataset(tmp_path / "data", review("a1", True, "A fox barks."), review("b1", False))
    for one in (review("a1", False, newer, newer, version=2), review("b1", True, newer, newer, version=2)):
        append(tmp_path / "data/reviews", one)
    rows = exported(root, tmp_path / "out")
    assert (rows["a1"]["split"], rows["a1"]["caption"]) == ("test", "A fox barks.")
    assert "b1" not in rows


def test_reviews_may_be_left_aside(tmp_path: Path) -> None:
    root = dataset(tmp_path / "data", review("a1", True, "A fox barks."), review("c1", False))
    assert exported(root, tmp_path / "out", reviews=False) == {row["clip_id"]: row for row in expected(root)}


def test_only_the_splits_that_are_wanted(tmp_path: Path) -> None:
    root = dataset(tmp_path / "data", review("a1", video_id="a"))
    rows = exported(root, tmp_path / "out", splits=["test", "held_out"])
    assert set(rows) == {"a1", "a2", "a3", "b1", "b2"}
    found = export(root, "csv", str(tmp_path / "csv"), splits=["test"])
    assert (dict(found.tally.captions), found.tally.other_splits) == ({"test": 1}, 9)
    assert {path.name for path in (tmp_path / "csv").iterdir()} == {"test.csv", "README.md"}


def test_a_split_that_is_none_is_no_name_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'\.\./x'"):
        Splits([]).unreviewed("../x", "")
    root = publish(tmp_path / "data", 1, [caption(clip("a"), split="../../x")])
    with pytest.raises(ConfigError, match="split"):
        export(root, "csv", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_a_record_from_before_there_were_splits_has_one_of_its_own(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", 1, [caption(clip("a"), split="")])
    assert splits(exported(root, tmp_path / "out")) == {"a": "unsplit"}


def test_questions_of_a_clip_without_its_sound_go_with_it(tmp_path: Path) -> None:
    rows: list[Caption] = [caption(clip("a"))]
    root = publish(tmp_path / "data", 1, rows, pairs_of(rows))
    found = export(root, "jsonl", str(tmp_path / "out"), audio="wav", questions=True)
    assert (found.tally.left_out, found.tally.pairs.total()) == ({NO_SOUND: 1}, 0)
