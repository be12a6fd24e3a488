"""What every cue handler has in common: one clip's view in, that clip's items out, and nothing lost on the way."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler

from model_handlers import weights
from model_handlers.footprint import Footprint
from model_handlers.views import AudioDecoder, Decoded, View

if TYPE_CHECKING:
    import torch

ModelT = TypeVar("ModelT")
E = TypeVar("E")
A = TypeVar("A")

_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

# What a model raises on data it cannot digest. Anything else (TypeError, AttributeError …) is a bug and stops the run.
DATA_ERRORS = (ValueError, RuntimeError, LookupError, ArithmeticError, OSError, MemoryError)


@dataclass(frozen=True)
class Item:
    """One thing a cue says of a clip. Times are seconds from the clip's start; `box` is (x0, y0, x1, y1) in 0..1."""

    text: str
    score: float | None = None
    start_s: float | None = None
    end_s: float | None = None
    box: tuple[float, float, float, float] | None = None


Items = tuple[Item, ...]


@dataclass(frozen=True)
class Example:
    """One clip as a model sees it.

    Attributes:
        clip_id: also seeds whatever is random.
        view: what was decoded for the model.
        subject: which part of the file, or what else of the clip, that is; handed on to the `Prediction`.
    """

    clip_id: str
    view: Decoded
    subject: str = ""


@dataclass(frozen=True)
class Prediction:
    """What a handler answers for one `Example`: items, or the error that this clip alone met.

    Attributes:
        clip_id: whose.
        items: what the cue says of it.
        seconds: its share of the time that its batch took.
        error: what the model met instead.
        retryable: whether the same clip may succeed next time.
        subject: that of the example.
        on_gpu: whether the seconds are a GPU's.
    """

    clip_id: str
    items: Items
    seconds: float
    error: str | None = None
    retryable: bool = False
    subject: str = ""
    on_gpu: bool = False


# One model at a time in a process: what libraries import only as it is asked for (transformers does) is not safe when
# two threads ask, and engines like Flink begin with many steps at once.
_LOADING = threading.RLock()


class Loaded(Generic[ModelT]):
    """A model that is loaded when the first batch comes: a worker with nothing to compute never loads it."""

    def __init__(self, load: Callable[[], ModelT]):
        self._load, self._lock = load, threading.Lock()
        self.turn = threading.Lock()  # for whoever may not use it at the same time as others

    @classmethod
    def of(cls, model: ModelT) -> Loaded[ModelT]:
        """One that is loaded already."""
        return cls(lambda: model)

    def get(self) -> ModelT:
        """The model. Raises what loading it raises."""
        with self._lock:
            if not hasattr(self, "_model"):
                with _LOADING:
                    self._model = self._load()
        return self._model


