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
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor

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


def training_set(net: Cnn14, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Log-mel spectrograms (count, 1, 1001, mels) in half precision, and targets (count, classes) of 0 and 1."""
    spectrograms, targets = [], torch.zeros(count, len(CLASSES))
    for index in track(range(count), "training clips"):
        scene = training_scene(seed, index)
        if index % 3:
            audio = synthesise_audio(scene, VIEW.rate)
        else:  # coding takes longer than all the rest
            audio = through_aac(synthesise_audio(scene, AUDIO_RATE), AUDIO_RATE, BIT_RATES[index // 3 % 3], VIEW)
        with torch.inference_mode():
            spectrograms.append(net.logmel_extractor(torch.from_numpy(audio)[None]).half())
        for label in labels(scene):
            targets[index, CLASSES.index(label)] = 1
    return torch.cat(spectrograms), targets


def batches(spectrograms: Tensor, targets: Tensor, size: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random crops at random levels, a third of them with the sound of a second clip on top."""
    for _ in range(steps):
        frames = int(torch.randint(*CROP_FRAMES, ()))
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
        target = torch.where(mixed, targets[picked].amax(dim=0), targets[picked[0]])
        yield logmel.clamp(min=FLOOR_DB), target


def train(net: Cnn14, spectrograms: Tensor, targets: Tensor, size: int, steps: int) -> list[float]:
    """Fits the network to the multi-label targets (binary cross-entropy); returns the loss of every step."""
    net.train()
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    losses = []
    for logmel, target in track(batches(spectrograms, targets, size, steps), "training steps", total=steps):
        loss = F.binary_cross_entropy_with_logits(net.logits(logmel), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    net.eval()
    return losses


def save(net: Cnn14, folder: Path) -> None:
    """Writes the checkpoint in PANNs' layout, less the DFT kernels (4 MB that torch.stft does not need), and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": net.state_dict()}, folder / CHECKPOINT)
    with (folder / LABELS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("index", "mid", "display_name"))
        writer.writerows((index, "", name) for index, name in enumerate(CLASSES))


def held_out_scenes(count: int, seed: int = 100) -> list[Scene]:
    """Two good scenes, then one each of foreign, shifted and speech over music, over and over."""
    kinds = (None, None, "foreign", "shifted", "speech_over_music")
    return [make_scene(seed + index // 100, index % 100, kinds[index % len(kinds)]) for index in range(count)]


def evaluate(folder: Path, count: int) -> dict[str, Any]:
    """Writes `count` held-out clips, decodes and tags them with the production code, and measures what is right."""
    handler = AudioTags(name="audio_tags", model=str(folder), device="cpu", top=len(CLASSES))
    tagger = handler.load()
    scenes, answers = held_out_scenes(count), []
    with tempfile.TemporaryDirectory() as scratch:
        for scene in track(scenes, "held-out clips"):
            path = Path(scratch, f"{scene.clip_id}.mp4")
            write_clip(scene, path)
            (items,) = handler.predict([Example(scene.clip_id, decode(path, 0.0, None, VIEW))], tagger)
            path.unlink()
            answers.append(items)
    (quiet,) = handler.predict([Example("silence", np.zeros(10 * VIEW.rate, np.float32))], tagger)
    return {"clips": count, **measure(scenes, answers), "silence_highest_probability": round(quiet[0].score or 0.0, 4)}


def measure(scenes: list[Scene], answers: list[Items]) -> dict[str, Any]:
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


def main(argv: list[str] | None = None) -> None:
    """Trains, saves and measures; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m demo.train_audio_tags", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the model (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1000, help="seed of world and weights, from 1000 (%(default)s)")
    parser.add_argument("--clips", type=int, default=1200, help="training clips of 10 s (%(default)s)")
    parser.add_argument("--steps", type=int, default=1300, help="training steps (%(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="clips a step (%(default)s)")
    parser.add_argument("--width", type=int, default=4, help="channels of the first block; PANNs has 64 (%(default)s)")
    parser.add_argument("--held-out", type=int, default=200, help="clips to measure on (%(default)s)")
    parser.add_argument("--measure-only", action="store_true", help="measure the model that is in --out")
    options = parser.parse_args(argv)
    if options.seed < 1000:
        parser.error("seeds below 1000 are for the demo and for measuring")
    torch.set_num_threads(1)  # the same weights on every machine, however many cores it has
    if not options.measure_only:
        torch.manual_seed(options.seed)
        net = Cnn14(classes=len(CLASSES), width=options.width)
        spectrograms, targets = training_set(net, options.seed, options.clips)
        losses = train(net, spectrograms, targets, options.batch, options.steps)
        save(net, options.out)
        print(f"loss of the last 50 steps: {np.mean(losses[-50:]):.4f}")
    metrics = evaluate(options.out, options.held_out)
    options.out.with_suffix(".json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
    main()
