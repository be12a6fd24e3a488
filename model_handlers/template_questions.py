"""The writer of questions that needs no model: question-answer pairs by rule, from cues whose form is known."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from model_handlers.base import Item, Items
from model_handlers.fusion_template import heard_places
from model_handlers.questions import Question
from model_handlers.writers import Brief, CaptionWriter, Draft, Task

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FAINT = 0.1  # a tag below that says nothing
_FIELD = re.compile(r"(\w+): ([^;]+)")
# What is asked of each field of the music cue, by what the field is called.
_OF_MUSIC = {
    "genre": "What kind of music plays?",
    "instruments": "Which instruments are played in the music?",
    "tempo": "What is the tempo of the music?",
    "mood": "How does the music feel?",
}


@dataclass(kw_only=True)
class TemplateQuestions(CaptionWriter):
    """Pairs from what is sure: the sounds and their order, the music's attributes, whether somebody speaks, the place.

    The sound cue says clauses: ``a dog barks, then a bell rings`` one after the other, ``a dog barks and a bell rings``
    at once. The music cue says ``genre: waltz; instruments: flute, piano; tempo: fast; mood: sad``. Sounds are asked
    about only where every clause is one of `sounds` whose label is among the tags, and no other such label is; what
    somebody says needs a transcript as well. Wrong options are what no cue mentions. Which pairs are taken, and which
    of them are multiple-choice, hangs on the clip's id.

    Attributes:
        sound: name of the cue with the clauses.
        tags: name of the cue with the labels.
        music: name of the cue with the music's attributes; empty for no questions about them.
        speech: name of the cue of what is said; empty for no questions about speech.
        place: name of the cue that sees where it is; empty for no questions about that.
        acoustic_scene: name of the cue that hears where it is, and has to agree; empty for none.
        min_score: from which a tag, a place or what the sound cue says counts.
        sounds: the clauses there are, as ``a dog barks``.
        sources: what makes each of them, in the same order, as ``a dog``; empty for one that is not asked for.
        labels: the tag of each of them, in the same order.
        speaking: which of the clauses is speech.
        places: the phrases of places there are, as ``in a kitchen``.
        genres: of music; so are `instruments`, `tempos` and `moods`.
    """

    sound: str = "sound"
    tags: str = "audio_tags"
    music: str = "music"
    speech: str = "speech"
    place: str = "place"
    acoustic_scene: str = ""
    min_score: float = 0.3
    sounds: tuple[str, ...]
    sources: tuple[str, ...]
    labels: tuple[str, ...]
    speaking: str = "a person speaks"
    places: tuple[str, ...] = ()
    genres: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    tempos: tuple[str, ...] = ()
    moods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.sounds) == len(self.sources) == len(self.labels):
            raise ValueError("sounds, sources and labels have to be equally many")
        for sound, source in zip(self.sounds, self.sources, strict=True):
            if not sound.startswith(source):
                raise ValueError(f"sources: {sound!r} does not begin with {source!r}")

    @property
    def task(self) -> Task:
        return "questions"

    @property
    def needs(self) -> tuple[str, ...]:
        named = (self.sound, self.tags, self.music, self.speech, self.place, self.acoustic_scene)
        return tuple(dict.fromkeys(name for name in named if name))

    def facts(self) -> dict[str, Any]:
        facts = super().facts()
        if not self.acoustic_scene:  # without it, a fingerprint is as it was
            del facts["acoustic_scene"]
        return facts

    def load(self) -> None:
        """There is nothing to load."""

    def write(self, briefs: Sequence[Brief], model: None) -> list[Draft]:
        return [self.draft(brief) for brief in briefs]

    def draft(self, brief: Brief) -> Draft:
        """Writes the pairs for one clip: one of each kind before a second of any, and no question in both forms."""
        wanted, taken = self.questions, list[Question]()
        found = [pair for pair in self._pairs(brief) if pair.kind in wanted.kinds]
        found.sort(key=lambda pair: _drawn(brief.clip_id, pair.question))
        multiple = wanted.multiple(brief.clip_id)
        while len(taken) < wanted.per_clip:
            asked, kinds = {pair.question for pair in taken}, [pair.kind for pair in taken]
            left = [pair for pair in found if pair.question not in asked]
            with_choices = sum(bool(pair.choices) for pair in taken) < multiple
            of_form = [pair for pair in left if bool(pair.choices) == with_choices] or left
            if not of_form:
                break
            taken.append(min(of_form, key=lambda pair: kinds.count(pair.kind)))
        return Draft(pairs=tuple(taken), abstained="" if taken else "no cue is sure enough for a question")

    def _pairs(self, brief: Brief) -> Iterator[Question]:
        """All that can be asked about a clip, each question open and, where wrong options are known, with choices."""
        yield from self._of_sounds(brief)
        yield from self._of_music(brief)
        yield from self._of_speech(brief)
        yield from self._of_place(brief)

    def _of_sounds(self, brief: Brief) -> Iterator[Question]:
        steps = self._heard(brief)
        heard = [sound for step in steps for sound in step]
        if not heard or not self._agreed(brief, heard):
            return
        cues, silent = (self.sound, self.tags), self._silent(brief)
        yield Question("sound", "What can be heard?", _sentence(self._said(brief)), (), cues)
        yield from self._choice("sound", "Which of these sounds can be heard?", heard[0], silent, cues, brief)
        if len(heard) <= len(_NUMBERS):
            number = _NUMBERS[len(heard) - 1]
            yield from self._both("count", "How many different sounds can be heard?", number, _NUMBERS, cues, brief)
        made_by = dict(zip(self.sounds, self.sources, strict=True))
        makers = [made_by[sound] for sound in silent if made_by[sound]]
        for sound in heard:
            if source := made_by[sound]:
                question = f"What {sound.removeprefix(source).strip()}?"
                yield from self._both("source", question, source, makers, cues, brief)
        if len(steps) == len(heard) > 1:
            yield from self._of_order(brief, heard, silent)

    def _of_order(self, brief: Brief, heard: list[str], silent: list[str]) -> Iterator[Question]:
        cues, first = (self.sound,), "What can be heard first?"
        yield from self._both("order", first, heard[0], [*heard[1:], *silent], cues, brief)
        for before, after in pairwise(heard):
            others = [sound for sound in (*heard, *silent) if sound not in (before, after)]
            yield from self._both("order", f"What can be heard after {before}?", after, others, cues, brief)

    def _of_music(self, brief: Brief) -> Iterator[Question]:
        items = brief.cues.get(self.music, ())
        known = {"genre": self.genres, "instruments": self.instruments, "tempo": self.tempos, "mood": self.moods}
        for name, value in _FIELD.findall(items[0].text) if items else ():
            if name in known:
                played = value.split(", ")
                others = [other for other in known[name] if other not in played]
                yield from self._both("music", _OF_MUSIC[name], " and ".join(played), others, (self.music,), brief)

    def _of_speech(self, brief: Brief) -> Iterator[Question]:
        said = brief.cues.get(self.speech, ())
        tagged = self._label_of(self.speaking) in self._sure(brief)
        if said and _spoken(said) == tagged == (self.speaking in self._said(brief)):
            answer = "Yes, somebody speaks." if tagged else "No, nobody speaks."
            yield Question("speech", "Does anybody speak?", answer, (), (self.speech,))

    def _of_place(self, brief: Brief) -> Iterator[Question]:
        items = brief.cues.get(self.place, ())
        named = [phrase for phrase in self.places if re.search(rf"\b{re.escape(phrase)}\b", brief.caption)]
        heard = heard_places(brief.cues.get(self.acoustic_scene, ()), self.min_score)
        if self.acoustic_scene and not set(named[:1]) & set(heard):
            return
        if named and any((item.score or 0.0) >= self.min_score and named[0].endswith(item.text) for item in items):
            cues = tuple(filter(None, (self.acoustic_scene, self.place)))
            others = [phrase for phrase in self.places if not any(phrase.endswith(item.text) for item in items)]
            yield from self._both("place", "Where does this take place?", named[0], others, cues, brief)

    def _both(
        self, kind: str, question: str, answer: str, wrong: Sequence[str], cues: tuple[str, ...], brief: Brief
    ) -> Iterator[Question]:
        """The question in both forms."""
        yield Question(kind, question, _sentence(answer), (), cues)
        yield from self._choice(kind, question, answer, wrong, cues, brief)

    def _choice(
        self, kind: str, question: str, answer: str, wrong: Sequence[str], cues: tuple[str, ...], brief: Brief
    ) -> Iterator[Question]:
        """The question with choices, where there are enough wrong ones."""
        drawn = sorted({*wrong} - {answer}, key=lambda option: _drawn(brief.clip_id, question, option))
        if len(drawn) >= self.questions.choices - 1:
            yield Question(kind, question, answer, (answer, *drawn[: self.questions.choices - 1]), cues)

    def _said(self, brief: Brief) -> str:
        """The sentence of the sound cue, where it is sure of it."""
        items = brief.cues.get(self.sound, ())
        return items[0].text if items and _at_least(items[0], self.min_score) else ""

    def _heard(self, brief: Brief) -> list[list[str]]:
        """The clauses of that sentence, step by step; of one step where they sound at once."""
        said = self._said(brief)
        return [step.split(" and ") for step in said.split(", then ")] if said else []

    def _agreed(self, brief: Brief, heard: list[str]) -> bool:
        """Whether the tags name just these sounds, and a transcript says the same of speech."""
        sure = self._sure(brief) & {*self.labels}
        spoken = not self.speech or _spoken(brief.cues.get(self.speech, ())) == (self.speaking in heard)
        return spoken and {*heard} <= {*self.sounds} and sure == {self._label_of(sound) for sound in heard}

    def _label_of(self, sound: str) -> str:
        return dict(zip(self.sounds, self.labels, strict=True)).get(sound, "")

    def _sure(self, brief: Brief) -> set[str]:
        """The tags that count."""
        return {item.text for item in brief.cues.get(self.tags, ()) if _at_least(item, self.min_score)}

    def _silent(self, brief: Brief) -> list[str]:
        """The sounds that no cue mentions, or at most faintly."""
        tags = {item.text for item in brief.cues.get(self.tags, ()) if _at_least(item, _FAINT)}
        said = " ".join(item.text for item in brief.cues.get(self.sound, ()))
        pairs = zip(self.sounds, self.labels, strict=True)
        return [sound for sound, label in pairs if label not in tags and sound not in said]


def _at_least(item: Item, score: float) -> bool:
    return item.score is None or item.score >= score


def _spoken(items: Items) -> bool:
    """Whether a transcript has a segment: what was said comes with times."""
    return any(item.start_s is not None for item in items)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _drawn(*texts: str) -> bytes:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).digest()
