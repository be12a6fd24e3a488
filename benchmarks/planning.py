"""How long planning takes, and how much memory, when the store holds every cue of very many clips.

Each size runs in a fresh process. Clips, findings and captions are made up, of the size that real ones have.

    python -m benchmarks.planning
    python -m benchmarks.planning --clips 10000,20000 --cues 8
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from beam_pipeline.config import Profile, load_profile
from model_handlers.base import Item
from transforms.cues import CueInfo
from transforms.records import Finding
from transforms.store import Store, write_rows

ROWS = 2_000  # in a file, as a worker leaves them that writes every half minute


def make_profile(folder: Path, cues: int) -> Profile:
    """A profile of `cues` cues, none of which needs a model."""
    rows = "".join(f'cue{n} = {{ handler = "dataset_labels:DatasetLabels" }}\n' for n in range(cues))
    text = f'description = "planning"\n[cues]\n{rows}[caption]\nhandler = "template_writer:TemplateWriter"\n'
    (folder / "planning.toml").write_text(f'{text}tags = "cue0"\nscene = "cue1"\n', encoding="utf-8")
    return load_profile(str(folder / "planning.toml"))


def make_dataset(folder: Path, profile: Profile, clips: int) -> None:
    """Lists `clips` clips, and fills a store with all cues of all of them."""
    ids = [f"clip{number:09d}" for number in range(clips)]
    lines = (json.dumps({"clip_id": i, "uri": f"/media/{i}.mp4", "start_s": 0, "end_s": 10}) + "\n" for i in ids)
    (folder / "clips.jsonl").write_text("".join(lines), encoding="utf-8")
    store = Store(str(folder / "data"))
    items = tuple(Item(f"something that can be heard {n}", 0.5 / (n + 1)) for n in range(3))
    empty = "labels:4f53cda18c2baa0c"  # of a clip without labels
    for info in track([CueInfo.of(h) for h in profile.handlers()], description=f"{clips:,} clips", transient=True):
        for start in range(0, clips, ROWS):
            findings = [
                Finding(i, info.name, info.fingerprint, info.model, empty, items, seconds=0.1)
                for i in ids[start : start + ROWS]
            ]
            write_rows(store.folder(findings[0]), findings)


def measure(folder: Path) -> tuple[float, float]:
    """Seconds and MB at the peak of `earshot plan`, which has to find everything known."""
    command = [sys.executable, "-m", "beam_pipeline.cli", "plan", "--profile", str(folder / "planning.toml"), "--json"]
    command += ["--clips", str(folder / "clips.jsonl"), "--output", str(folder / "data")]
    started, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, watched.memory_info().rss)
            time.sleep(0.1)
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
    lacking = [step["name"] for step in found["steps"] if step["to_do"] and step["name"].startswith("cue")]
    if lacking or not found["clips"]:
        raise SystemExit(f"the plan is wrong: {found}")
    return time.monotonic() - started, peak / (1 << 20)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.planning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", default="50000,100000,200000", help="how many (default: %(default)s)")
    parser.add_argument("--cues", type=int, default=8, help="of each clip (default: 8)")
    options = parser.parse_args(arguments)
    table = Table(title=f"Planning with {options.cues} stored cues a clip", title_justify="left")
    for column in ("clips", "seconds", "MB", "kB a clip"):
        table.add_column(column, justify="right")
    for clips in map(int, options.clips.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            make_dataset(Path(folder), make_profile(Path(folder), options.cues), clips)
            seconds, mb = measure(Path(folder))
        table.add_row(f"{clips:,}", f"{seconds:.1f}", f"{mb:.0f}", f"{mb * 1024 / clips:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
