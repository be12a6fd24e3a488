"""The occasions of the demo world: things that sound at once or one after the other, somebody who speaks, and music.

An occasion is a scene with more to hear, so whatever takes a scene takes it: the functions of `demo.scenes` are told
here what to say of it. Nothing here draws or sounds. What is true of clip `index` is a pure function of (seed, index).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from demo import music, scenes, speaking
from demo.music import INSTRUMENTS, Music, make_music
from demo.scenes import PLACES, SOURCES, Scene
from demo.speaking import Voice, make_phrase, make_voice

SPEECH, MUSIC, PERSON = "speech", "music", "person"
CLAUSES = {name: f"{source.phrase} {source.verb}" for name, source in SOURCES.items()}
CLAUSES |= {SPEECH: "a person speaks", MUSIC: "music plays"}
THINGS = (*SOURCES, PERSON, *INSTRUMENTS)  # that can be seen
NOUNS = {name: SOURCES[name].phrase.split(maxsplit=1)[1] if name in SOURCES else name for name in THINGS}
LABELS = {name: source.label for name, source in SOURCES.items()} | {SPEECH: "Speech", MUSIC: "Music"}

FAULTS = ("shifted", "foreign", "silent", "no_audio", "no_video", "truncated", "not_a_video")
# What a good clip lets hear, and how many of thirty-two do.
KINDS = {
    "alone": 4,
    "at once": 5,
    "in sequence": 8,
    "speech": 3,
    "speech and thing": 3,
    "speech over music": 3,
    "music": 3,
    "music and thing": 3,
}
# A block of forty-two clips: three quarters are good, and every fault occurs once or more often.
BLOCK = (*(kind for kind, count in KINDS.items() for _ in range(count)), *FAULTS, "shifted", "shifted", "foreign")

TURN_S = (4.0, 6.0)  # when, in a sequence, the first thing has ended and the second has not begun
PAUSE_S = (0.9, 0.3)  # from the first thing's last event to the turn, and on to the second's first event; bells ring on
EDGES_S = ((-1.2, 0.05), (9.6, 10.0))
APART_S = 0.4  # at least this long lies between the beginnings of two sounds
SPEAKING_S = ((1.0, 2.4), (5.4, 7.0))  # when the first and the second phrase begin
MUSIC_S = ((0.2, 0.6), (9.2, 9.8))  # when music begins and ends
SYLLABLE_DECAY_S = 0.28  # how long a speaker moves after a syllable began
NOTE_DECAY_S = 0.22  # how long an instrument moves after it began a note
TAGGED = 0.5  # share of clips that have labels in the list of clips


@dataclass(frozen=True)
class Utterance:
    """One phrase: when it begins, in seconds, what is said and by what voice."""

    start_s: float
    phrase: str
    voice: Voice

    @property
    def end_s(self) -> float:
        """When it ends, in seconds."""
        return self.start_s + speaking.seconds_of(self.phrase, self.voice)


@dataclass(frozen=True)
class Occasion(Scene):
    """One clip's truth. As in a scene, but there may be no sources, and an event only where its kind has one.

    Attributes:
        kind: one of `KINDS`.
        utterances: what is said, in order; the times are those of the picture.
        piece: the music that plays.
        piece_s: when it begins and ends, in seconds of the picture.
        tagged: whether the list of clips gives its labels.
        foreign: the occasion whose sound track is heard instead of this one's.
    """

    kind: str = "alone"
    utterances: tuple[Utterance, ...] = ()
    piece: Music | None = None
    piece_s: tuple[float, float] = (0.0, 0.0)
    tagged: bool = True
    foreign: Occasion | None = None

    def audio_scene(self) -> Occasion | None:
        """The occasion that is heard: this one, a foreign one, or ``None`` where there is no sound."""
        if {"silent", "no_audio", "not_a_video"} & set(self.faults):
            return None
        return self.foreign or self

    def said(self) -> tuple[tuple[str, float, float], ...]:
        """Each phrase that is heard, be it in part, with when it begins and ends to be heard, in seconds."""
        heard = self.audio_scene()
        found = []
        for one in heard.utterances if heard else ():
            start, end = max(one.start_s + self.offset_s, 0.0), min(one.end_s + self.offset_s, self.duration_s)
            if start < end:
                found.append((one.phrase, round(start, 4), round(end, 4)))
        return tuple(found)

    def heard(self) -> tuple[Sounding, ...]:
        """What sounds within the clip, in the order in which it begins."""
        heard = self.audio_scene()
        if heard is None:
            return ()
        found = [
            Sounding(name, times, times[0], times[-1] + SOURCES[name].decay_s)
            for name, times in zip(heard.sources, self.audio_events(), strict=True)
            if times
        ]
        if said := self.said():
            starts = tuple(start for _, start, _ in said)
            found.append(Sounding(SPEECH, starts, starts[0], said[-1][2]))
        if heard.piece:
            start, end = (min(max(at + self.offset_s, 0.0), self.duration_s) for at in heard.piece_s)
            found.append(Sounding(MUSIC, (start,), start, end))
        return tuple(sorted(found, key=lambda one: one.start_s))


@dataclass(frozen=True)
class Sounding:
    """A sound of a clip: its name (a source's, or *speech*, or *music*), its events' times, its start and end."""

    name: str
    events: tuple[float, ...]
    start_s: float
    end_s: float


def make_occasion(seed: int, index: int, kind: str | None = None, fault: str | None = None) -> Occasion:
    """Returns clip `index` of world `seed`, good or with one fault; ten seconds long.

    What is seen and heard is the same with every fault, so that a faulty clip has a good twin to compare with.

    Args:
        seed: the world's seed.
        index: the clip's number.
        kind: one of `KINDS`; drawn where it is None.
        fault: one of `FAULTS`, or None for a good clip.

    Raises:
        ValueError: there is no such kind or fault.
    """
    if fault is not None and fault not in FAULTS:
        raise ValueError(f"no fault {fault!r}; there are {', '.join(FAULTS)}")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"no kind {kind!r}; there are {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, index, 11])
    drawn = str(rng.choice(list(KINDS), p=np.array(list(KINDS.values())) / sum(KINDS.values())))
    occasion = _occasion(f"occasion{seed:04d}_{index:05d}", kind or drawn, tuple(SOURCES), tuple(PLACES), rng)
    if fault is None:
        return occasion
    rng = np.random.default_rng([seed, index, 12])
    if fault == "shifted":
        late = rng.uniform(*scenes.SHIFT_S) * (1 if rng.random() < 0.5 else -1)
        return replace(occasion, offset_s=round(float(late), 4), faults=(fault,))
    if fault == "foreign":
        others = tuple(name for name in SOURCES if name not in occasion.sources)
        places = tuple(name for name in PLACES if name != occasion.place)
        kinds = [name for name in KINDS if name != occasion.kind]
        foreign = _occasion(f"{occasion.clip_id}_soundtrack", str(rng.choice(kinds)), others, places, rng)
        return replace(occasion, foreign=foreign, faults=(fault,))
    return replace(occasion, faults=(fault,))


def make_occasions(seed: int, count: int, only: str | None = None) -> list[Occasion]:
    """Returns clips 0 to `count` - 1 of world `seed`.

    Args:
        seed: the world's seed.
        count: how many clips.
        only: ``good``, one of `KINDS` or one of `FAULTS` for clips of that kind alone; by default three quarters are
            good, and every kind and fault occurs in each forty-two, in an order that the seed decides.

    Raises:
        ValueError: `only` names no kind of clip.
    """
    if only == "good":
        return [make_occasion(seed, index) for index in range(count)]
    if only is not None:
        return [_of(only, seed, index) for index in range(count)]
    blocks = -(-count // len(BLOCK))
    order = [np.random.default_rng([seed, block, 13]).permutation(len(BLOCK)) for block in range(blocks)]
    return [_of(BLOCK[order[index // len(BLOCK)][index % len(BLOCK)]], seed, index) for index in range(count)]


def _of(name: str, seed: int, index: int) -> Occasion:
    return make_occasion(seed, index, fault=name) if name in FAULTS else make_occasion(seed, index, name)


def _occasion(
    clip_id: str, kind: str, names: tuple[str, ...], places: tuple[str, ...], rng: np.random.Generator
) -> Occasion:
    count = {"at once": 2, "in sequence": 2, "speech": 0, "music": 0, "speech over music": 0}.get(kind, 1)
    sources = tuple(str(name) for name in rng.permutation(names)[:count])
    occasion = Occasion(
        clip_id=clip_id,
        seed=int(rng.integers(1 << 62)),
        place=str(rng.choice(places)),
        sources=sources,
        events=(),
        fps=30 if rng.random() < 0.15 else 25,
        kind=kind,
        utterances=_utterances(rng) if "speech" in kind else (),
        piece=make_music(rng) if "music" in kind else None,
        piece_s=(round(float(rng.uniform(*MUSIC_S[0])), 4), round(float(rng.uniform(*MUSIC_S[1])), 4)),
        tagged=bool(rng.random() < TAGGED),
    )
    events: tuple[tuple[float, ...], ...]
    if kind == "in sequence":
        turn = float(rng.uniform(*TURN_S))
        events = _events_within(0.2, turn - PAUSE_S[0], rng), _events_within(turn + PAUSE_S[1], 9.4, rng)
    else:
        taken = [one.start_s for one in occasion.utterances[:1]] + ([occasion.piece_s[0]] if occasion.piece else [])
        events = _events_apart(count, taken, rng)
    order = sorted(range(count), key=lambda one: sources[one])  # as in a scene, by name
    return replace(occasion, sources=tuple(sources[i] for i in order), events=tuple(events[i] for i in order))


def _utterances(rng: np.random.Generator) -> tuple[Utterance, ...]:
    voice = make_voice(rng)
    starts = SPEAKING_S if rng.random() < 0.5 else SPEAKING_S[:1]
    return tuple(Utterance(round(float(rng.uniform(*window)), 4), make_phrase(rng), voice) for window in starts)


def _events_within(start_s: float, end_s: float, rng: np.random.Generator) -> tuple[float, ...]:
    """One to five events within a window."""
    times = [start_s + float(rng.uniform(0, 1.2))]
    for _ in range(int(rng.integers(5))):
        times.append(times[-1] + float(rng.uniform(scenes.GAP_S[0], 1.6)))
    return tuple(round(t, 4) for t in times if t < end_s)


def _events_apart(count: int, taken: list[float], rng: np.random.Generator) -> tuple[tuple[float, ...], ...]:
    """Events of `count` things all through the clip, before and after; no two sounds begin to be heard together.

    An event in half is neither heard nor not heard, so there is none at the clip's edges.
    """
    found = []
    for _ in range(count):
        times = [t for t in scenes.event_times(rng, 10.0) if not any(start < t < end for start, end in EDGES_S)]
        while any(abs(_first(times) - at) < APART_S for at in taken):
            times.remove(_first(times))
        taken = [*taken, _first(times)]
        found.append(tuple(times))
    return tuple(found)


def _first(times: list[float]) -> float:
    return next(t for t in times if t >= 0)


def instruments(occasion: Occasion) -> tuple[str, ...]:
    """The instruments that are seen, in alphabetical order."""
    return occasion.piece.instruments if occasion.piece else ()


@scenes.drawn.register
def _(scene: Occasion) -> tuple[str, ...]:
    return (*scene.sources, *((PERSON,) if scene.utterances else ()), *instruments(scene))


@scenes.envelope.register
def _(scene: Occasion, source_index: int, times: np.ndarray) -> np.ndarray:
    times = np.asarray(times, dtype=np.float64)
    name = scenes.drawn(scene)[source_index]
    if name in SOURCES:
        return _falling(scene.events[source_index], SOURCES[name].decay_s, times)
    if name == PERSON:
        syllables = (one.start_s + t for one in scene.utterances for t in speaking.syllables(one.phrase, one.voice))
        return _falling(tuple(syllables), SYLLABLE_DECAY_S, times)
    assert scene.piece
    start, end = scene.piece_s
    notes = music.onsets(scene.piece, end - start)[name]
    return _falling(tuple(start + t for t in notes), NOTE_DECAY_S, times)


def _falling(events: tuple[float, ...], decay_s: float, times: np.ndarray) -> np.ndarray:
    """1 at each event, and from there down to 0 within `decay_s`."""
    last = np.searchsorted(events, times, side="right") - 1
    since = times - np.asarray(events)[np.maximum(last, 0)]
    return np.where(last >= 0, np.clip(1 - since / decay_s, 0, 1), 0.0)


@scenes.labels.register
def _(scene: Occasion) -> tuple[str, ...]:
    return tuple(sorted(LABELS[one.name] for one in scene.heard()))


@scenes.listed_labels.register
def _(scene: Occasion) -> tuple[str, ...]:
    return scenes.labels(scene) if scene.tagged else ()


def told(soundings: Iterable[Sounding]) -> str:
    """Such as ``a dog barks, then a bell rings``, or with ``and`` where two sound at once; empty for silence."""
    text, until = "", 0.0
    for one in soundings:
        text += (" and " if one.start_s < until else ", then ") * bool(text) + CLAUSES[one.name]
        until = max(until, one.end_s)
    return text


def performed(piece: Music) -> str:
    """A clause on the music, such as ``a cheerful waltz plays at a fast tempo on flute and piano``."""
    genre = f"{piece.genre}{' piece' * (piece.genre in ('reggae', 'rock'))}"
    return f"a {piece.mood} {genre} plays at a {piece.tempo} tempo on {' and '.join(piece.instruments)}"


@scenes.reference_caption.register
def _(scene: Occasion) -> str:
    heard = scene.audio_scene()
    text = told(scene.heard())
    if not heard or not text:
        return ""
    if heard.piece:
        text = text.replace(CLAUSES[MUSIC], performed(heard.piece))
    return f"{text[0].upper()}{text[1:]} {PLACES[heard.place].phrase}."


@scenes.image_caption.register
def _(scene: Occasion) -> str:
    return there(scenes.drawn(scene), scene.place)


def there(names: Sequence[str], place: str) -> str:
    """Such as ``a bell, a dog and a flute in a kitchen``."""
    phrases = [f"a {NOUNS[name]}" for name in names]
    things = " and ".join([", ".join(phrases[:-1]), phrases[-1]] if phrases[1:] else phrases)
    return f"{things} {PLACES[place].phrase}"


def watched(occasion: Occasion) -> str:
    """What is seen, such as ``00:00 a bell and a dog in a kitchen; moving: the bell 00:07, the dog 00:03``.

    A thing's time is that of the first instant at which it moves; those that never do have none.
    """
    instants = np.arange(round(occasion.duration_s * occasion.fps)) / occasion.fps
    names = scenes.drawn(occasion)
    moving = np.stack([scenes.envelope(occasion, index, instants) > 0 for index in range(len(names))])
    return seen_moving(scenes.image_caption(occasion), names, moving, instants)


def seen_moving(caption: str, names: Sequence[str], moving: np.ndarray, times_s: np.ndarray) -> str:
    """The sentence of `watched`, of things and of when they move: bool, shape (things, times).

    Motions come in the order in which the things are named, and each time right after its thing: who tells it has to
    find when one thing moves first, and not which of several moves next.
    """
    moves = [
        f"the {NOUNS[name]} 00:{int(times_s[row.argmax()]):02d}"
        for name, row in zip(names, moving, strict=True)
        if row.any()
    ]
    return "; ".join([f"00:00 {caption}", *([f"moving: {', '.join(moves)}"] if moves else [])])


@scenes.truth.register
def _(scene: Occasion) -> dict[str, Any]:
    heard, soundings = scene.audio_scene(), scene.heard()
    said = scene.said()
    things = [one for one in soundings if one.name in SOURCES]
    piece = heard.piece if heard else None
    return {
        "clip_id": scene.clip_id,
        "kind": heard.kind if heard else "",
        "sources": list(scene.sources),
        "place": scene.place,
        "offset_s": scene.offset_s,
        "faults": list(scene.faults),
        "labels": list(scenes.labels(scene)),
        "tagged": scene.tagged,
        "caption": scenes.reference_caption(scene),
        "image_caption": scenes.image_caption(scene),
        "events": [list(times) for times in scene.video_events()],
        "audio_events": [list(times) for times in scene.audio_events()],
        "heard_place": heard.place if heard else "",
        "sound": told(soundings),
        "order": [one.name for one in soundings] if heard and heard.kind == "in sequence" else [],
        "counts": {one.name: len(one.events) for one in things},
        "transcript": " ".join(phrase for phrase, _, _ in said),
        "speech": [[start, end] for _, start, end in said],
        "music": piece.described() if piece else "",
        "video": "" if {"no_video", "not_a_video"} & set(scene.faults) else watched(scene),
    }
