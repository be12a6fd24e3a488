"""Trains the demo's separator: a narrow Hybrid Demucs that takes the world's speech apart from things and music.

It hears speech of one clip over all else of another, at random levels. Training uses world seeds from 1000 upwards; the
figures in ``separation.json`` are measured on seeds from 100, on MP4 files written, decoded and taken apart as a run
does it.

    python -m demo.train_separation --help
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor
from torchaudio.functional import resample
from torchaudio.models import HDemucs

from demo.occasions import Occasion, make_occasion
from demo.training import TRAINING_SEED, command, half_cosine, learn, measured_on
from demo.world import AUDIO_RATE, synthesise_audio, write_clip
from model_handlers.separation import Separator
from transforms.media import decode

OUT = Path(__file__).parent / "models" / "separation"
RATE = 16_000
NETWORK = {
    "sources": ["vocals"],  # the rest is what is left
    "audio_channels": 1,
    "channels": 8,
    "nfft": 1024,
    "depth": 5,
    "dconv_depth": 1,
    "dconv_lstm": 5,  # no recurrent layer, which would take most of the time
    "dconv_attn": 5,
}
SPOKEN, UNSPOKEN = ("speech", "speech and thing", "speech over music"), ("alone", "at once", "music", "music and thing")
LEARNING_RATE = 3e-3
CROP_S = 1.0
GAIN_DB = (-9.0, 9.0)  # of speech beside all else
AUDIBLE = 0.01  # of full scale: what is above it is part of what somebody says
LEAST_ERROR = 1e-3  # of a mixture's power; smaller ones count as none
SILENT = 0.1  # share of training crops without speech


def parts(occasion: Occasion, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """What is spoken in a clip, and all else: float32, shape (samples,) each."""
    rest = synthesise_audio(replace(occasion, utterances=()), rate)
    return synthesise_audio(occasion, rate) - rest, rest


def training_set(count: int, progress: Progress) -> tuple[Tensor, Tensor]:
    """Speech of `count` clips, and all else of as many: shape (count, samples) each."""
    spoken, unspoken = [], []
    for index in progress.track(range(count), description="training clips"):
        vocals, rest = parts(make_occasion(TRAINING_SEED, index, SPOKEN[index % len(SPOKEN)]), RATE)
        spoken.append(vocals)
        other = make_occasion(TRAINING_SEED + 1, index, UNSPOKEN[index % len(UNSPOKEN)])
        unspoken.append(synthesise_audio(other, RATE) if index % 2 else rest)
    return torch.from_numpy(np.stack(spoken)), torch.from_numpy(np.stack(unspoken))


def batches(spoken: Tensor, unspoken: Tensor, size: int, samples: int, steps: int) -> Iterator[Tensor]:
    """Crops of speech and of all else, shape (size, 2, 1, samples), scaled so that their sum has deviation 1.

    In the middle of each crop of speech somebody speaks: most of the time nobody does, and a network that sees mostly
    that learns to say nothing.
    """
    heard = [(spoken[clip].abs() > AUDIBLE).nonzero()[:, 0] for clip in range(len(spoken))]
    for _ in range(steps):
        clips = torch.randint(len(spoken), (2, size))
        middles = [int(heard[clip][torch.randint(len(heard[clip]), ())]) for clip in clips[0]]
        starts = torch.randint(unspoken.shape[1] - samples + 1, (size,))
        voices, others = (
            torch.stack([whole[clip, max(at, 0) :][:samples] for clip, at in zip(picked, begin, strict=True)])
            for whole, picked, begin in (
                (spoken, clips[0], [min(at - samples // 2, spoken.shape[1] - samples) for at in middles]),
                (unspoken, clips[1], starts),
            )
        )
        gain = 10 ** (torch.empty(size, 1).uniform_(*GAIN_DB) / 20) * (torch.rand(size, 1) > SILENT)
        level = others.square().mean(1, keepdim=True).sqrt() / (voices.square().mean(1, keepdim=True).sqrt() + 1e-4)
        pair = torch.stack([voices * level * gain, others], 1)
        yield (pair / (pair.sum(1).std(1)[:, None, None] + 1e-4))[:, :, None]


def train(options: argparse.Namespace, progress: Progress) -> None:
    """Fits the network to the wave of the speech, and saves it in half precision.

    The loss is the error in dB, so that a quiet voice counts as much as a loud one.
    """
    torch.manual_seed(0)
    net = HDemucs(**NETWORK)
    spoken, unspoken = training_set(options.examples, progress)
    weights = list(net.parameters())
    optimiser = torch.optim.AdamW(weights, LEARNING_RATE)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: half_cosine(step, options.steps, 30))
    task = progress.add_task("training steps", total=options.steps)
    for wanted in batches(spoken, unspoken, options.batch, round(RATE * CROP_S), options.steps):
        error = (net(wanted.sum(1))[:, 0] - wanted[:, 0]).square().mean((1, 2))
        loss = (10 * torch.log10(error + LEAST_ERROR)).mean()
        learn(loss, weights, optimiser, rate)
        progress.update(task, advance=1, description=f"training steps (loss {loss.item():.3f})")
    save(net, options.out)


def save(net: HDemucs, folder: Path) -> None:
    """Writes the network as `Separator` reads it, in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "model.safetensors").chmod(0o644)
    config = {"rate": RATE, "network": NETWORK}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def held_out(count: int) -> list[Occasion]:
    """Clips of worlds that no model learnt from, ten of each: in four of five somebody speaks."""
    kinds = (*SPOKEN, "speech over music", "music and thing")
    return [make_occasion(100 + index // 10, index % 10, kinds[index % len(kinds)]) for index in range(count)]


def evaluate(folder: Path, count: int, progress: Progress) -> dict[str, Any]:
    """Takes `count` clips apart with the production handler, and measures by how much that brings out their parts."""
    handler = Separator(name="separation", model=str(folder), rate=RATE, device="cpu")
    network, clips = handler.load(), held_out(count)
    gains: dict[str, list[float]] = {"vocals": [], "rest": []}
    leaks = []
    with tempfile.TemporaryDirectory() as scratch:
        for clip in progress.track(clips, description="evaluating"):
            path = Path(scratch) / f"{clip.clip_id}.mp4"
            write_clip(clip, path)
            whole = cast(np.ndarray, decode(path, 0.0, clip.duration_s, handler.view))
            path.unlink()
            (stems,) = handler.separate([whole], network, RATE)
            # As the file has them: noise that is drawn at another rate is another.
            both = torch.from_numpy(np.stack(parts(clip, AUDIO_RATE)).astype(np.float32))
            vocals, rest = resample(both, AUDIO_RATE, RATE).numpy()
            if clip.utterances:
                gains["vocals"].append(si_sdr(stems.vocals, vocals) - si_sdr(whole, vocals))
                gains["rest"].append(si_sdr(stems.rest, rest) - si_sdr(whole, rest))
            else:
                leaks.append(10 * np.log10(np.square(stems.vocals).mean() / np.square(whole).mean()))
    return {
        **measured_on(clips),
        **{f"si_sdr_gain_db_of_{name}": middle(values) for name, values in gains.items()},
        "vocals_where_nobody_speaks_db": middle(leaks),
    }


def si_sdr(found: np.ndarray, true: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., arXiv:1811.02508)."""
    aimed = true * (found @ true) / (true @ true)
    return float(10 * np.log10((aimed @ aimed) / ((found - aimed) @ (found - aimed))))


def middle(values: Sequence[float]) -> dict[str, float]:
    """Median and tenth percentile, to a tenth."""
    return {"median": round(float(np.median(values)), 1), "tenth": round(float(np.percentile(values, 10)), 1)}


def main(arguments: list[str] | None = None) -> None:
    """Trains, saves and measures; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m demo.train_separation", description=__doc__.split("\n")[0])
    sizes = {
        "examples": (120, "training clips of 10 s"),
        "steps": (600, "training steps"),
        "batch": (4, "crops a step"),
        "clips": (50, "held-out clips to measure on"),
    }
    command(parser, arguments, OUT, sizes, train, evaluate, least={"clips": 20})  # of every kind


if __name__ == "__main__":
    main()
