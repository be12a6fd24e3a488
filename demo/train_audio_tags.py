"""Trains the demo's audio tagger, a narrow Cnn14 on the demo world's sounds: a quarter of an hour on one CPU core.

The classes are the AudioSet labels of the world's things, then Speech and Music. One training clip in three goes
through AAC, as the sound of a real video has. Training uses world seeds from 1000 upwards; the figures in
``audio_tags.json`` are measured on seeds 100 to 199, on MP4 files written, decoded and tagged as a run does it.

    python -m demo.train_audio_tags --help
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

from demo.training import as_heard
from demo.world import AUDIO_RATE, SOURCES, Scene, labels, make_scene, synthesise_audio, write_clip
from model_handlers.audio_tags import LABELS, AudioTags
from model_handlers.base import Example, Items
from model_handlers.nets.cnn14 import Cnn14
from model_handlers.views import Audio
from transforms.media import decode

OUT = Path(__file__).parent / "models" / "audio_tags"
CHECKPOINT = "Cnn14_demo.pth"
CLASSES = (*dict.fromkeys(source.label for source in SOURCES.values()), "Speech", "Music")
VIEW = Audio(rate=32_000)
BIT_RATES = (48_000, 96_000, 128_000)
FLOOR_DB = -100.0  # of the log-mel spectrogram, see model_handlers.nets.cnn14.LogMel
# Frames (10 ms each) of a training crop: gaps between events are below 2.5 s, so three seconds hold one of each source.
CROP_FRAMES = (300, 500)
GAIN_DB = (-18.0, 6.0)
BALANCE_DB = 6.0  # how much louder or softer the second sound may be
LEARNING_RATE = 3e-3
# A sound of which a crop holds less, in seconds, is not to be heard in it.
LEAST_S = 0.2

Span = tuple[str, float, float]  # a label, and from when to when it is heard, in seconds


@dataclass(frozen=True)
class Course:
    """What a tagger learns and is measured on.

    Attributes:
        classes: the labels.
        training_scene: world seed and index → a scene to learn from.
        spans: which labels are heard in a scene, and when.
        held_out: so many scenes to measure on.
        measure: those scenes and their answers, which hold every class of each clip → shares (0..1).
        crop_frames: the shortest and the longest training crop, in frames of 10 ms.
        start: the folder of a model whose weights to begin with; its classes are the first of these.
        learning_rate: the highest one.
    """

    classes: tuple[str, ...]
    training_scene: Callable[[int, int], Scene]
    spans: Callable[[Scene], Sequence[Span]]
    held_out: Callable[[int], Sequence[Scene]]
    measure: Callable[[Sequence[Scene], Sequence[Items]], dict[str, Any]]
    crop_frames: tuple[int, int]
    start: Path | None = None
    learning_rate: float = LEARNING_RATE


def through_aac(audio: np.ndarray, rate: int, bit_rate: int, view: Audio) -> np.ndarray:
    """Codes mono `audio` as AAC and decodes it as a run does: float32 of shape (round(seconds * view.rate),)."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(file.name, "w") as container:
            stream: Any = container.add_stream("aac", rate=rate, layout="mono", options={"b": str(bit_rate)})
            frame = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return cast(np.ndarray, decode(file.name, 0.0, len(audio) / rate, view))


def training_scene(seed: int, index: int) -> Scene:
    """Mostly things that sound; one scene in eight is speech over music, one in 32 silence."""
    fault = "speech_over_music" if index % 8 == 3 else "silent" if index % 32 == 1 else None
    return make_scene(seed, index, fault)


def throughout(scene: Scene) -> list[Span]:
    """The labels of a scene; its things sound again and again, all through the clip."""
    return [(label, 0.0, scene.duration_s) for label in labels(scene)]


@dataclass(frozen=True)
class Lessons:
    """What is learnt from: log-mel spectrograms (clips, 1, 1001, mels) in half precision, and each clip's spans."""

    spectrograms: Tensor
    spans: list[Sequence[Span]]

    def targets(self, clips: Tensor, starts: Tensor, frames: int, classes: tuple[str, ...]) -> Tensor:
        """What is heard in crops: 0 or 1, shape (crops, classes). Each has a clip and a first frame."""
        targets = torch.zeros(len(clips), len(classes))
        for row, (clip, start) in enumerate(zip(clips.tolist(), starts.tolist(), strict=True)):
            first, last = start / 100, (start + frames) / 100
            for label, begin, end in self.spans[clip]:
                if min(end, last) - max(begin, first) >= min(LEAST_S, end - begin):
                    targets[row, classes.index(label)] = 1
        return targets


