"""In which other forms and languages a caption may be asked for, beside the sentence itself: short, detailed, by facet.

They are data: `prompts/forms-1.toml` says of each form what a writer is told, and what its text is held to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_handlers.tables import read_table

FOLDER = files("model_handlers") / "prompts"
CAPTION = "caption"  # the form that is the caption itself, as its translations have it
PARTS = ("speech", "music", "sound", "place")  # of what can be heard
_NAME = r"^[a-z][a-z0-9_]*$"


@dataclass(frozen=True)
class Form:
    """A form of a caption.

    Attributes:
        ask: what a writer is told that it is.
        least_words: of its text.
        most_words: of its text.
        about: the part of what can be heard that it is about; its text may be empty where there is none. Empty for all.
        may_be_empty: whether its text may be empty all the same, where there is too little to say.
        name: as a profile's row and the records have it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    ask: Annotated[str, Field(min_length=1)]
    least_words: Annotated[int, Field(ge=1)]
    most_words: Annotated[int, Field(ge=1)]
    about: Literal["", "speech", "music", "sound", "place"] = ""
    may_be_empty: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.most_words < self.least_words:
            raise ValueError(f"most_words is {self.most_words}, below least_words, which is {self.least_words}")


@dataclass(frozen=True)
class Asked:
    """What a writer is asked for beside the caption.

    Attributes:
        forms: in their order.
        languages: ISO 639-1, in their order.
        told: what a language model is told of them; empty where it is asked for neither.
    """

    forms: tuple[Form, ...] = ()
    languages: tuple[str, ...] = ()
    told: str = ""

    def __bool__(self) -> bool:
        return bool(self.forms or self.languages)

    @property
    def digest(self) -> str:
        """16 hex digits of all that a writer is told; not of what its texts are held to, which is for the checks."""
        content = json.dumps([[form.name for form in self.forms], self.languages, self.told])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _FormSet:
    """The content of a file of forms."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    forms: str
    languages: str
    form: Mapping[Annotated[str, Field(pattern=_NAME)], Form] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, form in self.form.items():
            if name == CAPTION or hasattr(BaseModel, name) or name.startswith("model_"):
                raise ValueError(f"form.{name}: the name is taken; call the form something else")
            if name in PARTS and form.about != name:
                raise ValueError(
                    f"form.{name}: it has to be about {name}; add about = {name!r}, or call it something else"
                )


def ask_for(forms: Sequence[str], languages: Sequence[str], name: str = "forms-1") -> Asked:
    """What a row asks for.

    Args:
        forms: names of forms.
        languages: ISO 639-1.
        name: of a set of forms that ships with Earshot, or the path of a TOML file.

    Raises:
        ValueError: there is no such form or set, or the language cannot be told by the check `language`.
    """
    if not forms and not languages:
        return Asked()
    known = _read(name)
    if both := [form for form in forms if form in languages]:
        raise ValueError(f"forms: {both[0]!r} is a language that is asked for as well; call the form something else")
    for what, given in (("forms", forms), ("languages", languages)):
        if len(set(given)) < len(given):
            raise ValueError(f"{what}: one is there twice")
    if unknown := [form for form in forms if form not in known.form]:
        raise ValueError(f"forms: {name} has no form {unknown[0]!r}; it has {', '.join(known.form)}")
    if languages and (strange := set(languages) - _told_apart()):
        raise ValueError(
            f"languages: {min(strange)!r} cannot be told from others; there are {', '.join(sorted(_told_apart()))}"
        )
    chosen = tuple(Form(**{**vars(known.form[form]), "name": form}) for form in forms)
    parts = [_listed(known.forms, {form.name: form.ask for form in chosen})] if chosen else []
    codes = {code: f'the caption in the language with the ISO code "{code}"' for code in languages}
    return Asked(chosen, tuple(languages), "\n\n".join([*parts, *([_listed(known.languages, codes)] if codes else [])]))


def _listed(head: str, lines: Mapping[str, str]) -> str:
    return "\n".join([head.strip(), *(f'- "{name}": {what}' for name, what in lines.items())])


@lru_cache(maxsize=16)
def _read(name: str) -> _FormSet:
    try:
        return read_table(name, FOLDER, _FormSet, "forms")
    except FileNotFoundError:
        raise ValueError(f"there are no forms {name!r}") from None


@lru_cache(maxsize=1)
def _told_apart() -> frozenset[str]:
    """The languages that can be told, ISO 639-1."""
    from py3langid import rank  # its model takes a second to load

    return frozenset(code for code, _ in rank("a"))
