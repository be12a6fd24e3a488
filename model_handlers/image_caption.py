"""Image caption: what BLIP-2 (Li et al., ICML 2023, arXiv:2301.12597) says of the clip's middle frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_handlers import weights
from model_handlers.base import CueHandler, Example, Item, Items, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import MiddleFrame

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Captioner:
    """BLIP-2 ready to run.

    Attributes:
        model: `transformers.Blip2ForConditionalGeneration` in evaluation mode, on its device.
        processor: the `transformers.Blip2Processor` that was saved with it.
        prompt_ids: tokens of the image placeholders and the prompt, shape (1, tokens); ``None`` without a prompt.
    """

    model: Any
    processor: Any
    prompt_ids: torch.Tensor | None


@dataclass(kw_only=True)
class ImageCaption(CueHandler[Captioner]):
    """Captions the middle frame with BLIP-2: one item a clip, or none where the model writes nothing.

    The item's score is the geometric mean of the probabilities of the tokens that the model chose, in 0..1 and rounded
    to four digits; it says how sure the model is of its wording, not whether the picture shows it. Decoding is
    deterministic; all frames are resized to one size and follow one prompt, so that no clip is padded to fit another.

    Attributes:
        prompt: text that the caption continues, such as ``a photo of``; empty, as in the paper's captioning, for none.
        max_new_tokens: tokens of a caption, at most.
        num_beams: width of the beam search; 1 is greedy.
    """

    prompt: str = ""
    max_new_tokens: int = 30
    num_beams: int = 1

    described = "what a model of images says of the middle frame of the video"
    # Everything but the `.bin` twins of the same weights, which would double the 15 GB of the published repository.
    patterns = ("*.json", "*.txt", "*.safetensors")
    footprint = Footprint(parameters_m=3745, clip_mb=60, weights="cast")  # BLIP-2 with OPT 2.7B, an image and 32 words
    advice = "Any BLIP-2 in transformers' form serves, such as Salesforce/blip2-opt-2.7b"

    @property
    def view(self) -> MiddleFrame:
        """The middle frame."""
        return MiddleFrame()

    def load(self) -> Captioner:
        """Loads a hub repository or a local folder in the type that `precision` asks for.

        Raises:
            weights.ModelError: the folder lacks files, or holds another architecture or other weights.
        """
        import torch
        from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor

        folder = self.locate()
        weights.check_complete(folder, "BLIP-2", "vocab.json")
        device = pick_device(self.device)
        with weights.reading(folder, "BLIP-2"):
            config = Blip2Config.from_pretrained(folder, local_files_only=True)
            # Another architecture's file would have a BLIP-2 of the published size made up at random.
            if config.architectures != ["Blip2ForConditionalGeneration"]:
                raise ValueError(f"config.json is of {config.architectures}")
            processor = Blip2Processor.from_pretrained(folder, local_files_only=True)
            model, info = Blip2ForConditionalGeneration.from_pretrained(
                folder,
                config=config,
                dtype=self.dtype(device),
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        weights.check_whole(info, folder, "BLIP-2")
        if processor.num_query_tokens != model.config.num_query_tokens:
            raise weights.ModelError(
                f"model {self.model!r}: the processor in {folder} lacks num_query_tokens; get the files again. "
                "Older revisions on the hub lack the image tokens that transformers 5 needs: take a newer one"
            )
        prompt_ids = None
        if self.prompt:
            # A blank image of any size makes the processor put its placeholders before the prompt.
            placeholder = torch.zeros(3, 8, 8, dtype=torch.uint8)
            prompt_ids = processor(images=placeholder, text=self.prompt, return_tensors="pt")["input_ids"].to(device)
        return Captioner(model.eval().to(device), processor, prompt_ids)

    def predict(self, batch: Sequence[Example], model: Captioner) -> list[Items]:
        """Captions frames, each uint8 RGB of shape (height, width, 3)."""
        import torch

        network = model.model
        # Said explicitly, because a frame three pixels high looks like one with its channels first.
        pixels = model.processor.image_processor(
            [example.view for example in batch], input_data_format="channels_last", return_tensors="pt"
        )["pixel_values"].to(network.device, network.dtype)
        prompt_ids = None if model.prompt_ids is None else model.prompt_ids.expand(len(batch), -1)
        with torch.inference_mode():
            output = network.generate(
                pixel_values=pixels,
                input_ids=prompt_ids,
                max_new_tokens=self.max_new_tokens,
                num_beams=self.num_beams,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
            )
            log_probabilities = network.language_model.compute_transition_scores(
                output.sequences, output.scores, getattr(output, "beam_indices", None), normalize_logits=True
            ).float()
        # The sequences begin with the prompt, or with the placeholders that `generate` puts where there is none.
        written = output.sequences[:, -log_probabilities.shape[1] :]
        texts = model.processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        # What follows the end token was padded so that the batch's captions are of one length.
        ends = torch.isin(written, torch.tensor(network.language_model.generation_config.eos_token_id).to(written))
        counts = torch.where(ends.any(1), ends.int().argmax(1) + 1, written.shape[1]).tolist()
        return [
            _items(text, float(row[:count].mean()))
            for text, row, count in zip(texts, log_probabilities, counts, strict=True)
        ]


def _items(text: str, log_probability: float) -> Items:
    """One item from what was decoded and its tokens' mean log-probability."""
    if not math.isfinite(log_probability):
        raise FloatingPointError("the caption's probability is not a number: half precision overflowed")
    caption = " ".join(text.split())
    return (Item(caption, score=round(math.exp(log_probability), 4)),) if caption else ()
