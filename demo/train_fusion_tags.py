"""Trains the tagger of the demo's FusionAudio profile, on occasions: half an hour on one CPU core.

It begins as the tagger of `demo.train_audio_tags` and learns besides its classes the instruments that play. What a crop
of a clip should be tagged with follows from when each sound is heard. The figures in ``fusion_tags.json`` are measured
on seeds 100 to 119, on MP4 files written, decoded and tagged as a run does it.

    python -m demo.train_fusion_tags --help
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from demo import train_audio_tags
from demo.music import INSTRUMENTS
from demo.occasions import LABELS, MUSIC, SPEECH, Occasion, make_occasion, make_occasions
from demo.train_audio_tags import Course, Span, share
from demo.world import SOURCES, Scene
from model_handlers.base import Items

OUT = Path(__file__).parent / "models" / "fusion_tags"
CLASSES = (*train_audio_tags.CLASSES, *INSTRUMENTS.values())
HELD_OUT_SEEDS = range(100, 120)
# A thing may sound once in ten seconds, so crops are longer than where it sounds throughout.
CROP_FRAMES = (400, 1000)


def training_occasion(seed: int, index: int) -> Occasion:
    """A good occasion; one in 32 is silent."""
    return make_occasion(seed, index, fault="silent" if index % 32 == 1 else None)


def spans(scene: Scene) -> list[Span]:
    """Each event of a thing, each phrase, and the music with its instruments."""
    occasion = cast(Occasion, scene)
    found = [
        (LABELS[one.name], at, at + SOURCES[one.name].decay_s)
        for one in occasion.heard()
        if one.name in SOURCES
        for at in one.events
    ]
    found += [(LABELS[SPEECH], start, end) for _, start, end in occasion.said()]
    heard = occasion.audio_scene()
    if heard and heard.piece:
        (music,) = (one for one in occasion.heard() if one.name == MUSIC)
        names = (LABELS[MUSIC], *(INSTRUMENTS[name] for name in heard.piece.instruments))
        found += [(name, music.start_s, music.end_s) for name in names]
    return found


def held_out_occasions(count: int) -> list[Occasion]:
    """Returns `count` good occasions, as many of each held-out seed."""
    each = -(-count // len(HELD_OUT_SEEDS))
    return [one for seed in HELD_OUT_SEEDS for one in make_occasions(seed, each, "good")][:count]


def measure(scenes: Sequence[Scene], answers: Sequence[Items]) -> dict[str, Any]:
    """Shares (0..1) that are right where what is above one half is taken to be heard."""
    clips = [
        ({item.text for item in items if (item.score or 0.0) > 0.5}, {label for label, _, _ in spans(scene)})
        for scene, items in zip(scenes, answers, strict=True)
    ]
    things = {source.label for source in SOURCES.values()}
    instruments = set(INSTRUMENTS.values())
    pairs = [(label in named, label in heard) for named, heard in clips for label in things]
    return {
        "speech_right": share(("Speech" in named) == ("Speech" in heard) for named, heard in clips),
        "music_right": share(("Music" in named) == ("Music" in heard) for named, heard in clips),
        "things_all_right": share(named & things == heard & things for named, heard in clips),
        "things_heard_named": share(named for named, heard in pairs if heard),
        "things_unheard_named": share(named for named, heard in pairs if not heard),
        "instruments_all_right": share(named & instruments == heard & instruments for named, heard in clips),
        "wrong": [
            {"clip": scene.clip_id, "named": sorted(named), "heard": sorted(heard)}
            for scene, (named, heard) in zip(scenes, clips, strict=True)
            if named - instruments != heard - instruments
        ],
    }


COURSE = Course(
    CLASSES,
    training_occasion,
    spans,
    held_out_occasions,
    measure,
    CROP_FRAMES,
    start=train_audio_tags.OUT,
    learning_rate=1.5e-3,
)


def main(argv: list[str] | None = None) -> None:
    """Trains, saves and measures; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m demo.train_fusion_tags", description=__doc__.split("\n")[0])
    train_audio_tags.command(parser, argv, OUT, COURSE, clips=1400, steps=1300, batch=8, held_out=100)


if __name__ == "__main__":
    main()
