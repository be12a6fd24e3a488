"""Captions by any chat model of transformers that runs on the worker itself: nothing leaves it, and nothing is paid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from apache_beam.utils.shared import Shared

from model_handlers import weights
from model_handlers.base import Loaded, in_parts, pick_device, retryable
from model_handlers.llm import LanguageWriter
from model_handlers.pace import shared
from model_handlers.weights import ModelError
from model_handlers.writers import Brief, CaptionWriter, Draft, Kept

if TYPE_CHECKING:
    import torch

_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
Messages = list[dict[str, str]]


@dataclass(frozen=True)
class LanguageModel:
    """A chat model ready to run.

    Attributes:
        model: a causal language model of `transformers` in evaluation mode, on its device.
        tokenizer: what was saved with it; it has a chat template and pads on the left.
        context: tokens that prompt and answer may have together; ``None`` where the model does not say.
        ends: the tokens that end an answer.
        marks: the texts that its tokenizer takes for special tokens.
        takes_system: whether the template knows a system's messages; where it does not, the user says them.
    """

    model: Any
    tokenizer: Any
    context: int | None
    ends: tuple[int, ...]
    marks: tuple[str, ...]
    takes_system: bool


@dataclass(kw_only=True)
class LocalWriter(LanguageWriter):
    """Asks a chat model of transformers that runs here, in batches.

    At temperature 0 the likeliest token is taken each time. At others tokens are drawn with a seed that is the brief's
    own. Either way what the checkpoint itself recommends (sampling, penalties) does not count, and an answer depends on
    no other brief. Long prompts and long answers are bounded by the model's context.

    Attributes:
        model: hub id, local folder, ``pkg://package/path`` or ``gs://bucket/path`` (`references.parse`).
        revision: the commit of a hub id.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``auto`` is bf16 on a GPU that computes in it, fp16 on older ones and
            fp32 elsewhere. Most language models are trained in bf16, and some overflow in fp16.
        enable_thinking: whether a model that may think before it answers does so, where its template asks; thoughts
            count as tokens of the answer.
        gpu_gb: GPU memory that weights and one batch take, in GB (10^9 bytes): for a model of transformers about 2 for
            each thousand million parameters, and what the batch's prompts and answers are kept in.
    """

    revision: str = ""
    device: str = "auto"
    precision: str = "auto"
    enable_thinking: bool = False
    gpu_gb: float | None = None

    # Some keep their chat template in a `.jinja` file; the `.bin` twins of the same weights are left out.
    patterns: ClassVar[tuple[str, ...]] = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")
    advice: ClassVar[str] = "Any chat model in transformers' form serves, such as Qwen/Qwen3-4B-Instruct-2507"
    _speed_only: ClassVar[frozenset[str]] = CaptionWriter._speed_only | {"device", "gpu_gb"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {self.device!r}; it has to be auto, cpu or cuda")
        if self.precision not in ("auto", *_PRECISIONS):
            raise ValueError(f"precision is {self.precision!r}; it has to be auto, fp32, bf16 or fp16")

    @property
    def gpu_memory(self) -> float | None:
        return 0.0 if self.device == "cpu" else self.gpu_gb

    def references(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        return ((self.model, self.revision, self.patterns),)

    @property
    def shares(self) -> tuple[str, ...]:
        return self.model, self.revision, self.device, self.precision

    def for_run(self, run: str, answered: Kept, folder: str) -> Self:
        """As for every writer; and in a run, writers of one model load it once in a process."""
        writer = super().for_run(run, answered, folder)
        writer._shared = shared(("model", run, self.facts()["model"], *self.shares), Shared)
        return writer

    def facts(self) -> dict[str, Any]:
        """The model counts by its content, wherever it lies."""
        facts = super().facts()
        facts.pop("revision")
        try:
            return {**facts, "model": weights.identity(self.model, self.revision)}
        except ModelError as error:
            raise self._explained(error) from error

    def load(self) -> LanguageModel:
        """Loads model and tokenizer; raises `ModelError` where something lacks or does not fit."""
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        folder, device = self._locate(), pick_device(self.device)
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **local)
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, dtype=self._dtype(device), use_safetensors=True, output_loading_info=True, **local
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
            raise ModelError(
                f"{self.task}: model {self.model!r} cannot be loaded from {folder} ({type(error).__name__}: {error}). "
                f"{self.advice}"
            ) from error
        if info["missing_keys"]:  # transformers fills them with random numbers and goes on
            missing = ", ".join(sorted(info["missing_keys"])[:3])
            raise ModelError(f"{self.task}: {folder} is not a whole {type(model).__name__} (missing: {missing})")
        ends = _ends(model, tokenizer, folder)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token_id = ends[0]
        # Nothing else, so that neither sampling nor a penalty, which would count padding, comes from the checkpoint.
        model.generation_config = GenerationConfig(
            do_sample=False,
            eos_token_id=list(ends),
            pad_token_id=tokenizer.pad_token_id,
        )
        return LanguageModel(
            model.eval().to(device),
            tokenizer,
            getattr(model.config.get_text_config(), "max_position_embeddings", None),
            ends,
            _marks(tokenizer),
            self._takes_system(tokenizer, folder),
        )

    def run_inference(
        self, batch: Sequence[Brief], model: Loaded, inference_args: dict[str, Any] | None = None
    ) -> list[Draft]:
        # Threads of a worker share the model. On a GPU they take turns, so that its memory holds one batch.
        with model.turn if pick_device(self.device) == "cuda" else nullcontext():
            return super().run_inference(batch, model, inference_args)

    def write(self, briefs: Sequence[Brief], model: LanguageModel) -> list[Draft]:
        """Asks about each brief; one whose prompt is too long, or that the model cannot answer, fails alone."""
        prompts = [self._prompt_ids(brief, model) for brief in briefs]
        drafts = {number: self._too_long(len(ids), model) for number, ids in enumerate(prompts)}
        # Prompts of like length go together, which saves padding; no answer depends on it.
        fitting = sorted((n for n, draft in drafts.items() if draft is None), key=lambda n: len(prompts[n]))
        for start in range(0, len(fitting), self.batch_size):
            batch = fitting[start : start + self.batch_size]
            answers = in_parts(
                batch,
                lambda some: self._answers([prompts[n] for n in some], [self._seed(briefs[n]) for n in some], model),
                self.task,
            )
            for number, answer, seconds in answers:
                if isinstance(answer, Exception):
                    said = f"{type(answer).__name__}: {answer}"
                    answer = Draft(error=said, retryable=retryable(answer), tokens_in=len(prompts[number]))
                drafts[number] = replace(answer, seconds=seconds)
        return [draft for _, draft in sorted(drafts.items()) if draft is not None]

    def _answers(self, prompts: list[list[int]], seeds: list[int], model: LanguageModel) -> list[Draft]:
        """The model's answers to prompts of token ids."""
        import torch
        from transformers import LogitsProcessorList

        network, tokenizer = model.model, model.tokenizer
        inputs = tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(network.device)
        length = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            output = network.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=self.max_tokens,
                logits_processor=LogitsProcessorList([_Chooser(self.temperature, seeds)]),
            )
        drafts = []
        for prompt, row in zip(prompts, output[:, length:].tolist(), strict=True):
            # What follows the end token was padded so that the batch's answers are of one length.
            said = next((row[:at] for at, token in enumerate(row) if token in model.ends), row)
            draft = self.read_text(tokenizer.decode(said, skip_special_tokens=True))
            drafts.append(replace(draft, tokens_in=len(prompt), tokens_out=min(len(said) + 1, len(row))))
        return drafts

    def _prompt_ids(self, brief: Brief, model: LanguageModel) -> list[int]:
        messages = self.conversation(brief)
        messages = [messages[0], *({**said, "content": _tamed(said["content"], model.marks)} for said in messages[1:])]
        return self._rendered(messages if model.takes_system else _without_system(messages), model.tokenizer)

    def _rendered(self, messages: Messages, tokenizer: Any) -> list[int]:
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False, enable_thinking=self.enable_thinking
        )

    def _too_long(self, tokens: int, model: LanguageModel) -> Draft | None:
        if model.context is None or tokens + self.max_tokens <= model.context:
            return None
        return Draft(
            error=f"the prompt has {tokens} tokens and an answer up to {self.max_tokens}; {self.model} takes "
            f"{model.context} in all; tell the writer of fewer cues",
            tokens_in=tokens,
        )

    def _seed(self, brief: Brief) -> int:
        text = json.dumps(self.conversation(brief))
        return int.from_bytes(hashlib.sha256(f"{brief.clip_id}\n{text}".encode()).digest()[:7], "big")

    def _dtype(self, device: str) -> torch.dtype:
        import torch

        if self.precision != "auto":
            return getattr(torch, _PRECISIONS[self.precision])
        if not device.startswith("cuda"):
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16

    def _locate(self) -> Path:
        try:
            return weights.local_path(self.model, self.revision, self.patterns, self.mirror)
        except ModelError as error:
            raise self._explained(error) from error

    def _takes_system(self, tokenizer: Any, folder: Path) -> bool:
        """Whether the template takes a system's message; raises `ModelError` where it takes none at all."""
        from jinja2 import TemplateError

        messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
        try:
            self._rendered(messages, tokenizer)
            return True
        except TemplateError:  # some templates refuse the role
            pass
        except ValueError as error:
            raise ModelError(f"{self.task}: {folder} has no chat template ({error}). {self.advice}") from error
        try:
            self._rendered(_without_system(messages), tokenizer)
        except (TemplateError, ValueError) as error:
            raise ModelError(f"{self.task}: the chat template of {folder} fails ({error}). {self.advice}") from error
        return False

    def _explained(self, error: ModelError) -> ModelError:
        return ModelError(f"{self.task}: {error}. {self.advice}")


