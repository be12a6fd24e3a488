"""The pipeline against a plain loop over the same models and clips, and its memory as the number of clips grows.

Every measurement runs in a fresh process. The clips are good ones of the demo world; a list longer than the world names
the same files again under other ids, which costs a run just as much.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

DISTINCT = 50


def list_clips(world: Path, count: int) -> Path:
    """Writes and returns a list of `count` clips over the files of `world`."""
    with (world / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    path = world / f"list-{count}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        for number in range(count):
            row = rows[number % len(rows)]
            writer.writerow({**row, "clip_id": f"{row['clip_id']}-{number}"})
    return path


def measure(which: str, clips: Path) -> dict[str, Any]:
    """Runs one variant here. Returns seconds, clips, and peak memory in MB with and without the decoder."""
    from beam_pipeline.config import load_profile
    from transforms.decoder import shared_decoder
    from transforms.ingest import ClipSource
    from transforms.media import Limits

    profile, source = load_profile("demo"), ClipSource(str(clips))
    started = time.perf_counter()
    if which == "pipeline":
        from beam_pipeline.run import run

        with tempfile.TemporaryDirectory() as folder:
            result = run(profile, source, folder, quiet=True)
            ended = result.manifest["counts"]["clips_in"]
    else:
        from benchmarks.plain import plain_run

        ended = len(plain_run(profile, source))
    seconds = time.perf_counter() - started
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    decoders = sum(_peak_mb(pid) for pid in shared_decoder(Limits()).pids())
    return {"seconds": seconds, "clips": ended, "own_mb": own, "peak_mb": own + decoders}


def _peak_mb(pid: int) -> float:
    """Peak resident memory of a running process (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


def in_fresh_process(which: str, clips: Path) -> dict[str, Any]:
    """Runs `measure` in a new Python."""
    command = [sys.executable, "-m", "benchmarks.pipeline", "--measure", which, str(clips)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--clips", type=int, default=200, help="clips for the comparison (default: 200)")
    parser.add_argument("--repeat", type=int, default=3, help="pairs of runs for the comparison (default: 3)")
    parser.add_argument("--measure", nargs=2, metavar=("WHICH", "LIST"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    from demo.world import write_world

    console = Console()
    with tempfile.TemporaryDirectory(prefix="earshot-bench-") as folder:
        world = Path(folder)
        with console.status(f"making {DISTINCT} clips"):
            write_world(200, DISTINCT, world, only="good")
        _speed(console, list_clips(world, options.clips), options.repeat)
        _memory(console, world)


def _speed(console: Console, clips: Path, repeat: int) -> None:
    """In turn, so that a machine that slows down slows both; the median ratio of the pairs is the figure."""
    table = Table(
        title=f"Pipeline against a plain loop, {clips.stem.removeprefix('list-')} clips", title_justify="left"
    )
    for column in ("run", "plain loop, s", "pipeline, s", "ratio"):
        table.add_column(column, justify="right")
    ratios = []
    for number in range(repeat):
        with console.status(f"pair {number + 1} of {repeat}"):
            plain, ours = in_fresh_process("plain", clips), in_fresh_process("pipeline", clips)
        ratios.append(ours["seconds"] / plain["seconds"])
        table.add_row(str(number + 1), f"{plain['seconds']:.1f}", f"{ours['seconds']:.1f}", f"{ratios[-1]:.2f}")
    table.add_row("median", "", "", f"{median(ratios):.2f}", style="bold")
    console.print(table)


def _memory(console: Console, world: Path) -> None:
    table = Table(title="Peak memory of the pipeline", title_justify="left")
    for column in ("clips", "main process, MB", "with decoder, MB", "of that at 50 clips"):
        table.add_column(column, justify="right")
    first = 0.0
    for count in (50, 500):
        with console.status(f"memory at {count} clips"):
            found = in_fresh_process("pipeline", list_clips(world, count))
        first = first or found["peak_mb"]
        table.add_row(
            str(count), f"{found['own_mb']:.0f}", f"{found['peak_mb']:.0f}", f"{found['peak_mb'] / first:.2f}"
        )
    console.print(table)


if __name__ == "__main__":
    main()
