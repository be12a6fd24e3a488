"""What a language model is asked about a clip, and how its answer is read: the same for every kind of model.

Cues are untrusted. A transcript, a dataset's label or what a model made of a picture may hold anything, instructions
for the writer included. They travel as JSON strings, shortened, without control characters and without angle brackets,
between two marks that they therefore cannot imitate; and whatever comes back has to be an `Answer` and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from model_handlers.base import Item, Items
from model_handlers.forms import CAPTION, Asked, ask_for
from model_handlers.questions import Pairs, Question, Questions
from model_handlers.tables import read_table
from model_handlers.writers import Brief, CaptionWriter, Draft, SoundEvent, Task, Version

PROMPTS = files("model_handlers") / "prompts"
MOST_ITEMS, MOST_LETTERS = 12, 300  # of one cue, and of one item
MOST_AMBIGUITIES = 10  # of a clip, on its record
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
        task: what it is for: captions, or questions about captioned clips.
        ask: for questions, what is said after a clip's cues and caption, with ``{pairs}``, ``{multiple}``,
            ``{choices}`` and ``{kinds}`` in the places of how many, how many of them multiple-choice, with how many
            options, and about what.
        ambiguities: whether it asks for what the cues leave open, as a field of that name in the answer.
        letters: how many of an item's letters are shown; descriptions by large models are longer than tags.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    system: str
    again: Annotated[str, Field(pattern=r"\{complaint\}")]
    examples: tuple[str, ...] = ()
    task: Task = "caption"
    ask: str = ""
    ambiguities: bool = False
    letters: Annotated[int, Field(ge=1)] = MOST_LETTERS

    @property
    def digest(self) -> str:
        """16 hex digits of its content."""
        content: list[Any] = [self.system, self.examples, self.again]
        if self.task != "caption":
            content += [self.task, self.ask]
        more = {"ambiguities": self.ambiguities, "letters": self.letters}
        if more != {"ambiguities": False, "letters": MOST_LETTERS}:  # a prompt without them is what it ever was
            content.append(more)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def conversation(
        self, brief: Brief, headings: dict[str, str], questions: Questions | None = None, more: str = ""
    ) -> list[dict[str, str]]:
        """The messages that ask about a clip, as chat models take them: ``role`` and ``content``.

        Args:
            brief: the clip's cues and, where it was asked before, the answers that will not do.
            headings: what each cue is, in words.
            questions: which are asked for, where that is the task.
            more: what else is asked for beside the caption, in words.
        """
        shown = "".join(f"\n- {sentence}" for sentence in self.examples)
        system = self.system.strip() + (f"\n\n{more}" if more else "")
        system += f"\n\nSentences of the kind that is wanted:{shown}" if shown else ""
        user = "\n".join(
            [shown_cues(brief, headings, self.letters), *([self._wish(brief, questions)] if questions else [])]
        )
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        for attempt in brief.attempts:
            complaint = self.again.replace("{complaint}", attempt.complaint)
            messages.append({"role": "assistant", "content": harmless(attempt.answer)})
            messages.append({"role": "user", "content": complaint})
        return messages

    def _wish(self, brief: Brief, wanted: Questions) -> str:
        """The clip's caption, as data like its cues, and which questions are wanted of it."""
        ask, numbers = self.ask.strip(), {"pairs": wanted.per_clip, "choices": wanted.choices}
        given = {**numbers, "multiple": wanted.multiple(brief.clip_id), "kinds": ", ".join(wanted.kinds)}
        for name, value in given.items():
            ask = ask.replace(f"{{{name}}}", str(value))
        return f"<caption>\n{json.dumps(harmless(brief.caption), ensure_ascii=False)}\n</caption>\n{ask}"


