"""Reviews on the disk: what was acknowledged is there, whatever is killed, and damage is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from beam_pipeline.config import ConfigError
from beam_pipeline.review.ratings import (
    InVersion,
    Review,
    append,
    check_folder,
    check_rater,
    read_reviews,
    reviews_folder,
)

REVIEW = Review(
    "ann",
    "clips/a b.mp4",
    2,
    "captions",
    "A dog – “rex” – barks.\u2028Loudly.",
    False,
    "A cat miaows.",
    ("dog", "rex"),
    1,
    5,
    (("tags", True), ("place", False)),
    "\x1b[31mnote\n",
    "2026-11-21T22:00:00+00:00",
    12.5,
    "video",
    (1, 2),
)


def test_a_review_comes_back_as_it_was_and_is_one_line(tmp_path: Path) -> None:
    path = append(tmp_path / "new" / "reviews", REVIEW)
    assert path.name == "ann.jsonl"
    assert path.read_bytes().count(b"\n") == 1
    assert read_reviews(str(path.parent)) == [REVIEW]
    assert json.loads(path.read_text()) == json.loads(json.dumps(asdict(REVIEW)))


def test_the_latest_of_each_rater_of_each_clip_counts_in_the_order_they_came(tmp_path: Path) -> None:
    for clip_id, rater, note in (("a", "ann", "1"), ("b", "ann", "2"), ("a", "ben", "3"), ("a", "ann", "4")):
        append(tmp_path, replace(REVIEW, clip_id=clip_id, rater=rater, note=note))
    assert [(one.rater, one.clip_id, one.note) for one in read_reviews(str(tmp_path))] == [
        ("ann", "b", "2"),
        ("ann", "a", "4"),
        ("ben", "a", "3"),
    ]
    assert (tmp_path / "ann.jsonl").read_bytes().count(b"\n") == 3


def test_what_is_said_of_a_new_caption_takes_nothing_from_what_was_said_of_the_old_one(tmp_path: Path) -> None:
    for version, caption, note in ((1, "Old.", "1"), (2, "New.", "2"), (1, "Old.", "3")):
        append(tmp_path, replace(REVIEW, version=version, caption=caption, note=note))
    assert [(one.caption, one.note) for one in read_reviews(str(tmp_path))] == [("New.", "2"), ("Old.", "3")]
    for caption in ("Old.", "New."):
        found = InVersion(read_reviews(str(tmp_path)))
        found.add("captions", {"clip": {"clip_id": REVIEW.clip_id}, "caption": caption})
        assert [one.caption for one in found.result().reviews] == [caption]


def test_reviews_from_before_places_were_kept_can_be_read(tmp_path: Path) -> None:
    path = append(tmp_path, REVIEW)
    line = json.loads(path.read_text())
    del line["inaudible_at"]
    path.write_text(json.dumps(line) + "\n")
    assert read_reviews(str(tmp_path)) == [replace(REVIEW, inaudible_at=())]


def test_a_folder_that_no_review_can_be_kept_in_is_told_before_any_is_made(tmp_path: Path) -> None:
    check_folder("ann", tmp_path / "new")
    assert (tmp_path / "new").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--reviews"):
        check_folder("ann", tmp_path / "file")


def test_where_there_is_no_folder_there_are_no_reviews(tmp_path: Path) -> None:
    assert read_reviews(reviews_folder(str(tmp_path))) == []
    (tmp_path / "[ab]*").mkdir()
    append(tmp_path / "[ab]*", REVIEW)
    assert read_reviews(str(tmp_path / "[ab]*")) == [REVIEW]
    assert read_reviews(str(tmp_path)) == []


@pytest.mark.parametrize("cut", [1, 20, -3])
def test_a_line_that_was_cut_off_costs_itself_and_no_other(tmp_path: Path, cut: int) -> None:
    path = append(tmp_path, REVIEW)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:cut])
    assert read_reviews(str(tmp_path)) == [REVIEW]
    append(tmp_path, replace(REVIEW, clip_id="next"))
    assert [one.clip_id for one in read_reviews(str(tmp_path))] == [REVIEW.clip_id, "next"]


def test_a_last_line_without_its_newline_counts(tmp_path: Path) -> None:
    path = append(tmp_path, REVIEW)
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_reviews(str(tmp_path)) == [REVIEW]
    append(tmp_path, replace(REVIEW, clip_id="next"))
    assert len(read_reviews(str(tmp_path))) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"rater": "ann"', "line 2: no review"),
        (b"[]", "line 2: no review"),
        (b"\xff\xfe", "line 2: no review"),
        (json.dumps({**asdict(REVIEW), "detail": 4}).encode(), "line 2: no review: detail.*less than or equal to 3"),
        (json.dumps({**asdict(REVIEW), "hallucination": 0}).encode(), "line 2: no review: hallucination"),
        (json.dumps({**asdict(REVIEW), "corresponds": "yes"}).encode(), "line 2: no review: corresponds"),
        (json.dumps({**asdict(REVIEW), "outcome": "failed"}).encode(), "line 2: no review: outcome"),
    ],
)
def test_a_damaged_line_is_named_with_its_file(tmp_path: Path, line: bytes, message: str) -> None:
    path = append(tmp_path, REVIEW)
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    with pytest.raises(ConfigError, match=f"ann.jsonl, {message}"):
        read_reviews(str(tmp_path))


@pytest.mark.parametrize("name", ["", "Ann", "../ann", "a/b", ".ann", "-ann", "ann.jsonl", "a" * 33, "änn", "a\n"])
def test_a_name_that_is_no_files_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--rater"):
        append(tmp_path, replace(REVIEW, rater=name))
    assert list(tmp_path.iterdir()) == []
    assert check_rater("ann-2_b") == "ann-2_b"


def test_a_folder_that_cannot_be_written_is_an_error_to_act_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        append(tmp_path / "file", REVIEW)


def _add(folder: Path, name: str) -> None:
    for index in range(50):
        append(folder, replace(REVIEW, clip_id=f"{name}{index}", note="x" * 3000))


def test_two_processes_may_write_one_raters_file_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_add, args=(tmp_path, name)) for name in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert {one.clip_id for one in read_reviews(str(tmp_path))} == {f"{name}{i}" for name in "ab" for i in range(50)}


WRITER = """
import sys
from dataclasses import replace
from beam_pipeline.review.ratings import append
from tests.test_review_ratings import REVIEW
for index in range(100_000):
    append(sys.argv[1], replace(REVIEW, clip_id=str(index), note="x" * 5000))
    print(index, flush=True)
