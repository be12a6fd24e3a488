"""The cue *audio embedding*: where CLAP places a sound in the space that it shares with texts.

It is computed once a clip and kept, so that a caption's similarity to the sound (`model_handlers.similarity`) needs no
media, whoever wrote the caption, and however often.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from model_handlers.base import AudioCue, Example, Item, Items, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import Audio

if TYPE_CHECKING:
    from model_handlers.similarity import SimilarityModel

RATE = 48_000
ADVICE = "Any CLAP in transformers' form serves, such as laion/clap-htsat-unfused"
_ROUNDING = 0.01  # by which a vector of float16 may miss length 1; rounding alone makes that 0.0005 at most


@dataclass(frozen=True)
class Ear:
    """The sound half of a CLAP.

    Attributes:
        model: `transformers` ClapAudioModelWithProjection in evaluation mode, on its device.
        extractor: the feature extractor that was saved with it.
    """

    model: Any
    extractor: Any


@dataclass(kw_only=True)
class AudioEmbedding(AudioCue[Ear]):
    """One item, whose text is the sound's embedding: a unit vector (`embedding_item`). It has no score.

    CLAP hears the middle ten seconds of a clip (`nets.clap.spectrograms`).
    """

    patterns = ("*.json", "*.txt", "*.safetensors")
    footprint = Footprint(parameters_m=28, clip_mb=28)  # the sound half of CLAP (HTSAT tiny), 10 s
    advice = ADVICE

    @property
    def view(self) -> Audio:
        """48 kHz mono."""
        return Audio(RATE, self.decoder)

    def load(self) -> Ear:
        """Loads the sound half; raises `ModelError` where something lacks or does not fit."""
        from model_handlers.nets.clap import load_clap

        model, processor = load_clap(self.locate(), pick_device(self.device), "sound")
        return Ear(model, processor.feature_extractor)

    def predict(self, batch: Sequence[Example], model: Ear) -> list[Items]:
        """Embeds audio, each float32 of shape (samples,)."""
        from model_handlers.nets.clap import embedded, spectrograms

        device = model.model.device
        clips = [cast(np.ndarray, example.view) for example in batch]
        with self.inference(device.type):
            heard = model.model(**spectrograms(clips, model.extractor, device)).audio_embeds
        return [(embedding_item(vector),) for vector in embedded(heard)]

    def scorer(self) -> SimilarityModel:
        """What says how similar captions are to the sounds that this cue embedded: the text half of the same model."""
        from model_handlers.similarity import SimilarityModel

        return SimilarityModel(sound=self)


def embedding_item(vector: np.ndarray) -> Item:
    """Returns a unit vector of shape (width,) as an item: base64 of its values as little-endian float16.

    Rounding moves a cosine by 0.0005 at most.
    """
    return Item(base64.b64encode(vector.astype("<f2").tobytes()).decode())


def embedding_of(items: Items) -> np.ndarray:
    """Returns the vector in the one item of `embedding_item`: float32, shape (width,).

    Raises:
        ValueError: the items are anything else.
    """
    if len(items) != 1:
        raise ValueError(f"an embedding is one item, not {len(items)}")
    try:
        packed = base64.b64decode(items[0].text, validate=True)
        vector = np.frombuffer(packed, "<f2").astype(np.float32)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{items[0].text[:40]!r} is no embedding: {error}") from error
    if not (np.isfinite(vector).all() and abs(float(np.linalg.norm(vector)) - 1) < _ROUNDING):
        raise ValueError(f"{items[0].text[:40]!r} is no embedding: its length is not 1")
    return vector
