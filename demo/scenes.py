"""The scenes of the demo world and what is true of them: what is where, when it sounds, what is wrong.

Nothing here draws or sounds; `demo.drawing` and `demo.sounds` do. Everything is a pure function of (seed, index).
The functions below say the same of a `demo.occasions.Occasion`, which tells them how.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np

FAULTS = ("shifted", "foreign", "speech_over_music", "silent", "no_audio", "no_video", "truncated", "not_a_video")

MARGIN_S = 4.0  # events go on this long before and after the clip, so that shifted audio reveals further ones
SHIFT_S = (0.8, 2.0)
GAP_S = (0.6, 2.3)  # uniform gaps: seven events in ten seconds, never periodic
TWO_SOURCES = 0.3
# A block of forty clips: 28 good (70 %) and every fault once or more often.
BLOCK = (None,) * 28 + FAULTS + ("shifted", "shifted", "foreign", "speech_over_music")


@dataclass(frozen=True)
class Source:
    """A thing that sounds.

    Attributes:
        name: its name in this module.
        label: the AudioSet display name of its sound.
        phrase: the thing with its article, as an image caption names it.
        verb: what it does when it sounds, third person.
        decay_s: seconds from an event's onset until the thing is at rest again; the attack is immediate.
    """

    name: str
    label: str
    phrase: str
    verb: str
    decay_s: float


@dataclass(frozen=True)
class Place:
    """Where a scene is set; `phrase` is how a caption says it."""

    name: str
    phrase: str


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("bell", "Bell", "a bell", "rings", 0.40),
        Source("bird", "Bird", "a bird", "chirps", 0.28),
        Source("camera", "Camera", "a camera", "clicks", 0.24),
        Source("car", "Vehicle horn, car horn, honking", "a car", "honks", 0.40),
        Source("cat", "Cat", "a cat", "meows", 0.40),
        Source("dog", "Dog", "a dog", "barks", 0.28),
        Source("door", "Knock", "a door", "is knocked on", 0.26),
        Source("drum", "Drum", "a drum", "is struck", 0.30),
        Source("duck", "Duck", "a duck", "quacks", 0.30),
        Source("frog", "Frog", "a frog", "croaks", 0.36),
        Source("hammer", "Hammer", "a hammer", "strikes an anvil", 0.28),
        Source("hands", "Clapping", "a pair of hands", "claps", 0.22),
        Source("saw", "Sawing", "a saw", "cuts through wood", 0.40),
        Source("sheep", "Sheep", "a sheep", "bleats", 0.40),
        Source("typewriter", "Typewriter", "a typewriter", "clacks", 0.22),
        Source("whistle", "Whistle", "a whistle", "blows", 0.36),
    )
}

PLACES: dict[str, Place] = {
    place.name: place
    for place in (
        Place("beach", "on a beach"),
        Place("cave", "in a cave"),
        Place("farm", "on a farm"),
        Place("forest", "in a forest"),
        Place("kitchen", "in a kitchen"),
        Place("office", "in an office"),
        Place("street", "in a street"),
        Place("train station", "at a train station"),
    )
}


@dataclass(frozen=True)
class Scene:
    """One clip's truth.

    Attributes:
        clip_id: ``demo<seed>_<index>``.
        seed: seeds whatever varies in the scene's picture and sound.
        place: a key of `PLACES`.
        sources: one or two keys of `SOURCES`, in alphabetical order: what is *seen*.
        events: for each source the seconds at which it acts, from -4 to duration + 4.
        duration_s: the clip's length.
        fps: frames per second of its picture.
        offset_s: what the audio is late by; 0 for a good clip.
        faults: names from `FAULTS`; empty for a good clip.
        foreign: the scene whose soundtrack is heard instead of this one's.
    """

    clip_id: str
    seed: int
    place: str
    sources: tuple[str, ...]
    events: tuple[tuple[float, ...], ...]
    duration_s: float = 10.0
    fps: int = 25
    offset_s: float = 0.0
    faults: tuple[str, ...] = ()
    foreign: Scene | None = None

    def audio_scene(self) -> Scene | None:
        """The scene whose things are heard: this one, a foreign one, or ``None`` where none of their sounds is."""
        if {"speech_over_music", "silent", "no_audio", "not_a_video"} & set(self.faults):
            return None
        return self.foreign or self

    def audio_events(self) -> tuple[tuple[float, ...], ...]:
        """For each source of `audio_scene`, the seconds in [0, duration) at which its events are heard."""
        heard = self.audio_scene()
        if heard is None:
            return ()
        return tuple(_within([t + self.offset_s for t in times], self.duration_s) for times in heard.events)

    def video_events(self) -> tuple[tuple[float, ...], ...]:
        """For each source, the seconds in [0, duration) at which its events are seen."""
        return tuple(_within(times, self.duration_s) for times in self.events)


def _within(times: list[float] | tuple[float, ...], duration_s: float) -> tuple[float, ...]:
    return tuple(t for t in times if 0 <= t < duration_s)


def make_scene(seed: int, index: int, fault: str | None = None, duration_s: float = 10.0) -> Scene:
    """Returns clip `index` of world `seed`, good or with one fault.

    Place, things and event times are the same with every fault, so that a faulty clip has a good twin to compare with.

    Raises:
        ValueError: `fault` is not one of `FAULTS`, or `duration_s` is not positive.
    """
    if fault is not None and fault not in FAULTS:
        raise ValueError(f"no fault {fault!r}; there are {', '.join(FAULTS)}")
    if duration_s <= 0:
        raise ValueError(f"a scene lasts longer than {duration_s} s")
    rng = np.random.default_rng([seed, index])
    count = 2 if rng.random() < TWO_SOURCES else 1
    scene = Scene(
        clip_id=f"demo{seed:04d}_{index:05d}",
        seed=int(rng.integers(1 << 62)),
        place=_pick(rng, tuple(PLACES)),
        sources=_pick_sources(rng, tuple(SOURCES), count),
        events=tuple(event_times(rng, duration_s) for _ in range(count)),
        duration_s=duration_s,
        fps=30 if rng.random() < 0.15 else 25,
    )
    if fault is None:
        return scene
    rng = np.random.default_rng([seed, index, 1])
    if fault == "shifted":
        late = rng.uniform(*SHIFT_S) * (1 if rng.random() < 0.5 else -1)
        return replace(scene, offset_s=round(float(late), 4), faults=(fault,))
    if fault == "foreign":
        others = tuple(name for name in SOURCES if name not in scene.sources)
        count = 2 if rng.random() < TWO_SOURCES else 1
        foreign = Scene(
            clip_id=f"{scene.clip_id}_soundtrack",
            seed=int(rng.integers(1 << 62)),
            place=_pick(rng, tuple(name for name in PLACES if name != scene.place)),
            sources=_pick_sources(rng, others, count),
            events=tuple(event_times(rng, duration_s) for _ in range(count)),
            duration_s=duration_s,
        )
        return replace(scene, foreign=foreign, faults=(fault,))
    return replace(scene, faults=(fault,))


def make_scenes(seed: int, count: int, only: str | None = None) -> list[Scene]:
    """Returns clips 0 to `count` - 1 of world `seed`.

    Args:
        seed: the world's seed.
        count: how many clips.
        only: ``good`` or one of `FAULTS` for clips of that kind alone; by default about 70 % are good and every fault
            occurs in each forty, in an order that the seed decides.

    Raises:
        ValueError: `only` names no kind of clip.
    """
    if only is not None:
        return [make_scene(seed, index, None if only == "good" else only) for index in range(count)]
    blocks = -(-count // len(BLOCK))
    order = [np.random.default_rng([seed, block, 2]).permutation(len(BLOCK)) for block in range(blocks)]
    return [make_scene(seed, index, BLOCK[order[index // len(BLOCK)][index % len(BLOCK)]]) for index in range(count)]


@singledispatch
def drawn(scene: Scene) -> tuple[str, ...]:
    """Returns the names of the one to three things in the picture, of `demo.things.DRAWINGS`."""
    return scene.sources


@singledispatch
def envelope(scene: Scene, source_index: int, times: np.ndarray) -> np.ndarray:
    """Returns how active a thing in the picture is at `times` (seconds, any shape): float64 in 0..1, same shape.

    1 at each event, falling linearly to 0 over the source's `decay_s`. It is what the picture shows; where the audio is
    `offset_s` late, what is heard at t is the envelope at t - `offset_s` (of `audio_scene()`).
    """
    events = np.asarray(scene.events[source_index])
    times = np.asarray(times, dtype=np.float64)
    last = np.searchsorted(events, times, side="right") - 1  # decays are shorter than gaps: only the last event matters
    since = times - events[np.maximum(last, 0)]
    level = 1.0 - since / SOURCES[scene.sources[source_index]].decay_s
    return np.where(last >= 0, np.clip(level, 0.0, 1.0), 0.0)


@singledispatch
def labels(scene: Scene) -> tuple[str, ...]:
    """The AudioSet labels of what is heard; empty where nothing is."""
    if "speech_over_music" in scene.faults:
        return ("Speech", "Music")
    heard = scene.audio_scene()
    return () if heard is None else tuple(SOURCES[name].label for name in heard.sources)


@singledispatch
def listed_labels(scene: Scene) -> tuple[str, ...]:
    """The labels that the list of clips gives the clip; empty where it gives none."""
    return labels(scene)


@singledispatch
def reference_caption(scene: Scene) -> str:
    """A true sentence on what is heard, as ``A bell rings and a dog barks on a beach.``; empty for silence."""
    if "speech_over_music" in scene.faults:
        return "A person speaks over music."
    heard = scene.audio_scene()
    if heard is None:
        return ""
    clauses = " and ".join(f"{SOURCES[name].phrase} {SOURCES[name].verb}" for name in heard.sources)
    return f"{clauses[0].upper()}{clauses[1:]} {PLACES[heard.place].phrase}."


@singledispatch
def image_caption(scene: Scene) -> str:
    """What is seen, such as ``a bell and a dog on a beach``; things in alphabetical order of their names."""
    return f"{' and '.join(SOURCES[name].phrase for name in scene.sources)} {PLACES[scene.place].phrase}"


@singledispatch
def truth(scene: Scene) -> dict[str, Any]:
    """Returns what `truth.jsonl` says of the scene; times in seconds from the clip's start."""
    return {
        "clip_id": scene.clip_id,
        "sources": list(scene.sources),
        "place": scene.place,
        "offset_s": scene.offset_s,
        "faults": list(scene.faults),
        "labels": list(labels(scene)),
        "caption": reference_caption(scene),
        "image_caption": image_caption(scene),
        "events": [list(times) for times in scene.video_events()],
        "audio_events": [list(times) for times in scene.audio_events()],
    }


def event_times(rng: np.random.Generator, duration_s: float) -> tuple[float, ...]:
    """Returns when a thing acts, from `MARGIN_S` before a clip to as long after it, in seconds; never periodic."""
    times = [-MARGIN_S + rng.uniform(0, GAP_S[0])]
    while times[-1] + GAP_S[1] < duration_s + MARGIN_S:
        times.append(times[-1] + rng.uniform(*GAP_S))
    return tuple(round(float(t), 4) for t in times)


def _pick(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]


def _pick_sources(rng: np.random.Generator, names: tuple[str, ...], count: int) -> tuple[str, ...]:
    return tuple(sorted(names[int(i)] for i in rng.permutation(len(names))[:count]))
