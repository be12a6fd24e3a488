"""The caption writer of FusionAudio's cues that needs no model: what is written follows from them by rule.

It believes its cues in the order of the paper (arXiv:2506.01111): sure tags and labels, then the descriptions of the
music and of the sound, then that somebody speaks. It is made for descriptions in plain clauses, as the demo's models
write them; what a large language model makes of the same cues reads better.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import snowballstemmer

from model_handlers.base import Item, Items
from model_handlers.forms import Asked, ask_for
from model_handlers.llm import MOST_AMBIGUITIES, harmless
from model_handlers.writers import Brief, CaptionWriter, Draft, SoundEvent, Version

SPEAKS, PLAYS = "a person speaks", "music plays"
_ATTRIBUTE = re.compile(r"(genre|instruments|tempo|mood): ([\w ,'-]*)")
_JOINT = re.compile(r"(, then | and |, )")
_SINGING = re.compile(r"\b(?:sing(?:s|ing|ers?)|choir|rap(?:ping)?|chant(?:ing)?|yodeling)\b")
_SPEECH, _MUSIC = re.compile(r"\b(?:speech|speaks?|talks?)\b"), re.compile(r"\bmusic\b")
_IDLE = frozenset({"a", "an", "and", "at", "by", "in", "is", "of", "on", "or", "the", "then", "through", "to", "with"})
_SHORT = 12  # words of the form `short`
_DETAILED = 30  # words that the form `detailed` has at least


@dataclass(frozen=True)
class Clause:
    """One sound of a clip.

    Attributes:
        text: such as ``a dog barks``.
        cues: the names of those that say so.
        joint: what joins it to the clause before it: ``, then `` or `` and ``.
        kind: ``thing``, ``speech`` or ``music``.
        placed: whether the description of the sound has it, and so tells when it begins.
    """

    text: str
    cues: tuple[str, ...]
    joint: str = " and "
    kind: str = "thing"
    placed: bool = False


@dataclass(kw_only=True)
class FusionTemplate(CaptionWriter):
    """What sounds, in order, with the music's attributes and the place; and what of it is open, all by rule.

    A clause of the sound's description stays where a tag of at least `min_score` or a label bears it out. A tag that is
    `sure`, or a label, adds the clause that `clauses` has for it. That somebody speaks is written where the recogniser
    found words and no singing is sure, or the tag or label *Speech* is sure; that music plays where the tag or label
    *Music* is. The music's description is believed only there: ``genre: waltz; instruments: flute; tempo: fast; mood:
    sad``. The place is the likeliest one, where it has at least `sure`; with an `acoustic_scene`, only where that is
    the same, because a sound track may be of another place than the picture. Where nothing is left, the writer
    abstains.

    Attributes:
        sound: name of the cue that describes the whole sound in clauses joined by ``and`` and ``then``.
        music: name of the cue that describes the music by its attributes; empty for none.
        speech: name of the cue with the transcript; empty for none.
        tags: name of the cue with the tagger's tags.
        labels: name of the cue with the dataset's labels; empty for none.
        place: name of the cue that sees where it is; empty for none.
        acoustic_scene: name of the cue that hears where it is; empty for none.
        min_score: of a tag that bears out what the description of the sound says.
        sure: of a tag, label or place that is believed by itself.
        clauses: by tag, what is written of it.
        places: by place, the phrase for it where it is not ``in a <place>``.
        forms: in which other forms each caption is written (`model_handlers.forms`).
    """

    sound: str = "sound"
    music: str = "music"
    speech: str = "speech"
    tags: str = "audio_tags"
    labels: str = "labels"
    place: str = "place"
    acoustic_scene: str = ""
    min_score: float = 0.3
    sure: float = 0.5
    clauses: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    forms: tuple[str, ...] = ()

    version = 2
    names_events = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min_score <= self.sure <= 1:
            raise ValueError(
                f"min_score is {self.min_score} and sure {self.sure}; it has to be 0 ≤ min_score ≤ sure ≤ 1"
            )
        self._asked_for = ask_for(self.forms, ())

    @property
    def asked(self) -> Asked:
        return self._asked_for

    @property
    def needs(self) -> tuple[str, ...]:
        named = (self.sound, self.music, self.speech, self.tags, self.labels, self.place, self.acoustic_scene)
        return tuple(dict.fromkeys(name for name in named if name))

    def facts(self) -> dict[str, Any]:
        facts = {**super().facts(), "forms": self._asked_for.digest if self.forms else ""}
        if not self.acoustic_scene:  # without it, a fingerprint is as it was
            del facts["acoustic_scene"]
        return facts

    def load(self) -> None:
        """There is nothing to load."""

    def write(self, briefs: Sequence[Brief], model: None) -> list[Draft]:
        return [self.drafted(brief) for brief in briefs]

    def drafted(self, brief: Brief) -> Draft:
        """Writes the caption of one clip, with its forms and what is open."""
        open_: list[str] = []
        clauses = self._clauses(brief, open_)
        if not clauses:
            return Draft(abstained="no sound is sure: " + ("; ".join(open_) or "no cue names any"))
        place = self._place(brief, open_)
        written = _Written(tuple(clauses), place)
        return Draft(
            caption=written.caption,
            events=tuple(SoundEvent(clause.text, clause.cues) for clause in clauses),
            versions=tuple(Version(form, "", written.form(form)) for form in self.forms),
            ambiguities=tuple(map(harmless, open_[:MOST_AMBIGUITIES])),
        )

    def _clauses(self, brief: Brief, open_: list[str]) -> list[Clause]:
        """What sounds, in the order of the description, then what only tags tell. Notes in `open_` what is open."""
        speaks, plays = self._speech(brief, open_), self._music(brief, open_)
        found: list[Clause] = []
        later = False  # than what was kept last, with something left out between them
        for joint, text in described(brief.cues.get(self.sound, ())):
            kind = "speech" if _SPEECH.search(text) else "music" if _MUSIC.search(text) else "thing"
            known = {"speech": speaks, "music": plays, "thing": self._thing(text, brief)}[kind]
            if known is None:
                open_.append(f'only the description of the sound has "{text}": left out')
                later = later or joint == ", then "
            elif all(clause.text != known.text for clause in found):
                cues = tuple(dict.fromkeys((*known.cues, self.sound)))
                found.append(replace(known, joint=", then " if later else joint, cues=cues, placed=True))
                later = False
        for name, cue in self._sure(brief):
            text = self.clauses.get(name, "")
            if text and not any(_stems(name) & _stems(clause.text) for clause in found):
                open_.append(f'the description of the sound lacks "{name}": believed')
                found.append(Clause(text, (cue,)))
        for known in (speaks, plays):
            if known and all(clause.kind != known.kind for clause in found):
                found.append(known)
        return found

    def _thing(self, text: str, brief: Brief) -> Clause | None:
        stems = _stems(text)
        cues = [cue for name, cue in self._named(brief, self.min_score) if _stems(name) & stems]
        return Clause(text, tuple(dict.fromkeys(cues))) if cues else None

    def _speech(self, brief: Brief, open_: list[str]) -> Clause | None:
        cues = [cue for name, cue in self._sure(brief) if _SPEECH.search(name.lower())]
        said = [item for item in brief.cues.get(self.speech, ()) if item.start_s is not None]
        if said and not cues and any(_SINGING.search(name.lower()) for name, _ in self._sure(brief)):
            open_.append("words were recognised, and singing rather than speech is tagged: left out")
            return None
        if said and not cues:
            open_.append("words were recognised, but no tag is sure of speech: believed")
        cues += [self.speech] if said else []
        return Clause(SPEAKS, tuple(dict.fromkeys(cues)), kind="speech") if cues else None

    def _music(self, brief: Brief, open_: list[str]) -> Clause | None:
        cues = [cue for name, cue in self._sure(brief) if _MUSIC.search(name.lower())]
        items = brief.cues.get(self.music, ())
        if not cues:
            if items:
                open_.append("music is described, but no tag is sure of any: left out")
            return None
        text = piece(items)
        return Clause(text or PLAYS, tuple(dict.fromkeys((*cues, *([self.music] if text else [])))), kind="music")

    def _place(self, brief: Brief, open_: list[str]) -> str:
        items = [item for item in brief.cues.get(self.place, ()) if item.text not in ("indoor", "outdoor")]
        if not items:
            return ""
        best = max(items, key=lambda item: item.score or 0.0)
        if (best.score or 0.0) < self.sure:
            open_.append(f"where it is: no place is sure, {best.text} the likeliest")
            return ""
        name = best.text.split(",")[0]
        phrase = self.places.get(best.text, f"in {_article(name)} {name}")
        if self.acoustic_scene and phrase not in heard_places(brief.cues.get(self.acoustic_scene, ()), self.sure):
            open_.append(f'it looks as if it were "{phrase}", and does not sound so: left out')
            return ""
        return phrase

    def _sure(self, brief: Brief) -> list[tuple[str, str]]:
        return self._named(brief, self.sure)

    def _named(self, brief: Brief, least: float) -> list[tuple[str, str]]:
        """Labels, then tags, of at least such a score, each with its cue; a label may have none."""
        return [
            (item.text, cue)
            for cue in (self.labels, self.tags)
            for item in brief.cues.get(cue, ())
            if (item.score is None and cue == self.labels) or (item.score or 0.0) >= least
        ]


@dataclass(frozen=True)
class _Written:
    """The texts about one clip."""

    clauses: tuple[Clause, ...]
    place: str

    @property
    def caption(self) -> str:
        return _sentence(self.clauses, self.place)

    def form(self, name: str) -> str:
        """The text in a form; raises `ValueError` where there is no rule for it."""
        match name:
            case "short":
                return self._short()
            case "detailed":
                return self._detailed()
            case "speech":
                return _sentence([clause for clause in self.clauses if clause.kind == "speech"])
            case "music":
                return _sentence([replace(c, text=c.text.replace(PLAYS, f"some {PLAYS}")) for c in self._of("music")])
            case "sound":
                return _sentence(self._of("thing"))
            case "place":
                return self.place
        raise ValueError(f"forms: there is no rule for {name!r}")

    def _of(self, kind: str) -> list[Clause]:
        return [clause for clause in self.clauses if clause.kind == kind]

    def _short(self) -> str:
        plain = [replace(clause, text=PLAYS) if clause.kind == "music" else clause for clause in self.clauses]
        while len(plain) > 1 and len(_sentence(plain).split()) > _SHORT:
            plain.pop()
        text = _sentence(plain)
        return text if len(text.split()) > 2 else f"There is {text.lower().removesuffix(' plays.')}."

    def _detailed(self) -> str:
        """The caption, how its sounds follow one another, and what of it is speech and music; empty if that is little.

        It says nothing of what does not sound: a cue that is silent of it may have missed it.
        """
        parts = [self.caption, self._order()]
        if self._of("speech"):
            parts.append("Somebody can be heard to talk, in one voice or several.")
        if self._of("music"):
            parts.append("There is music to be heard, on one instrument or several.")
        text = " ".join(filter(None, parts))
        return text if len(text.split()) >= _DETAILED else ""

    def _order(self) -> str:
        """How the sounds follow one another, where the description of the sound tells it of all."""
        several = self.clauses[1:]
        if not several or not all(clause.placed for clause in self.clauses):
            return ""
        joints = {clause.joint for clause in several}
        if joints == {", then "}:
            return "The sounds can be heard one after the other, in this order, from the first of them to the last."
        if joints == {" and "}:
            return "These sounds can be heard at the same time, in part or all along, each beside the others."
        return ""


def described(items: Items) -> list[tuple[str, str]]:
    """The clauses of a sound's description, each with what joins it to the one before."""
    text = " ".join(item.text for item in items).strip().rstrip(".")
    parts = _JOINT.split(f"{text[:1].lower()}{text[1:]}")
    joints = [" and ", *(joint if joint == ", then " else " and " for joint in parts[1::2])]
    clauses = (" ".join(part.split()).strip(" ,") for part in parts[::2])
    return [(joint, said) for joint, said in zip(joints, clauses, strict=True) if said not in ("", "and", "then")]


