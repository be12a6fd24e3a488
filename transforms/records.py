"""The records that travel between steps and end in Avro files. None of them ever holds media.

Each is a frozen dataclass; its Avro schema (`transforms.avro`) is derived from its fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model_handlers.base import Item

__all__ = ["Caption", "Clip", "Cue", "CueSheet", "Failure", "Finding", "Item", "Rejection", "Work", "Written"]


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

    @property
    def cue(self) -> Cue:
        """The cue, where there is one."""
        return Cue(self.clip_id, self.name, self.fingerprint, self.model, self.items, self.skipped)


@dataclass(frozen=True)
class Written:
    """What a writer made of what it was told of a clip, as the store keeps it.

    Attributes:
        clip_id: whose.
        key: of all that went into it (`transforms.caption.written_key`).
        caption: the sentence, or empty where the writer abstained.
        abstained: why it did.
        seconds: that it took.
    """

    clip_id: str
    key: str
    caption: str = ""
    abstained: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Work:
    """A clip on its way through a run, with what is known of it so far."""

    clip: Clip
    findings: tuple[Finding, ...] = ()
    written: tuple[Written, ...] = ()

    @property
    def sheet(self) -> CueSheet:
        """What is known so far."""
        return CueSheet(self.clip, tuple(finding.cue for finding in self.findings), self.written)

    def lacks(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of the cues `names` of which nothing is known."""
        known = {finding.name for finding in self.findings}
        return tuple(name for name in names if name not in known)


@dataclass(frozen=True)
class CueSheet:
    """A clip and all that is known of it; cues in the profile's order.

    `written` is what writers made of this clip in earlier runs; it is no part of what is known of the clip.
    """

    clip: Clip
    cues: tuple[Cue, ...]
    written: tuple[Written, ...] = ()

    def items(self, name: str) -> tuple[Item, ...]:
        """The items of the cue called `name`; empty when it was skipped or the profile has none."""
        return next((cue.items for cue in self.cues if cue.name == name), ())


@dataclass(frozen=True)
class Caption:
    """A captioned clip: the sentence, and everything it rests on.

    `split` and `benchmarks` (the lists of benchmark clips that it is on) come from `transforms.splits`.
    """

    clip: Clip
    caption: str
    writer: str
    cues: tuple[Cue, ...]
    split: str = ""
    benchmarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rejection:
    """A clip that a filter dropped, with the numbers behind the decision."""

    clip: Clip
    reason: str
    evidence: str
    cues: tuple[Cue, ...] = ()


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
