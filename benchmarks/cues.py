"""How many clips a second each cue of a profile takes in, by batch size, and how much memory it needs.

Models are timed alone: clips are decoded before the clock starts, and the first batch does not count. On a GPU memory
is the peak that torch allocated there, on the CPU what the process has grown by.

    python -m benchmarks.cues --profile demo
    python -m benchmarks.cues --profile full_size.toml     (from python -m benchmarks.full_size)
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.table import Table

from beam_pipeline.config import load_profile
from beam_pipeline.models import seen
from demo.world import make_scenes, write_scenes
from model_handlers.base import CueHandler, Example, pick_device
from model_handlers.views import Listing

MB = 1 << 20


def measure(handler: CueHandler, examples: Sequence[Example], sizes: Sequence[int], seconds: float) -> dict[str, Any]:
    """Loads the handler's model and returns load seconds, clips a second by batch size, and MB."""
    on_gpu = pick_device(handler.device) == "cuda"
    before = psutil.Process().memory_info().rss
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    model = handler.load_model()
    model.get()
    load_s = time.perf_counter() - started
    speed = {}
    for size in sizes:
        batch = [replace(examples[n % len(examples)], clip_id=f"clip{n}") for n in range(size)]
        handler.run_inference(batch, model)
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds or not done:
            answers = handler.run_inference(batch, model)  # answers are on the CPU: nothing is left to wait for
            failed = [answer.error for answer in answers if answer.error]
            if failed:
                raise SystemExit(f"{handler.name}: {failed[0]}")
            done += size
        speed[size] = done / (time.perf_counter() - started)
    grown = psutil.Process().memory_info().rss - before
    return {"load_s": load_s, "speed": speed, "mb": (torch.cuda.max_memory_allocated() if on_gpu else grown) / MB}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cues", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="demo", help="a profile's name or TOML file (default: demo)")
    parser.add_argument("--cue", action="append", help="only this cue; may be given more than once")
    parser.add_argument("--batches", default="1,2,4,8,16,32", help="batch sizes (default: 1,2,4,8,16,32)")
    parser.add_argument("--seconds", type=float, default=3.0, help="per batch size, at least (default: 3)")
    parser.add_argument("--clips", type=int, default=8, help="different clips in a batch (default: 8)")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.batches.split(",")]
    handlers = [
        handler
        for handler in load_profile(options.profile).handlers()
        if handler.model and (not options.cue or handler.name in options.cue)
    ]
    console = Console()
    table = Table(title=f"Clips a second, {options.profile}, {_machine()}", title_justify="left")
    for column in ("cue", "load, s", *(f"batch {size}" for size in sizes), "row's batch", "MB"):
        table.add_column(column, justify="left" if column == "cue" else "right")
    with tempfile.TemporaryDirectory(prefix="earshot-cues-") as folder:
        write_scenes(make_scenes(160, options.clips, "good"), Path(folder))
        files = sorted(Path(folder).rglob("*.mp4"))
        for handler in handlers:
            assert not isinstance(handler.view, Listing)
            examples = [Example(file.stem, seen(handler, lambda view, file=file: file)) for file in files]
            with console.status(handler.name):
                found = measure(handler, examples, sizes, options.seconds)
            speeds = [f"{found['speed'][size]:.3g}" for size in sizes]
            console.print(f"{handler.name}: {', '.join(speeds)} clips/s", style="dim", highlight=False)
            table.add_row(
                handler.name, f"{found['load_s']:.1f}", *speeds, str(handler.batch_size), f"{found['mb']:.0f}"
            )
    console.print(table)


def _machine() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"


if __name__ == "__main__":
    main()
