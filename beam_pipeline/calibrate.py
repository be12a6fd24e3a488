"""``earshot calibrate``: from what people say of captions to the similarity below which captions are dropped.

FusionAudio (arXiv:2506.01111) chose its threshold so: human ratings, and the F-beta score, with beta 1.05, of keeping
what is good. Its 0.08 belongs to its own checkpoint, which it does not name; this finds the number for another.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from rich.table import Table

from beam_pipeline.compare import published
from beam_pipeline.config import ConfigError
from beam_pipeline.show import console, notice, plain
from transforms import versions
from transforms.avro import read_records
from transforms.publish import OUTCOMES

if TYPE_CHECKING:
    from beam_pipeline.review.ratings import Review

SIMILARITY = "similarity"
WORDS = {"1": True, "yes": True, "true": True, "0": False, "no": False, "false": False}
LEAST = 3  # hallucination of a good caption, of 5, where 5 is none
RESAMPLES = 1000
SHOWN = 16  # points of the curve in the terminal's table
PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Rating:
    """What one person said of one caption; `caption` is empty where the file does not say which it was."""

    clip_id: str
    good: bool
    caption: str = ""


@dataclass(frozen=True)
class Point:
    """What a threshold does: captions that score at least `threshold` are kept.

    Attributes:
        threshold: with no more decimals than it takes to lie between two scores.
        precision: share of the kept that are good.
        recall: share of the good that are kept.
        f: their F-beta.
        kept: share of all that are kept.
    """

    threshold: float
    precision: float
    recall: float
    f: float
    kept: float


@dataclass(frozen=True)
class Calibration:
    """A threshold and what it rests on.

    Attributes:
        root: the dataset's folder.
        version: of the dataset.
        by: whose score it is: ``similarity``, or a cue's name.
        cue: the cue that holds the sounds' embeddings, for a profile's ``[similarity]``.
        beta: of F-beta; above 1, keeping what is good counts for more than dropping what is bad.
        rated: captions with a rating and a score.
        good: those of them that are good.
        left_out: why ratings or rated clips do not count, with how many.
        best: the threshold of the highest F-beta.
        interval: of that threshold, 95 %, by resampling the captions.
        curve: every threshold that makes a difference, ascending.
    """

    root: str
    version: int
    by: str
    cue: str
    beta: float
    rated: int
    good: int
    left_out: dict[str, int]
    best: Point
    interval: tuple[float, float]
    curve: tuple[Point, ...]

    @property
    def row(self) -> str:
        """The lines for a profile; empty where the score is not the similarity."""
        if self.by != SIMILARITY:
            return ""
        return f'[similarity]\ncue = "{self.cue}"\nleast = {self.best.threshold}'


def curve(scores: Sequence[float], good: Sequence[bool], beta: float = 1.05) -> tuple[Point, ...]:
    """Returns every threshold that makes a difference, ascending; the first keeps all.

    Captions of equal scores are kept or dropped together: thresholds lie between distinct scores.

    Raises:
        ValueError: there are no scores, none is good, or one is no finite number.
    """
    edges, *measures = _measured(np.asarray(scores, float), np.asarray(good, bool), beta)
    thresholds = [_below(edges[0]), *map(_between, edges[:-1], edges[1:])]
    return tuple(Point(at, *map(float, values)) for at, *values in zip(thresholds, *measures, strict=True))


def best(points: Sequence[Point]) -> Point:
    """Returns the point of the highest F-beta; of equal ones the lowest threshold, which keeps more."""
    return max(points, key=lambda point: (point.f, -point.threshold))


def interval(
    scores: Sequence[float], good: Sequence[bool], beta: float = 1.05, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Returns where 95 % of the best thresholds lie, of as many captions drawn with replacement; seeded.

    What one draw makes of it is not counted where it has no good captions, or only good ones.

    Raises:
        ValueError: as `curve` does, or every caption is good.
    """
    values, are_good, rng = np.asarray(scores, float), np.asarray(good, bool), np.random.default_rng(0)
    if are_good.all():
        raise ValueError("every caption is good")
    found: list[float] = []
    while len(found) < resamples:
        drawn = rng.integers(len(values), size=len(values))
        if are_good[drawn].any() and not are_good[drawn].all():
            edges, _, _, f, _ = _measured(values[drawn], are_good[drawn], beta)
            at = int(f.argmax())
            found.append((edges[max(at - 1, 0)] + edges[at]) / 2)
    low, high = np.percentile(found, (2.5, 97.5))
    return round(float(low), 4), round(float(high), 4)


