"""Captions by any multimodal chat model of transformers: one handler for models that see and models that hear.

Qwen3-VL and its like caption the middle frame, Qwen2-Audio, Qwen3-Omni and theirs the sound; a row says which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from model_handlers.base import CueHandler, Example, Item, Items, pick_device
from model_handlers.views import Audio, MiddleFrame
from model_handlers.weights import ModelError, check_whole, reading

PARTS = {"frame": "image", "audio": "audio"}  # what a chat template calls what the model gets
_DESCRIBED = {
    "frame": "what a model of images says of the middle frame of the video",
    "audio": "what a model of sound says of the whole audio",
}


@dataclass(frozen=True)
class ChatModel:
    """A chat model ready to run.

    Attributes:
        model: a generating model of `transformers` in evaluation mode, on its device.
        processor: what was saved with it; it pads on the left.
        prompt: the conversation up to the answer, in the model's own template, with a placeholder for what it gets.
        ends: the tokens that end an answer.
    """

    model: Any
    processor: Any
    prompt: str
    ends: tuple[int, ...]


@dataclass(kw_only=True)
class Chat(CueHandler[ChatModel]):
    """Asks a chat model about the middle frame or the sound: one item a clip, or none where the answer is empty.

    The item's score is the geometric mean of the probabilities of the answer's tokens, in 0..1. Decoding is greedy.

    Attributes:
        sees: ``frame`` or ``audio``.
        question: what the model is asked; empty for models that take none, such as Qwen3-Omni-Captioner.
        system: what it is told beforehand, if anything.
        rate: samples per second that a model of sound wants, in Hz.
        architecture: the class of transformers to load it with, where the automatic choice is not the one that is
            wanted: ``Qwen3OmniMoeThinkerForConditionalGeneration`` loads a Qwen3-Omni without what makes it speak.
        max_new_tokens: tokens of an answer, at most.
    """

    sees: str = "frame"
    question: str = "Describe this in one sentence."
    system: str = ""
    rate: int = 16_000
    architecture: str = ""
    max_new_tokens: int = 64

    # Some keep their chat template in a `.jinja` file; the `.bin` twins of the same weights are left out.
    patterns = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
    advice = "Any multimodal chat model in transformers' form serves, such as Qwen/Qwen3-VL-4B-Instruct"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sees not in PARTS:
            raise ValueError(f"{self.name}: sees is {self.sees!r}; it has to be frame or audio")
        if min(self.rate, self.max_new_tokens) < 1:
            raise ValueError(f"{self.name}: rate and max_new_tokens have to be at least 1")

    @property
    def view(self) -> MiddleFrame | Audio:
        """The middle frame, or mono at `rate`."""
        return MiddleFrame() if self.sees == "frame" else Audio(self.rate)

    @property
    def told(self) -> str:
        return self.heading or _DESCRIBED[self.sees]

    def load(self) -> ChatModel:
        """Loads model and processor; raises `ModelError` where something lacks or does not fit."""
        from transformers import AutoProcessor

        folder, device = self.locate(), pick_device(self.device)
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        with reading(folder, "a chat model"):
            processor = AutoProcessor.from_pretrained(folder, **local)
            model, info = self._class().from_pretrained(
                folder, dtype=self.dtype(device), use_safetensors=True, output_loading_info=True, **local
            )
        check_whole(info, folder, type(model).__name__)
        if getattr(model, "has_talker", False):
            raise ModelError(
                f"{folder} answers in speech as well; give the class of its thinker as `architecture`, as "
                "in architecture = 'Qwen3OmniMoeThinkerForConditionalGeneration'"
            )
        heard = getattr(getattr(processor, "feature_extractor", None), "sampling_rate", None)
        if self.sees == "audio" and heard != self.rate:
            say = f"hears {heard} Hz; set rate = {heard} in the row" if heard else "does not hear"
            raise ModelError(f"{folder} {say}")
        prompt = self._prompt(processor, folder)
        processor.tokenizer.padding_side = "left"  # an answer follows its prompt
        ends = model.generation_config.eos_token_id
        return ChatModel(
            model.eval().to(device), processor, prompt, tuple(np.atleast_1d(ends if ends is not None else []))
        )

    def predict(self, batch: Sequence[Example], model: ChatModel) -> list[Items]:
        """Asks about frames, each uint8 RGB (height, width, 3), or about audio, each float32 (samples,)."""
        import torch

        network, processor = model.model, model.processor
        given = [checked(cast(np.ndarray, example.view)) for example in batch]
        inputs = self._inputs(processor, [model.prompt] * len(batch), given).to(network.device, network.dtype)
        with torch.inference_mode():
            output = network.generate(
                **inputs,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        answers = output.sequences[:, -len(output.logits) :]
        chosen = torch.stack(output.logits, 1).float().log_softmax(2).gather(2, answers[..., None])[..., 0]
        texts = processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
        # What follows the end token was padded so that the batch's answers are of one length.
        ended = torch.isin(answers, torch.tensor(model.ends, dtype=answers.dtype, device=answers.device))
        counts = torch.where(ended.any(1), ended.int().argmax(1) + 1, answers.shape[1]).tolist()
        return [_items(text, float(row[:n].mean())) for text, row, n in zip(texts, chosen, counts, strict=True)]

    def _class(self) -> Any:
        """The class of transformers that loads the model."""
        import transformers

        if not self.architecture:
            return transformers.AutoModelForMultimodalLM
        named = getattr(transformers, self.architecture, None)
        if not (isinstance(named, type) and issubclass(named, transformers.GenerationMixin)):
            raise ModelError(f"transformers has no generating model called {self.architecture!r}")
        return named

    def _prompt(self, processor: Any, folder: Any) -> str:
        content = [{"type": PARTS[self.sees]}, *([{"type": "text", "text": self.question}] if self.question else [])]
        told = [{"role": "system", "content": [{"type": "text", "text": self.system}]}] if self.system else []
        try:
            return processor.apply_chat_template(
                [*told, {"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
            )
        except ValueError as error:
            raise ModelError(f"{folder} has no chat template ({error})") from error

    def _inputs(self, processor: Any, prompts: list[str], given: list[np.ndarray]) -> Any:
        if self.sees == "audio":
            # Only the text is padded to the longest: how long a sound has to be, its own extractor knows.
            told = {"text_kwargs": {"padding": True}, "audio_kwargs": {"sampling_rate": self.rate}}
            return processor(text=prompts, audio=given, return_tensors="pt", **told)
        from PIL import Image

        images = [[Image.fromarray(frame)] for frame in given]
        return processor(text=prompts, images=images, padding=True, return_tensors="pt")


def checked(view: np.ndarray) -> np.ndarray:
    """Returns a frame or a clip's samples; raises `ValueError` where there are none, or some are not numbers."""
    if not view.size:
        raise ValueError(f"there is nothing in it: shape {view.shape}")
    if view.dtype.kind == "f" and not np.isfinite(view).all():
        raise ValueError("the audio holds samples that are no finite numbers")
    return view


def _items(text: str, log_probability: float) -> Items:
    if not math.isfinite(log_probability):
        raise FloatingPointError("the answer's probability is not a number: half precision overflowed")
    answer = " ".join(text.split())
    return (Item(answer, score=round(math.exp(log_probability), 4)),) if answer else ()