@dataclass(kw_only=True)
class CueHandler(ModelHandler[Example, Prediction, Loaded[ModelT]], ABC, Generic[ModelT]):
    """A cue model on Beam's `ModelHandler` contract.

    A subclass is a dataclass whose further fields are the parameters that a profile's row may set. It supplies `view`,
    `load` and `predict`. This class owns batching, the length check, halving a batch that runs out of memory, retrying
    a failed batch one clip at a time, timing, and the fingerprint.

    Attributes:
        name: the cue's name, unique in a profile; step labels, metrics and records use it.
        model: hub id, local folder or file, ``pkg://package/path``, or a URL with a hash (`references.parse`); empty
            for a cue that needs no model.
        revision: the commit of a hub id.
        batch_size: clips a call, at most (bundles may end earlier).
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        precision: ``fp32``, ``bf16`` or ``fp16``; ``auto`` is fp16 on a GPU and fp32 elsewhere. The two differ in a
            score's third digit or so and count as one value: what a laptop computed of a dataset is not computed again
            on the GPUs that do the rest. Where every clip's score has to come about in the same way, name a precision.
        heading: what the cue is, in words, for a language model that writes captions; empty for the cue's own.
        gpu_gb: GPU memory that weights and one batch take, in GB (10^9 bytes), where the model is another than the one
            of the class's `footprint`; says how many copies of a profile's models a GPU holds.
        mirror: the place that `earshot models fetch` filled, used instead of the network; a run's, not a row's.
    """

    name: str
    model: str = ""
    revision: str = ""
    batch_size: int = 8
    device: str = "auto"
    precision: str = "auto"
    heading: str = ""
    gpu_gb: float | None = None
    mirror: str = ""

    version: ClassVar[int] = 1  # raise it when the code changes what a cue's value is
    described: ClassVar[str] = ""  # what the cue is, in words; empty where it says nothing of what can be heard
    advice: ClassVar[str] = ""  # where to get the model, for whoever has not got it
    patterns: ClassVar[tuple[str, ...]] = ()  # which files of a hub repository are needed; all where empty
    file_params: ClassVar[frozenset[str]] = frozenset()  # parameters that name files, whose content counts
    footprint: ClassVar[Footprint | None] = None  # of the published model that the class is made for
    _speed_only: ClassVar[frozenset[str]] = frozenset({"name", "batch_size", "device", "heading", "gpu_gb", "mirror"})

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"{self.name}: batch_size is {self.batch_size}; it has to be at least 1")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"{self.name}: device is {self.device!r}; it has to be auto, cpu or cuda")
        if self.precision not in ("auto", *_PRECISIONS):
            raise ValueError(f"{self.name}: precision is {self.precision!r}; it has to be auto, fp32, bf16 or fp16")
        if self.gpu_gb is not None and not self.gpu_gb >= 0:
            raise ValueError(f"{self.name}: gpu_gb is {self.gpu_gb}; it has to be at least 0")
        super().__init__(min_batch_size=self.batch_size, max_batch_size=self.batch_size)

    @property
    @abstractmethod
    def view(self) -> View:
        """What has to be decoded for this cue."""

    @property
    def told(self) -> str:
        """What a caption writer is told that this cue is; empty where it is no cue of what can be heard."""
        return self.heading or self.described

    @property
    def without_effect(self) -> frozenset[str]:
        """Parameters that say nothing in this row, or what its view says already: they are not in the fingerprint."""
        return frozenset()

    @property
    def wants_gpu(self) -> bool:
        """Whether the row's model runs on a GPU where there is one."""
        return bool(self.model) and self.device != "cpu"

    @property
    def gpu_memory(self) -> float | None:
        """GB of GPU memory for weights and one batch: the row's `gpu_gb`, or an estimate; ``None`` where neither is."""
        if not self.wants_gpu:
            return 0.0
        if self.gpu_gb is None and self.footprint:
            return self.footprint.gb(self.batch_size, self.precision)
        return self.gpu_gb

    @abstractmethod
    def load(self) -> ModelT:
        """Returns the model, ready on its device. Raises `weights.ModelError` where the user can do something.

        The message need not say which cue it is, nor give `advice`: `load_model` sees to both.
        """

    @abstractmethod
    def predict(self, batch: Sequence[Example], model: ModelT) -> list[Items]:
        """Returns one tuple of items for each example, in order."""

    def locate(self, reference: str | None = None) -> Path:
        """Returns the local path of `model`, or of another reference that a parameter names (a label list, say).

        Raises `weights.ModelError`, with this cue's name and advice, where it cannot be had.
        """
        revision, patterns = (self.revision, self.patterns) if reference is None else ("", ())
        try:
            return weights.local_path(self.model if reference is None else reference, revision, patterns, self.mirror)
        except weights.ModelError as error:
            raise self._explained(error) from error

    def references(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """All that `locate` may be asked for: reference, revision, and which files of a hub repository."""
        model = [(self.model, self.revision, self.patterns)] if self.model else []
        named = [(getattr(self, name), "", ()) for name in sorted(self.file_params) if getattr(self, name)]
        return (*model, *named)

    def dtype(self, device: str) -> torch.dtype:
        """Returns the type that the network computes in on `device` (``cpu``, ``cuda``)."""
        import torch

        precision = self.precision if self.precision != "auto" else ("fp16" if device.startswith("cuda") else "fp32")
        return getattr(torch, _PRECISIONS[precision])

    @contextmanager
    def inference(self, device: str) -> Iterator[None]:
        """A context without gradients, in mixed precision where `precision` asks for it on `device`."""
        import torch

        dtype = self.dtype(device)
        with torch.inference_mode(), torch.autocast(device.split(":")[0], dtype, enabled=dtype != torch.float32):
            yield

    # What follows is Beam's side of the contract; subclasses leave it alone.

    def load_model(self) -> Loaded[ModelT]:
        return Loaded(self._load)

    def run_inference(
        self, batch: Sequence[Example], model: Loaded[ModelT], inference_args: dict[str, Any] | None = None
    ) -> list[Prediction]:
        # Threads of a worker share a model. On a GPU they take turns, so that its memory holds one batch of each model.
        with model.turn if self._on_gpu() else nullcontext():
            return list(self._answer(list(batch), model.get()))

    def get_num_bytes(self, batch: Sequence[Example]) -> int:
        return sum(num_bytes(example.view) for example in batch)

    def get_metrics_namespace(self) -> str:
        return f"earshot.{self.name}"

    def validate_inference_args(self, inference_args: dict[str, Any] | None) -> None:
        if inference_args:
            raise ValueError(f"{self.name}: a cue takes its parameters from its profile row, not from inference_args")

    def _load(self) -> ModelT:
        try:
            return self.load()
        except weights.ModelError as error:
            raise self._explained(error) from error

    def _answer(self, batch: list[Example], model: ModelT) -> Iterable[Prediction]:
        about: dict[str, Any] = {"on_gpu": self._on_gpu()}
        for example, answer, seconds in in_parts(batch, lambda some: self.predict(some, model), self.name):
            about["subject"] = example.subject
            if isinstance(answer, Exception):
                said = f"{type(answer).__name__}: {answer}"
                yield Prediction(example.clip_id, (), seconds, said, self._passing(answer), **about)
            else:
                yield Prediction(example.clip_id, tuple(answer), seconds, **about)

    def _on_gpu(self) -> bool:
        return bool(self.model) and pick_device(self.device) == "cuda"

    def _passing(self, error: Exception) -> bool:
        """Whether `error` may not come again: half precision overflows, and `auto` is single elsewhere."""
        return retryable(error) or (self.precision == "auto" and isinstance(error, FloatingPointError))

    def _identity(self, reference: str, revision: str = "") -> str:
        try:
            return weights.identity(reference, revision) if reference else ""
        except weights.ModelError as error:
            raise self._explained(error) from error

    def _explained(self, error: weights.ModelError) -> weights.ModelError:
        """The same with this cue's name and advice, each of them once."""
        said = str(error).removeprefix(f"{self.name}: ")
        advice = "" if self.advice in said else f". {self.advice}"
        return weights.ModelError(f"{self.name}: {said.removesuffix('.') if advice else said}{advice}")

    def fingerprint(self) -> str:
        """16 hex digits that change exactly when something changes that determines the cue's value."""
        left_out = self._speed_only | self.without_effect
        params = {f.name: getattr(self, f.name) for f in fields(self) if f.init and f.name not in left_out}
        params.pop("model")
        params.pop("revision")
        for name in self.file_params:
            params[name] = self._identity(params[name])
        facts = {
            "cue": self.name,
            "handler": type(self).__name__,
            "version": self.version,
            "model": self._identity(self.model, self.revision),
            "params": params,
            "view": [type(self.view).__name__, asdict(self.view)],
        }
        if not type(self).__module__.startswith("model_handlers."):  # elsewhere two classes may have one name
            facts["module"] = type(self).__module__
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=list).encode()).hexdigest()[:16]


