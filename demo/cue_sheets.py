"""Cue sheets of the demo world with what a writer should answer: what `demo.train_writer` learns from.

A *sheet* maps cue names to items. Real ones come from the demo's models looking at clips; simulated ones, which cost
nothing, are made of a scene's truth and of errors like theirs. `answer` says what a sheet bears out.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from demo.world import PLACES, SOURCES, Scene, labels, write_clip
from model_handlers.audio_caption import AudioCaption
from model_handlers.audio_tags import AudioTags
from model_handlers.base import CueHandler, Example, Item, Items
from model_handlers.dataset_labels import DatasetLabels
from model_handlers.image_caption import ImageCaption
from model_handlers.image_label import ImageLabel
from model_handlers.objects import Objects
from model_handlers.place import Place
from model_handlers.views import Decoded, Listed, Listing
from transforms.media import NoTrack, decode

Sheet = dict[str, Items]

SPEECH, MUSIC = "speech", "music"
# From which probability of its tag on a sound counts as heard: with nothing else to go by; against the audio caption,
# which tells things of like sound apart better; and where the audio caption names it too.
ALONE, AGAINST, NAMED = 0.3, 0.5, 0.1

# What each thing does when it sounds. The second ways of saying it are this file's own.
CLAUSES: dict[str, tuple[str, str]] = {
    "bell": ("a bell rings", "a bell chimes"),
    "bird": ("a bird chirps", "a bird tweets"),
    "camera": ("a camera clicks", "a camera shutter clicks"),
    "car": ("a car honks", "a car horn blares"),
    "cat": ("a cat meows", "a cat yowls"),
    "dog": ("a dog barks", "a dog yaps"),
    "door": ("a door is knocked on", "someone knocks on a door"),
    "drum": ("a drum is struck", "a drum beats"),
    "duck": ("a duck quacks", "a duck calls"),
    "frog": ("a frog croaks", "a frog ribbits"),
    "hammer": ("a hammer strikes an anvil", "a hammer clangs on an anvil"),
    "hands": ("a pair of hands claps", "someone claps their hands"),
    "saw": ("a saw cuts through wood", "a saw rasps through wood"),
    "sheep": ("a sheep bleats", "a sheep baas"),
    "typewriter": ("a typewriter clacks", "a typewriter clatters"),
    "whistle": ("a whistle blows", "a whistle shrills"),
    SPEECH: ("a person speaks", "someone talks"),
    MUSIC: ("music plays", "music sounds"),
}
TAGS = {name: source.label for name, source in SOURCES.items()} | {SPEECH: "Speech", MUSIC: "Music"}
# A sound's names in cues: the thing's own, and those of its label.
NAMES = {name: {name, *(part.strip().lower() for part in label.split(","))} for name, label in TAGS.items()}
NAMES[SPEECH] |= {"speaks", "talks"}  # as `CLAUSES` has it
_MENTIONS = {name: re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(some)))})\b") for name, some in NAMES.items()}

NOTHING, UNSURE, UNKNOWN = (
    "no cue tells what can be heard",
    "none of the sounds is sure",
    "what sounds is none of the things that I know",
)
# The cues that may name a sound, in the order in which an answer lists them.
NAMING = ("audio_tags", "audio_caption", "labels", "image_caption", "objects", "image_label")


def handlers() -> tuple[CueHandler, ...]:
    """The demo's cues that say something of what can be heard, as its profile has them."""
    at = "pkg://demo/models/"
    return (
        DatasetLabels(name="labels"),
        ImageCaption(name="image_caption", model=f"{at}image_caption"),
        Objects(name="objects", model=f"{at}objects"),
        ImageLabel(name="image_label", model=f"{at}image_label", labels=tuple(SOURCES)),
        Place(name="place", model=f"{at}place"),
        AudioTags(name="audio_tags", model=f"{at}audio_tags"),
        AudioCaption(name="audio_caption", model=f"{at}audio_caption"),
    )


CUES = tuple(handler.name for handler in handlers())


def audible(scene: Scene) -> tuple[str, ...]:
    """What sounds in a scene whose sound track is there: names of `CLAUSES`."""
    heard = scene.audio_scene()
    return (SPEECH, MUSIC) if heard is None else heard.sources


