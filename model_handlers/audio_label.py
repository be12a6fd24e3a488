"""The cue *audio label*: which of many names suits the sound best, by CLAP.

Wu et al., "Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption Augmentation"
(ICASSP 2023, arXiv:2211.06687).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from model_handlers.base import AudioCue, Example, Items, best_items, pick_device
from model_handlers.footprint import Footprint
from model_handlers.image_label import Labeller, check_row, embed_names, read_labels, unit
from model_handlers.views import Audio

RATE = 48_000


@dataclass(kw_only=True)
class AudioLabel(AudioCue[Labeller]):
    """The `top` most suitable labels, best first, with a softmax over all labels as their scores.

    A score says which of these names suits best, not whether one does. CLAP hears the middle ten seconds
    of a clip (`nets.clap.spectrograms`).

    Attributes:
        labels: the names, or empty for those of `labels_file`.
        labels_file: a text file with a name a line.
        template: the sentence in which a name is shown to the model, with ``{label}`` in its place.
        top: how many labels.
    """

    labels: tuple[str, ...] = ()
    labels_file: str = ""
    template: str = "This is a sound of {label}."
    top: int = 3

    described = "names from a list that suit the audio best, with confidences"
    patterns = ("*.json", "*.txt", "*.safetensors")
    file_params = frozenset({"labels_file"})
    footprint = Footprint(parameters_m=154, clip_mb=28)  # CLAP, both halves, 10 s
    advice = "Any CLAP in transformers' form serves, such as laion/clap-htsat-unfused"

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.labels) == bool(self.labels_file):
            raise ValueError(f"{self.name}: give either labels or labels_file")
        check_row(self.name, self.labels, self.template, self.top)

    @property
    def view(self) -> Audio:
        """48 kHz mono."""
        return Audio(RATE, self.decoder)

    def load(self) -> Labeller:
        """Loads the model and embeds every label once; raises `ModelError` where something lacks or does not fit."""
        from model_handlers.nets.clap import load_clap

        names = self.labels or read_labels(self.locate(self.labels_file))
        model, processor = load_clap(self.locate(), pick_device(self.device))
        texts = embed_names(model, processor.tokenizer, names, self.template, padding=True)
        return Labeller(model, processor.feature_extractor, names, texts)

    def predict(self, batch: Sequence[Example], model: Labeller) -> list[Items]:
        """Labels audio, each float32 of shape (samples,)."""
        import torch

        from model_handlers.nets.clap import spectrograms

        network = model.model
        clips = [cast(np.ndarray, example.view) for example in batch]
        with self.inference(network.device.type):
            heard = network.get_audio_features(**spectrograms(clips, model.extractor, network.device)).pooler_output
        with torch.inference_mode():  # in single precision: the scale of the cosines is large
            logits = unit(heard.float()) @ model.texts.T * network.logit_scale_a.exp()
            scores = logits.softmax(1).cpu().numpy()
        return [best_items(row, model.names, self.top) for row in scores]
