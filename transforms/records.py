"""The records that travel between steps and end in Avro files. None of them ever holds media.

Each is a frozen dataclass; its Avro schema (`transforms.avro`) is derived from its fields.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_handlers.base import Item

__all__ = ["Caption", "Clip", "Cue", "CueFailure", "CueSheet", "Failure", "Item", "Rejection"]


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
class CueFailure:
    """A cue that could not be computed; the join turns it into its clip's `Failure`."""

    clip_id: str
    name: str
    error: str
    retryable: bool = False


@dataclass(frozen=True)
class CueSheet:
    """A clip and all that is known of it; cues in the profile's order."""

    clip: Clip
    cues: tuple[Cue, ...]

    def items(self, name: str) -> tuple[Item, ...]:
        """The items of the cue called `name`; empty when it was skipped or the profile has none."""
        return next((cue.items for cue in self.cues if cue.name == name), ())


@dataclass(frozen=True)
class Caption:
    """A captioned clip: the sentence, and everything it rests on."""

    clip: Clip
    caption: str
    writer: str
    cues: tuple[Cue, ...]


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