def _measured(scores: np.ndarray, good: np.ndarray, beta: float) -> tuple[np.ndarray, ...]:
    """The distinct scores, ascending, and precision, recall, F-beta and share of what scores at least as much."""
    if not len(scores) or not good.any():
        raise ValueError("there is no good caption")
    if not np.isfinite(scores).all():
        raise ValueError("a score is no finite number")
    edges, place = np.unique(scores, return_inverse=True)
    kept = np.bincount(place)[::-1].cumsum()[::-1]
    right = np.bincount(place, weights=good)[::-1].cumsum()[::-1]
    precision, recall = right / kept, right / good.sum()
    f = (1 + beta**2) * right / (beta**2 * good.sum() + kept)
    return edges, precision, recall, f, kept / len(scores)


def _between(lower: float, upper: float) -> float:
    """The middle, with as few decimals as keep it above `lower` and not above `upper`; at least two."""
    middle = (lower + upper) / 2
    return next((at for n in range(2, 17) if lower < (at := round(float(middle), n)) <= upper), float(upper))


def _below(score: float) -> float:
    """Two decimals, and not above `score`."""
    return math.floor(score * 100) / 100


def read_ratings(path: Path, good_from: float = 3.0) -> list[Rating]:
    """Returns the ratings in a CSV file with a header.

    Columns: ``clip_id``; ``good`` (1, yes, true, 0, no, false) or ``rating`` (a number, good from `good_from` on); and,
    if it is there, ``caption``, the sentence that was rated. Others are of no account.

    Raises:
        ConfigError: the file cannot be read, or a line cannot be understood.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)  # else a quote that nobody closes swallows all that follows
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            _check_columns(columns, path)
            return [_rating(row, f"{path}, line {reader.line_num}", good_from) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: no ratings can be read from it: {error}") from None


def rated(reviews: Iterable[Review]) -> list[Rating]:
    """Returns reviews as ratings: good is a caption that corresponds and is not mostly made up.

    That is, one whose hallucination was not rated 1 or 2, what FusionAudio counts as low. Words to change, and what
    cannot be heard, make no caption bad: they are for whoever mends captions. What does not say whether the caption
    corresponds is no rating.
    """
    return [
        Rating(review.clip_id, review.corresponds and (review.hallucination or LEAST) >= LEAST, review.caption)
        for review in reviews
        if review.corresponds is not None
    ]


def _check_columns(columns: Sequence[str], path: Path) -> None:
    shown = ", ".join(columns) or "none"
    if twice := [name for name in ("clip_id", "good", "rating", "caption") if columns.count(name) > 1]:
        raise ConfigError(f"{path}: two columns are called {twice[0]}; it has {shown}")
    if "clip_id" not in columns:
        raise ConfigError(f"{path}: its first line has to name a column clip_id; it has {shown}")
    if ("good" in columns) == ("rating" in columns):
        raise ConfigError(f"{path}: one column has to be called good, or else rating; it has {shown}")


def _rating(row: dict[str, str | None], where: str, good_from: float) -> Rating:
    clip_id, caption = (row.get("clip_id") or "").strip(), (row.get("caption") or "").strip()
    if not clip_id:
        raise ConfigError(f"{where}: it has no clip_id")
    if "good" in row:
        said = (row["good"] or "").strip().lower()
        if said not in WORDS:
            raise ConfigError(f"{where}: good is {said!r}; it has to be one of {', '.join(WORDS)}")
        return Rating(clip_id, WORDS[said], caption)
    said = (row["rating"] or "").strip()
    try:
        number = float(said)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where}: rating is {said!r}; it has to be a number")
    return Rating(clip_id, number >= good_from, caption)


def verdicts(ratings: Iterable[Rating]) -> dict[str, bool]:
    """Returns what most raters say of each clip; where as many say good as bad, it is bad."""
    said: dict[str, list[bool]] = defaultdict(list)
    for rating in ratings:
        said[rating.clip_id].append(rating.good)
    return {clip_id: 2 * sum(votes) > len(votes) for clip_id, votes in said.items()}


def calibrate(
    root: str, ratings: Sequence[Rating], beta: float = 1.05, by: str = SIMILARITY, resamples: int = RESAMPLES
) -> Calibration:
    """Chooses the threshold for the current version of a dataset.

    Args:
        root: the dataset's folder, on any file system that Beam knows.
        ratings: of its captions, and of rejected ones; several of a clip are settled by `verdicts`.
        beta: of F-beta.
        by: ``similarity``, or the name of a cue, whose highest item's score it is then.
        resamples: for the interval.

    Raises:
        ConfigError: there is no dataset, or it and the ratings do not give a threshold.
    """
    if not (math.isfinite(beta) and beta > 0):
        raise ConfigError(f"--beta {beta}: it has to be a number above 0")
    manifests = published(root)
    try:
        version = versions.current(root)
        if version not in manifests:
            raise ConfigError(f"{root}: no dataset of Earshot; name the folder that `earshot run --output` was given")
        manifest = manifests[version]
        wanted = {rating.clip_id for rating in ratings}
        found = dict(_scores(root, version, manifest, by, wanted))
    except ConfigError:
        raise
    except (OSError, BeamIOError, ValueError) as error:
        raise ConfigError(f"{root}: cannot be read: {error}") from None
    left_out: Counter[str] = Counter()
    counted = []
    for rating in ratings:
        caption, score = found.get(rating.clip_id, (None, None))
        if caption is None:
            left_out["ratings of clips without a caption in this version"] += 1
        elif rating.caption and rating.caption != caption:
            left_out["ratings of another caption than the clip now has"] += 1
        elif score is None:
            left_out[f"ratings of captions without a score ({by})"] += 1
        else:
            counted.append(rating)
    said = verdicts(counted)
    _check(said, len(ratings), dict(left_out), f"{root}, version {version}", by)
    scores, good = [found[clip_id][1] for clip_id in said], list(said.values())
    points = curve(scores, good, beta)
    cue = (manifest.get(SIMILARITY) or {}).get("cue", "clap")
    return Calibration(
        root,
        version,
        by,
        cue,
        beta,
        len(said),
        sum(good),
        dict(left_out),
        best(points),
        interval(scores, good, beta, resamples),
        points,
    )


def _scores(
    root: str, version: int, manifest: dict[str, Any], by: str, wanted: set[str]
) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Caption and score of each clip that is wanted; the score is ``None`` where it was not measured."""
    folder = versions.folder(root, version)
    if by != SIMILARITY and by not in manifest["cues"]:
        raise ConfigError(f"--by {by}: give {SIMILARITY}, or a cue of this version: {', '.join(manifest['cues'])}")
    for name in ("rejected", "captions"):
        for file in manifest["files"][name]:
            for record in read_records(FileSystems.join(folder, file), OUTCOMES[name]):
                if record["clip"]["clip_id"] in wanted and record["caption"]:
                    yield record["clip"]["clip_id"], (record["caption"], _score(record, by))


