"""Questions about what can be heard, with their answers: which ones a profile asks for, and the form of a writer's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["sound", "count", "order", "source", "place", "music", "speech"]
KINDS: tuple[Kind, ...] = ("sound", "count", "order", "source", "place", "music", "speech")


@dataclass(frozen=True)
class Questions:
    """Which questions a profile wants of each clip.

    Attributes:
        per_clip: how many, at most.
        kinds: what they may be about: what sounds, how many or how often, in which order, what makes a sound, where,
            attributes of music, whether somebody speaks.
        choices: options of a multiple-choice question.
        share_choice: of multiple-choice questions among all; the others are open.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    per_clip: Annotated[int, Field(ge=1, le=20)] = 4
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)] = KINDS
    choices: Annotated[int, Field(ge=2, le=8)] = 4
    share_choice: Annotated[float, Field(ge=0, le=1)] = 0.5

    def multiple(self, clip_id: str) -> int:
        """How many of a clip's questions are multiple-choice. Drawn by its id, so that the share holds over many."""
        digest = hashlib.sha256(f"questions:{clip_id}".encode(errors="surrogatepass")).digest()
        return int(self.per_clip * self.share_choice + int.from_bytes(digest[:6], "big") / (1 << 48))


@dataclass(frozen=True)
class Question:
    """A question and its answer, as a writer puts them.

    Attributes:
        kind: what it is about, one of `KINDS`; whatever a writer said, where it did not keep to them.
        question: in words.
        answer: to it; of a multiple-choice question one of its choices, word for word.
        choices: in the writer's order; empty for an open question.
        cues: the names of the cues that the answer rests on.
    """

    kind: str
    question: str
    answer: str
    choices: tuple[str, ...] = ()
    cues: tuple[str, ...] = ()


class _Pair(BaseModel):
    """A question with its answer, and the cues that say so."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Annotated[str, Field(max_length=40)]
    question: Annotated[str, Field(max_length=500)]
    answer: Annotated[str, Field(max_length=500)]
    choices: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=20)]
    cues: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=20)]


class Pairs(BaseModel):
    """What a language model has to answer where it is asked for questions; no pairs where the clip is good for none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    pairs: Annotated[list[_Pair], Field(max_length=40)]
