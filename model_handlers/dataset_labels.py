"""The cue *dataset labels*: what the clip's own dataset says it is, Auto-ACD's eighth clue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from model_handlers.base import CueHandler, Example, Item, Items
from model_handlers.views import Listed, Listing


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


def as_items(listed: Listed) -> Items:
    """The labels as items; of one given twice the first stays."""
    return tuple(Item(label) for label in dict.fromkeys(listed.labels))
