"""The cue *audio tags*: the likeliest AudioSet classes of a clip, by PANNs Cnn14."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from model_handlers import weights
from model_handlers.base import AudioCue, Example, Items, best_items, by_length, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import Audio

if TYPE_CHECKING:
    from model_handlers.nets.cnn14 import Cnn14

CHECKPOINT = "Cnn14_mAP=0.431.pth"
LABELS = "class_labels_indices.csv"
ADVICE = (
    f"The published checkpoint is {CHECKPOINT} (327,428,481 bytes, MD5 541141fa2ee191a88f24a3219fff024e) at "
    f"https://zenodo.org/records/3987831, and {LABELS} is AudioSet's; the profile auto_acd has both addresses. A "
    "folder that holds both serves as well"
)


@dataclass
class Tagger:
    """A loaded network and the name of each of its classes."""

    net: Cnn14
    names: tuple[str, ...]


@dataclass(kw_only=True)
class AudioTags(AudioCue[Tagger]):
    """The `top` likeliest classes of a clip, likeliest first, each with its probability (0..1) as the score.

    `model` is a checkpoint in PANNs' layout, or a folder or hub repository that holds one. The classes are not
    exclusive: the probabilities do not add up to one, and in silence all of them are low.

    Attributes:
        top: how many classes.
        labels: the classes' names, a CSV in AudioSet's format (index, mid, display_name); where empty, the file
            ``class_labels_indices.csv`` beside the checkpoint.
    """

    top: int = 3
    labels: str = ""

    footprint = Footprint(parameters_m=81, clip_mb=35)  # Cnn14, 10 s
    advice = ADVICE
    described = "sounds found in the whole audio, with confidences"
    patterns = ("*.pth", LABELS)
    file_params = frozenset({"labels"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1:
            raise ValueError(f"{self.name}: top is {self.top}; it has to be at least 1")

    @property
    def view(self) -> Audio:
        """32 kHz mono, the rate that Cnn14 was trained with."""
        return Audio(32_000, self.decoder)

    def load(self) -> Tagger:
        """Loads the network and its labels; raises `ModelError` where one is missing or they do not fit each other."""
        from model_handlers.nets.cnn14 import load_cnn14

        checkpoint = find_checkpoint(self.locate())
        labels = self.locate(self.labels) if self.labels else checkpoint.with_name(LABELS)
        if not labels.is_file():
            raise weights.ModelError(f"no labels at {labels}")
        names = read_labels(labels)
        with weights.reading(checkpoint, "Cnn14"):
            net = load_cnn14(checkpoint).to(pick_device(self.device))
        classes = net.fc_audioset.out_features
        if classes != len(names):
            raise weights.ModelError(f"{checkpoint} has {classes} classes, but {labels} names {len(names)}")
        return Tagger(net, names)

    def predict(self, batch: Sequence[Example], model: Tagger) -> list[Items]:
        """One forward pass for each length that occurs, so that no clip is padded to its batch mates' length."""
        import torch

        clips = [cast(np.ndarray, example.view) for example in batch]
        device = next(model.net.parameters()).device
        answers: list[Items] = [()] * len(batch)
        for indices in by_length(clips):
            audio = torch.from_numpy(np.stack([clips[index] for index in indices]))
            with self.inference(device.type):
                probabilities = model.net(audio.to(device)).cpu().numpy()
            for index, row in zip(indices, probabilities, strict=True):
                answers[index] = best_items(row, model.names, self.top)
        return answers


def find_checkpoint(place: Path) -> Path:
    """The checkpoint's file: `place` itself, or the one ``*.pth`` in it; the published name wins among several."""
    if place.is_file():
        return place
    found = sorted(place.glob("*.pth"))
    published = place / CHECKPOINT
    if published in found:
        return published
    if len(found) != 1:
        what = f"{len(found)} files *.pth, but none called {CHECKPOINT}," if found else "there is no file *.pth"
        raise weights.ModelError(f"{what} in {place}")
    return found[0]


def read_labels(path: Path) -> tuple[str, ...]:
    """The classes' names in the order of their indices, from AudioSet's ``index,mid,display_name``."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        named = {int(row["index"]): row["display_name"] for row in rows}
    except (KeyError, ValueError) as error:
        raise weights.ModelError(f"{path}: not in AudioSet's format index,mid,display_name ({error!r})") from error
    if sorted(named) != list(range(len(rows))):
        raise weights.ModelError(f"{path}: the indices of {len(rows)} labels are not 0 to {len(rows) - 1}, each once")
    return tuple(named[index] for index in range(len(rows)))