def heard_places(items: Items, least: float) -> list[str]:
    """What a cue that hears where it is says with such a score: ``In a kitchen.`` as ``in a kitchen``."""
    return [item.text.strip(" .").lower() for item in items if item.score is None or item.score >= least]


def piece(items: Sequence[Item]) -> str:
    """Music by its attributes; empty where its description is none of them.

    Such as ``a sad waltz piece plays at a fast tempo on flute and piano``, of as many attributes as there are.
    """
    text = " ".join(item.text for item in items).lower()
    said = {name: value.strip() for name, value in _ATTRIBUTE.findall(text) if value.strip()}
    if "genre" not in said:
        return ""
    kind = " ".join(filter(None, (said.get("mood", ""), said["genre"], "piece")))
    tempo = f" at {_article(said['tempo'])} {said['tempo']} tempo" if "tempo" in said else ""
    players = [name.strip() for name in said.get("instruments", "").split(",") if name.strip()]
    return f"{_article(kind)} {kind} plays{tempo}" + (f" on {_listed(players)}" if players else "")


def _sentence(clauses: Sequence[Clause], place: str = "") -> str:
    """The clauses as one sentence; empty where there are none."""
    text = "".join(("" if number == 0 else clause.joint) + clause.text for number, clause in enumerate(clauses))
    return f"{text[:1].upper()}{text[1:]}{f' {place}' if place else ''}." if text else ""


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _article(name: str) -> str:
    return "an" if name[:1].lower() in "aeiou" else "a"


@lru_cache(maxsize=4096)
def _stems(text: str) -> frozenset[str]:
    """What of a tag or a clause is compared: its words without endings."""
    stemmer = snowballstemmer.stemmer("english")  # one each time: they are not for several threads
    return frozenset(stemmer.stemWord(word) for word in re.findall(r"\w+", text.lower()) if word not in _IDLE)
