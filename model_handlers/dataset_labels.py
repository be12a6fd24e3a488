"""The cue *dataset labels*: what the clip's own dataset says it is, Auto-ACD's eighth clue.

FusionAudio (arXiv:2506.01111) weighs AudioSet's labels by their quality: the share of a label's clips for which people
who listened again said that it is true (https://research.google.com/audioset/dataset/index.html, "Quality").
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

from model_handlers.base import CueHandler, Example, Item, Items
from model_handlers.views import Listed, Listing
from model_handlers.weights import ModelError

_DIGITS = 12  # of a number of ratings; nobody rates more


@dataclass(kw_only=True)
class DatasetLabels(CueHandler[Callable[[Listed], Items]]):
    """One item a label, in the source's order and without a score; none where the source gives no labels."""

    described = "the labels that the dataset gives the clip"

    @property
    def view(self) -> Listing:
        """The source's row alone: no media is opened."""
        return Listing()

    def load(self) -> Callable[[Listed], Items]:
        """There is nothing to load: the model is the reading of the row."""
        return as_items

    def predict(self, batch: Sequence[Example], model: Callable[[Listed], Items]) -> list[Items]:
        """Reads each clip's labels on its own."""
        return [model(cast(Listed, example.view)) for example in batch]


@dataclass(kw_only=True)
class RatedLabels(DatasetLabels):
    """As `DatasetLabels`, but each label has its quality as its score: the share of its ratings that are true.

    A label that nobody rated has no score, and nor has one that is not in the list.

    Attributes:
        ratings: AudioSet's ``qa_true_counts.csv``: for each class, how often it was rated, and how often as true.
        classes: AudioSet's ``class_labels_indices.csv``, which says how the classes are called.
    """

    ratings: str
    classes: str

    described = (
        "the labels that the dataset gives the clip; the confidence is the share of a label's clips that have it"
    )
    file_params: ClassVar[frozenset[str]] = frozenset({"ratings", "classes"})
    advice = (
        "AudioSet publishes qa/qa_true_counts.csv and csv/class_labels_indices.csv below "
        "http://storage.googleapis.com/us_audioset/youtube_corpus/v1"
    )

    def load(self) -> Callable[[Listed], Items]:
        """Reads the two lists; raises `ModelError` where one is missing or not what it should be."""
        return partial(as_items, rated=qualities(self.locate(self.ratings), self.locate(self.classes)))


def as_items(listed: Listed, rated: Mapping[str, float] | None = None) -> Items:
    """The labels as items, with their qualities as scores; of one given twice the first stays."""
    return tuple(Item(label, (rated or {}).get(label)) for label in dict.fromkeys(listed.labels))


def qualities(ratings: Path, classes: Path) -> dict[str, float]:
    """Each class's share of true ratings, by display name, for those that were rated.

    Raises `ModelError` where a list is missing or not what it should be.
    """
    names = {row["mid"]: row["display_name"] for row in _rows(classes, ("index", "mid", "display_name"))}
    for name, number in Counter(names.values()).items():
        if number > 1:
            raise ModelError(f"{classes}: {number} classes are called {name!r}, so its quality is unknown")
    found = {}
    for row in _rows(ratings, ("label_id", "num_rated", "num_true")):
        number, true = _count(row["num_rated"], ratings), _count(row["num_true"], ratings)
        if row["label_id"] not in names:
            raise ModelError(f"{ratings}: {classes} has no class {row['label_id']!r}")
        if true > number:
            raise ModelError(f"{ratings}: of {row['label_id']}, {true} of {number} ratings are true")
        if number:
            found[names[row["label_id"]]] = round(true / number, 4)
    return found


def _rows(path: Path, fields: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file with exactly these columns, where each class has one row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a mark before the first line
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            named, rows = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ModelError(f"no list at {path} ({error})") from error
    if named != fields:
        raise ModelError(f"{path}: its first line is not {','.join(fields)}")
    if wrong := next((row for row in rows if None in row or None in row.values()), None):
        raise ModelError(f"{path}: {list(wrong.values())} are not {len(fields)} values")
    key = fields[1] if fields[0] == "index" else fields[0]
    if len({row[key] for row in rows}) < len(rows) or not rows:
        raise ModelError(f"{path}: {'a class stands there twice' if rows else 'it is empty'}")
    return rows


def _count(text: str, path: Path) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise ModelError(f"{path}: {text[:40]!r} is no number of ratings")
    return int(text)