class _Chooser:
    """Adds, above temperature 0, to each prompt's logits what makes the largest a draw from their softmax (Gumbel-max).

    Each prompt has a generator of its own, so what is drawn for one depends on no other.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]):
        import torch

        self._temperature = temperature
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits, shape (prompts, vocabulary). Raises `FloatingPointError` where they are not numbers."""
        import torch

        if scores.isnan().any():
            raise FloatingPointError("the logits are no numbers: half precision overflowed")
        if not self._temperature:
            return scores
        drawn = [torch.empty(scores.shape[1]).exponential_(generator=each) for each in self._generators]
        return scores.float() / self._temperature - torch.stack(drawn).log().to(scores.device)


def _ends(model: Any, tokenizer: Any, folder: Path) -> tuple[int, ...]:
    """The tokens that end an answer, by what the checkpoint says and its tokenizer."""
    said = model.generation_config.eos_token_id
    listed = said if isinstance(said, list) else [said]
    ends = tuple(dict.fromkeys(end for end in (*listed, tokenizer.eos_token_id) if end is not None))
    if not ends:
        raise ModelError(f"caption: {folder} says of no token that it ends an answer (eos_token_id)")
    return ends


def _marks(tokenizer: Any) -> tuple[str, ...]:
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    return tuple(sorted({mark for mark in (*tokenizer.all_special_tokens, *added) if mark.strip()}))


def _tamed(text: str, marks: Sequence[str]) -> str:
    """Text from outside in which no token that is special to the model, such as ``[INST]``, is left whole."""
    for mark in marks:
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def _without_system(messages: Sequence[Mapping[str, str]]) -> Messages:
    """The conversation with what the system says at the head of what the user says first."""
    system, first, *more = messages
    head = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
    return [head, *(dict(message) for message in more)]
