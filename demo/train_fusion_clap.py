"""Teaches the demo's CLAP speech and music, for the FusionAudio profile: an hour on one CPU thread.

It begins as the model of `demo.train_clap` and learns from occasions. What it compares is which sounds there are; how a
piece of music is described moves its scores little.

    python -m demo.train_fusion_clap --out demo/models/fusion_clap
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from demo import scenes, train_clap, training
from demo.music import make_music
from demo.occasions import CLAUSES, KINDS, MUSIC, Occasion, make_occasion, make_occasions, performed
from demo.scenes import PLACES
from demo.sentences import NAMES, sentence
from demo.train_clap import HELD_OUT_SEEDS, THRESHOLD_SEED, Held, best_threshold, make_processor, score

OUT = Path(__file__).parent / "models" / "fusion_clap"
PEAK_RATE = 1e-3


def names_in(occasion: Occasion) -> tuple[str, ...]:
    """What is heard, in order, as keys of `demo.sentences.WORDS`."""
    return tuple(one.name for one in occasion.heard())


def text_about(names: Sequence[str], rng: np.random.Generator) -> str:
    """A sentence of `demo.sentences`, or one as captions of occasions are: in order, with what music it is."""
    if rng.random() < 0.5:
        return sentence(names, rng)
    clauses = [CLAUSES[names[int(i)]] for i in rng.permutation(len(names))]
    text = (" and ", ", then ", ", and ")[int(rng.integers(3))].join(clauses)
    if rng.random() < 0.7:
        text = text.replace(CLAUSES[MUSIC], performed(make_music(rng)))
    place = f" {list(PLACES.values())[int(rng.integers(len(PLACES)))].phrase}" if rng.random() < 0.7 else ""
    return f"{text[0].upper()}{text[1:]}{place}."


def occasions(count: int) -> Iterator[Occasion]:
    """Yields occasions to learn from, of all kinds in turn."""
    for index in range(count):
        yield make_occasion(training.TRAINING_SEED, index, tuple(KINDS)[index % len(KINDS)])


def captions_of(occasion: Occasion, names: Sequence[str], placed: bool = True) -> tuple[str, str]:
    """Two captions in which the sounds are `names`: the reference caption, and a sentence in some other style."""
    text = scenes.reference_caption(occasion)
    for old, new in zip(names_in(occasion), names, strict=True):
        heard = occasion.audio_scene()
        said = performed(heard.piece) if old == MUSIC and heard and heard.piece else CLAUSES[old]
        text = text if old == new else _replaced(text, said, CLAUSES[new])
    place = PLACES[occasion.place].phrase
    if not placed:
        text = text.removesuffix(f" {place}.") + "."
    return text, sentence(names, np.random.default_rng(occasion.seed), place if placed else "")


def _replaced(text: str, old: str, new: str) -> str:
    lowered = f"{text[0].lower()}{text[1:]}".replace(old, new)
    return f"{lowered[0].upper()}{lowered[1:]}"


def held(occasions: Sequence[Occasion]) -> Iterator[Held]:
    """Yields occasions with captions; another clip is the next one in which none of the sounds is heard.

    Speech and music are in so many clips that else half of what a swapped caption says would be right.
    """
    for index, one in enumerate(occasions):
        rng = np.random.default_rng([one.seed, 7])
        names = list(names_in(one))
        others = (*occasions[index + 1 :], *occasions[:index])
        other = next(each for each in others if not set(names_in(each)) & set(names))
        wrong = list(names)
        absent = [name for name in NAMES if name not in names]
        wrong[int(rng.integers(len(wrong)))] = absent[int(rng.integers(len(absent)))]
        yield Held(
            one,
            matching=captions_of(one, names),
            swapped=captions_of(other, names_in(other)),
            adjacent=captions_of(one, wrong),
            placeless=captions_of(one, names, placed=False),
        )


def evaluate(model: Path, clips: int, progress: Progress) -> dict[str, Any]:
    """Chooses a threshold on one held-out seed and measures it on others, `clips` of each."""
    least = best_threshold(score(model, held(make_occasions(THRESHOLD_SEED, clips, "good")), progress))
    listened = [one for seed in HELD_OUT_SEEDS for one in make_occasions(seed, clips, "good")]
    return train_clap.figures(score(model, held(listened), progress), least, clips, len(listened))


def main(arguments: list[str] | None = None) -> None:
    """The command line: ``python -m demo.train_fusion_clap --help``."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_fusion_clap", description="Teaches the demo's CLAP speech and music."
    )
    sizes = {
        "sounds": (5000, "sounds to learn from"),
        "steps": (8000, f"steps of {train_clap.BATCH} sounds"),
        "clips": (40, "held-out clips of each seed"),
    }

    def trained(options: argparse.Namespace, progress: Progress) -> None:
        processor = make_processor()
        clips = ((one, names_in(one)) for one in occasions(options.sounds))
        sounds = train_clap.sounds_of(clips, options.sounds, processor, progress)
        model = train_clap.train(
            sounds, processor, options.steps, progress, start=train_clap.OUT, say=text_about, peak=PEAK_RATE
        )
        training.save_pretrained(options.out, model, processor)

    training.command(parser, arguments, OUT, sizes, trained, evaluate)


if __name__ == "__main__":
    main()
