"""The cue *image label*: which of many names suits the middle frame best, by CLIP or another dual encoder.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021,
arXiv:2103.00020), as Auto-ACD uses it: the names of ImageNet-1k in the sentence "a photo of a {label}".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_handlers.base import CueHandler, Example, Items, best_items, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import MiddleFrame
from model_handlers.weights import ModelError, check_whole, reading

if TYPE_CHECKING:
    from torch import Tensor

MODEL_TYPES = ("clip", "siglip", "siglip2")
TEXTS_AT_ONCE = 128
TOKENS = 64  # to which SigLIP's texts are padded, as in its training


@dataclass(frozen=True)
class Labeller:
    """A dual encoder ready to run.

    Attributes:
        model: of `transformers`, in evaluation mode, on its device.
        extractor: what was saved with it and makes its inputs of pictures, or of sounds.
        names: the labels.
        texts: their embeddings, each of length 1, shape (labels, width).
    """

    model: Any
    extractor: Any
    names: tuple[str, ...]
    texts: Tensor


@dataclass(kw_only=True)
class ImageLabel(CueHandler[Labeller]):
    """The `top` most suitable labels, best first.

    With CLIP the scores are a softmax over all labels: they say which of these names suits best, not whether one does.
    With SigLIP and SigLIP 2 each label has a probability of its own.

    Attributes:
        labels: the names, or empty for those of `labels_file`.
        labels_file: a text file with a name a line; where it is empty too, the 1000 names of ImageNet-1k.
        template: the sentence in which a name is shown to the model, with ``{label}`` in its place.
        top: how many labels.
    """

    labels: tuple[str, ...] = ()
    labels_file: str = ""
    template: str = "a photo of a {label}"
    top: int = 3

    described = "names from a list that suit the middle frame of the video best, with confidences"
    patterns = ("*.json", "*.txt", "*.model", "*.safetensors")
    file_params = frozenset({"labels_file"})
    footprint = Footprint(parameters_m=428, clip_mb=18)  # CLIP ViT-L/14
    advice = (
        "Any CLIP, SigLIP or SigLIP 2 in transformers' form serves, such as openai/clip-vit-large-patch14 at revision "
        "32bd64288804d66eefd0ccbe215aa642df71cc41"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels and self.labels_file:
            raise ValueError(f"{self.name}: labels and labels_file are both given; leave one out")
        check_row(self.name, self.labels, self.template, self.top)

    @property
    def view(self) -> MiddleFrame:
        """The middle frame."""
        return MiddleFrame()

    def load(self) -> Labeller:
        """Loads the model and embeds every label once; raises `ModelError` where something lacks or does not fit."""
        from transformers import AutoConfig, AutoModel, AutoProcessor

        names = self.labels or (read_labels(self.locate(self.labels_file)) if self.labels_file else imagenet_names())
        folder, device = self.locate(), pick_device(self.device)
        with reading(folder, "a model that gives labels to images"):
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if config.model_type not in MODEL_TYPES:
                raise ValueError(f"config.json is of a {config.model_type}, not of one of {', '.join(MODEL_TYPES)}")
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
            model, info = AutoModel.from_pretrained(
                folder, config=config, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        check_whole(info, folder, config.model_type)
        model = model.eval().to(device)
        padding: dict[str, Any] = {"padding": True}
        if config.model_type != "clip":
            padding = {"padding": "max_length", "max_length": min(TOKENS, config.text_config.max_position_embeddings)}
        texts = embed_names(model, processor.tokenizer, names, self.template, **padding)
        return Labeller(model, processor.image_processor, names, texts)

    def predict(self, batch: Sequence[Example], model: Labeller) -> list[Items]:
        """Labels frames, each uint8 RGB of shape (height, width, 3)."""
        import torch

        network = model.model
        # Said explicitly, because a frame three pixels high looks like one with its channels first.
        pictures = model.extractor(
            [example.view for example in batch], input_data_format="channels_last", return_tensors="pt"
        ).to(network.device)
        with self.inference(network.device.type):
            features = network.get_image_features(**pictures).pooler_output
        with torch.inference_mode():  # in single precision: a hundred times a cosine decides
            logits = unit(features.float()) @ model.texts.T * network.logit_scale.exp()
            single = network.config.model_type == "clip"
            scores = (logits.softmax(1) if single else (logits + network.logit_bias).sigmoid()).cpu().numpy()
        return [best_items(row, model.names, self.top) for row in scores]


def embed_names(model: Any, tokenizer: Any, names: Sequence[str], template: str, **padding: Any) -> Tensor:
    """Returns each name in the template's sentence as the model's text half places it: unit vectors (names, width)."""
    import torch

    sentences = [template.replace("{label}", name) for name in names]
    parts = []
    with torch.inference_mode():
        for start in range(0, len(sentences), TEXTS_AT_ONCE):
            some = sentences[start : start + TEXTS_AT_ONCE]
            tokens = tokenizer(some, truncation=True, return_tensors="pt", **padding).to(model.device)
            parts.append(unit(model.get_text_features(**tokens).pooler_output))
    return torch.cat(parts)


def unit(features: Tensor) -> Tensor:
    """Returns the rows scaled to length 1."""
    return features / features.norm(dim=-1, keepdim=True)


def imagenet_names() -> tuple[str, ...]:
    """The 1000 names of ImageNet-1k's classes, as torchvision has them."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def read_labels(path: Path) -> tuple[str, ...]:
    """Returns the names in a text file, one a line; raises `ModelError` where there are none or one stands twice."""
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
        check_labels(names, str(path))
    except (OSError, ValueError) as error:
        raise ModelError(f"no labels can be read from {path}: {error}") from error
    if not names:
        raise ModelError(f"{path} holds no labels; write one a line")
    return names


def check_row(cue: str, labels: Sequence[str], template: str, top: int) -> None:
    """Raises `ValueError` where a cue's row cannot be meant; see `ImageLabel` for what it says."""
    if top < 1:
        raise ValueError(f"{cue}: top is {top}; it has to be at least 1")
    if "{label}" not in template:
        raise ValueError(f"{cue}: template {template!r} lacks {{label}}, where each name goes")
    check_labels(labels, cue)


def check_labels(names: Sequence[str], where: str) -> None:
    """Raises `ValueError` where a label is blank, or stands twice."""
    blank = [name for name in names if not name.strip()]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if blank or twice:
        raise ValueError(f"{where}: the label {(blank or twice)[0]!r} {'is blank' if blank else 'stands there twice'}")