def real_sheets(scenes: Iterable[Scene]) -> Iterator[tuple[Scene, Sheet]]:
    """Yields what the demo's models make of each scene's MP4 clip, written and decoded as in a run.

    Clips without sound, and those that cannot be read, are left out.
    """
    loaded = [(handler, handler.load()) for handler in handlers()]
    with tempfile.TemporaryDirectory() as folder:
        for scene in scenes:
            if {"silent", "no_audio", "truncated", "not_a_video"} & set(scene.faults):
                continue
            path = Path(folder) / f"{scene.clip_id}.mp4"
            write_clip(scene, path)
            decoded: dict[Any, Decoded | None] = {Listing(): Listed(labels(scene))}
            sheet: Sheet = {}
            for handler, model in loaded:
                if handler.view not in decoded:
                    decoded[handler.view] = _decoded(path, handler)
                view = decoded[handler.view]
                if view is not None and (items := handler.predict([Example(scene.clip_id, view)], model)[0]):
                    sheet[handler.name] = tuple(items)
            path.unlink()
            yield scene, sheet


def _decoded(path: Path, handler: CueHandler) -> Decoded | None:
    try:
        return decode(path, 0.0, None, handler.view)
    except NoTrack:
        return None


def mentions(text: str, sound: str) -> bool:
    """Whether text names a sound, or what makes it."""
    return bool(_MENTIONS[sound].search(text.lower()))


def heard(sheet: Mapping[str, Items]) -> tuple[str, ...]:
    """What sounds as the cues of the sound bear it out, likeliest first; only what the demo world knows."""
    caption = " ".join(item.text.lower() for item in sheet.get("audio_caption", ()))
    named = [name for name in SOURCES if _MENTIONS[name].search(caption)]
    if not sheet.get("audio_tags"):
        return tuple(named)
    found = []
    for item in sheet["audio_tags"]:
        name = _thing(item.text)
        least = NAMED if name in named else AGAINST if caption else ALONE
        if name and _score(item) >= least:
            found.append(name)
    return tuple(found)


def setting(sheet: Mapping[str, Items]) -> str:
    """The place: the likeliest of the cue *place*, else the one that ends the image caption; empty where neither is."""
    first = next((item.text for item in sheet.get("place", ())), "")
    if first in PLACES:
        return first
    seen = " ".join(item.text.lower() for item in sheet.get("image_caption", ()))
    return next((name for name, place in PLACES.items() if seen.endswith(place.phrase)), "")


def naming(sheet: Mapping[str, Items], sound: str) -> list[str]:
    """The cues of a sheet that name a sound, in the order of `NAMING`."""
    return [cue for cue in NAMING if any(_names(cue, item, sound) for item in _counting(cue, sheet))]


def answer(sheet: Mapping[str, Items], attempts: int = 0) -> str:
    """What a writer should answer: JSON as `model_handlers.llm` wants it.

    The wording follows from the place and from how often the clip was asked about before, so that there is one right
    answer to learn, and another one where the first was refused.
    """
    sounds, place = heard(sheet), setting(sheet)
    if not sounds:
        return _as_json("", [], _reason(sheet))
    manner = [*PLACES, ""].index(place) + attempts
    clauses = [CLAUSES[name][manner % 2] for name in sounds]
    # A check on captions looks for a word of the cue in the event: "a person speaks" shares none with "Speech".
    events = [
        (name if name == SPEECH else said, naming(sheet, name)) for name, said in zip(sounds, clauses, strict=True)
    ]
    return _as_json(sentence(clauses, place, manner), events, "")


def sentence(clauses: Sequence[str], place: str, pattern: int) -> str:
    """One sentence of up to some clauses and, where it is known, the place; `pattern` chooses among three forms."""
    where = PLACES[place].phrase if place else ""
    pattern %= 3
    if len(clauses) == 2:
        said = (" while " if pattern == 2 else " and ").join(clauses)
    else:
        said = " and ".join(filter(None, [", ".join(clauses[:-1]), clauses[-1]]))
    if len(clauses) == 1 and pattern == 2:
        said += " again and again"
    whole = (f"{where}, {said}" if pattern == 1 else f"{said} {where}") if where else said
    return f"{whole[0].upper()}{whole[1:]}."


