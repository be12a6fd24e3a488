"""Captions by any multimodal chat model of transformers: one handler for models that see and models that hear.

Qwen3-VL and its like caption the middle frame, or the video by a few frames with their times; Qwen2-Audio, Qwen3-Omni
and theirs the sound. A row says which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from model_handlers.base import CueHandler, Example, Item, Items, pick_device
from model_handlers.separation import StemCue
from model_handlers.views import Audio, MiddleFrame, Moments, MomentsView, Stems
from model_handlers.weights import ModelError, check_whole, reading

PARTS = {"frame": "image", "audio": "audio", "video": "video"}  # what a chat template calls what the model gets
_DESCRIBED = {
    "frame": "what a model of images says of the middle frame of the video",
    "audio": "what a model of sound says of the whole audio",
    "video": "what a model of video says is seen, with times (minutes:seconds)",
}
Content = list[dict[str, str]]  # of a message, as chat templates want it


@dataclass(frozen=True)
class ChatModel:
    """A chat model ready to run.

    Attributes:
        model: a generating model of `transformers` in evaluation mode, on its device.
        processor: what was saved with it; it pads on the left.
        prompt: the conversation up to the answer, in the model's own template, with a placeholder for what it gets;
            where frames go as pictures, for one of them.
        ends: the tokens that end an answer.
        as_video: whether frames go as a video rather than as pictures.
    """

    model: Any
    processor: Any
    prompt: str
    ends: tuple[int, ...]
    as_video: bool = False


@dataclass(kw_only=True)
class Chat(StemCue, CueHandler[ChatModel]):
    """Asks a chat model about the middle frame, the video or the sound: one item a clip, or none for an empty answer.

    The item's score is the geometric mean of the probabilities of the answer's tokens, in 0..1. Decoding is greedy.

    Attributes:
        sees: ``frame``, ``audio``, or ``video``: a few frames with their times.
        question: what the model is asked; empty for models that take none, such as Qwen3-Omni-Captioner.
        system: what it is told beforehand, if anything.
        rate: samples per second that a model of sound wants, in Hz.
        architecture: the class of transformers to load it with, where the automatic choice is not the one that is
            wanted: ``Qwen3OmniMoeThinkerForConditionalGeneration`` loads a Qwen3-Omni without what makes it speak.
        max_new_tokens: tokens of an answer, at most.
        every_s: seconds from one frame of a video to the next.
        most_frames: how many of them, at most; of a longer clip so many are spread evenly.
        short_side: pixels of their shorter side, at most.
        frames_as: how a model gets them. As a ``video``, it is told their times in its own way (Qwen2.5-VL by their
            places, Qwen3-VL in seconds); as ``images``, each comes after its time (``00:03:``). ``auto`` is the first
            for models whose processor tells times, and the second for all others.
    """

    sees: str = "frame"
    question: str = "Describe this in one sentence."
    system: str = ""
    rate: int = 16_000
    architecture: str = ""
    max_new_tokens: int = 64
    every_s: float = 1.0
    most_frames: int = 32
    short_side: int = 360
    frames_as: Literal["auto", "video", "images"] = "auto"

    # Some keep their chat template in a `.jinja` file; the `.bin` twins of the same weights are left out.
    patterns = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
    advice = "Any multimodal chat model in transformers' form serves, such as Qwen/Qwen3-VL-4B-Instruct"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sees not in PARTS:
            raise ValueError(f"{self.name}: sees is {self.sees!r}; it has to be frame, audio or video")
        if min(self.rate, self.max_new_tokens, self.most_frames, self.short_side) < 1:
            raise ValueError(f"{self.name}: rate, max_new_tokens, most_frames and short_side have to be at least 1")
        if self.stem and self.sees != "audio":
            raise ValueError(f"{self.name}: stem is {self.stem!r}, but sees is {self.sees!r}; it has to be audio")
        if not 0 < self.every_s < math.inf:
            raise ValueError(f"{self.name}: every_s is {self.every_s}; it has to be more than 0, and finite")

    @property
    def view(self) -> MiddleFrame | Audio | Moments | Stems:
        """The middle frame, a few frames with their times, or mono at `rate`: the whole, or its stems."""
        if self.sees == "video":
            return Moments(self.every_s, self.most_frames, self.short_side)
        return MiddleFrame() if self.sees == "frame" else self.sound(self.rate)

    @property
    def without_effect(self) -> frozenset[str]:
        of_video = {"every_s", "most_frames", "short_side"} | ({"frames_as"} if self.sees != "video" else set())
        return super().without_effect | of_video

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
        try:
            as_video = self.sees == "video" and self._takes_video(processor, folder)
            given = dated([0.0]) if self.sees == "video" and not as_video else [{"type": PARTS[self.sees]}]
            prompt = self._prompt(processor, given)
        except ValueError as error:
            raise ModelError(f"{folder} has no chat template ({error})") from error
        processor.tokenizer.padding_side = "left"  # an answer follows its prompt
        ends = model.generation_config.eos_token_id
        ends = tuple(np.atleast_1d(ends if ends is not None else []))
        return ChatModel(model.eval().to(device), processor, prompt, ends, as_video)

    def predict(self, batch: Sequence[Example], model: ChatModel) -> list[Items]:
        """Asks about frames, uint8 RGB (height, width, 3), about `MomentsView`s, or about audio, float32 (samples,)."""
        import torch

        network, processor = model.model, model.processor
        inputs = self._inputs(model, [example.view for example in batch]).to(network.device, network.dtype)
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

    def _takes_video(self, processor: Any, folder: Any) -> bool:
        """Whether frames go as a video; raises `ModelError` where the row wants that of a model that takes none."""
        if self.frames_as == "images":
            return False
        token = getattr(processor, "video_token", None)
        takes = token is not None and token in self._prompt(processor, [{"type": "video"}])
        if self.frames_as == "video" and not takes:
            raise ModelError(f"{folder} takes no video; set frames_as = 'images'")
        # What a processor wants back from its own reader of videos: it is the frames' times that it writes.
        tells_times = getattr(type(processor), "videos_kwargs", {}).get("return_metadata", False)
        return takes and (self.frames_as == "video" or tells_times)

    def _prompt(self, processor: Any, given: Content) -> str:
        """The conversation in the model's template; raises ValueError where it has none."""
        content = [*given, *([{"type": "text", "text": self.question}] if self.question else [])]
        told = [{"role": "system", "content": [{"type": "text", "text": self.system}]}] if self.system else []
        return processor.apply_chat_template(
            [*told, {"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )

    def _inputs(self, model: ChatModel, views: Sequence[Any]) -> Any:
        processor, prompts = model.processor, [model.prompt] * len(views)
        if self.sees == "audio":
            # Only the text is padded to the longest: how long a sound has to be, its own extractor knows.
            told = {"text_kwargs": {"padding": True}, "audio_kwargs": {"sampling_rate": self.rate}}
            return processor(
                text=prompts, audio=[checked(self.heard(view)) for view in views], return_tensors="pt", **told
            )
        from PIL import Image

        if model.as_video:
            return _videos(processor, prompts, views)
        if self.sees == "video":
            prompts = [self._prompt(processor, dated(view.times_s)) for view in views]
            images = [[Image.fromarray(frame) for frame in checked(view.frames)] for view in views]
        else:
            images = [[Image.fromarray(checked(view))] for view in views]
        return processor(text=prompts, images=images, padding=True, return_tensors="pt")


def dated(times_s: Iterable[float]) -> Content:
    """A picture for each time in seconds, after the time: ``00:03:``."""
    stamps = [f"{int(at_s) // 60:02d}:{int(at_s) % 60:02d}:" for at_s in times_s]
    texts = [{"type": "text", "text": f"{stamp} " if not n else f"\n{stamp} "} for n, stamp in enumerate(stamps)]
    return [part for text in texts for part in (text, {"type": "image"})] + [{"type": "text", "text": "\n"}]


def _videos(processor: Any, prompts: list[str], views: Sequence[MomentsView]) -> Any:
    """What a model that takes videos is given, with the frames' times to the millisecond."""
    least = getattr(processor.video_processor, "temporal_patch_size", 1)  # frames that are looked at together
    frames, told = [], []
    for view in views:
        times_ms = [round(1000 * at_s) for at_s in view.times_s]
        lacking = max(0, least - len(times_ms))
        frames.append(np.concatenate([checked(view.frames), view.frames[-1:].repeat(lacking, axis=0)]))
        times_ms += times_ms[-1:] * lacking
        # As if of a video of 1000 frames a second each of these had been taken. What follows the last one counts too.
        length_ms = (times_ms[-1] - times_ms[0]) * len(times_ms) // max(1, len(times_ms) - 1) or 1000
        told.append(
            {"fps": 1000.0, "frames_indices": times_ms, "total_num_frames": length_ms, "duration": length_ms / 1000}
        )
    options = {"video_metadata": told, "do_sample_frames": False, "input_data_format": "channels_last"}
    return processor(text=prompts, videos=frames, padding=True, return_tensors="pt", videos_kwargs=options)


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