"""


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        acknowledged = -1
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged == 30:
                os.kill(writer.pid, signal.SIGKILL)
    append(tmp_path, replace(REVIEW, clip_id="after"))
    found = [one.clip_id for one in read_reviews(str(tmp_path))]
    assert found[: acknowledged + 1] == [str(index) for index in range(acknowledged + 1)]
    assert found[-1] == "after"
    assert len(found) - acknowledged in (2, 3)  # the one under way may have made it


def test_only_reviews_of_a_versions_captions_count_in_it() -> None:
    reviews = [
        replace(REVIEW, clip_id="a", caption="A dog."),
        replace(REVIEW, clip_id="a", rater="ben", caption="A cat."),
        replace(REVIEW, clip_id="b", caption="Rain."),
        replace(REVIEW, clip_id="c", caption="Wind."),
        replace(REVIEW, clip_id="d", caption="Wind."),
    ]
    found = InVersion(reviews)
    found.add("captions", {"clip": {"clip_id": "a"}, "caption": "A dog."})
    found.add("rejected", {"clip": {"clip_id": "b"}, "caption": "Rain."})
    found.add("rejected", {"clip": {"clip_id": "c"}, "caption": ""})
    found.add("failed", {"clip": {"clip_id": "d"}, "error": "broken"})
    result = found.result()
    assert [(one.clip_id, one.rater, one.outcome) for one in result.reviews] == [
        ("a", "ann", "captions"),
        ("b", "ann", "rejected"),
    ]
    assert result.left_out == {
        "of another caption than the clip now has": 1,
        "of clips without a caption in this version": 2,
    }
