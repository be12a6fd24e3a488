"""`earshot calibrate`: the threshold against a brute-force search and arithmetic by hand, and on a dataset's files."""

from __future__ import annotations

import argparse
import csv
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from beam_pipeline.calibrate import (
    Rating,
    add_arguments,
    best,
    calibrate,
    curve,
    interval,
    main,
    read_ratings,
    some_points,
    verdicts,
)
from beam_pipeline.calibrate import (
    rated as rated_by,
)
from beam_pipeline.config import ConfigError
from beam_pipeline.review.ratings import Review, append
from model_handlers.base import Item
from transforms import versions
from transforms.avro import avro_schema, to_record
from transforms.publish import OUTCOMES, manifest
from transforms.records import Caption, Clip, Cue, Rejection


def made(count: int, seed: int = 0) -> tuple[list[float], list[bool]]:
    """Scores with many ties, and verdicts that follow them loosely."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.4, 0.2, count).round(2)
    return scores.tolist(), (scores + rng.normal(0, 0.15, count) > 0.4).tolist()


def by_hand(scores: Sequence[float], good: Sequence[bool], at: float, beta: float) -> tuple[float, float, float, float]:
    """Precision, recall, F-beta and share kept of one threshold, as their definitions read."""
    kept = [is_good for score, is_good in zip(scores, good, strict=True) if score >= at]
    precision, recall = sum(kept) / len(kept), sum(kept) / sum(good)
    f = (1 + beta**2) * precision * recall / (beta**2 * precision + recall) if sum(kept) else 0.0
    return precision, recall, f, len(kept) / len(good)


def test_four_captions_by_hand() -> None:
    points = curve([0.1, 0.2, 0.3, 0.4], [False, True, False, True], beta=1.0)
    assert [point.threshold for point in points] == [0.1, 0.15, 0.25, 0.35]
    assert [point.precision for point in points] == pytest.approx([1 / 2, 2 / 3, 1 / 2, 1])
    assert [point.recall for point in points] == pytest.approx([1, 1, 1 / 2, 1 / 2])
    assert [point.f for point in points] == pytest.approx([2 / 3, 4 / 5, 1 / 2, 2 / 3])
    assert [point.kept for point in points] == [1, 0.75, 0.5, 0.25]
    assert best(points).threshold == 0.15


@pytest.mark.parametrize("beta", [0.5, 1.0, 1.05, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_is_that_of_a_search_over_all(beta: float, seed: int) -> None:
    scores, good = made(60, seed)
    points = curve(scores, good, beta)
    for point in points:
        found = (point.precision, point.recall, point.f, point.kept)
        assert found == pytest.approx(by_hand(scores, good, point.threshold, beta))
    everywhere = np.linspace(min(scores), max(scores), 5000)
    assert best(points).f == pytest.approx(max(by_hand(scores, good, at, beta)[2] for at in everywhere))


def test_equal_scores_are_kept_or_dropped_together() -> None:
    points = curve([0.5, 0.5, 0.5, 0.2], [True, False, True, False])
    assert [(point.threshold, point.kept) for point in points] == [(0.2, 1.0), (0.35, 0.75)]
    assert len(curve([0.3] * 5, [True, False, True, False, True])) == 1


def test_a_threshold_separates_scores_that_are_hardly_apart() -> None:
    low, high = 0.123456789, 0.12345679
    (_, point) = curve([low, high], [False, True])
    assert low < point.threshold <= high
    (first, _) = curve([-0.99999, 0.5], [False, True])
    assert -1 <= first.threshold <= -0.99999


def test_a_higher_beta_keeps_more() -> None:
    scores, good = made(200)
    kept = [best(curve(scores, good, beta)).kept for beta in (0.2, 1.0, 5.0)]
    assert kept[0] < kept[1] < kept[2]


def test_the_interval_is_the_same_every_time_holds_the_threshold_and_shrinks_with_more_ratings() -> None:
    widths = []
    for count in (50, 2000):
        scores, good = made(count)
        low, high = interval(scores, good, resamples=300)
        assert (low, high) == interval(scores, good, resamples=300)
        assert low <= best(curve(scores, good)).threshold <= high
        widths.append(high - low)
    assert widths[1] < widths[0]


@pytest.mark.parametrize(
    ("scores", "good", "message"),
    [([], [], "no good"), ([0.1], [False], "no good"), ([0.1, float("nan")], [True, False], "finite")],
)
def test_a_curve_of_nothing_is_refused(scores: list[float], good: list[bool], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curve(scores, good)


def test_most_raters_decide_and_a_tie_is_bad() -> None:
    said = {"a": [True, True, False], "b": [True, False], "c": [True], "d": [False, False, True]}
    ratings = [Rating(clip_id, good) for clip_id, votes in said.items() for good in votes]
    assert verdicts(ratings) == {"a": True, "b": False, "c": True, "d": False}


def test_the_table_shows_the_chosen_point_among_a_few_others() -> None:
    points = curve(*made(400))
    shown = some_points(points, best(points), at_most=8)
    assert len(shown) in (8, 9)
    assert best(points) in shown
    assert [shown[0], shown[-1]] == [points[0], points[-1]]


# --- files -----------------------------------------------------------------------------------------------------------


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_ratings_are_words_or_numbers(tmp_path: Path) -> None:
    words = write(tmp_path / "words.csv", "\ufeffclip_id, good,rater", "a,Yes,x", "b, 0,x", "a,true,y", "", "c,no,x")
    assert [(r.clip_id, r.good) for r in read_ratings(words)] == [("a", True), ("b", False), ("a", True), ("c", False)]
    numbers = write(tmp_path / "numbers.csv", "rating,clip_id,caption", '3,a,"A dog, barking."', "2.9,b,", "5,c")
    assert read_ratings(numbers) == [Rating("a", True, "A dog, barking."), Rating("b", False), Rating("c", True)]
    assert [rating.good for rating in read_ratings(numbers, good_from=4)] == [False, False, True]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("id,good", "a,1"), "column clip_id; it has id, good"),
        (("clip_id,score", "a,1"), "called good, or else rating; it has clip_id, score"),
        (("clip_id,good,rating", "a,1,3"), "called good, or else rating"),
        (("clip_id,good", "a,1", "b,maybe"), "line 3: good is 'maybe'"),
        (("clip_id,good", "a"), "line 2: good is ''"),
        (("clip_id,rating", "a,4", "b,nan"), "line 3: rating is 'nan'"),
        (("clip_id,rating", "a,four"), "line 2: rating is 'four'"),
        (("clip_id,good", " ,1"), "line 2: it has no clip_id"),
        (("clip_id,good,caption", 'a,1,"A dog', "b,0,A cat"), "no ratings can be read.*unexpected end"),
        (("clip_id,good,good", "a,1,0"), "two columns are called good"),
    ],
)
def test_a_line_that_cannot_be_understood_is_named(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_ratings(write(tmp_path / "ratings.csv", *lines))
    with pytest.raises(ConfigError, match="no ratings can be read"):
        read_ratings(tmp_path / "elsewhere.csv")


def publish(root: Path, scores: Sequence[float | None], least: float = 0.3, **facts: Any) -> str:
    """Writes a version as a run leaves it: captions c0, c1 … with these scores; what is below `least` is rejected."""
    outcomes: dict[str, list[Any]] = {name: [] for name in OUTCOMES}
    for index, score in enumerate(scores):
        clip = Clip(f"c{index}", f"{index}.mp4", origin=f"list:{index}", end_s=10.0)
        cues = (Cue(clip.clip_id, "tags", "t1", "m", (Item("dog", 0.2), Item("cat", 0.01 * index))),)
        caption = Caption(clip, f"Caption {index}.", "writer:1", cues, similarity=score)
        low = score is not None and score < least
        outcomes["rejected" if low else "captions"].append(caption.rejected("dissimilar", "low") if low else caption)
    silent = Clip("silent", "s.mp4", origin="list:s", end_s=10.0)
    outcomes["rejected"].append(Rejection(silent, "silent", "-70 dBFS"))
    folder = Path(versions.folder(str(root), 1))
    folder.mkdir(parents=True)
    for name, cls in OUTCOMES.items():
        with (folder / f"{name}.avro").open("wb") as file:
            fastavro.writer(file, avro_schema(cls), map(to_record, outcomes[name]), codec="deflate")
    cues_of = {"tags": {"model": "m", "fingerprint": "t1"}}
    content = {"cues": cues_of, "filters": {}, "writer": "writer:1", "similarity": {"cue": "ears"}, **facts}
    counts = {name: len(some) for name, some in outcomes.items()}
    files = {name: [f"{name}.avro"] for name in OUTCOMES}
    (folder / "manifest.json").write_text(json.dumps(manifest(content, counts, [], files)))
    versions.advance(str(root), 1)
    return str(root)


def rated(path: Path, good: Sequence[bool], *more: Sequence[str]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("clip_id", "good"), *((f"c{i}", int(it)) for i, it in enumerate(good)), *more])
    return path


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_rejected_captions_count_as_well_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", [0.1, 0.2, 0.3, 0.4, None])
    ratings = [Rating(f"c{index}", index in (1, 3)) for index in range(5)]
    ratings += [Rating("silent", True), Rating("unheard of", False), Rating("c0", True, "Another caption.")]
    found = calibrate(root, ratings, beta=1.0, resamples=50)
    assert (found.version, found.rated, found.good, found.best.threshold) == (1, 4, 2, 0.15)
    assert found.left_out == {
        "ratings of captions without a score (similarity)": 1,
        "ratings of clips without a caption in this version": 2,
        "ratings of another caption than the clip now has": 1,
    }
    assert tomllib.loads(found.row) == {"similarity": {"cue": "ears", "least": 0.15}}


def test_a_cue_may_give_the_score(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", [None] * 40)
    found = calibrate(root, [Rating(f"c{index}", index >= 30) for index in range(40)], by="tags", resamples=50)
    assert 0.29 < found.best.threshold <= 0.3
    assert found.row == ""
    with pytest.raises(ConfigError, match="--by place: give similarity, or a cue of this version: tags"):
        calibrate(root, [Rating("c0", True)], by="place")


@pytest.mark.parametrize(
    ("scores", "good", "message"),
    [
        ([0.1, 0.2], [], "there are no ratings"),
        ([0.1, 0.2], [True, True], "all 2 rated captions are good, so there is nothing to drop"),
        ([0.1, 0.2], [False, False], "all 2 rated captions are bad, so there is nothing to keep"),
        ([None, None], [True, False], r"made without \[similarity\]"),
        ([], [True, False], "no rating counts .2 ratings of clips without a caption"),
    ],
)
def test_ratings_that_give_no_threshold_are_explained(
    tmp_path: Path, scores: list[float | None], good: list[bool], message: str
) -> None:
    root = publish(tmp_path / "data", scores)
    with pytest.raises(ConfigError, match=message):
        main(options(root, "--ratings", str(rated(tmp_path / "ratings.csv", good))))


def test_what_is_no_dataset_and_options_without_sense_are_refused(tmp_path: Path) -> None:
    ratings = str(rated(tmp_path / "ratings.csv", [True, False]))
    with pytest.raises(ConfigError, match="no dataset of Earshot"):
        main(options(str(tmp_path), "--ratings", ratings))
    root = publish(tmp_path / "data", [0.1, 0.2])
    with pytest.raises(ConfigError, match=r"--beta 0\.0"):
        main(options(root, "--ratings", ratings, "--beta", "0"))
    with pytest.raises(ConfigError, match=r"end in one of \.png"):
        main(options(root, "--ratings", ratings, "--plot", "curve.txt"))
    with pytest.raises(ConfigError, match="cannot be written"):
        main(options(root, "--ratings", ratings, "--plot", str(tmp_path / "nowhere" / "curve.png")))


def test_the_command_says_the_same_to_people_and_to_machines_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, good = made(80)
    root = publish(tmp_path / "data", scores)
    ratings = str(rated(tmp_path / "ratings.csv", good))
    picture = tmp_path / "curve.png"
    assert main(options(root, "--ratings", ratings, "--json", "--plot", str(picture))) == 0
    said = json.loads(capsys.readouterr().out)
    threshold = said["best"]["threshold"]
    assert threshold == best(curve(scores, good)).threshold
    assert said["interval"][0] <= threshold <= said["interval"][1]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000
    assert main(options(root, "--ratings", ratings)) == 0
    shown = capsys.readouterr().out
    assert f'[similarity]\ncue = "ears"\nleast = {threshold}' in shown
    assert "F1.05" in shown


# --- reviews ---------------------------------------------------------------------------------------------------------


def reviewed(root: str, good: Sequence[bool], folder: str = "reviews", outcome: str = "captions") -> Path:
    """Reviews of the captions c0, c1 … as `earshot review` leaves them."""
    for index, is_good in enumerate(good):
        caption = f"Caption {index}."
        append(Path(root, folder), Review("ann", f"c{index}", 1, outcome, caption, is_good, caption))  # type: ignore[arg-type]
    return Path(root, folder)


def test_a_caption_is_good_that_corresponds_and_is_not_mostly_made_up() -> None:
    said = [(True, None), (True, 5), (True, 3), (True, 2), (True, 1), (False, 5), (False, None), (None, 5)]
    reviews = [
        Review("ann", f"c{index}", 1, "captions", "A dog.", corresponds, "A dog.", hallucination=hallucination)
        for index, (corresponds, hallucination) in enumerate(said)
    ]
    ratings = rated_by(reviews)
    assert [rating.good for rating in ratings] == [True, True, True, False, False, False, False]
    assert {rating.caption for rating in ratings} == {"A dog."}


def test_words_to_change_and_inaudible_ones_make_no_caption_bad() -> None:
    review = Review("ann", "c", 1, "captions", "A red dog.", True, "A cat.", inaudible=("red",), detail=1)
    assert rated_by([review]) == [Rating("c", True, "A red dog.")]


def test_the_datasets_reviews_give_the_same_threshold_as_a_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, good = made(60)
    root = publish(tmp_path / "data", scores)
    assert main(options(root, "--json", "--ratings", str(rated(tmp_path / "ratings.csv", good)))) == 0
    by_csv = json.loads(capsys.readouterr().out)
    folder = reviewed(root, good)
    for given in ((), ("--ratings", str(folder))):
        assert main(options(root, "--json", *given)) == 0
        assert json.loads(capsys.readouterr().out) == by_csv
    assert main(options(root)) == 0
    assert "nothing is known of lower scores" in " ".join(capsys.readouterr().out.split())
    last = len(scores) - 1
    append(folder, Review("ben", f"c{last}", 1, "rejected", f"Caption {last}.", good[last], "It."))
    assert main(options(root)) == 0
    assert "lower scores" not in " ".join(capsys.readouterr().out.split())


def test_reviews_of_captions_that_were_written_anew_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = publish(tmp_path / "data", [0.1, 0.2, 0.3, 0.4])
    folder = reviewed(root, [False, True, False, True])
    append(folder, Review("ben", "c0", 1, "captions", "An older caption.", True, "An older caption."))
    append(folder, Review("ben", "gone", 1, "captions", "Caption.", True, "Caption."))
    assert main(options(root, "--json", "--beta", "1")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rated"], found["good"], found["best"]["threshold"]) == (4, 2, 0.15)
    assert found["left_out"] == {
        "ratings of another caption than the clip now has": 1,
        "ratings of clips without a caption in this version": 1,
    }


def test_without_reviews_it_is_said_how_to_make_some(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", [0.1, 0.2])
    with pytest.raises(ConfigError, match="there are no reviews; make some with `earshot review"):
        main(options(root))
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(ConfigError, match="there are no reviews"):
        main(options(root, "--ratings", str(folder)))