@dataclass(kw_only=True)
class AudioCue(CueHandler[ModelT], Generic[ModelT]):
    """A cue of sound alone, whose row says what decodes it.

    Attributes:
        decoder: ``pyav``, or ``tensorflow-io``, which reads WAV, FLAC, Ogg Vorbis and MP3 and needs the extra ``tfio``.
    """

    decoder: AudioDecoder = "pyav"


def by_length(clips: Sequence[np.ndarray]) -> list[list[int]]:
    """The indices of those clips that have equally many samples, group by group: nothing is padded to another's length.

    Raises `ValueError` where a clip has no samples, or some that are no finite numbers.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        if not len(clip):
            raise ValueError("there are no audio samples")
        if not np.isfinite(clip).all():
            raise ValueError("the audio holds samples that are no finite numbers")
        groups[len(clip)].append(index)
    return list(groups.values())


def best_items(scores: np.ndarray, names: Sequence[str], top: int) -> Items:
    """The `top` names of the highest scores, highest first; of equal ones the earlier name.

    Raises `FloatingPointError` where scores are no numbers, as half precision makes them when it overflows.
    """
    if not np.isfinite(scores).all():
        raise FloatingPointError("the scores are no numbers: half precision overflowed")
    order = np.argsort(-scores, kind="stable")[:top]
    return tuple(Item(names[index], score=float(scores[index])) for index in order)


def in_parts(
    batch: list[E], answer: Callable[[list[E]], Sequence[A]], what: str
) -> Iterator[tuple[E, A | Exception, float]]:
    """Has a batch answered, in smaller parts where that fails, so that an element that no model digests fails alone.

    A part that runs out of memory is halved; of one that fails otherwise each element is asked for on its own.

    Args:
        batch: what to answer, one element at least.
        answer: gives one answer for each element of a part, in order.
        what: who answers, for messages.

    Yields:
        Each element in order, with its answer or the one of `DATA_ERRORS` that it met alone, and the seconds it took.

    Raises:
        AssertionError: there are more or fewer answers than elements.
        RuntimeError: the device is lost. No element is to blame, and every later one would fail as well.
    """
    started = time.perf_counter()
    failed: Exception | None = None
    answers: Sequence[A] = ()
    try:
        answers = answer(batch)
    except DATA_ERRORS as error:
        if _device_lost(error):
            raise
        # Its frames hold the tensors of the batch that failed, and the next attempt needs their memory.
        failed = error.with_traceback(None)
    seconds = (time.perf_counter() - started) / len(batch)
    if failed is None:
        if len(answers) != len(batch):
            raise AssertionError(f"{what}: {len(answers)} answers where {len(batch)} were asked for")
        yield from zip(batch, answers, [seconds] * len(batch), strict=True)
    elif len(batch) == 1:
        yield batch[0], failed, seconds
    else:
        Metrics.counter(f"earshot.{what}", "batches_retried").inc()
        step = -(-len(batch) // 2) if _out_of_memory(failed) else 1
        for start in range(0, len(batch), step):
            yield from in_parts(batch[start : start + step], answer, what)


def retryable(error: BaseException) -> bool:
    """Whether what failed so may succeed another time: on a machine with more memory, say, or with room on its disk."""
    return isinstance(error, OSError) or _out_of_memory(error) or bool(_PASSING.search(str(error)))


# What a machine says when it cannot go on, whatever the clip …
_LOST = re.compile(
    r"CUDA error|CUDA driver|cuDNN|cuBLAS|cuSPARSE|cuFFT|cuSOLVER|NCCL|HIP error|hipErr|MIOpen|rocBLAS"
    r"|no NVIDIA driver|device-side assert",
    re.IGNORECASE,
)
# … but not of these: the library refused this one call, because of the sizes in it.
_REFUSED = re.compile(r"_STATUS_(NOT_SUPPORTED|BAD_PARAM|INVALID_VALUE)")
_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC(ATION)?_FAILED", re.IGNORECASE)
_PASSING = re.compile(rf"no space left on device|{_REFUSED.pattern}", re.IGNORECASE)


def _out_of_memory(error: BaseException) -> bool:
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or bool(_MEMORY.search(str(error)))


def _device_lost(error: BaseException) -> bool:
    words = str(error)
    lost = isinstance(error, RuntimeError) and bool(_LOST.search(words))
    return lost and not _out_of_memory(error) and not _REFUSED.search(words)


def num_bytes(view: Decoded) -> int:
    """Bytes of a decoded view; Beam's default would pickle the whole batch to find out."""
    if hasattr(view, "nbytes"):
        return view.nbytes
    return sum(getattr(part, "nbytes", 0) for part in vars(view).values())


def pick_device(device: str) -> str:
    """Resolves ``auto`` on the machine that runs the model, never where the graph is built."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
