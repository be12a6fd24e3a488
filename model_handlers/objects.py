"""Objects: what Grounding DINO (Liu et al., ECCV 2024, arXiv:2303.05499) finds of a vocabulary in the middle frame."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from model_handlers import weights
from model_handlers.base import CueHandler, Example, Item, Items, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import MiddleFrame

if TYPE_CHECKING:
    import torch

Box = tuple[float, float, float, float]

# Things that can be seen and that make a sound, or do so when they are used.
_NAMES = """
person, child, crowd, hands, dog, cat, bird, rooster, duck, goose, sheep, goat, cow, pig, horse, frog, lion, bee,
car, truck, bus, motorcycle, bicycle, train, airplane, helicopter, boat, ambulance, fire truck, tractor,
guitar, piano, violin, flute, trumpet, saxophone, accordion, harp, drum, cymbal, bell, whistle, microphone, loudspeaker,
hammer, saw, drill, chainsaw, axe, lawn mower, sewing machine, typewriter, keyboard, printer, camera, clock, telephone,
television, door, vacuum cleaner, hair dryer, blender, washing machine, frying pan, toilet, faucet, gun,
fireworks, fire, waterfall, river, sea, rain
"""
VOCABULARY: tuple[str, ...] = tuple(name.strip() for name in _NAMES.split(","))

MODEL_TYPES = ("grounding-dino", "mm-grounding-dino")
# The network's code finds where a name ends by these ids of bert-base-uncased, whatever its tokenizer says.
_DELIMITERS = {"[CLS]": 101, "[SEP]": 102, ".": 1012}
# Of a longer frame, scaled so that its long side fits, too little is left for the network's coarse levels and queries.
_LONGEST = 4
_NAME = re.compile(r"\w[\w '’&/-]*")


@dataclass(frozen=True)
class Prompt:
    """Names that are asked for in one pass.

    Attributes:
        names: as the vocabulary has them.
        ids: tokens of ``[CLS] name . name . [SEP]``, int64, shape (1, tokens).
        shares: each name's share in each token, float32, shape (tokens, names); a column sums to 1.
    """

    names: tuple[str, ...]
    ids: torch.Tensor
    shares: torch.Tensor


@dataclass(frozen=True)
class Detector:
    """A Grounding DINO ready to run.

    Attributes:
        model: the network in evaluation mode, on its device, in float32.
        image_processor: what was saved with it.
        prompts: the vocabulary, split so that each part fits the network's text input.
    """

    model: Any
    image_processor: Any
    prompts: tuple[Prompt, ...]


@dataclass(kw_only=True)
class Objects(CueHandler[Detector]):
    """Finds the vocabulary's things in the middle frame: an item each, with confidence and box, surest first.

    Serves Grounding DINO and MM Grounding DINO (arXiv:2401.02361), which answer with a fixed number of boxes and, for
    each, a probability for every token of the text. A name's confidence in a box is the mean probability of its tokens,
    as both projects count it when they measure on COCO. The published demonstration instead takes the likeliest token
    as the box's confidence, and joins all tokens above a second threshold to a label: that gives mixtures such as "dog
    cat", and gives every truck the score of half a "fire truck". For names of one token the confidences are the same.

    The text input is short (256 tokens), so a long vocabulary takes several passes over the frame; what else is asked
    for in a pass sways the confidences a little. A frame that is more than four times as long as it is wide is shown
    with black beside it.

    Attributes:
        vocabulary: names to look for, in the language of the model; letters, digits, blanks, hyphens. Their case does
            not matter.
        threshold: confidence (0..1) that a box has to exceed.
        overlap: of two boxes of one name whose intersection over union exceeds this, the surer stays.
        top: items a clip, at most.
    """

    vocabulary: tuple[str, ...] = VOCABULARY
    threshold: float = 0.35
    overlap: float = 0.5
    top: int = 10

    described = "objects found in the middle frame of the video, with confidences"
    patterns = ("*.json", "*.txt", "*.safetensors")
    footprint = Footprint(parameters_m=233, clip_mb=1780)  # Grounding DINO base, 800 by 1333 pixels
    advice = (
        "Any Grounding DINO or MM Grounding DINO in transformers' form serves, such as "
        "IDEA-Research/grounding-dino-base at revision 12bdfa3120f3e7ec7b434d90674b3396eccf88eb"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.vocabulary = tuple(self.vocabulary)
        for name, value in (("threshold", self.threshold), ("overlap", self.overlap)):
            if not 0 <= value <= 1:
                raise ValueError(f"{self.name}: {name} is {value}; it has to be within 0 and 1")
        if self.top < 1:
            raise ValueError(f"{self.name}: top is {self.top}; it has to be at least 1")
        if not self.vocabulary:
            raise ValueError(f"{self.name}: the vocabulary is empty; name at least one thing to look for")
        seen: dict[str, str] = {}
        for name in self.vocabulary:
            if not _NAME.fullmatch(name.strip()):
                raise ValueError(
                    f"{self.name}: {name!r} in the vocabulary is no name of a thing: letters, digits, blanks and "
                    "hyphens only, because the model reads a full stop as the name's end"
                )
            if plain(name) in seen:
                raise ValueError(
                    f"{self.name}: the vocabulary has {seen[plain(name)]!r} and {name!r}, which are the same"
                )
            seen[plain(name)] = name

    @property
    def view(self) -> MiddleFrame:
        """The middle frame."""
        return MiddleFrame()

    def load(self) -> Detector:
        """Loads a hub repository or a local folder in float32; `precision` is that of the passes.

        Raises:
            weights.ModelError: the folder lacks files, or holds another architecture, other weights, or a tokenizer
                that does not know a name.
        """
        from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor

        folder = self.locate()
        weights.check_complete(folder, "Grounding DINO", "vocab.txt")
        with weights.reading(folder, "Grounding DINO"):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if config.model_type not in MODEL_TYPES:
                raise ValueError(f"config.json is of a {config.model_type!r}, not of {' or '.join(MODEL_TYPES)}")
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model, info = AutoModelForZeroShotObjectDetection.from_pretrained(
                folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        weights.check_whole(info, folder, "Grounding DINO")
        model = model.float().eval().to(pick_device(self.device))
        return Detector(model, processor.image_processor, self._prompts(processor.tokenizer, model))

    def predict(self, batch: Sequence[Example], model: Detector) -> list[Items]:
        """Looks at frames, each uint8 RGB of shape (height, width, 3).

        Frames of one size go through together, so that none is padded to its batch mates' size.
        """
        frames = [cast(np.ndarray, example.view) for example in batch]
        same_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, frame in enumerate(frames):
            if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
                raise ValueError(f"a frame of shape {frame.shape} is no picture")
            same_size[frame.shape].append(index)
        answers: list[Items] = [()] * len(batch)
        for (height, width, _), indices in same_size.items():
            shown = [widened(frames[index]) for index in indices]
            stretch = (shown[0].shape[1] / width, shown[0].shape[0] / height)
            # Said explicitly, because a frame three pixels high looks like one with its channels first.
            pictures = model.image_processor(shown, input_data_format="channels_last", return_tensors="pt")
            found: list[list[Item]] = [[] for _ in indices]
            for prompt in model.prompts:
                for items, new in zip(found, self._ask(pictures, stretch, prompt, model.model), strict=True):
                    items += new
            for index, items in zip(indices, found, strict=True):
                answers[index] = tuple(suppress(items, self.overlap)[: self.top])
        return answers

    def _ask(self, pictures: Any, stretch: tuple[float, float], prompt: Prompt, network: Any) -> list[list[Item]]:
        """One pass: for each picture, every box of every name above the threshold.

        `stretch` is the pictures' width and height in those of the frames that they show.
        """
        import torch

        device = network.device
        count = len(pictures["pixel_values"])
        ids = prompt.ids.expand(count, -1).to(device)
        with self.inference(device.type):
            output = network(
                pixel_values=pictures["pixel_values"].to(device),
                pixel_mask=pictures["pixel_mask"].to(device),
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
            )
        # Out of mixed precision, whose three digits would make different confidences equal.
        confidence = output.logits[..., : ids.shape[1]].float().cpu().sigmoid() @ prompt.shares
        middle, half = output.pred_boxes.float().cpu().split(2, -1)
        half = half / 2
        if not (confidence.isfinite().all() and middle.isfinite().all() and half.isfinite().all()):
            raise FloatingPointError("the boxes are no numbers: half precision overflowed")
        boxes = (torch.cat([middle - half, middle + half], -1) * torch.tensor(stretch * 2)).clamp(0, 1)
        # Boxes that lie outside the frame are lines or points once they are clipped.
        seen = (boxes[..., 2:] > boxes[..., :2]).all(-1, keepdim=True)
        found: list[list[Item]] = [[] for _ in range(count)]
        for picture, query, name in ((confidence > self.threshold) & seen).nonzero().tolist():
            score, box = float(confidence[picture, query, name]), boxes[picture, query].tolist()
            found[picture].append(Item(prompt.names[name], score=score, box=(box[0], box[1], box[2], box[3])))
        return found

    def _prompts(self, tokenizer: Any, model: Any) -> tuple[Prompt, ...]:
        """Splits the vocabulary, in order, into as few prompts as fit the network's text input."""
        import torch

        for token, number in _DELIMITERS.items():
            if tokenizer.convert_tokens_to_ids(token) != number:
                raise weights.ModelError(
                    f"model {self.model!r}: its tokenizer's {token!r} is not {number}, as BERT's is"
                )
        room = model.config.max_text_len - 2  # for [CLS] and [SEP]
        parts: list[list[tuple[str, list[int]]]] = []
        left = 0
        for name in self.vocabulary:
            ids = tokenizer(plain(name), add_special_tokens=False)["input_ids"]
            if tokenizer.unk_token_id in ids or len(ids) + 1 > room:
                why = "is unknown to" if tokenizer.unk_token_id in ids else "is too long for"
                raise weights.ModelError(f"{name!r} in the vocabulary {why} the model {self.model!r}")
            if len(ids) + 1 > left:
                parts.append([])
                left = room
            parts[-1].append((name, ids))
            left -= len(ids) + 1
        prompts = []
        for part in parts:
            tokens = [_DELIMITERS["[CLS]"]]
            shares = torch.zeros(2 + sum(len(ids) + 1 for _, ids in part), len(part))
            for column, (_, ids) in enumerate(part):
                shares[len(tokens) : len(tokens) + len(ids), column] = 1 / len(ids)
                tokens += [*ids, _DELIMITERS["."]]
            ids_row = torch.tensor([[*tokens, _DELIMITERS["[SEP]"]]])
            prompts.append(Prompt(tuple(name for name, _ in part), ids_row, shares))
        return tuple(prompts)


def widened(frame: np.ndarray) -> np.ndarray:
    """A frame, uint8 (height, width, 3), with black below it or to its right where it is too long and narrow."""
    height, width = frame.shape[:2]
    least = -(-max(height, width) // _LONGEST)
    if min(height, width) >= least:
        return frame
    return np.pad(frame, ((0, max(0, least - height)), (0, max(0, least - width)), (0, 0)))


def plain(name: str) -> str:
    """A name as the model reads it: lower case, single blanks."""
    return " ".join(name.lower().split())


def box_overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1): 0 for boxes that do not touch, 1 for equal ones."""
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    tall = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    both = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - wide * tall
    return wide * tall / both if both > 0 else 0.0


def suppress(items: Iterable[Item], overlap: float) -> list[Item]:
    """Drops what was found twice: of boxes of one name that overlap by more than `overlap`, the surest stays.

    The rest comes surest first.
    """
    kept: list[Item] = []
    for item in sorted(items, key=lambda item: (-cast(float, item.score), item.text, item.box)):
        rivals = (other.box for other in kept if other.text == item.text)
        if all(box_overlap(cast(Box, box), cast(Box, item.box)) <= overlap for box in rivals):
            kept.append(item)
    return kept
