"""The cue *place*: which of Places365's scenes the clip's middle frame shows, by its ResNet-50.

Zhou et al., "Places: A 10 Million Image Database for Scene Recognition" (TPAMI 2017), http://places2.csail.mit.edu.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from model_handlers.base import CueHandler, Example, Item, Items, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import MiddleFrame
from model_handlers.weights import ModelError, reading

if TYPE_CHECKING:
    from torch import Tensor

    from model_handlers.nets.resnet import ResNet50

CATEGORIES = "categories_places365.txt"
INDOOR_OUTDOOR = "IO_places365.txt"
ADVICE = (
    f"The published checkpoint is resnet50_places365.pth.tar at http://places2.csail.mit.edu/models_places365, and "
    f"{CATEGORIES} and {INDOOR_OUTDOOR} are in https://github.com/CSAILVision/places365; the profile auto_acd has all "
    "three addresses. A folder that holds them serves as well"
)
# The preprocessing of the published models (run_placesCNN_basic.py): squeeze to 256 × 256, centre 224 × 224.
RESIZE, CROP = 256, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


@dataclass(frozen=True)
class Recogniser:
    """A loaded network and what its classes are.

    Attributes:
        net: gives logits (batch, classes) for normalised pictures (batch, 3, 224, 224).
        names: readable, by class.
        outdoor: whether a class is out of doors, bool, shape (classes,).
    """

    net: ResNet50
    names: tuple[str, ...]
    outdoor: np.ndarray


@dataclass(kw_only=True)
class Place(CueHandler[Recogniser]):
    """The `top` likeliest scenes, likeliest first, and last an item ``indoor`` or ``outdoor``.

    Each score is a probability; the last one's is the sum over all scenes of its kind. (The reference script instead
    lets the ten likeliest vote with equal weight, whether they have half of the probability or a thousandth.)

    `model` is a checkpoint in Places365's layout, or a folder that holds one.

    Attributes:
        top: how many scenes.
        categories: the scenes' names, in Places365's format (``/a/airfield 0``); where empty, the file
            ``categories_places365.txt`` beside the checkpoint.
        indoor_outdoor: 1 (indoor) or 2 (outdoor) for each name (``/a/airfield 2``); where empty, ``IO_places365.txt``
            beside the checkpoint.
    """

    top: int = 3
    categories: str = ""
    indoor_outdoor: str = ""

    footprint = Footprint(parameters_m=24, clip_mb=11)  # ResNet-50
    advice = ADVICE
    described = "places that the middle frame of the video may show, and whether it is indoors, with confidences"
    patterns = ("*.pth*", "*.txt")
    file_params = frozenset({"categories", "indoor_outdoor"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top < 1:
            raise ValueError(f"{self.name}: top is {self.top}; it has to be at least 1")

    @property
    def view(self) -> MiddleFrame:
        """The middle frame."""
        return MiddleFrame()

    def load(self) -> Recogniser:
        """Loads the network and its lists; raises `ModelError` where one is missing or they do not fit each other."""
        from model_handlers.nets.resnet import load_resnet50

        place = self.locate()
        if place.is_file() and not (self.categories and self.indoor_outdoor):  # the fingerprint knows named files only
            raise ModelError(
                "model is a file, so categories and indoor_outdoor have to be given as well; or give the folder that "
                "holds all three"
            )
        checkpoint = find_checkpoint(place)
        names, outdoor = read_lists(
            self.locate(self.categories) if self.categories else checkpoint.with_name(CATEGORIES),
            self.locate(self.indoor_outdoor) if self.indoor_outdoor else checkpoint.with_name(INDOOR_OUTDOOR),
        )
        with reading(checkpoint, "ResNet-50"):
            net = load_resnet50(checkpoint)
        if net.fc.out_features != len(names):
            raise ModelError(f"{checkpoint} has {net.fc.out_features} classes, but {len(names)} are named")
        return Recogniser(net.to(pick_device(self.device)), names, outdoor)

    def predict(self, batch: Sequence[Example], model: Recogniser) -> list[Items]:
        """Looks at frames, each uint8 RGB of shape (height, width, 3)."""
        import torch

        device = model.net.fc.weight.device
        pictures = torch.stack([prepare(cast(np.ndarray, example.view)) for example in batch]).to(device)
        with self.inference(device.type):
            probabilities = model.net(pictures).float().softmax(1).cpu().numpy()
        return [self._items(row, model) for row in probabilities]

    def _items(self, probabilities: np.ndarray, model: Recogniser) -> Items:
        if not np.isfinite(probabilities).all():
            raise FloatingPointError("the scenes' probabilities are no numbers: half precision overflowed")
        order = np.argsort(-probabilities, kind="stable")[: self.top]
        outdoor = float(probabilities[model.outdoor].sum())
        side = Item("outdoor", score=outdoor) if outdoor > 0.5 else Item("indoor", score=1.0 - outdoor)
        return (*(Item(model.names[index], score=float(probabilities[index])) for index in order), side)


def prepare(frame: np.ndarray) -> Tensor:
    """Returns a frame, uint8 RGB of shape (height, width, 3), as the network wants it: float32 (3, 224, 224).

    Raises `ValueError` on a frame without pixels, which Pillow would enlarge.
    """
    import torch
    from PIL import Image

    if not frame.size:
        raise ValueError(f"the frame is empty: {frame.shape}")
    squeezed = np.asarray(Image.fromarray(frame).resize((RESIZE, RESIZE), Image.Resampling.BILINEAR))
    edge = (RESIZE - CROP) // 2
    scaled = squeezed[edge : edge + CROP, edge : edge + CROP].astype(np.float32) / 255
    normal = (scaled - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(normal.transpose(2, 0, 1).copy())


def find_checkpoint(place: Path) -> Path:
    """The checkpoint's file: `place` itself, or the one ``*.pth`` or ``*.pth.tar`` in it."""
    if place.is_file():
        return place
    found = sorted([*place.glob("*.pth"), *place.glob("*.pth.tar")])
    if len(found) != 1:
        raise ModelError(f"{len(found)} files *.pth or *.pth.tar in {place}, where one is wanted")
    return found[0]


