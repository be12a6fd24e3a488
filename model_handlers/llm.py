"""What a language model is asked about a clip, and how its answer is read: the same for every kind of model.

Cues are untrusted. A transcript, a dataset's label or what a model made of a picture may hold anything, instructions
for the writer included. They travel as JSON strings, shortened, without control characters and without angle brackets,
between two marks that they therefore cannot imitate; and whatever comes back has to be an `Answer` and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import unicodedata
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from model_handlers.base import Item, Items
from model_handlers.writers import Brief, CaptionWriter, Draft, SoundEvent

PROMPTS = files("model_handlers") / "prompts"
MOST_ITEMS, MOST_LETTERS = 12, 300  # of one cue, and of one item
_MARKS = str.maketrans("<>[]", "‹›()")
# What has no width and no category C: variation selectors, fillers, the grapheme joiner.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_FENCE = re.compile(r"```(?:json)?(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Prompt:
    """What a language model is told of its task. It is a file that never changes, so its name says it all.

    Attributes:
        name: the file's, such as ``auto_acd-1``; it is on every record.
        system: task, criteria, and the form of an answer.
        examples: sentences in the style that is wanted.
        again: what is said when an answer will not do, with ``{complaint}`` in its place.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    system: str
    again: Annotated[str, Field(pattern=r"\{complaint\}")]
    examples: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """16 hex digits of its content."""
        content = json.dumps([self.system, self.examples, self.again])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def conversation(self, brief: Brief, headings: dict[str, str]) -> list[dict[str, str]]:
        """The messages that ask for a clip's caption, as chat models take them: ``role`` and ``content``.

        Args:
            brief: the clip's cues and, where it was asked before, the answers that will not do.
            headings: what each cue is, in words.
        """
        shown = "".join(f"\n- {sentence}" for sentence in self.examples)
        system = self.system.strip() + (f"\n\nSentences of the kind that is wanted:{shown}" if shown else "")
        messages = [{"role": "system", "content": system}, {"role": "user", "content": shown_cues(brief, headings)}]
        for attempt in brief.attempts:
            complaint = self.again.replace("{complaint}", attempt.complaint)
            messages.append({"role": "assistant", "content": harmless(attempt.answer)})
            messages.append({"role": "user", "content": complaint})
        return messages


def load_prompt(name: str) -> Prompt:
    """Reads a prompt by its name, or by the path of a TOML file. Raises `ValueError` with what is wrong."""
    path = Path(name) if name.endswith(".toml") else PROMPTS / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(Prompt).validate_python({"name": Path(name).stem, **content})
    except FileNotFoundError:
        known = ", ".join(sorted(entry.name.removesuffix(".toml") for entry in PROMPTS.iterdir()))
        raise ValueError(f"there is no prompt {name!r}; there are {known}, or give a .toml file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"prompt {name}: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"prompt {name}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def shown_cues(brief: Brief, headings: dict[str, str]) -> str:
    """A clip's cues, as a language model gets to see them: one JSON object a line, between two marks."""
    lines = [
        json.dumps({"cue": name, "is": headings.get(name, ""), "says": _said(items)}, ensure_ascii=False)
        for name, items in brief.cues.items()
        if items
    ]
    return "\n".join(["<cues>", *lines, "</cues>"])


def _said(items: Items) -> list[dict[str, Any]]:
    return [_shown(item) for item in items[:MOST_ITEMS]]


def _shown(item: Item) -> dict[str, Any]:
    shown: dict[str, Any] = {"text": harmless(item.text)}
    if item.score is not None:
        shown["confidence"] = round(item.score, 2)
    if item.start_s is not None and item.end_s is not None:
        shown["seconds"] = [round(item.start_s, 1), round(item.end_s, 1)]
    return shown


def harmless(text: str) -> str:
    """Text from outside without what a prompt could mistake for its own: one line, no angle brackets, not too long.

    Control characters, and those without a width that turn or hide text (Unicode category C and `UNSEEN`), are left
    out. Compatibility forms go first, because tokenisers may undo them; square brackets, because ``[INST]`` is a mark.
    """
    text = text[: 8 * MOST_LETTERS]  # the work grows faster than the text
    plain = text.isascii()  # most is, and then there is less to look for
    line = " ".join((text if plain else unicodedata.normalize("NFKC", UNSEEN.sub("", text))).split())
    kept = line if plain and line.isprintable() else "".join(c for c in line if unicodedata.category(c)[0] != "C")
    kept = kept.translate(_MARKS)
    return kept if len(kept) <= MOST_LETTERS else kept[: MOST_LETTERS - 1] + "…"


class Event(BaseModel):
    """A sound, and the cues that say so."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sound: Annotated[str, Field(max_length=200)]
    cues: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=20)]


class Answer(BaseModel):
    """What a language model has to answer: a caption with its sounds, or why there is none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    caption: Annotated[str, Field(max_length=2000)]
    events: Annotated[list[Event], Field(max_length=30)]
    abstained: Annotated[str, Field(max_length=500)]


def read_answer(text: str) -> Draft:
    """Reads an answer strictly; once more without what models like to put around it; else it is unreadable."""
    for candidate in (text, _unwrapped(text)):
        try:
            answer = Answer.model_validate_json(candidate)
        except ValidationError:
            continue
        caption, abstained = _one_line(answer.caption), _one_line(answer.abstained)
        if bool(caption) == bool(abstained):  # neither, or both
            break
        events = tuple(SoundEvent(_one_line(e.sound), tuple(map(_one_line, e.cues))) for e in answer.events)
        return Draft(caption=caption, abstained=abstained, events=() if abstained else events)
    return Draft(unreadable=_one_line(text)[:500] or "(nothing)")


def _unwrapped(text: str) -> str:
    """What is within a code fence, or from the first brace to the last."""
    text = text.rpartition("</think>")[2]  # what a model thought before it answered
    if fenced := _FENCE.search(text):
        return fenced.group(1).strip()
    return text[text.find("{") : text.rfind("}") + 1]


def _one_line(text: str) -> str:
    """Spaces for what separates; nothing for what has no width, so that it cannot hide within a word."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(text.split())


@dataclass(kw_only=True)
class LanguageWriter(CaptionWriter):
    """A writer that asks a language model. A subclass says how the model is reached.

    Attributes:
        model: which model.
        prompt: the name of a prompt that ships with Earshot, or the path of a TOML file.
        cues: the cues that it is told of; empty for all of the profile that say something of what can be heard.
        max_tokens: of an answer, at most.
        temperature: 0 for the likeliest answer each time.
    """

    model: str
    prompt: str = "auto_acd-1"
    cues: tuple[str, ...] = ()
    max_tokens: int = 300
    temperature: float = 0.0

    names_events = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._prompt = load_prompt(self.prompt)  # here, because workers need not have the file
        if not self.model:
            raise ValueError("model is empty; say which one writes")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it has to be at least 1")
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature is {self.temperature}; it has to be within 0 and 2")

    @property
    def told_by(self) -> tuple[str, str]:
        return self.model, self._prompt.name

    @property
    def needs(self) -> tuple[str, ...]:
        wanted = self.cues or tuple(name for name, heading in self.headings.items() if heading)
        return tuple(sorted(wanted))

    def conversation(self, brief: Brief) -> list[dict[str, str]]:
        """The messages that ask for a clip's caption."""
        return self._prompt.conversation(brief, dict(self.headings))

    def facts(self) -> dict[str, Any]:
        told = {name: self.headings.get(name, "") for name in self.needs}
        facts = super().facts()
        del facts["cues"]  # `told` has them
        return {**facts, "prompt": [self._prompt.name, self._prompt.digest], "told": told}
