"""What cues tell a listener, in a form that answers can be compared with: which things, how many, in which order."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from model_handlers.base import Items
from transforms import words
from transforms.bans import FAINT
from transforms.evidence import SURE, affirmed, shares, spoken, stems_told

MOSTLY = 2 / 3  # of some words that a cue has to say
_COUNTED = "one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {word: number for number, word in enumerate(_COUNTED.split(), 1)}
_NUMBERS |= {"once": 1, "single": 1, "twice": 2, "thrice": 3, "zero": 0}
_QUESTIONS = """
    sound sounds noise hear heard audible listen happens occur occurs make made produce cause come kind type sort first
    last next follow followed begin start end finish earlier later once twice times time again only also person somebody
    someone anybody anyone nobody people play plays played playing thing different distinct many often yes no none
    nothing you we there what which how where take place location instrument genre tempo mood style feel source event
    clip
"""
# The stems of words that say nothing of which sound is meant: those that questions are made of.
NEUTRAL = frozenset(words.stem(word) for word in (*_QUESTIONS.split(), *words.NUMBER_WORDS, *_NUMBERS))
# Those of words that say how or where something sounds, and of groups that things belong to: no cue need name them.
_MANNER = """
    distance distant background foreground loud loudly quiet quietly soft softly faint faintly repeatedly briefly
    continuously animal vehicle machine machinery device appliance tool object creature bird insect nature natural
    mechanical musical household human environmental ambient weather indoor outdoor indoors outdoors main loudest
