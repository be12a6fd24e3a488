"""The cue *audio caption*: what EffB2-Trm (Xu et al., Interspeech 2024, arXiv:2407.14329) hears in a clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from model_handlers.base import AudioCue, Example, Item, Items, by_length, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import Audio
from model_handlers.weights import ModelError, reading

if TYPE_CHECKING:
    from model_handlers.nets.effb2_trm import EffB2Trm


@dataclass(frozen=True)
class Captioner:
    """A loaded network and the tokenizer that turns its numbers into words."""

    net: EffB2Trm
    tokenizer: Any


@dataclass(kw_only=True)
class AudioCaption(AudioCue[Captioner]):
    """Captions the sound: one item a clip, or none where the model writes nothing.

    The item's score is the geometric mean of the probabilities of its words and of its end, in 0..1.

    Attributes:
        tokenizer: where the vocabulary is, a folder or hub repository (``owner/name@commit``) with ``tokenizer.json``;
            empty where it lies beside the model.
        num_beams: width of the beam search.
        max_words: words of a caption, at most.
    """

    tokenizer: str = ""
    num_beams: int = 3
    max_words: int = 20

    described = "what a model of sound says of the whole audio"
    patterns = ("*.json", "*.safetensors", "*.bin")
    file_params = frozenset({"tokenizer"})
    footprint = Footprint(parameters_m=12, clip_mb=16)  # EffB2-Trm, 10 s
    advice = (
        "The published model is wsntxxn/effb2-trm-audiocaps-captioning on the hub, its vocabulary "
        "wsntxxn/audiocaps-simple-tokenizer; a folder with the files of both serves as well"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.num_beams, self.max_words) < 1:
            raise ValueError(f"{self.name}: num_beams and max_words have to be at least 1")

    @property
    def view(self) -> Audio:
        """16 kHz mono."""
        return Audio(16_000, self.decoder)

    def load(self) -> Captioner:
        """Loads the network and its vocabulary; raises `ModelError` where they lack or do not fit each other."""
        from transformers import PreTrainedTokenizerFast

        from model_handlers.nets.effb2_trm import END, PAD, START, load_effb2_trm

        folder = self.locate()
        words = self.locate(self.tokenizer) if self.tokenizer else folder
        with reading(words, "a vocabulary"):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(words, local_files_only=True)
        with reading(folder, "EffB2-Trm"):
            net = load_effb2_trm(folder)
        expected = net.decoder.word_embedding.num_embeddings
        if len(tokenizer) != expected or not {PAD, START, END} <= set(tokenizer.all_special_ids):
            raise ModelError(
                f"{words} has {len(tokenizer)} words, special ones at {tokenizer.all_special_ids}; the "
                f"model has {expected}, special ones at 0, 1 and 2"
            )
        return Captioner(net.to(pick_device(self.device)), tokenizer)

    def predict(self, batch: Sequence[Example], model: Captioner) -> list[Items]:
        """Captions audio, each float32 of shape (samples,); clips of one length go through the network together."""
        import torch

        clips = [cast(np.ndarray, example.view) for example in batch]
        device = model.net.decoder.word_embedding.weight.device
        answers: list[Items] = [()] * len(batch)
        for indices in by_length(clips):
            audio = torch.from_numpy(np.stack([clips[index] for index in indices])).to(device)
            with self.inference(device.type):
                sentences = model.net.write(audio, self.num_beams, self.max_words)
            for index, (words, log_probability) in zip(indices, sentences, strict=True):
                answers[index] = _items(model.tokenizer.decode(words, skip_special_tokens=True), log_probability)
        return answers


def _items(text: str, log_probability: float) -> Items:
    if not math.isfinite(log_probability):
        raise FloatingPointError("the caption's probability is not a number: half precision overflowed")
    caption = " ".join(text.split())
    return (Item(caption, score=round(math.exp(log_probability), 4)),) if caption else ()