def _score(record: dict[str, Any], by: str) -> float | None:
    if by == SIMILARITY:
        return record[SIMILARITY]
    items = [item for cue in record["cues"] if cue["name"] == by for item in cue["items"]]
    return max((item["score"] for item in items if item["score"] is not None), default=None)


def _check(said: dict[str, bool], ratings: int, left_out: dict[str, int], where: str, by: str) -> None:
    """Raises `ConfigError` where no threshold can be chosen."""
    reasons = "; ".join(f"{number} {why}" for why, number in left_out.items())
    if not ratings:
        raise ConfigError("there are no ratings")
    if not said and any("without a score" in why for why in left_out) and by == SIMILARITY:
        raise ConfigError(f"{where}: it was made without [similarity]; run it with one first, least = -1 ({reasons})")
    if not said:
        raise ConfigError(f"{where}: no rating counts ({reasons})")
    if len(set(said.values())) == 1:
        kind, deed = ("good", "drop") if any(said.values()) else ("bad", "keep")
        raise ConfigError(f"{where}: all {len(said)} rated captions are {kind}, so there is nothing to {deed}")


def calibration_shown(found: Calibration) -> None:
    """Prints the curve, the threshold with what it does, and the lines for a profile."""
    title = f"Keeping captions of version {found.version} by {plain(found.by)}"
    table = Table(title=title, title_justify="left")
    for column in ("at least", "precision", "recall", f"F{found.beta:g}", "kept"):
        table.add_column(column, justify="right")
    for point in some_points(found.curve, found.best):
        cells = [f"{point.threshold:g}", f"{point.precision:.3f}", f"{point.recall:.3f}", f"{point.f:.3f}"]
        table.add_row(*cells, f"{point.kept:.1%}", style="bold green" if point == found.best else None)
    console.print(table)
    low, high = found.interval
    console.print(
        f"threshold {found.best.threshold:g} (95 % interval {low:g} to {high:g}); "
        f"{found.rated} captions rated, {found.good} of them good",
        highlight=False,
        soft_wrap=True,
    )
    for why, number in found.left_out.items():
        console.print(f"left out, {plain(why)}: {number}", highlight=False, soft_wrap=True)
    if found.row:
        console.print(f"\nFor the profile:\n\n{plain(found.row)}", highlight=False)
    if found.best == found.curve[0]:
        notice("the threshold keeps all that was rated: the score does not tell good captions from bad ones here.")