def _as_json(caption: str, events: Sequence[tuple[str, list[str]]], abstained: str) -> str:
    told = [{"sound": sound, "cues": cues} for sound, cues in events]
    return json.dumps({"caption": caption, "events": told, "abstained": abstained})


def _reason(sheet: Mapping[str, Items]) -> str:
    tags = sheet.get("audio_tags", ())
    if any(_score(item) >= AGAINST for item in tags):
        return UNKNOWN
    return UNSURE if tags else NOTHING


def _thing(tag: str) -> str:
    return next((name for name, label in TAGS.items() if label == tag), "")


def _score(item: Item) -> float:
    return round(item.score or 0.0, 2)  # a writer sees two digits


def _counting(cue: str, sheet: Mapping[str, Items]) -> Items:
    """The items by which a cue names things: all, but for the image label, which ranks every name, the first."""
    items = sheet.get(cue, ())
    return items[:1] if cue == "image_label" else items


def _names(cue: str, item: Item, sound: str) -> bool:
    return item.text == TAGS[sound] if cue == "audio_tags" else mentions(item.text, sound)


def inject(sheet: Sheet, cue: str, text: str) -> Sheet:
    """The sheet with `text` in one of its cues: at the end of its first item's text, or as an item of its own."""
    items = sheet.get(cue, ())
    if cue.endswith("caption") and items:
        return {**sheet, cue: (replace(items[0], text=f"{items[0].text} {text}"), *items[1:])}
    return {**sheet, cue: (*items, Item(text, score=items[-1].score if items else None))}