def load_prompt(name: str) -> Prompt:
    """Reads a prompt by its name, or by the path of a TOML file. Raises `ValueError` with what is wrong."""
    try:
        return read_table(name, PROMPTS, Prompt, "prompt", name=Path(name).stem)
    except FileNotFoundError:
        there = sorted(entry.name.removesuffix(".toml") for entry in PROMPTS.iterdir())
        known = ", ".join(prompt for prompt in there if not prompt.startswith("forms-"))
        raise ValueError(f"there is no prompt {name!r}; there are {known}, or give a .toml file") from None


def shown_cues(brief: Brief, headings: dict[str, str], letters: int = MOST_LETTERS) -> str:
    """A clip's cues, as a language model gets to see them: one JSON object a line, between two marks."""
    lines = [
        json.dumps({"cue": name, "is": headings.get(name, ""), "says": _said(items, letters)}, ensure_ascii=False)
        for name, items in brief.cues.items()
        if items
    ]
    return "\n".join(["<cues>", *lines, "</cues>"])


def _said(items: Items, letters: int) -> list[dict[str, Any]]:
    return [_shown(item, letters) for item in items[:MOST_ITEMS]]


def _shown(item: Item, letters: int) -> dict[str, Any]:
    shown: dict[str, Any] = {"text": harmless(item.text, letters)}
    if item.score is not None:
        shown["confidence"] = round(item.score, 2)
    if item.start_s is not None and item.end_s is not None:
        shown["seconds"] = [round(item.start_s, 1), round(item.end_s, 1)]
    return shown


def harmless(text: str, letters: int = MOST_LETTERS) -> str:
    """Text from outside without what a prompt could mistake for its own: one line, no angle brackets, not too long.

    Control characters, and those without a width that turn or hide text (Unicode category C and `UNSEEN`), are left
    out. Compatibility forms go first, because tokenisers may undo them; square brackets, because ``[INST]`` is a mark.
    """
    text = text[: 8 * letters]  # the work grows faster than the text
    plain = text.isascii()  # most is, and then there is less to look for
    line = " ".join((text if plain else unicodedata.normalize("NFKC", UNSEEN.sub("", text))).split())
    kept = line if plain and line.isprintable() else "".join(c for c in line if unicodedata.category(c)[0] != "C")
    kept = kept.translate(_MARKS)
    return kept if len(kept) <= letters else kept[: letters - 1] + "…"


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


@lru_cache(maxsize=16)
def answer_form(
    forms: tuple[str, ...] = (), languages: tuple[str, ...] = (), ambiguities: bool = False
) -> type[Answer]:
    """The form of an answer where more is asked for than a caption: every text of it, and nothing else."""
    strict = ConfigDict(extra="forbid", strict=True)
    text: Any = (Annotated[str, Field(max_length=2000)], ...)
    more: dict[str, Any] = {
        name: (create_model(name.capitalize(), __config__=strict, **dict.fromkeys(keys, text)), ...)
        for name, keys in (("forms", forms), ("languages", languages))
        if keys
    }
    if ambiguities:  # what there is too much of is cut, and no reason to ask again
        more["ambiguities"] = (Annotated[list[Annotated[str, Field(max_length=2000)]], Field(max_length=100)], ...)
    return create_model("Answer", __base__=Answer, **more) if more else Answer


def _validated(text: str, form: type[Answer]) -> Answer | None:
    """An answer of that form, or one that abstains and so leaves out what else is asked for; ``None`` for neither."""
    try:
        return form.model_validate_json(text)
    except ValidationError:
        pass
    try:
        answer = Answer.model_validate_json(text)
    except ValidationError:
        return None
    return answer if _one_line(answer.abstained) and not _one_line(answer.caption) else None


def read_answer(text: str, form: type[Answer] = Answer) -> Draft:
    """Reads an answer strictly; once more without what models like to put around it; else it is unreadable."""
    for candidate in (text, _unwrapped(text)):
        answer = _validated(candidate, form)
        if answer is None:
            continue
        caption, abstained = _one_line(answer.caption), _one_line(answer.abstained)
        if bool(caption) == bool(abstained):  # neither, or both
            break
        if abstained:
            return Draft(abstained=abstained)
        events = tuple(SoundEvent(_one_line(e.sound), tuple(map(_one_line, e.cues))) for e in answer.events)
        return Draft(caption=caption, events=events, **_besides(answer.model_dump()))
    return Draft(unreadable=_one_line(text)[:500] or "(nothing)")


