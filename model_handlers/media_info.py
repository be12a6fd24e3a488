"""The cue *media facts*: what the container's header says of a clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from model_handlers.base import CueHandler, Example, Item, Items
from model_handlers.views import Header, MediaInfo


@dataclass(kw_only=True)
class MediaFacts(CueHandler[Callable[[MediaInfo], Items]]):
    """One item a track: ``video h264 320x240 25 fps``, ``audio aac 44100 Hz 2 channels``; a missing track has none."""

    @property
    def view(self) -> Header:
        """The header alone: nothing is decoded."""
        return Header()

    def load(self) -> Callable[[MediaInfo], Items]:
        """There is nothing to load: the model is the reading of the header."""
        return facts

    def predict(self, batch: Sequence[Example], model: Callable[[MediaInfo], Items]) -> list[Items]:
        """Reads each clip's header on its own."""
        return [model(cast(MediaInfo, example.view)) for example in batch]


def facts(info: MediaInfo) -> Items:
    """The tracks of a clip, picture first; each lasts from 0 to the clip's duration in seconds."""
    tracks = (("video", info.video), ("audio", info.audio))
    return tuple(
        Item(f"{kind} {track}", start_s=0.0, end_s=info.duration_s) for kind, track in tracks if track is not None
    )