@dataclass(frozen=True)
class Simulator:
    """Makes sheets up, with errors of the kinds that the demo's models make, and more of them.

    Attributes:
        rng: what chance there is.
        injections: texts that give orders, as a cue may carry them.
        strangers: names of sounds and things that are not of the demo world.
    """

    rng: np.random.Generator
    injections: Sequence[str]
    strangers: Sequence[str]

    def sheet(self) -> tuple[Sheet, Sheet]:
        """Makes one up: what sounds is mostly what is seen, and most cues are there and right.

        Returns:
            The sheet, and the same without the orders that some of its cues may give: what a writer should go by.
        """
        # In 5 of 100 sheets nothing sounds, in 48 one thing, in 44 two, in 3 three.
        count = int(np.searchsorted((0.05, 0.53, 0.97), self.rng.random()))
        sounds = self._some(tuple(SOURCES), count)
        if self._chance(0.08):
            sounds = [self._one((SPEECH, MUSIC)), *sounds[:1]] if self._chance(0.4) else [SPEECH, MUSIC]
        here = [name for name in sounds if name in SOURCES]
        seen = self._some(tuple(SOURCES), self._one((1, 2))) if self._chance(0.2) or not here else here
        place = self._one(tuple(PLACES))
        sheet: Sheet = {
            "labels": self._labels(sounds),
            "image_caption": self._image_caption(seen, place),
            "objects": self._objects(seen),
            "image_label": self._image_label(seen),
            "place": self._places(place),
            "audio_tags": self._tags(sounds),
            "audio_caption": self._audio_caption(here),
        }
        bare = self._arranged(sheet)
        return (self._attacked(bare) if self._chance(0.12) else bare), bare

    def _arranged(self, sheet: Sheet) -> Sheet:
        """Leaves cues out and changes their order, now and then."""
        names = list(sheet)
        if self._chance(0.35):
            names = [name for name in names if self._chance(0.8)] or names[-2:]
        if self._chance(0.15):
            names = self._some(names, len(names))
        return {name: sheet[name] for name in names if sheet[name]}

    def _attacked(self, sheet: Sheet) -> Sheet:
        """Puts an order to the writer into a cue, or into one more that holds what somebody said."""
        return inject(sheet, self._one((*sheet, "speech")), self._one(self.injections))

    def _tags(self, sounds: Sequence[str]) -> Items:
        def score() -> float:
            return self._uniform(0.8, 1.0) if self._chance(0.85) else self._uniform(0.05, 0.8)

        items = [Item(TAGS[name], score=score()) for name in sounds]
        others = [name for name in TAGS if name not in sounds]
        most = 3 if self._chance(0.9) else 6
        for name in self._some(tuple(others), max(0, most - len(items))):
            low = self._uniform(0.0, 0.06) if self._chance(0.88) else self._uniform(0.0, 0.5)
            items.append(Item(TAGS[name], score=low))
        if self._chance(0.08):
            items.append(Item(self._one(self.strangers), score=score()))
        if self._chance(0.02):
            items = [Item(name, score=score()) for name in self._some(tuple(self.strangers), 3)]
        return tuple(sorted(items, key=lambda item: -(item.score or 0.0)))

    def _audio_caption(self, sounds: Sequence[str]) -> Items:
        said = list(sounds)
        if self._chance(0.12) or not said:
            said = self._some(tuple(SOURCES), self._one((1, 2)))
        clauses = [f"{SOURCES[name].phrase} {SOURCES[name].verb}" for name in sorted(said)[:2]]
        if self._chance(0.06):  # the word that says what sounds is lost, as happens to the demo's model
            clauses[-1] = f"a {SOURCES[sorted(said)[:2][-1]].verb}"
        score = 1.0 if self._chance(0.6) else self._uniform(0.3, 1.0)
        return (Item(" and ".join(clauses), score=score),)

    def _labels(self, sounds: Sequence[str]) -> Items:
        names = self._some(tuple(TAGS), 1) if self._chance(0.1) else sorted(sounds)
        items = [Item(TAGS[name]) for name in names]
        return (*items, Item(self._one(self.strangers))) if self._chance(0.06) else tuple(items)

    def _image_caption(self, seen: Sequence[str], place: str) -> Items:
        names, where = list(seen), place
        if self._chance(0.06):
            names = self._some(tuple(SOURCES), self._one((1, 2)))
        if self._chance(0.03):
            where = self._one(tuple(PLACES))
        things = " and ".join(SOURCES[name].phrase for name in sorted(names)[:2])
        return (Item(f"{things} {PLACES[where].phrase}", score=self._uniform(0.6, 1.0)),)

    def _objects(self, seen: Sequence[str]) -> Items:
        items = [Item(name, score=self._uniform(0.5, 0.99)) for name in seen if self._chance(0.97)]
        if self._chance(0.12):
            items.append(Item(self._one(tuple(SOURCES)), score=self._uniform(0.3, 0.75)))
        return tuple(sorted(items, key=lambda item: -(item.score or 0.0)))

    def _image_label(self, seen: Sequence[str]) -> Items:
        first = [self._one(tuple(SOURCES))] if self._chance(0.05) else list(seen)[:2]
        names = [*first, *(name for name in self._some(tuple(SOURCES), 5) if name not in first)][:3]
        sharp = 6.0 if self._chance(0.7) else 2.0
        return self._shares(names, sharp)

    def _places(self, place: str) -> Items:
        names = [place, *(name for name in self._some(tuple(PLACES), 3) if name != place)][:3]
        if self._chance(0.03):
            names[0] = self._one(self.strangers)
        side = self._one(("indoor", "outdoor"))
        return (*self._shares(names, 4.0), Item(side, score=self._uniform(0.6, 1.0)))

    def _shares(self, names: Sequence[str], sharp: float) -> Items:
        """Names with probabilities of falling size, as a softmax gives them."""
        heights = np.sort(self.rng.exponential(sharp, len(names)))[::-1]
        powers = np.exp(heights - heights.max())
        return tuple(Item(n, score=float(p)) for n, p in zip(names, powers / (powers.sum() + 0.02), strict=True))

    def _chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def _one(self, of: Sequence[Any]) -> Any:
        return of[int(self.rng.integers(len(of)))]

    def _some(self, of: Sequence[Any], count: int) -> list[Any]:
        return [of[int(index)] for index in self.rng.permutation(len(of))[:count]]