def _besides(answer: dict[str, Any]) -> dict[str, Any]:
    """The versions and ambiguities of an answer, as a draft has them."""
    forms = [Version(name, "", _one_line(text)) for name, text in answer.get("forms", {}).items()]
    translated = [Version(CAPTION, code, _one_line(text)) for code, text in answer.get("languages", {}).items()]
    unclear = [kept for text in answer.get("ambiguities", []) if (kept := harmless(text))]
    return {"versions": (*forms, *translated), "ambiguities": tuple(unclear[:MOST_AMBIGUITIES])}


def read_questions(text: str) -> Draft:
    """Reads questions with their answers as strictly as `read_answer` reads a caption; without any, it is abstained."""
    for candidate in (text, _unwrapped(text)):
        try:
            found = Pairs.model_validate_json(candidate).pairs
        except ValidationError:
            continue
        pairs = tuple(
            Question(
                _one_line(pair.kind),
                _one_line(pair.question),
                _one_line(pair.answer),
                tuple(map(_one_line, pair.choices)),
                tuple(map(_one_line, pair.cues)),
            )
            for pair in found
        )
        return Draft(pairs=pairs, abstained="" if pairs else "the clip is good for no question")
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
        forms: in which other forms each caption is written, in the same request (`model_handlers.forms`).
        languages: into which other languages it is translated, ISO 639-1, in the same request.
        form_set: the name of a file of forms that ships with Earshot, or the path of a TOML file.
    """

    model: str
    prompt: str = "auto_acd-1"
    cues: tuple[str, ...] = ()
    max_tokens: int = 300
    temperature: float = 0.0
    forms: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    form_set: str = "forms-1"

    names_events = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._prompt = load_prompt(self.prompt)  # here, because workers need not have the file
        self._asked_for = ask_for(self.forms, self.languages, self.form_set)
        if self.task != "caption" and (self._asked_for or self.form_set != LanguageWriter.form_set):
            raise ValueError("forms, languages and form_set are for captions; questions have none of them")
        if not self.model:
            raise ValueError("model is empty; say which one writes")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it has to be at least 1")
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature is {self.temperature}; it has to be within 0 and 2")

    @property
    def task(self) -> Task:
        return self._prompt.task

    @property
    def asked(self) -> Asked:
        return self._asked_for

    @property
    def told_by(self) -> tuple[str, str]:
        return self.model, self._prompt.name

    @property
    def needs(self) -> tuple[str, ...]:
        wanted = self.cues or tuple(name for name, heading in self.headings.items() if heading)
        return tuple(sorted(wanted))

    def conversation(self, brief: Brief) -> list[dict[str, str]]:
        """The messages that ask about a clip."""
        wanted = self.questions if self.task == "questions" else None
        return self._prompt.conversation(brief, dict(self.headings), wanted, self._asked_for.told)

    @property
    def form(self) -> type[BaseModel]:
        """The form that an answer has to have."""
        return Pairs if self.task == "questions" else self._answer_form()

    def read_text(self, text: str) -> Draft:
        """Reads what the model has answered, strictly."""
        return read_questions(text) if self.task == "questions" else read_answer(text, self._answer_form())

    def _answer_form(self) -> type[Answer]:
        return answer_form(self.forms, self.languages, self._prompt.ambiguities)

    def facts(self) -> dict[str, Any]:
        told = {name: self.headings.get(name, "") for name in self.needs}
        facts = super().facts()
        del facts["cues"]  # `told` has them
        for name in ("forms", "languages", "form_set"):  # `asked` has them; without them, a fingerprint is as it was
            del facts[name]
        if self._asked_for:
            facts["asked"] = self._asked_for.digest
        return {**facts, "prompt": [self._prompt.name, self._prompt.digest], "told": told}
