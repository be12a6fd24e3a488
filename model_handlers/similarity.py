"""How similar a caption is to its sound: the cosine of their CLAP embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from model_handlers.audio_embedding import AudioEmbedding, embedding_of
from model_handlers.base import Items, Loaded, in_parts, pick_device, retryable
from model_handlers.footprint import Footprint
from model_handlers.weights import ModelError


@dataclass(frozen=True)
class Pair:
    """A caption, and the items of the sound's `AudioEmbedding`."""

    caption: str
    sound: Items


@dataclass(frozen=True)
class Similarity:
    """How similar they are, from -1 to 1, or the error that this pair alone met."""

    score: float = 0.0
    seconds: float = 0.0
    error: str = ""
    retryable: bool = False


@dataclass(frozen=True)
class Reader:
    """The text half of a CLAP.

    Attributes:
        model: `transformers` ClapTextModelWithProjection in evaluation mode, on its device.
        tokenizer: the one that was saved with it.
        context: tokens of a text that the model takes, at most.
    """

    model: Any
    tokenizer: Any
    context: int


@dataclass(kw_only=True)
class SimilarityModel(ModelHandler[Pair, Similarity, Loaded[Reader]]):
    """Compares captions with sounds that `sound` embedded, on Beam's `ModelHandler` contract.

    A caption of more tokens than the model's context is cut off there (512 tokens in the published models).

    Attributes:
        sound: the row of the cue; its model, device and precision are this one's.
        batch_size: captions a call, at most.
    """

    sound: AudioEmbedding
    batch_size: int = 64

    version: ClassVar[int] = 1  # raise it when the code changes what a score is
    footprint: ClassVar[Footprint] = Footprint(parameters_m=125, clip_mb=2)  # the text half of CLAP, 64 tokens

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"similarity: batch_size is {self.batch_size}; it has to be at least 1")
        super().__init__(min_batch_size=self.batch_size, max_batch_size=self.batch_size)

    def load(self) -> Reader:
        """Loads the text half; raises `ModelError` where something lacks or does not fit."""
        from model_handlers.nets.clap import load_clap

        folder = self.sound.locate()
        try:
            model, processor = load_clap(folder, pick_device(self.sound.device), "text")
        except ModelError as error:
            raise self.sound._explained(error) from error
        positions = model.config.max_position_embeddings - model.config.pad_token_id - 1  # RoBERTa counts from there
        return Reader(model, processor.tokenizer, min(processor.tokenizer.model_max_length, positions))

    def predict(self, batch: Sequence[Pair], model: Reader) -> list[float]:
        """Returns the cosine of each pair, in order."""
        from model_handlers.nets.clap import embedded

        sounds = np.stack([embedding_of(pair.sound) for pair in batch])
        captions = [pair.caption for pair in batch]
        if not all(caption.strip() for caption in captions):
            raise ValueError("the caption is blank")
        tokens = model.tokenizer(
            captions, padding=True, truncation=True, max_length=model.context, return_tensors="pt"
        ).to(model.model.device)
        with self.sound.inference(model.model.device.type):
            said = model.model(**tokens).text_embeds
        cosines = (embedded(said) * sounds).sum(1).clip(-1, 1)
        return cosines.tolist()

    @property
    def gpu_memory(self) -> float | None:
        """GB of GPU memory for weights and one batch: what the row of the cue says, or an estimate.

        A caption takes the text half some hundredths of a second on a core, so it wants a GPU only where that row says
        ``cuda``.
        """
        if self.sound.device != "cuda":
            return 0.0
        if self.sound.gpu_gb is not None:
            return self.sound.gpu_gb
        return self.footprint.gb(self.batch_size, self.sound.precision)

    @property
    def model(self) -> str:
        """The CLAP, as a profile's row names it, with the commit of a hub id."""
        return f"{self.sound.model}@{self.sound.revision}" if self.sound.revision else self.sound.model

    def fingerprint(self) -> str:
        """16 hex digits that change when the sound's embedding does, or how captions are compared with it."""
        facts = f"{type(self).__name__} {self.version} {self.sound.fingerprint()}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    # What follows is Beam's side of the contract.

    def load_model(self) -> Loaded[Reader]:
        return Loaded(self.load)

    def run_inference(
        self, batch: Sequence[Pair], model: Loaded[Reader], inference_args: dict[str, Any] | None = None
    ) -> list[Similarity]:
        reader = model.get()
        found = []
        for _, answer, seconds in in_parts(list(batch), lambda some: self.predict(some, reader), "similarity"):
            if isinstance(answer, Exception):
                said = f"{type(answer).__name__}: {answer}"
                found.append(Similarity(seconds=seconds, error=said, retryable=retryable(answer)))
            else:
                found.append(Similarity(answer, seconds))
        return found

    def get_num_bytes(self, batch: Sequence[Pair]) -> int:
        return sum(len(pair.caption) + sum(len(item.text) for item in pair.sound) for pair in batch)

    def get_metrics_namespace(self) -> str:
        return "earshot.similarity"

    def validate_inference_args(self, inference_args: dict[str, Any] | None) -> None:
        if inference_args:
            raise ValueError("similarity takes its parameters from its cue's row, not from inference_args")
