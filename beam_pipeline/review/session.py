"""One rater's way through a sample: what there is to judge, what was judged, and where to go on."""

from __future__ import annotations

import re
import string
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from beam_pipeline.review.figures import ReviewFigures, review_figures
from beam_pipeline.review.ratings import (
    DETAIL,
    HALLUCINATION,
    SUFFIX,
    InVersion,
    Review,
    append,
    read_reviews,
    reviews_of,
)
from beam_pipeline.review.sample import Drawn, Sampled, in_order_of, unpack
from transforms.words import tokens

_MOST_LETTERS = 10_000  # of a caption, and of a note
# What can be marked: what stands between spaces, and where a script has none, one of its letters.
_PIECE = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
    r"|[^\s\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+"
)
_EDGES = string.punctuation + string.whitespace + "“”„‘’«»…–—、。，！？\u2028\u2029"


# Controls, and marks of format that nobody sees, but for the joiners that some scripts are written with.
_UNSEEN, _JOINERS = frozenset(("Cc", "Cf")), frozenset("\u200c\u200d")


class JudgementError(ValueError):
    """What was sent does not fit the clip. The message says why."""


class Judgement(BaseModel):
    """What a page sends of a clip; as a `Review` has it, but that words are named by their places."""

    model_config = ConfigDict(strict=True, extra="forbid")

    clip_id: str
    corresponds: bool
    corrected: Annotated[str, Field(max_length=_MOST_LETTERS)]
    inaudible: Annotated[list[int], Field(max_length=_MOST_LETTERS)] = []
    detail: Annotated[int, Field(ge=1, le=DETAIL)] | None = None
    hallucination: Annotated[int, Field(ge=1, le=HALLUCINATION)] | None = None
    cues: Annotated[dict[str, bool], Field(max_length=1000)] = {}
    note: Annotated[str, Field(max_length=_MOST_LETTERS)] = ""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


def cleaned(text: str) -> str:
    """A caption on one line, its words one space apart, without what cannot be seen."""
    line = " ".join(text.split())
    return " ".join("".join(c for c in line if unicodedata.category(c) not in _UNSEEN or c in _JOINERS).split())


def pieces(caption: str) -> list[tuple[int, int]]:
    """Where the words of a caption, that can be marked, begin and end."""
    return [match.span() for match in _PIECE.finditer(caption)]


def phrases(caption: str, places: Iterable[int]) -> tuple[str, ...]:
    """The marked words of a caption; those that follow each other are one phrase.

    Raises:
        JudgementError: there is no such word.
    """
    spans, marked = pieces(caption), sorted(set(places))
    if marked and not 0 <= marked[0] <= marked[-1] < len(spans):
        raise JudgementError(f"inaudible: the caption has {len(spans)} words")
    runs: list[tuple[int, int]] = []
    for at in marked:
        if runs and runs[-1][1] == at - 1:
            runs[-1] = (runs[-1][0], at)
        else:
            runs.append((at, at))
    found = (caption[spans[first][0] : spans[last][1]].strip(_EDGES) for first, last in runs)
    return tuple(filter(None, found))


def places(caption: str, marked: Sequence[str]) -> list[int]:
    """Where `phrases` stand, word by word; of one that occurs twice the first place after the phrase before."""
    spans, start = pieces(caption), 0
    found: list[int] = []
    for phrase in marked:
        length = len(pieces(phrase)) or 1
        for first in range(start, len(spans) - length + 1):
            if caption[spans[first][0] : spans[first + length - 1][1]].strip(_EDGES) == phrase:
                start = first + length
                found += range(first, start)
                break
    return found


@dataclass(frozen=True)
class Sample:
    """What is to be judged.

    Attributes:
        root: the dataset's folder.
        version: of the dataset.
        seed: of the draw.
        drawn: the captions.
    """

    root: str
    version: int
    seed: int
    drawn: tuple[Drawn, ...]