def read_lists(categories: Path, indoor_outdoor: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the classes' readable names in order of their numbers, and which are out of doors, bool (classes,).

    Raises `ModelError` where a list is missing, or they do not name the same classes.
    """
    numbers, sides = _read(categories), _read(indoor_outdoor)
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise ModelError(f"{categories}: the numbers of {len(numbers)} names are not 0 to {len(numbers) - 1}")
    if numbers.keys() != sides.keys() or not set(sides.values()) <= {1, 2}:
        raise ModelError(f"{indoor_outdoor}: does not say 1 or 2 of exactly the names in {categories}")
    in_order = sorted(numbers, key=lambda name: numbers[name])
    return tuple(map(readable, in_order)), np.array([sides[name] == 2 for name in in_order])


def _read(path: Path) -> dict[str, int]:
    """Lines of a name and a number; raises `ModelError` on any other."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        pairs = [(name, int(number)) for name, number in (line.rsplit(maxsplit=1) for line in lines)]
    except OSError as error:
        raise ModelError(f"no list at {path}") from error
    except ValueError as error:
        raise ModelError(f"{path}: not lines of a name and a number, as in '/a/airfield 0' ({error})") from error
    if len(dict(pairs)) != len(pairs):
        raise ModelError(f"{path}: a name stands there twice")
    return dict(pairs)


def readable(name: str) -> str:
    """``/a/apartment_building/outdoor`` → ``apartment building, outdoor``."""
    parts = [part for part in name.split("/") if part]
    if len(parts) > 1 and len(parts[0]) == 1:  # the letter under which it is filed
        parts = parts[1:]
    return ", ".join(part.replace("_", " ") for part in parts)
