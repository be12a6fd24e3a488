"""What the demo world knows of questions about it: the words they are made of, and whether an answer is true."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from demo.music import GENRES, INSTRUMENTS, MOODS, TEMPOS
from demo.occasions import CLAUSES, LABELS, MUSIC, SPEECH
from demo.scenes import PLACES, SOURCES
from transforms.records import Pair

# The words of a row of `TemplateQuestions` for this world.
VOCABULARY: dict[str, tuple[str, ...]] = {
    "sounds": tuple(CLAUSES.values()),
    "sources": tuple(SOURCES[name].phrase if name in SOURCES else "" for name in CLAUSES),
    "labels": tuple(LABELS[name] for name in CLAUSES),
    "places": tuple(place.phrase for place in PLACES.values()),
    "genres": tuple(GENRES),
    "instruments": tuple(INSTRUMENTS),
    "tempos": tuple(TEMPOS),
    "moods": tuple(MOODS),
}
_NUMBERS = ("none", "one", "two", "three", "four")
_OF_MUSIC = {"kind of music": "genre", "instruments": "instruments", "tempo": "tempo", "feel": "mood"}


def is_true(pair: Pair, truth: Mapping[str, Any]) -> bool:
    """Whether the answer is right by an occasion's truth, and no other option is.

    Args:
        pair: as `TemplateQuestions` words it.
        truth: what ``truth.jsonl`` says of its clip.

    Raises:
        ValueError: it is no question of that writer.
    """
    if not answered(pair, pair.answer, truth):
        return False
    return not any(answered(pair, option, truth) for option in pair.choices if option != pair.answer)


def answered(pair: Pair, option: str, truth: Mapping[str, Any]) -> bool:
    """Whether an answer or option is right."""
    said = option.strip(". ")
    said = f"{said[:1].lower()}{said[1:]}"
    clauses = re.split(r", then | and ", truth["sound"]) if truth["sound"] else []
    match pair.kind:
        case "sound":
            return said == truth["sound"] if pair.question == "What can be heard?" else said in clauses
        case "count":
            return said == _NUMBERS[len(clauses)]
        case "source":
            does = pair.question.removeprefix("What ").removesuffix("?")
            return f"{said} {does}" in clauses
        case "order":
            return " and " not in truth["sound"] and _follows(pair.question, said, clauses)
        case "place":
            return bool(truth["heard_place"]) and said == PLACES[truth["heard_place"]].phrase
        case "speech":
            return said.startswith("yes") == bool(truth["speech"]) == (CLAUSES[SPEECH] in clauses)
        case "music":
            fields = dict(re.findall(r"(\w+): ([^;]+)", truth["music"]))
            [name] = [name for words, name in _OF_MUSIC.items() if words in pair.question]
            return CLAUSES[MUSIC] in clauses and fields[name].split(", ") == said.split(" and ")
    raise ValueError(f"there is no kind {pair.kind!r}")


def _follows(question: str, said: str, order: list[str]) -> bool:
    """Whether what was said is first in an order, or comes after what the question names."""
    if said not in order:
        return False
    if question == "What can be heard first?":
        return order.index(said) == 0
    before = question.removeprefix("What can be heard after ").removesuffix("?")
    return before in order and order.index(said) == order.index(before) + 1
