"""The cue *speech*: what is said in a clip, when, and in which language, by Whisper (Radford et al., arXiv:2212.04356).

What Whisper writes where nobody speaks is left out (`model_handlers.transcript`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_handlers.base import AudioCue, Example, Items, pick_device
from model_handlers.chat import checked
from model_handlers.separation import StemCue
from model_handlers.transcript import RATE, Heard, later, segments, to_items
from model_handlers.views import Audio, Stems
from model_handlers.weights import ModelError, check_whole, reading


@dataclass(frozen=True)
class Recogniser:
    """A Whisper ready to run.

    Attributes:
        model: `transformers` WhisperForConditionalGeneration in evaluation mode, on its device.
        processor: what was saved with it.
        languages: token → language, ISO 639-1 as Whisper has it; empty for a model of English alone.
    """

    model: Any
    processor: Any
    languages: dict[int, str]


@dataclass(kw_only=True)
class Speech(StemCue, AudioCue[Recogniser]):
    """What is said: an item ``no speech`` with that probability; if anything is, its language, and an item a segment.

    The language is an item ``language en`` with its probability; a segment has its times and the geometric mean of its
    tokens' probabilities. A clip is heard in windows as long as what the model hears at once (30 s for those that are
    published), so a word may be torn apart there.

    Attributes:
        language: what is spoken, ISO 639-1; empty to have it recognised.
        no_speech_above: probability that nobody speaks, from which an unsure sentence is not believed (the paper's
            0.6).
    """

    language: str = ""
    no_speech_above: float = 0.6

    version = 2
    described = "what is said in it, as a speech recogniser writes it down"
    patterns = ("*.json", "*.txt", "*.safetensors")
    advice = "Any Whisper in transformers' form serves, such as openai/whisper-large-v3-turbo"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.no_speech_above <= 1:
            raise ValueError(f"{self.name}: no_speech_above is {self.no_speech_above}; it has to be within 0 and 1")

    @property
    def view(self) -> Audio | Stems:
        """16 kHz mono: the whole, or its stems."""
        return self.sound(RATE, self.decoder)

    def load(self) -> Recogniser:
        """Loads model and processor; raises `ModelError` where something lacks or does not fit."""
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        folder, device = self.locate(), pick_device(self.device)
        with reading(folder, "Whisper"):
            processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
            model, info = WhisperForConditionalGeneration.from_pretrained(
                folder,
                dtype=self.dtype(device),
                use_safetensors=True,
                output_loading_info=True,
                local_files_only=True,
            )
        check_whole(info, folder, type(model).__name__)
        told = model.generation_config
        if getattr(told, "no_timestamps_token_id", None) is None:
            raise ModelError(f"{folder} has no generation_config.json that names Whisper's time stamps")
        if processor.feature_extractor.sampling_rate != RATE:
            raise ModelError(f"{folder} hears {processor.feature_extractor.sampling_rate} Hz; Whisper hears {RATE}")
        names = getattr(told, "lang_to_id", None) or {}
        languages = {token: name.strip("<|>") for name, token in names.items()}
        if self.language and languages and self.language not in languages.values():
            raise ModelError(f"{folder} does not know the language {self.language!r}")
        told.max_length = model.config.max_target_positions
        return Recogniser(model.eval().to(device), processor, languages)

    def predict(self, batch: Sequence[Example], model: Recogniser) -> list[Items]:
        """Listens to audio, each float32 of shape (samples,)."""
        clips = [checked(self.heard(example.view)) for example in batch]
        window = model.processor.feature_extractor.n_samples
        windows = [
            (number, start, clip[start : start + window])
            for number, clip in enumerate(clips)
            for start in range(0, len(clip), window)
        ]
        heard: list[list[Heard]] = [[] for _ in clips]
        for first in range(0, len(windows), self.batch_size):
            some = windows[first : first + self.batch_size]
            for (number, start, _), found in zip(some, self._hear([w for *_, w in some], model), strict=True):
                heard[number].append(later(found, start / RATE))
        return [to_items(said, clip, self.no_speech_above) for said, clip in zip(heard, clips, strict=True)]

    def _hear(self, windows: list[np.ndarray], model: Recogniser) -> list[Heard]:
        """What each window holds, by one look at its first token and one greedy pass over the rest."""
        import torch

        network, told = model.model, model.model.generation_config
        features = model.processor.feature_extractor(windows, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            encoded = network.get_encoder()(features.to(network.device, network.dtype))
            begin = torch.full((len(windows), 1), told.decoder_start_token_id, device=network.device)
            first = network(encoder_outputs=encoded, decoder_input_ids=begin).logits[:, 0].float()
            if not torch.isfinite(first).all():
                raise FloatingPointError("the scores are no numbers: half precision overflowed")
            silent = first.softmax(1)[:, told.no_timestamps_token_id - 1].tolist()  # Whisper's token before that one
            spoken = self._languages(first, model)
            task = {"language": [name for name, _ in spoken], "task": "transcribe"} if model.languages else {}
            output = network.generate(
                encoder_outputs=encoded,
                return_timestamps=True,
                force_unique_generate_call=True,
                return_dict_in_generate=True,
                output_scores=True,
                do_sample=False,
                **task,
            )
        tokens = output.sequences[:, -len(output.scores) :]
        chances = torch.stack(output.scores, 1).float().log_softmax(2).gather(2, tokens[..., None])[..., 0]
        decode = model.processor.tokenizer.decode
        return [
            Heard(
                no_speech,
                *language,
                segments(row, each, told.no_timestamps_token_id + 1, told.eos_token_id, decode, len(window) / RATE),
            )
            for no_speech, language, row, each, window in zip(
                silent, spoken, tokens.tolist(), chances.tolist(), windows, strict=True
            )
        ]

    def _languages(self, first: Any, model: Recogniser) -> list[tuple[str, float]]:
        """The language of each window, and how probable it is; a language that was given is certain."""
        if self.language or not model.languages:
            return [(self.language or "en", 1.0)] * len(first)
        ids = list(model.languages)
        chances, best = first[:, ids].softmax(1).max(1)
        return [(model.languages[ids[n]], chance) for n, chance in zip(best.tolist(), chances.tolist(), strict=True)]
