"""Caption writers: from all that is known of a clip to a sentence about what can be heard. What they have in common."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, Self

from apache_beam.ml.inference.base import ModelHandler
from apache_beam.utils.shared import Shared

from model_handlers.base import Items, Loaded
from model_handlers.forms import Asked
from model_handlers.questions import Question, Questions

Task = Literal["caption", "questions"]


@dataclass(frozen=True)
class SoundEvent:
    """Something that can be heard, as a writer puts it, and the names of the cues that it rests on."""

    text: str
    cues: tuple[str, ...] = ()


@dataclass(frozen=True)
class Version:
    """A caption in another form or another language (`model_handlers.forms`).

    Attributes:
        form: ``caption``, or the name of the form.
        language: ISO 639-1; empty for that of the caption, until the caption's record says which.
        text: the sentence; empty where the clip has nothing of what the form is about.
    """

    form: str
    language: str
    text: str


@dataclass(frozen=True)
class Attempt:
    """An answer that was not accepted.

    Attributes:
        answer: the caption, or what came instead of one.
        check: the name of the check that it or a version of it failed (`transforms.checks`), or ``unreadable``.
        complaint: what is wrong with it, in words for whoever writes it again.
    """

    answer: str
    check: str
    complaint: str


@dataclass(frozen=True)
class Brief:
    """What a writer is told of a clip.

    Attributes:
        clip_id: whose.
        cues: every cue's items, by cue name.
        attempts: what it answered before, and why that will not do.
        caption: the clip's, where the writer is asked for questions about it.
    """

    clip_id: str
    cues: Mapping[str, Items]
    attempts: tuple[Attempt, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Draft:
    """What a writer answers, once: a caption, or why there is none.

    Attributes:
        caption: the sentence.
        abstained: why the writer wrote none: the clip gets no caption.
        unreadable: the answer, where it is neither: it is asked for again.
        error: why there is no answer: the clip fails.
        retryable: whether the same brief may be answered next time.
        events: what the caption says can be heard.
        versions: the caption in other forms and languages, where the writer's row asks for them.
        ambiguities: what the writer could not tell from the cues, where its prompt asks for that.
        pairs: questions with their answers, where that is the writer's task.
        tokens_in: tokens of the prompt.
        tokens_out: tokens of the answer.
        dollars: what they cost.
        seconds: that it took.
    """

    caption: str = ""
    abstained: str = ""
    unreadable: str = ""
    error: str = ""
    retryable: bool = False
    events: tuple[SoundEvent, ...] = ()
    versions: tuple[Version, ...] = ()
    ambiguities: tuple[str, ...] = ()
    pairs: tuple[Question, ...] = ()
    tokens_in: int = 0
    tokens_out: int = 0
    dollars: float = 0.0
    seconds: float = 0.0


class Kept(Protocol):
    """Where answers are kept as they come."""

    def __call__(self, answers: Sequence[tuple[Brief, Draft]]) -> None:
        """Keeps some; threads may do so at once."""

    def flush(self) -> None:
        """Sees to it that all of them are kept."""


@dataclass(kw_only=True)
class CaptionWriter(ModelHandler[Brief, Draft, Loaded], ABC):
    """A writer on Beam's `ModelHandler` contract. A subclass supplies `load` and `write`; its fields are its row.

    Attributes:
        batch_size: briefs a call, at most.
        headings: what each cue of the profile is, in words, by cue name; a profile's, not a row's.
        mirror: the place that `earshot models fetch` filled, used instead of the network; a run's, not a row's.
        budget_dollars: what a worker process may spend; a run's, not a row's.
        questions: which questions are asked for, where that is the task; a profile's, not a row's.
    """

    batch_size: int = 16
    headings: Mapping[str, str] = field(default_factory=dict)
    mirror: str = ""
    budget_dollars: float | None = None
    questions: Questions = field(default_factory=Questions)

    version: ClassVar[int] = 1  # raise it when the code changes what is written
    names_events: ClassVar[bool] = False  # whether it says which cues its caption rests on
    keeps_itself: ClassVar[bool] = False  # whether `write` gives `answered` each answer as it comes
    _speed_only: ClassVar[frozenset[str]] = frozenset(
        {"batch_size", "headings", "mirror", "budget_dollars", "questions"}
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it has to be at least 1")
        self.answered: Kept | None = None
        self.run = ""
        self._shared = Shared()  # Beam would load a model for each of the rounds in which a writer is asked
        super().__init__(min_batch_size=self.batch_size, max_batch_size=self.batch_size)

    def for_run(self, run: str, answered: Kept, folder: str) -> Self:
        """A copy that writes for one run.

        Args:
            run: its name; copies of one run in one process share its budget.
            answered: where answers are kept as they come.
            folder: where the writer may keep what it needs to be taken up again; empty where nothing is kept.
        """
        writer = copy(self)
        writer.run, writer.answered = run, answered
        return writer

    @property
    def task(self) -> Task:
        """What it writes: captions, or questions about captioned clips."""
        return "caption"

    @property
    def told_by(self) -> tuple[str, str]:
        """The language model that writes, and the name of its prompt; empty where there is none."""
        return "", ""

    @property
    def asked(self) -> Asked:
        """In which other forms and languages it writes each caption."""
        return Asked()

    @property
    def gpu_memory(self) -> float | None:
        """GB of GPU memory for weights and one batch; 0 where it runs no model, ``None`` where nobody says."""
        return 0.0

    @property
    def priced(self) -> bool:
        """Whether its answers cost nothing, or it is known what they cost."""
        return True

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """The cues that it is told of, and without which it cannot write."""

    @abstractmethod
    def load(self) -> Any:
        """Returns the model that `write` is given."""

    @abstractmethod
    def write(self, briefs: Sequence[Brief], model: Any) -> list[Draft]:
        """Returns one draft for each brief, in order."""

    @property
    def shares(self) -> tuple[str, ...]:
        """What tells its model from others in memory; writers of equal ones share it. Empty where nothing is shared."""
        return ()

    def references(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """The models that it needs: reference, revision, and which files of a hub repository."""
        return ()

    def load_model(self) -> Loaded:
        return self._shared.acquire(lambda: Loaded(self.load))

    def run_inference(
        self, batch: Sequence[Brief], model: Loaded, inference_args: dict[str, Any] | None = None
    ) -> list[Draft]:
        started = time.perf_counter()
        try:
            drafts = self.write(batch, model.get())
            if len(drafts) != len(batch):
                raise AssertionError(f"{type(self).__name__}: {len(drafts)} drafts for {len(batch)} briefs")
            seconds = (time.perf_counter() - started) / len(batch)
            drafts = [replace(draft, seconds=draft.seconds or seconds) for draft in drafts]
            if self.answered and not self.keeps_itself:
                self.answered(
                    [(brief, draft) for brief, draft in zip(batch, drafts, strict=True) if not draft.retryable]
                )
        finally:
            if self.answered:
                self.answered.flush()
        return drafts

    def get_num_bytes(self, batch: Sequence[Brief]) -> int:
        return sum(len(str(brief)) for brief in batch)

    def get_metrics_namespace(self) -> str:
        return f"earshot.{self.task}"

    def facts(self) -> dict[str, Any]:
        """What determines, beside code and brief, what is written."""
        facts = {name: value for name, value in asdict(self).items() if name not in self._speed_only}
        return {**facts, "questions": asdict(self.questions)} if self.task == "questions" else facts

    def fingerprint(self) -> str:
        """``Class:`` and 16 hex digits that change when the writer's code or `facts` do."""
        facts = json.dumps([type(self).__name__, self.version, self.facts()], sort_keys=True)
        return f"{type(self).__name__}:{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
