"""What cues tell a listener, in a form that answers can be compared with: which things, how many, in which order."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property

from model_handlers.base import Item, Items
from transforms import words
from transforms.bans import FAINT
from transforms.evidence import shares, spoken

_COUNTED = "one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {word: number for number, word in enumerate(_COUNTED.split(), 1)}
_NUMBERS |= {"once": 1, "single": 1, "twice": 2, "thrice": 3, "zero": 0}
_QUESTIONS = """
    sound sounds noise hear heard audible listen happens occur occurs make made produce cause come kind type sort first
    last next follow followed begin start end finish earlier later once twice times time again only also person somebody
    someone anybody anyone nobody people play plays played playing thing different distinct many often yes no none
    nothing there what which how where take place location instrument genre tempo mood style feel source event clip
"""
# The stems of words that say nothing of which sound is meant: those that questions are made of.
NEUTRAL = frozenset(words.stem(word) for word in (*_QUESTIONS.split(), *words.NUMBER_WORDS, *_NUMBERS))
_THEN = re.compile(r",? (?:and )?then |,? (?:(?:and|which) (?:is|are) )?followed by | before ")
_AND = re.compile(r"(?:,? (?:and |then |while )+|, |; )")
_OR = re.compile(r"\bor\b")
_OF_THINGS = re.compile(r"\b(?:different|distinct|kinds?|types?|sounds?|sources?|things?|events?)\b")
_FIELD = re.compile(r"(?P<name>\w+): (?P<values>[^;]+)")
_FIRST = re.compile(r"\b(?:first|begins?|starts?|earliest|initially|beginning|opens?)\b")
_LAST = re.compile(r"\b(?:last|final(?:ly)?|ends?|finish(?:es)?|latest)\b")
_AFTER = re.compile(r"\b(?:after|follows?|following|next|then|later)\b")
_BEFORE = re.compile(r"\b(?:before|precedes?|preceding|prior)\b")


def numbers_in(text: str) -> set[int]:
    """The small numbers that a text names, in digits or words."""
    found = words.tokens(text)
    return {int(word) if word.isdecimal() and len(word) < 4 else _NUMBERS.get(word, -1) for word in found} - {-1}


def part_borne_out(some: Collection[str], known: set[str]) -> float:
    """The share of some stems that are among the known ones; 0 where there are none."""
    return sum(shares({stem}, known) for stem in some) / len(some) if some else 0.0


def clauses(text: str) -> list[str]:
    """What a sentence lists: ``a dog barks, then a bell rings`` are two."""
    return [part for part in _AND.split(text.strip(" .")) if part]


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

        What is faint (`FAINT`) says nothing.
        """
        known: set[str] = set()
        for name, items in self.cues.items():
            if name in self.transcripts:
                known |= {words.stem("speech")} if spoken(items) else set()
            elif loud := _loud(items):
                known |= words.stems(name, self.language).union(*(words.stems(i.text, self.language) for i in loud))
        return known

    def counts(self, question: str) -> set[int]:
        """The numbers that the cues have for what a question asks: said, listed, or as many as there are times."""
        about = words.stems(question, self.language) - NEUTRAL
        found: set[int] = set()
        for name, items in self.cues.items():
            timed = [item for item in items if item.start_s is not None]
            if name in self.transcripts:
                meant = timed if words.stem("speech") in about else []
            else:
                meant = [item for item in timed if part_borne_out(about, words.stems(item.text, self.language))]
                found = found.union(*(self._counted(item.text, words.plain(question), about) for item in _loud(items)))
            found |= {len(meant)} - {0}
        return found

    def _counted(self, text: str, asked: str, about: set[str]) -> set[int]:
        """The numbers that an item has for a question: of a field ("instruments: flute, piano"), or of its sentence."""
        fields = {match["name"]: match["values"] for match in _FIELD.finditer(text)}
        if fields:
            return {len(clauses(value)) for name, value in fields.items() if re.search(rf"\b{name}\b", asked)}
        if not about and _OF_THINGS.search(asked):
            return {len(clauses(text))}
        return numbers_in(text) - {1} if about & words.stems(text, self.language) else set()

    @cached_property
    def sequences(self) -> tuple[Sequence, ...]:
        """The orders that the cues tell: one of all that has times, and one for each sentence that says "then"."""
        timed = sorted(
            (item.start_s, sorted(words.stems("speech" if name in self.transcripts else item.text, self.language)))
            for name, items in self.cues.items()
            for item in items
            if item.start_s is not None
        )
        told = [[frozenset(stems) for _, stems in timed]]
        for name, items in self.cues.items():
            if name not in self.transcripts:
                told += [_steps(item.text, self.language) for item in _loud(items) if not _FIELD.search(item.text)]
        return tuple(Sequence(tuple(steps), self.language) for steps in told if len(steps) > 1)


def _loud(items: Items) -> list[Item]:
    return [item for item in items if item.score is None or item.score >= FAINT]


def _steps(text: str, language: str) -> list[frozenset[str]]:
    parts = _THEN.split(words.plain(text))
    return [frozenset(words.stems(part, language) - NEUTRAL) for part in parts] if len(parts) > 1 else []
