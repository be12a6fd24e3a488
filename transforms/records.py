"""The records that travel between steps and end in Avro files. None of them ever holds media.

Each is a frozen dataclass; its Avro schema (`transforms.avro`) is derived from its fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields

from model_handlers.base import Item
from model_handlers.writers import Attempt, Draft, SoundEvent, Version

__all__ = [
    "Attempt",
    "Caption",
    "Clip",
    "Cue",
    "CueSheet",
    "Evidence",
    "Failure",
    "Finding",
    "Item",
    "Pair",
    "Rejection",
    "SoundEvent",
    "Spent",
    "Version",
    "Work",
    "Written",
]


@dataclass(frozen=True)
class Clip:
    """A stretch of a media file that is to get a caption.

    Attributes:
        clip_id: unique in a dataset.
        uri: path or URL of the media file.
        start_s: where the clip begins in its source video, in seconds.
        end_s: where it ends in its source video; ``None`` means at the end of the file.
        media_start_s: where the clip begins *in the file at `uri`*: 0 for a file that was already cut.
        source: where it was listed (``audioset``, ``vggsound``, ``folder`` or a name of the user's).
        video_id: the source video's id.
        labels: the source dataset's own labels.
        split: the source dataset's own split, or empty.
        origin: file and line, or path, that listed the clip; it says where to look when something is wrong.
    """

    clip_id: str
    uri: str
    start_s: float = 0.0
    end_s: float | None = None
    media_start_s: float = 0.0
    source: str = ""
    video_id: str = ""
    labels: tuple[str, ...] = ()
    split: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Cue:
    """What one model says of one clip.

    `skipped` is the reason why the cue does not apply (no picture, too short …); then there are no items.
    """

    clip_id: str
    name: str
    fingerprint: str
    model: str
    items: tuple[Item, ...] = ()
    skipped: str = ""


@dataclass(frozen=True)
class Finding:
    """What became of one cue of one clip, as the store keeps it: a cue, or why there is none.

    Attributes:
        clip_id: whose.
        name: of the cue.
        fingerprint: of all that determines the value (`CueHandler.fingerprint`), but for the clip itself.
        model: which model says so.
        subject: what of the clip the value rests on: the stretch of its file, or its labels.
        items: what the model says.
        skipped: why the cue does not apply.
        error: why it could not be computed.
        retryable: whether the same clip may succeed next time.
        seconds: that the model took for this clip.
        on_gpu: whether it did so on a GPU.
    """

    clip_id: str
    name: str
    fingerprint: str
    model: str
    subject: str = ""
    items: tuple[Item, ...] = ()
    skipped: str = ""
    error: str = ""
    retryable: bool = False
    seconds: float = 0.0
    on_gpu: bool = False

    @property
    def cue(self) -> Cue:
        """The cue, where there is one."""
        return Cue(self.clip_id, self.name, self.fingerprint, self.model, self.items, self.skipped)


@dataclass(frozen=True, kw_only=True)
class Written(Draft):
    """What a writer answered, once, as the store keeps it.

    Attributes:
        clip_id: whose.
        key: of all that went into it (`transforms.answers.written_key`).
    """

    clip_id: str
    key: str


@dataclass(frozen=True)
class Work:
    """A clip on its way through a run, with what is known of it so far.

    Attributes:
        clip: which.
        findings: of its cues.
        written: what writers have answered about it.
        scored: how similar captions of it are to its sound; each finding's subject says which caption.
    """

    clip: Clip
    findings: tuple[Finding, ...] = ()
    written: tuple[Written, ...] = ()
    scored: tuple[Finding, ...] = ()

    def sheet(self, names: Iterable[str]) -> CueSheet:
        """What is known of the cues `names`, in their order."""
        known = {finding.name: finding.cue for finding in self.findings}
        return CueSheet(self.clip, tuple(known[name] for name in names if name in known), self.written, self.scored)

    def lacks(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the cues `names` of which nothing is known."""
        known = {finding.name for finding in self.findings}
        return tuple(name for name in names if name not in known)


@dataclass(frozen=True)
class CueSheet:
    """A clip and all that is known of it; cues in the profile's order.

    `written` and `scored` are as a `Work` has them; they are no part of what is known of the clip.
    """

    clip: Clip
    cues: tuple[Cue, ...]
    written: tuple[Written, ...] = ()
    scored: tuple[Finding, ...] = ()

    def items(self, name: str) -> tuple[Item, ...]:
        """The items of the cue called `name`; empty when it was skipped or the profile has none."""
        return next((cue.items for cue in self.cues if cue.name == name), ())


@dataclass(frozen=True)
class Caption:
    """A captioned clip: the sentence, and everything it rests on.

    Attributes:
        clip: which.
        caption: the sentence.
        writer: the fingerprint of who wrote it.
        cues: all that is known of the clip.
        split: and `benchmarks`, the lists of benchmark clips that it is on, come from `transforms.splits`.
        events: what the caption says can be heard, and which cues say so; empty where the writer does not say.
        versions: the caption in other forms and languages, where the profile asks for them.
        ambiguities: what the writer could not tell from the cues, where its prompt asks for that.
        attempts: answers that were not accepted before this one; where a complaint begins with ``without …`` this one
            was, less the versions named there.
        model: the language model that wrote it, if any.
        prompt: the prompt that it was given, by name.
        similarity: of caption and sound, the cosine of their CLAP embeddings, where it was measured.
        tokens_in: of all prompts that it took.
        tokens_out: of all answers.
        dollars: what they cost.
    """

    clip: Clip
    caption: str
    writer: str
    cues: tuple[Cue, ...]
    split: str = ""
    benchmarks: tuple[str, ...] = ()
    events: tuple[SoundEvent, ...] = ()
    versions: tuple[Version, ...] = ()
    ambiguities: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    model: str = ""
    prompt: str = ""
    similarity: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    dollars: float = 0.0

    def rejected(self, reason: str, evidence: str) -> Rejection:
        """What becomes of the clip where its caption will not do."""
        told = {field.name for field in fields(Rejection)} - {"clip", "reason", "evidence"}
        return Rejection(self.clip, reason, evidence, **{name: getattr(self, name) for name in told})


@dataclass(frozen=True)
class Evidence:
    """What of a cue an answer rests on."""

    cue: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Pair:
    """A question about a captioned clip, and its answer.

    Attributes:
        clip_id: whose; so are all up to `benchmarks`, as the clip and its caption have them.
        kind: what it is about (`model_handlers.questions.KINDS`).
        form: ``open`` or ``choice``.
        question: in words.
        answer: to it; of a multiple-choice question one of `choices`.
        choices: in the order in which they are to be shown; empty for an open question.
        evidence: what the answer rests on.
        writer: the fingerprint of who wrote it.
        model: the language model that wrote it, if any.
        prompt: the prompt that it was given, by name.
    """

    clip_id: str
    video_id: str
    source: str
    start_s: float
    end_s: float | None
    split: str
    benchmarks: tuple[str, ...]
    kind: str
    form: str
    question: str
    answer: str
    choices: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    writer: str
    model: str = ""
    prompt: str = ""


@dataclass(frozen=True)
class Rejection:
    """A clip that was dropped.

    Attributes:
        clip: which.
        reason: in snake_case, the same for all clips that are dropped for it.
        evidence: the numbers or words behind the decision.
        cues: what is known of the clip.
        caption: the sentence that was written for it, where the reason is the sentence.
        attempts: answers that were not accepted.
        similarity: as a `Caption` has it; and so are all that follow. Where no caption was written they are empty, but
            for what was paid.
    """

    clip: Clip
    reason: str
    evidence: str
    cues: tuple[Cue, ...] = ()
    caption: str = ""
    attempts: tuple[Attempt, ...] = ()
    similarity: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0
    dollars: float = 0.0
    writer: str = ""
    model: str = ""
    prompt: str = ""
    events: tuple[SoundEvent, ...] = ()
    versions: tuple[Version, ...] = ()
    ambiguities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A clip that could not be worked on, or a source row that names none.

    Attributes:
        step: the step that failed.
        error: what happened and, where the user can act, what to do.
        retryable: whether the same input may succeed next time.
    """

    clip: Clip
    step: str
    error: str
    retryable: bool = False


@dataclass(frozen=True)
class Spent:
    """What a step took.

    Attributes:
        clips: how many it worked on.
        seconds: of one worker.
        gpu_seconds: those of them that a model spent on a GPU.
        tokens_in: of prompts.
        tokens_out: of answers.
        dollars: what the tokens cost.
    """

    clips: float = 1
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    tokens_in: float = 0
    tokens_out: float = 0
    dollars: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def times(self, factor: float) -> Spent:
        """That much of it; what is counted need not be whole any more."""
        return Spent(*(value * factor for value in astuple(self)))

    def shown(self) -> dict[str, float]:
        """For a manifest: clips and seconds, and of the rest what there is."""
        values = {name: round(value, 6) for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if value or name in ("clips", "seconds")}
