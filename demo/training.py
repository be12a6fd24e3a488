"""What the trainings of the demo's models share: their scenes, their command line, and how the results are measured."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torchaudio.functional import resample

from demo.world import AUDIO_RATE, Scene, make_scene, make_scenes, synthesise_audio, write_clip
from model_handlers.views import Decoded, View
from transforms.media import Limits, decode

TRAINING_SEED = 1000  # of the first world that models learn from; all of them lie above
HELD_OUT_SEED = 100  # of the first world that they are measured on, ten clips of each


def training_scenes(count: int) -> Iterator[Scene]:
    """Yields good scenes of the training seed, one thing and two things in turn: two are the harder half."""
    wanted, index = 1, 0
    while count:
        scene = make_scene(TRAINING_SEED, index)
        index += 1
        if len(scene.sources) == wanted:
            yield scene
            wanted, count = 3 - wanted, count - 1


def as_heard(scene: Scene, rate: int) -> np.ndarray:
    """What a run hears of a scene, but for its coding: synthesised at the rate of the world's files, and resampled.

    Noise that is synthesised at another rate is another: at 16 kHz a flute's breath would be 11 dB louder.

    Returns:
        float32, shape (round(duration_s * rate),).
    """
    return resample(torch.from_numpy(synthesise_audio(scene, AUDIO_RATE)), AUDIO_RATE, rate).numpy()


def held_out_scenes(count: int) -> list[Scene]:
    """Returns `count` good scenes that no model learnt from."""
    worlds = range(HELD_OUT_SEED, HELD_OUT_SEED - (-count // 10))
    return [scene for seed in worlds for scene in make_scenes(seed, 10, "good")][:count]


def measured_on(scenes: Sequence[Scene]) -> dict[str, Any]:
    """How many clips, and of which worlds (the first and the last seed), for the figures of a measurement."""
    return {"clips": len(scenes), "seeds": [HELD_OUT_SEED, HELD_OUT_SEED + (len(scenes) - 1) // 10]}


def as_a_run_sees_them(scenes: Sequence[Scene], view: View, progress: Progress) -> Iterator[tuple[Scene, Decoded]]:
    """Yields each scene with what a run decodes of its clip: an MP4 file that is written, read and removed again."""
    with tempfile.TemporaryDirectory() as folder:
        for scene in progress.track(scenes, description="evaluating"):
            path = Path(folder) / f"{scene.clip_id}.mp4"
            write_clip(scene, path)
            yield scene, decode(path, 0.0, None, view, Limits())
            path.unlink()


def read_options(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    out: Path,
    sizes: Mapping[str, tuple[int, str]],
    least: Mapping[str, int] | None = None,
) -> argparse.Namespace:
    """Reads a training's command line, and holds torch to one thread, so that every machine gets the same weights.

    Args:
        parser: says what is trained.
        arguments: those of the command where None.
        out: where the model goes, unless ``--out`` says otherwise.
        sizes: option → its default and what it means; whole numbers from 1.
        least: the least of those that have another one.

    Returns:
        ``out``, ``evaluate_only``, and one number for each of `sizes`.
    """
    parser.add_argument(
        "--out", type=Path, default=out, metavar="DIR", help="where the model goes (default %(default)s)"
    )
    for name, (default, meaning) in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} (default %(default)s)")
    parser.add_argument("--evaluate-only", action="store_true", help="measure the model that is in DIR")
    options = parser.parse_args(arguments)
    for name in sizes:
        fewest = (least or {}).get(name, 1)
        if getattr(options, name) < fewest:
            parser.error(f"--{name} is {fewest} or more")
    torch.set_num_threads(1)  # sums over threads differ in their last digits from machine to machine
    return options


def command(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    out: Path,
    sizes: Mapping[str, tuple[int, str]],
    train: Callable[[argparse.Namespace, Progress], None],
    evaluate: Callable[[Path, int, Progress], dict[str, Any]],
    least: Mapping[str, int] | None = None,
) -> None:
    """A training's command, from its options to its figures.

    Args:
        parser: as `read_options` takes it, and so `arguments`, `out`, `sizes` and `least`; one size is ``clips``.
        arguments: those of the command where None.
        out: where the model goes.
        sizes: option → its default and what it means.
        train: leaves a model in ``options.out``.
        evaluate: the figures of the model in a folder, on so many clips.
        least: the least of those sizes that have another than 1.
    """
    options = read_options(parser, arguments, out, sizes, least)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    ) as progress:
        if not options.evaluate_only:
            train(options, progress)
        figures = evaluate(options.out.resolve(), options.clips, progress)
    save_figures(options.out, figures)


def half_cosine(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak learning rate: a linear rise over `warm_up` steps, and half a cosine down to 1 %."""
    return min(1.0, (step + 1) / warm_up) * (0.505 + 0.495 * math.cos(math.pi * step / steps))


def learn(
    loss: torch.Tensor,
    weights: Iterable[torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    rate: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """One step of an optimiser, with gradients of norm 1 at most."""
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    optimiser.step()
    rate.step()


def save_pretrained(out: Path, *parts: Any) -> None:
    """Writes a model of transformers and what belongs to it as transformers does, but readable for everybody."""
    for part in parts:
        part.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)


def save_figures(out: Path, figures: Mapping[str, Any]) -> None:
    """Writes the figures beside the model, as ``<out>.json``, and prints them but for the list of single clips."""
    out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    shown = (f"{name.replace('_', ' ')} {value}" for name, value in figures.items() if name != "wrong")
    print(" · ".join(shown))
