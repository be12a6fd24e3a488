"""The cue *audio tags* by any audio classifier of transformers, such as AST (Gong et al., arXiv:2104.01778)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from model_handlers.base import AudioCue, Example, Items, best_items, by_length, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import Audio
from model_handlers.weights import ModelError, check_whole, reading

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classifier:
    """A classifier ready to run.

    Attributes:
        model: of a class that `transformers` has for audio classification, in evaluation mode, on its device.
        extractor: the feature extractor that was saved with it.
        names: its classes, in the order of its outputs.
        multi_label: whether each class has a probability of its own.
    """

    model: Any
    extractor: Any
    names: tuple[str, ...]
    multi_label: bool


@dataclass(kw_only=True)
class AudioClassifier(AudioCue[Classifier]):
    """The `top` likeliest classes of a clip, likeliest first, each with its probability (0..1) as the score.

    The names are the model's own (`id2label` of its configuration). How much of a long clip is heard is the model's
    affair as well: AST hears `max_length` frames of 10 ms from the clip's start, which is 10.24 s for the published
    ones, and nothing of what follows.

    Attributes:
        rate: samples per second that the model wants, in Hz.
        top: how many classes.
        multi_label: whether the classes do not exclude each other, so that each has a probability of its own (sigmoid)
            and not a share of one (softmax). It counts where the model's configuration does not say (`problem_type`).
    """

    rate: int = 16_000
    top: int = 3
    multi_label: bool = True

    described = "sounds found in the audio, with confidences"
    patterns = ("*.json", "*.safetensors")
    footprint = Footprint(parameters_m=87, clip_mb=45)  # AST
    advice = (
        "Any model of transformers for audio classification serves, such as MIT/ast-finetuned-audioset-10-10-0.4593"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.rate, self.top) < 1:
            raise ValueError(f"{self.name}: rate and top have to be at least 1")

    @property
    def view(self) -> Audio:
        """Mono at `rate`."""
        return Audio(self.rate, self.decoder)

    def load(self) -> Classifier:
        """Loads the model and its extractor; raises `ModelError` where something lacks or does not fit."""
        from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

        folder = self.locate()
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        with reading(folder, "an audio classifier"):
            extractor = AutoFeatureExtractor.from_pretrained(folder, **local)
            model, info = AutoModelForAudioClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **local
            )
        check_whole(info, folder, type(model).__name__)
        rate = getattr(extractor, "sampling_rate", None)
        if rate != self.rate:
            raise ModelError(f"{folder} hears {rate} Hz; set rate = {rate} in the row ({self.rate} now)")
        problem = model.config.problem_type
        if problem == "regression":
            raise ModelError(f"{folder} gives quantities, not classes")
        multi_label = self.multi_label if problem is None else problem == "multi_label_classification"
        names = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
        return Classifier(model.eval().to(pick_device(self.device)), extractor, names, multi_label)

    def predict(self, batch: Sequence[Example], model: Classifier) -> list[Items]:
        """Classifies audio, each float32 of shape (samples,); clips of one length go through the network together."""
        clips = [cast(np.ndarray, example.view) for example in batch]
        answers: list[Items] = [()] * len(batch)
        for indices in by_length(clips):
            logits = self._logits([clips[index] for index in indices], model)
            probabilities = (logits.sigmoid() if model.multi_label else logits.softmax(1)).cpu().numpy()
            for index, row in zip(indices, probabilities, strict=True):
                answers[index] = best_items(row, model.names, self.top)
        return answers

    def _logits(self, clips: list[np.ndarray], model: Classifier) -> Tensor:
        """Logits of clips of one length, in single precision, shape (clips, classes)."""
        device = model.model.device
        try:
            inputs = model.extractor(clips, sampling_rate=self.rate, return_tensors="pt").to(device)
        except AssertionError as error:  # what torchaudio raises where a clip is shorter than one window
            raise ValueError(f"the audio is too short: {len(clips[0])} samples ({error})") from error
        with self.inference(device.type):
            return model.model(**inputs).logits.float()