"""
MANNER = frozenset(map(words.stem, _MANNER.split()))
_THEN = re.compile(r",? (?:and )?then |,? (?:(?:and|which) (?:is|are) )?followed by | before ")
_AND = re.compile(r"(?:,? (?:and |then |while )+|, |; |[.!?] )")
_OR = re.compile(r"\bor\b")
_OF_THINGS = re.compile(r"\b(?:different|distinct|kinds?|types?|sounds?|sources?|things?|events?)\b")
_TIMES = re.compile(r"\b(?:times|often)\b")
_PHRASE = re.compile(
    r"[,;.] |\b(?:and|while|as|then|near|besides?|behind|in|on|at|with|over|by|from|under|amid|during|before|after"
    r"|followed by)\b"
)
_FIELD = re.compile(r"\b(?P<name>\w+): (?P<values>[^;]+)")
# How questions name the fields of a description of music; others are named by what they are called.
_FIELDS = {
    "genre": re.compile(r"\b(?:genre|style|(?:kind|sort|type) of music)\b"),
    "instruments": re.compile(r"\binstruments?\b"),
    "tempo": re.compile(r"\b(?:tempo|speed|pace)\b"),
    "mood": re.compile(r"\b(?:moods?|feel(?:s|ing|ings)?|atmosphere)\b"),
}
_FIRST = re.compile(r"\b(?:first|begins?|starts?|earliest|initially|beginning|opens?)\b")
_LAST = re.compile(r"\b(?:last|final(?:ly)?|ends?|finish(?:es)?|latest)\b")
_AFTER = re.compile(r"\b(?:after|follows?|following|next|then|later)\b")
_BEFORE = re.compile(r"\b(?:before|precedes?|preceding|prior)\b")


def numbers_in(text: str) -> set[int]:
    """The small numbers that a text names, in digits or words."""
    found = words.tokens(text)
    return {int(word) if word.isdecimal() and len(word) < 4 else _NUMBERS.get(word, -1) for word in found} - {-1}


def part_borne_out(some: Collection[str], known: Collection[str]) -> float:
    """The share of some stems that are among the known ones; 0 where there are none."""
    return sum(shares({stem}, known) for stem in some) / len(some) if some else 0.0


def clauses(text: str) -> list[str]:
    """What a sentence lists: ``a dog barks, then a bell rings`` are two."""
    return [part for part in _AND.split(text.strip(" .")) if part]


def phrases(text: str) -> list[str]:
    """The least parts of a sentence that say something by themselves: ``a dog barks near a bell`` has two."""
    return [part for part in _PHRASE.split(words.plain(text)) if part.strip(" .")]


@dataclass(frozen=True)
class Sequence:
    """Things in the order in which they begin, each as the stems of its words."""

    steps: tuple[frozenset[str], ...]
    language: str = "en"

    def place(self, text: str) -> int | None:
        """The step that a text speaks of; ``None`` where that is none, or cannot be told from another."""
        stems = words.stems(text, self.language) - NEUTRAL
        shared = [sum(shares({stem}, set(step)) for stem in stems) for step in self.steps]
        best = max(shared)
        return shared.index(best) if best and shared.count(best) == 1 else None

    def agrees(self, question: str, answer: str) -> bool:
        """Whether an answer fits the order: as a whole, or as what is first, last, after or before something."""
        asked = words.plain(question)
        found = [self.place(part) for part in _THEN.split(words.plain(answer))]
        said = [step for step in found if step is not None]
        if not said or len(said) < len(found):
            return False
        if len(said) > 1:
            return said == sorted(set(said))
        if not _OR.search(asked):
            for pattern, apart in ((_AFTER, 1), (_BEFORE, -1)):
                match = pattern.search(asked)
                if match and (beside := self.place(asked[match.end() :])) is not None:
                    return said[0] == beside + apart
        if _FIRST.search(asked):
            return said[0] == 0 or said[0] == min(self._named(asked), default=None)
        return bool(_LAST.search(asked)) and said[0] == (max(self._named(asked), default=len(self.steps) - 1))

    def _named(self, asked: str) -> list[int]:
        """The two things between which a question lets choose: "which comes first, the bell or the dog"."""
        named = [self.place(part) for part in _OR.split(asked.rpartition(",")[2])]
        return [step for step in named if step is not None] if len(named) == 2 and None not in named else []


@dataclass(frozen=True)
class Heard:
    """What some cues say.

    Attributes:
        cues: items by cue name.
        transcripts: those of the cues that hold what is said: evidence of speech only.
        language: of the cues' words.
    """

    cues: Mapping[str, Items]
    transcripts: Collection[str] = ()
    language: str = "en"

    @cached_property
    def stems(self) -> set[str]:
        """The stems of all that the cues say, and of their names: a cue called music that says anything tells of it.

        What is faint (`FAINT`) says nothing, nor does what an item says is not there.
        """
        return set().union(*self.units)

    @cached_property
    def units(self) -> tuple[frozenset[str], ...]:
        """The same clause by clause: what is said of one thing. Fields of one item are of one thing."""
        found: list[frozenset[str]] = []
        for name, items in self.cues.items():
            if name in self.transcripts:
                found += [frozenset({words.stem("speech")})] if spoken(items) else []
                continue
            named = words.stems(name, self.language)
            for text in self._texts(items):
                parts = [text] if _FIELD.search(text) else clauses(text)
                found += [stems_told(part, self.language) | named for part in parts]
        return tuple(found)

    @property
    def sure(self) -> Heard:
        """The same without what has a score below `SURE`."""
        return replace(self, cues={name: _with(items, SURE) for name, items in self.cues.items()})

    def cue_by_cue(self) -> list[Heard]:
        """What each cue says by itself."""
        return [replace(self, cues={name: items}) for name, items in self.cues.items()]

    def asked(self, question: str) -> Heard:
        """What bears on a question: of an item in fields, those that it names alone; all, where it names none."""
        about = words.plain(question)
        found: dict[str, Items] = {}
        for name, items in self.cues.items():
            for item in items:
                values = [value for field, value in _fields(item.text).items() if _names(field, about)]
                if values:
                    found[name] = (*found.get(name, ()), replace(item, text=", ".join(values)))
        return replace(self, cues=found) if found else self

    def counts(self, question: str) -> set[int]:
        """The numbers that the cues have for what a question asks: said, listed, or as many as there are times."""
        asked, about = words.plain(question), words.stems(question, self.language) - NEUTRAL
        fields = {
            len(clauses(value))
            for items in self.cues.values()
            for item in _loud(items)
            for name, value in _fields(item.text).items()
            if _names(name, asked)
        }
        if fields or (not about and _OF_THINGS.search(asked)):
            return fields or self._distinct()
        found: set[int] = set()
        for name, items in self.cues.items():
            if name not in self.transcripts:
                found = found.union(*(self._counted(text, about) for text in self._texts(items)))
            if _TIMES.search(asked):
                found |= {self._times(name, items, about)} - {0}
        return found

    def _times(self, name: str, items: Items, about: set[str]) -> int:
        """How often a cue has what is asked for, by its times."""
        timed = [item for item in items if item.start_s is not None]
        if name in self.transcripts:
            return len(timed) if words.stem("speech") in about else 0
        return sum(part_borne_out(about, stems_told(item.text, self.language)) > 0 for item in timed)

    def _distinct(self) -> set[int]:
        """How many things sound: as many as a sentence has clauses.

        A tagger's list tells no number: *Speech*, *Male speech* and *Conversation* are one voice.
        """
        said = set[int]()
        for name, items in self.cues.items():
            texts = {text for text in self._texts(items) if not _FIELD.search(text)} - {""}
            if not texts or name in self.transcripts:
                continue
            parts = [stems_told(part, self.language) for text in texts for part in clauses(text)]
            if len(texts) == 1 and all(len(part) > 1 for part in parts) and ". " not in min(texts):
                said.add(len(set(parts)))
        return said

    def _counted(self, text: str, about: set[str]) -> set[int]:
        """The numbers in the phrases of an item that name what is asked for; "one" may be anybody."""
        named = [part for part in phrases(text) if part_borne_out(about, stems_told(part, self.language)) >= MOSTLY]
        return set().union(*map(numbers_in, named)) - {1}

    def _texts(self, items: Items) -> list[str]:
        """What the items that are not faint say is there."""
        return [text for item in _loud(items) if (text := affirmed(item.text, self.language))]

    @cached_property
    def sequences(self) -> tuple[Sequence, ...]:
        """The orders that the cues tell: one of all that has times, and one for each sentence that says "then"."""
        timed = sorted(
            (item.start_s, sorted(stems_told("speech" if name in self.transcripts else item.text, self.language)))
            for name, items in self.cues.items()
            for item in items
            if item.start_s is not None
        )
        told = [[frozenset(stems) for _, stems in timed]]
        for name, items in self.cues.items():
            if name not in self.transcripts:
                told += [_steps(text, self.language) for text in self._texts(items) if not _FIELD.search(text)]
        return tuple(Sequence(tuple(steps), self.language) for steps in told if len(steps) > 1)


def _fields(text: str) -> dict[str, str]:
    return {match["name"]: match["values"] for match in _FIELD.finditer(text)}


def _names(field: str, asked: str) -> bool:
    """Whether a question names a field."""
    return bool(_FIELDS[field].search(asked) if field in _FIELDS else re.search(rf"\b{field}\b", asked))


def _loud(items: Items) -> Items:
    return _with(items, FAINT)


def _with(items: Items, least: float) -> Items:
    """The items with such a score or none."""
    return tuple(item for item in items if item.score is None or item.score >= least)


def _steps(text: str, language: str) -> list[frozenset[str]]:
    parts = _THEN.split(words.plain(text))
    return [frozenset(words.stems(part, language) - NEUTRAL) for part in parts] if len(parts) > 1 else []
