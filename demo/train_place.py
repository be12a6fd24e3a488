"""Trains the demo's place recogniser, a narrow ResNet-50 on the demo world's pictures, as Places365 was on photographs.

The classes are the world's places. Training uses world seeds from 1000 upwards; the figures in ``place.json`` are
measured on seeds 100 to 199, on MP4 files written, decoded and recognised as a run does it.

    python -m demo.train_place --help
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy

from demo import training
from demo.world import PLACES, make_scene, make_scenes, render_frame, write_clip
from model_handlers.base import Example
from model_handlers.nets.resnet import ResNet50
from model_handlers.place import CATEGORIES, INDOOR_OUTDOOR, Place, prepare
from transforms.media import Limits, decode

OUT = Path(__file__).parent / "models" / "place"
TRAINING_SEED, HELD_OUT_SEED = 1000, 100
INDOOR = {"cave", "kitchen", "office"}
WIDTH = 8
BATCH = 16
PEAK_RATE = 4e-3


def pictures(count: int, progress: Progress) -> tuple[Tensor, Tensor]:
    """Returns pictures of good training scenes, each at a moment of its own, and the numbers of their places.

    Float16 of shape (count, 3, 224, 224), normalised as for the published network, and int64 of shape (count,).
    """
    frames = torch.empty((count, 3, 224, 224), dtype=torch.float16)
    places = torch.empty(count, dtype=torch.int64)
    for index in progress.track(range(count), description="drawing"):
        scene = make_scene(TRAINING_SEED, index)
        moment = np.random.default_rng([TRAINING_SEED, index, 7]).uniform(0, scene.duration_s)
        frames[index] = prepare(render_frame(scene, moment)).half()
        places[index] = list(PLACES).index(scene.place)
    return frames, places


def train(frames: Tensor, places: Tensor, steps: int, progress: Progress) -> ResNet50:
    """Returns a network trained by AdamW with a one-cycle rate; pictures are mirrored and dimmed or brightened."""
    torch.manual_seed(0)
    net = ResNet50(len(PLACES), WIDTH)
    optimiser = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps, pct_start=0.2)
    for _ in progress.track(range(steps), description="training"):
        chosen = torch.randint(len(frames), (BATCH,))
        batch = frames[chosen].float()
        batch = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, batch.flip(3), batch) + 0.2 * torch.randn(BATCH, 3, 1, 1)
        loss = cross_entropy(net(batch), places[chosen], label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    return net.eval()


def save(net: ResNet50, out: Path) -> None:
    """Writes checkpoint and lists in Places365's format."""
    out.mkdir(parents=True, exist_ok=True)
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"arch": "resnet50", "state_dict": state}, out / "resnet50_demo.pth.tar")
    names = [f"/{name[0]}/{name.replace(' ', '_')}" for name in PLACES]
    (out / CATEGORIES).write_text("".join(f"{name} {number}\n" for number, name in enumerate(names)))
    sides = [1 if name in INDOOR else 2 for name in PLACES]
    (out / INDOOR_OUTDOOR).write_text("".join(f"{name} {side}\n" for name, side in zip(names, sides, strict=True)))


def evaluate(out: Path, clips: int, progress: Progress) -> dict[str, Any]:
    """Returns how often the first place is right, and the side, on MP4 clips of seeds that training never saw."""
    handler = Place(name="place", model=str(out), device="cpu")
    model, right, sides = handler.load(), 0, 0
    scenes = [scene for seed in range(clips // 10) for scene in make_scenes(HELD_OUT_SEED + seed, 10, "good")]
    for scene in progress.track(scenes, description="evaluating"):
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            write_clip(scene, Path(file.name))
            frame = decode(file.name, 0.0, None, handler.view, Limits())
        ((first, *_, side),) = handler.predict([Example(scene.clip_id, frame)], model)
        right += first.text == scene.place
        sides += side.text == ("indoor" if scene.place in INDOOR else "outdoor")
    seeds = [HELD_OUT_SEED, HELD_OUT_SEED + clips // 10 - 1]
    return {"clips": len(scenes), "seeds": seeds, "right": right / len(scenes), "side_right": sides / len(scenes)}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.train_place", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = {
        "pictures": (3000, "training pictures"),
        "steps": (1500, f"batches of {BATCH}"),
        "clips": (200, "held-out clips to measure on, in tens"),
    }

    def trained(options: argparse.Namespace, progress: Progress) -> None:
        save(train(*pictures(options.pictures, progress), options.steps, progress), options.out)

    training.command(parser, arguments, OUT, sizes, trained, evaluate, least={"clips": 10})


if __name__ == "__main__":
    main()
