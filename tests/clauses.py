"""A cue that says in clauses what the demo's tagger hears: ``a bell rings and a dog barks``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from demo.scenes import SOURCES
from model_handlers.audio_tags import AudioTags
from model_handlers.base import Example, Item, Items

CLAUSES = {source.label: f"{source.phrase} {source.verb}" for source in SOURCES.values()}


@dataclass(kw_only=True)
class Clauses(AudioTags):
    def predict(self, batch: Sequence[Example], model: Any) -> list[Items]:
        return [_sentence(items) for items in super().predict(batch, model)]


def _sentence(items: Items) -> Items:
    heard = [item for item in items if (item.score or 0.0) >= 0.3 and item.text in CLAUSES]
    scores = [item.score or 0.0 for item in heard]
    return (Item(" and ".join(CLAUSES[item.text] for item in heard), min(scores)),) if heard else ()
