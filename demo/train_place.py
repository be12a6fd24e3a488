"""Trains the demo's place recogniser, a narrow ResNet-50 on the demo world's pictures, as Places365 was on photographs.

The classes are the world's places. Training uses world seeds from 1000 upwards; the figures in ``place.json`` are
measured on seeds 100 to 199, on MP4 files written, decoded and recognised as a run does it.

    python -m demo.train_place --help
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy

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


def pictures(count: int) -> tuple[Tensor, Tensor]:
    """Returns pictures of good training scenes, each at a moment of its own, and the numbers of their places.

    Float16 of shape (count, 3, 224, 224), normalised as for the published network, and int64 of shape (count,).
    """
    frames = torch.empty((count, 3, 224, 224), dtype=torch.float16)
    places = torch.empty(count, dtype=torch.int64)
    for index in track(range(count), "drawing"):
        scene = make_scene(TRAINING_SEED, index)
        moment = np.random.default_rng([TRAINING_SEED, index, 7]).uniform(0, scene.duration_s)
        frames[index] = prepare(render_frame(scene, moment)).half()
        places[index] = list(PLACES).index(scene.place)
    return frames, places


def train(frames: Tensor, places: Tensor, steps: int) -> ResNet50:
    """Returns a network trained by AdamW with a one-cycle rate; pictures are mirrored and dimmed or brightened."""
    torch.manual_seed(0)
    net = ResNet50(len(PLACES), WIDTH)
    optimiser = torch.optim.AdamW(net.parameters(), PEAK_RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps, pct_start=0.2)
    for _ in track(range(steps), "training"):
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


def measure(out: Path, clips: int) -> dict[str, object]:
    """Returns how often the first place is right, and the side, on MP4 clips of seeds that training never saw."""
    handler = Place(name="place", model=str(out), device="cpu")
    model, right, sides = handler.load(), 0, 0
    scenes = [scene for seed in range(clips // 10) for scene in make_scenes(HELD_OUT_SEED + seed, 10, "good")]
    for scene in track(scenes, "measuring"):
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
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--pictures", type=int, default=3000, help="training pictures (default: 3000)")
    parser.add_argument("--steps", type=int, default=1500, help="batches of 16 (default: 1500)")
    parser.add_argument("--clips", type=int, default=200, help="held-out clips to measure on (default: 200)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    net = train(*pictures(options.pictures), options.steps)
    save(net, options.out)
    figures = measure(options.out, options.clips)
    options.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
