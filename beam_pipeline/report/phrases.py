"""A clip's words as a page shows them: the caption with its phrases linked to cues, and what the cues say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from model_handlers.audio_embedding import embedding_of
from model_handlers.synchronisation import heard_as
from transforms.records import Cue, Item, SoundEvent
from transforms.words import STOP_WORDS

TEXT = 600  # letters of one text that are shown: a transcript or an error may be of any length
CAPTION = 2000  # letters of a caption
EVENTS = 40  # of a caption that are looked for in it
ITEMS = 12  # of one cue that are shown
_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class Phrase:
    """A part of a caption.

    Attributes:
        text: as it stands there.
        number: of the event that it names, from 0; ``None`` where it names none.
        cues: places (in the clip's cues) of those that it rests on.
    """

    text: str
    number: int | None = None
    cues: tuple[int, ...] = ()


@dataclass(frozen=True)
class ShownItem:
    """One thing that a cue says.

    Attributes:
        text: in words.
        score: with two decimals; empty where there is none.
        share: the score in percent, where it is one of 0 to 1.
        time: from when to when, in seconds; empty where the cue does not say.
        start_s: when it begins.
    """

    text: str
    score: str = ""
    share: int | None = None
    time: str = ""
    start_s: float | None = None


@dataclass(frozen=True)
class ShownCue:
    """What a cue says of a clip.

    Attributes:
        name: of the cue.
        model: that says so.
        items: the first of them.
        more: how many others there are.
        skipped: why it does not apply; or what it is, where it is nothing to read.
        phrases: numbers of the events that rest on it.
    """

    name: str
    model: str
    items: tuple[ShownItem, ...]
    more: int
    skipped: str
    phrases: tuple[int, ...]


def shortened(text: str, most: int = TEXT) -> str:
    """The beginning of a text, and how much there is beyond."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more letters)"


def linked(caption: str, events: Sequence[SoundEvent], cues: Sequence[Cue]) -> tuple[list[Phrase], list[Phrase]]:
    """The caption in phrases, which together are its text; and the events that it has no words of.

    An event is found as its longest run of words that the caption has as well; longer runs are placed first, and no
    word belongs to two events.
    """
    caption, events = shortened(caption, CAPTION), events[:EVENTS]
    places = {cue.name: place for place, cue in reversed(list(enumerate(cues)))}
    rests = [tuple(places[name] for name in dict.fromkeys(event.cues) if name in places) for event in events]
    words = [(match.group().casefold(), *match.span()) for match in _WORD.finditer(caption)]
    wanted = [_WORD.findall(shortened(event.text).casefold()) for event in events]
    free = [word for word, _, _ in words]
    spans: dict[int, tuple[int, int]] = {}
    while left := [number for number in range(len(events)) if number not in spans]:
        letters, number, first, count = max((_run(number, wanted[number], free) for number in left), key=_rank)
        if not letters:
            break
        spans[number] = words[first][1], words[first + count - 1][2]
        free[first : first + count] = [""] * count
    phrases, at = [], 0
    for number, (start, end) in sorted(spans.items(), key=lambda found: found[1]):
        phrases += [Phrase(caption[at:start]), Phrase(caption[start:end], number, rests[number])]
        at = end
    phrases.append(Phrase(caption[at:]))
    unplaced = [Phrase(shortened(events[number].text), number, rests[number]) for number in left]
    return [phrase for phrase in phrases if phrase.text], unplaced


def _run(number: int, said: list[str], free: list[str]) -> tuple[int, int, int, int]:
    """The longest run of words: its letters, but for words that mean little, the event, the first word, how many."""
    match = SequenceMatcher(None, free, said, autojunk=False).find_longest_match()
    letters = sum(len(word) for word in free[match.a : match.a + match.size] if word not in STOP_WORDS)
    return letters, number, match.a, match.size


def _rank(run: tuple[int, int, int, int]) -> tuple[int, int]:
    letters, number, *_ = run
    return letters, -number


def shown_cues(cues: Iterable[Cue], phrases: Iterable[Phrase] = ()) -> tuple[ShownCue, ...]:
    """The cues for a page, with the phrases that rest on each."""
    rest = [(phrase.number, phrase.cues) for phrase in phrases if phrase.number is not None]
    return tuple(
        _shown_cue(cue, tuple(sorted(number for number, places in rest if place in places)))
        for place, cue in enumerate(cues)
    )


def _shown_cue(cue: Cue, phrases: tuple[int, ...]) -> ShownCue:
    if _is_embedding(cue):
        return ShownCue(cue.name, cue.model, (), 0, "an embedding: nothing to read", phrases)
    items = tuple(map(_shown_item, cue.items[:ITEMS]))
    skipped = f"does not apply: {shortened(cue.skipped)}" if cue.skipped else "" if items else "names nothing"
    return ShownCue(cue.name, shortened(cue.model), items, len(cue.items) - len(items), skipped, phrases)


def _is_embedding(cue: Cue) -> bool:
    try:
        return len(cue.items) == 1 and bool(embedding_of(cue.items).size)
    except ValueError:
        return False


def _shown_item(item: Item) -> ShownItem:
    text = heard_as(item) or item.text
    score = item.score
    share = round(100 * score) if score is not None and 0 <= score <= 1 else None
    time = "" if item.start_s is None or item.end_s is None else f"{item.start_s:.1f}–{item.end_s:.1f} s"
    number = "" if score is None else f"{score:.2f}".replace("-", "−")
    return ShownItem(shortened(text), number, share, time, item.start_s if time else None)