def some_points(points: Sequence[Point], chosen: Point, at_most: int = SHOWN) -> list[Point]:
    """Returns `chosen` and up to `at_most` points, evenly spread over what they keep."""
    picked = {round(i) for i in np.linspace(0, len(points) - 1, min(at_most, len(points)))} | {points.index(chosen)}
    return [points[i] for i in sorted(picked)]


def plot(found: Calibration, path: Path) -> None:
    """Draws the curve and the threshold to a PNG, SVG or PDF file. Raises `ConfigError` where it cannot be written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    at = [point.threshold for point in found.curve]
    for name, label in {
        "precision": "precision",
        "recall": "recall",
        "f": f"F{found.beta:g}",
        "kept": "share kept",
    }.items():
        line = ":" if name == "kept" else "-"
        axes.plot(at, [getattr(point, name) for point in found.curve], line, label=label, drawstyle="steps-mid")
    axes.axvspan(*found.interval, color="black", alpha=0.1, label="95 % interval")
    axes.axvline(found.best.threshold, color="black", linestyle="--", label=f"threshold {found.best.threshold:g}")
    axes.set(xlabel=f"least {found.by}", ylim=(0, 1.02), title=f"{found.rated} rated captions, {found.good} good")
    axes.legend(loc="lower left")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigError(f"--plot {path}: it cannot be written: {error}") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("dataset", metavar="DIR", help="the dataset's folder, as given to `earshot run --output`")
    parser.add_argument(
        "--ratings",
        metavar="CSV",
        help="columns clip_id and good (1, yes, true, 0, no, false) or rating (a number), and caption if you like: "
        "then what was said of another caption does not count. Or a folder of reviews (default: DIR/reviews, as "
        "`earshot review` keeps them): there a caption is good that corresponds, unless its hallucination was rated 1 "
        "or 2. Of several raters of a clip most decide; a tie is bad",
    )
    parser.add_argument(
        "--good-from", type=float, default=3.0, metavar="R", help="the least rating of a CSV that is good (default: 3)"
    )
    parser.add_argument(
        "--beta",
        type=float,
        default=1.05,
        help="above 1, keeping the good counts for more than dropping the bad (default: 1.05)",
    )
    parser.add_argument(
        "--by", default=SIMILARITY, metavar="SCORE", help="similarity (default), or a cue, by its highest score"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve: a .png, .svg or .pdf")
    parser.add_argument("--json", action="store_true", help="for machines")


def main(options: argparse.Namespace) -> int:
    """Runs the command with the options of `add_arguments`; returns its exit status. Raises `ConfigError`."""
    if options.plot and options.plot.suffix.lower() not in PICTURES:
        raise ConfigError(f"--plot {options.plot}: its name has to end in one of {', '.join(PICTURES)}")
    ratings, said = _ratings(options)
    found = calibrate(options.dataset, ratings, options.beta, options.by)
    if options.plot:
        plot(found, options.plot)
    if options.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        calibration_shown(found)
        notice(said)
    return 0


def _ratings(options: argparse.Namespace) -> tuple[list[Rating], str]:
    """What was rated, and what whoever reads the result should know of it."""
    from beam_pipeline.review.ratings import read_reviews, reviews_folder

    if options.ratings and not os.path.isdir(options.ratings):
        return read_ratings(Path(options.ratings), options.good_from), ""
    folder = options.ratings or reviews_folder(options.dataset)
    reviews = read_reviews(folder)
    if not reviews:
        raise ConfigError(
            f"{folder}: there are no reviews; make some with `earshot review {options.dataset} --include-rejected`, "
            "or name a CSV with --ratings"
        )
    if any(review.outcome == "rejected" for review in reviews):
        return rated(reviews), ""
    return rated(reviews), "no rejected caption was reviewed, so nothing is known of lower scores (--include-rejected)."
