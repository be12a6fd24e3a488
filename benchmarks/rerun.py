"""What a rerun costs, as a share of the full run before it: unchanged, with one cue bumped, and with a new threshold.

The clips are good ones of the demo world; a list longer than the world names the same files again under other ids. All
runs happen in this process, one after the other, so that start-up counts for none of them.

    python -m benchmarks.rerun --clips 500
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from beam_pipeline.config import Profile, load_profile
from beam_pipeline.run import Result, run
from benchmarks.pipeline import DISTINCT, list_clips
from demo.world import make_scenes, write_scenes
from transforms.ingest import ClipSource

BUMPED = "image_label"


def with_row(profile: Profile, cue: str, **fields: Any) -> Profile:
    """The profile with other parameters in one cue's row."""
    return replace(profile, cues={**profile.cues, cue: {**profile.cues[cue], **fields}})


def spent(result: Result, *steps: str) -> float:
    """Seconds that some steps took."""
    return sum(result.costs.get(step, {"seconds": 0.0})["seconds"] for step in steps)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rerun", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=500, help="how many (default: 500)")
    options = parser.parse_args(arguments)
    console, profile = Console(), load_profile("demo")
    with tempfile.TemporaryDirectory(prefix="earshot-rerun-") as folder:
        with console.status(f"making {min(DISTINCT, options.clips)} clips"):
            write_scenes(make_scenes(180, min(DISTINCT, options.clips), "good"), Path(folder))
        source, output = ClipSource(str(list_clips(Path(folder), options.clips))), f"{folder}/data"
        warm = ClipSource(str(list_clips(Path(folder), 4)))
        run(profile, warm, f"{folder}/warm", quiet=True)  # imports and first uses count for nobody
        whole = run(profile, source, output)
        again = run(profile, source, output)
        assert not again.costs
        assert again.unchanged
        bumped = run(with_row(profile, BUMPED, top=2), source, output)
        loose = replace(profile, similarity=replace(profile.similarity, least=0.2)) if profile.similarity else profile
        threshold = run(loose, source, output)
    table = Table(title=f"{options.clips} demo clips, all cues", title_justify="left")
    for column in ("run", "seconds", "of the full run"):
        table.add_column(column, justify="left" if column == "run" else "right")
    own = spent(bumped, BUMPED, "decode frame", "caption", "similarity")
    rows = {
        "full": whole,
        "unchanged": again,
        f"{BUMPED} bumped (its own work, with decoding and captions: {own / whole.seconds:.1%})": bumped,
        "another threshold": threshold,
    }
    for name, result in rows.items():
        table.add_row(name, f"{result.seconds:.1f}", f"{result.seconds / whole.seconds:.1%}")
    console.print(table)


if __name__ == "__main__":
    main()