def lessons(net: Cnn14, seed: int, count: int, course: Course) -> Lessons:
    """Synthesises `count` clips of the course."""
    spectrograms, spans = [], []
    for index in track(range(count), "training clips"):
        scene = course.training_scene(seed, index)
        if index % 3:
            audio = as_heard(scene, VIEW.rate)
        else:  # coding takes longer than all the rest
            audio = through_aac(synthesise_audio(scene, AUDIO_RATE), AUDIO_RATE, BIT_RATES[index // 3 % 3], VIEW)
        with torch.inference_mode():
            spectrograms.append(net.logmel_extractor(torch.from_numpy(audio)[None]).half())
        spans.append(course.spans(scene))
    return Lessons(torch.cat(spectrograms), spans)


def batches(learnt: Lessons, course: Course, size: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random crops at random levels, a third of them with the sound of a second clip on top."""
    spectrograms = learnt.spectrograms
    for _ in range(steps):
        frames = int(torch.randint(*course.crop_frames, ()))
        picked = torch.randint(len(spectrograms), (2, size))
        starts = torch.randint(spectrograms.shape[2] - frames + 1, (2, size))
        gains = torch.empty(size, 1, 1, 1).uniform_(*GAIN_DB)
        first, second = (
            torch.stack([spectrograms[i, :, at : at + frames].float() for i, at in zip(*pair, strict=True)]) + gains
            for pair in zip(picked, starts, strict=True)
        )
        second += torch.empty(size, 1, 1, 1).uniform_(-BALANCE_DB, BALANCE_DB)
        mixed = torch.rand(size, 1) < 1 / 3
        sum_of_powers = 10 * torch.log10(10 ** (first / 10) + 10 ** (second / 10))
        logmel = torch.where(mixed[:, :, None, None], sum_of_powers, first)
        one, other = (learnt.targets(*pair, frames, course.classes) for pair in zip(picked, starts, strict=True))
        target = torch.where(mixed, torch.maximum(one, other), one)
        yield logmel.clamp(min=FLOOR_DB), target


def train(net: Cnn14, learnt: Lessons, course: Course, size: int, steps: int) -> list[float]:
    """Fits the network to the multi-label targets (binary cross-entropy); returns the loss of every step."""
    net.train()
    peak = course.learning_rate
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=peak, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.1)
    losses = []
    for logmel, target in track(batches(learnt, course, size, steps), "training steps", total=steps):
        loss = F.binary_cross_entropy_with_logits(net.logits(logmel), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    net.eval()
    return losses


def begin_with(net: Cnn14, folder: Path) -> None:
    """Gives `net` the weights of a tagger of fewer classes; those of the classes that it lacks stay as they are."""
    known = torch.load(folder / CHECKPOINT, weights_only=True)["model"]
    for name, weights in net.state_dict().items():
        (weights[: len(known[name])] if weights.ndim else weights).copy_(known[name])


def save(net: Cnn14, folder: Path, classes: tuple[str, ...]) -> None:
    """Writes the checkpoint in PANNs' layout, less the DFT kernels (4 MB that torch.stft does not need), and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": net.state_dict()}, folder / CHECKPOINT)
    with (folder / LABELS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("index", "mid", "display_name"))
        writer.writerows((index, "", name) for index, name in enumerate(classes))


def held_out_scenes(count: int, seed: int = 100) -> list[Scene]:
    """Two good scenes, then one each of foreign, shifted and speech over music, over and over."""
    kinds = (None, None, "foreign", "shifted", "speech_over_music")
    return [make_scene(seed + index // 100, index % 100, kinds[index % len(kinds)]) for index in range(count)]


def evaluate(folder: Path, count: int, course: Course) -> dict[str, Any]:
    """Writes `count` held-out clips, decodes and tags them with the production code, and measures what is right."""
    handler = AudioTags(name="audio_tags", model=str(folder), device="cpu", top=len(course.classes))
    tagger = handler.load()
    scenes, answers = course.held_out(count), []
    with tempfile.TemporaryDirectory() as scratch:
        for scene in track(scenes, "held-out clips"):
            path = Path(scratch, f"{scene.clip_id}.mp4")
            write_clip(scene, path)
            (items,) = handler.predict([Example(scene.clip_id, decode(path, 0.0, None, VIEW))], tagger)
            path.unlink()
            answers.append(items)
    (quiet,) = handler.predict([Example("silence", np.zeros(10 * VIEW.rate, np.float32))], tagger)
    return {
        "clips": count,
        **course.measure(scenes, answers),
        "silence_highest_probability": round(quiet[0].score or 0.0, 4),
    }


def measure(scenes: Sequence[Scene], answers: Sequence[Items]) -> dict[str, Any]:
    """Shares (0..1) of the clips, or of the tags, that are right; `answers` holds every class of each clip."""
    clips = [([item.text for item in items], set(labels(scene))) for scene, items in zip(scenes, answers, strict=True)]
    spoken = [clip for clip, scene in zip(clips, scenes, strict=True) if "speech_over_music" in scene.faults]
    things = [clip for clip, scene in zip(clips, scenes, strict=True) if "speech_over_music" not in scene.faults]
    tags = [(item, item.text in heard) for items, (_, heard) in zip(answers, clips, strict=True) for item in items]
    return {
        "top1_among_the_sources": share(names[0] in heard for names, heard in things),
        "top2_are_the_two_sources": share(set(names[:2]) == heard for names, heard in things if len(heard) == 2),
        "top2_are_speech_and_music": share(set(names[:2]) == heard for names, heard in spoken),
        "heard_classes_above_one_half": share((item.score or 0.0) > 0.5 for item, is_heard in tags if is_heard),
        "other_classes_above_one_half": share((item.score or 0.0) > 0.5 for item, is_heard in tags if not is_heard),
    }


def share(outcomes: Iterable[bool]) -> float:
    """The share of true ones, to four digits."""
    return round(float(np.mean(list(outcomes))), 4)


COURSE = Course(CLASSES, training_scene, throughout, held_out_scenes, measure, CROP_FRAMES)


def main(argv: list[str] | None = None) -> None:
    """Trains, saves and measures; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m demo.train_audio_tags", description=__doc__.split("\n")[0])
    command(parser, argv, OUT, COURSE, clips=1200, steps=1300, batch=16, held_out=200)


def command(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    out: Path,
    course: Course,
    *,
    clips: int,
    steps: int,
    batch: int,
    held_out: int,
) -> None:
    """A tagger's training, from its options to its figures; the numbers and `out` are what the options default to."""
    parser.add_argument("--out", type=Path, default=out, help="folder for the model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1000, help="seed of world and weights, from 1000 (%(default)s)")
    parser.add_argument("--clips", type=int, default=clips, help="training clips of 10 s (%(default)s)")
    parser.add_argument("--steps", type=int, default=steps, help="training steps (%(default)s)")
    parser.add_argument("--batch", type=int, default=batch, help="clips a step (%(default)s)")
    parser.add_argument("--width", type=int, default=4, help="channels of the first block; PANNs has 64 (%(default)s)")
    parser.add_argument("--held-out", type=int, default=held_out, help="clips to measure on (%(default)s)")
    parser.add_argument("--measure-only", action="store_true", help="measure the model that is in --out")
    options = parser.parse_args(argv)
    if options.seed < 1000:
        parser.error("seeds below 1000 are for the demo and for measuring")
    torch.set_num_threads(1)  # the same weights on every machine, however many cores it has
    if not options.measure_only:
        torch.manual_seed(options.seed)
        net = Cnn14(classes=len(course.classes), width=options.width)
        if course.start:
            begin_with(net, course.start)
        losses = train(net, lessons(net, options.seed, options.clips, course), course, options.batch, options.steps)
        save(net, options.out, course.classes)
        print(f"loss of the last 50 steps: {np.mean(losses[-50:]):.4f}")
    metrics = evaluate(options.out, options.held_out, course)
    options.out.with_suffix(".json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