class Session:
    """What one rater has said of a sample, kept in a folder. Another process may add to the same files."""

    def __init__(self, sample: Sample, rater: str, folder: Path) -> None:
        self.sample, self.rater, self.folder = sample, rater, folder
        order = in_order_of(rater, sample.seed, [one.clip_id for one in sample.drawn])
        self._drawn = [sample.drawn[at] for at in order]
        self._at = {(one.clip_id, one.caption): at for at, one in enumerate(self._drawn)}
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._said: dict[tuple[str, str], Review] = {}  # by clip id and caption
        self._last = -1

    @property
    def file(self) -> Path:
        """Where this rater's reviews are."""
        return self.folder / f"{self.rater}{SUFFIX}"

    def state(self) -> dict[str, Any]:
        """How far the rater has come, for the page; raises `ConfigError` where a file is damaged."""
        self._refresh()
        done = self._done()
        return {
            "total": len(self._drawn),
            "done": "".join("01"[is_done] for is_done in done),
            "start": next((at for at in (*range(self._last + 1, len(done)), *range(len(done))) if not done[at]), None),
            "file": str(self.file),
        }

    def count(self) -> int:
        """How many clips of the sample are done."""
        self._refresh()
        return sum(self._done())

    def sampled(self, at: int) -> Sampled:
        """The clip at a place of this rater's order; raises `IndexError` where there is none."""
        if not 0 <= at < len(self._drawn):
            raise IndexError(at)
        return unpack(self._drawn[at].packed)

    def clip(self, at: int) -> dict[str, Any]:
        """All that the page shows of a clip; raises `IndexError` where there is none.

        How the clip ended is not among it, for whoever judges is not to know.
        """
        shown = self.sampled(at)
        spans = pieces(shown.caption)
        ends = (0, *(end for _, end in spans))
        review = self._said.get((shown.clip.clip_id, shown.caption))
        return {
            "at": at,
            "clip_id": shown.clip.clip_id,
            "caption": shown.caption,
            "words": [[shown.caption[a:b], before < a] for (a, b), before in zip(spans, ends, strict=False)],
            "cues": [[name, [[item.text, _beside(item)] for item in items]] for name, items in shown.cues.items()],
            "review": review and _judged(review),
        }

    def save(self, at: int, judgement: Judgement, now: datetime | None = None) -> Review:
        """Keeps what was said; it is on the disk when this returns.

        Raises:
            IndexError: there is no such place.
            JudgementError: it does not fit the clip at that place.
            ConfigError: the file cannot be written.
        """
        shown = self.sampled(at)
        corrected = cleaned(judgement.corrected)
        is_changed = corrected != cleaned(shown.caption)
        if judgement.clip_id != shown.clip.clip_id:
            raise JudgementError("this is another clip by now; load the page again")
        if is_changed and not tokens(corrected):
            raise JudgementError("corrected: a caption has at least one word")
        if unknown := judgement.cues.keys() - shown.cues.keys():
            raise JudgementError(f"cues: the clip has none called {min(unknown)}")
        review = Review(
            rater=self.rater,
            clip_id=shown.clip.clip_id,
            version=self.sample.version,
            outcome=shown.outcome,  # type: ignore[arg-type]
            caption=shown.caption,
            corresponds=judgement.corresponds,
            corrected=corrected if is_changed else shown.caption,
            inaudible=phrases(shown.caption, judgement.inaudible),
            detail=judgement.detail,
            hallucination=judgement.hallucination,
            cues=tuple((name, judgement.cues[name]) for name in shown.cues if name in judgement.cues),
            note=judgement.note.strip(),
            at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
            seconds=round(judgement.seconds, 1),
            video_id=shown.clip.video_id,
            inaudible_at=tuple(sorted(set(judgement.inaudible))),
        )
        with self._lock:
            append(self.folder, review)
            self._said[review.clip_id, review.caption], self._last = review, at
        return review

    def figures(self) -> ReviewFigures:
        """What all raters have said of this sample so far; raises `ConfigError` where a file is damaged."""
        found = InVersion(read_reviews(str(self.folder)))
        for one in self._drawn:
            shown = unpack(one.packed)
            found.add(shown.outcome, {"clip": {"clip_id": one.clip_id}, "caption": one.caption})
        return review_figures(found.result().reviews)

    def _done(self) -> list[bool]:
        said = self._said
        return [(one.clip_id, one.caption) in said for one in self._drawn]

    def _refresh(self) -> None:
        """Reads the rater's file where it is not as it was last read: another window may have added to it."""
        with self._lock:
            try:
                status = self.file.stat()
            except FileNotFoundError:
                stamp = (0, 0)
            else:
                stamp = (status.st_size, status.st_mtime_ns)
            if stamp == self._stamp:
                return
            self._said = reviews_of(self.rater, self.folder)
            self._last = next((self._at[key] for key in reversed(self._said) if key in self._at), -1)
            self._stamp = stamp


def _judged(review: Review) -> dict[str, Any]:
    """A review as the page fills its form with it."""
    return {
        "corresponds": review.corresponds,
        "corrected": review.corrected,
        "inaudible": list(review.inaudible_at) or places(review.caption, review.inaudible),
        "detail": review.detail,
        "hallucination": review.hallucination,
        "cues": dict(review.cues),
        "note": review.note,
        "at": review.at,
        "seconds": review.seconds,  # to be added to
    }


def _beside(item: Any) -> str:
    """What stands beside what a cue says: its score and its time."""
    parts = [] if item.score is None else [f"{item.score:.2f}"]
    if item.start_s is not None:
        parts.append(f"{item.start_s:.1f}" + (f"–{item.end_s:.1f} s" if item.end_s is not None else " s"))
    return ", ".join(parts)
