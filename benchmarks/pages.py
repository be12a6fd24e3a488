"""How long a report takes to make and to open, and how many rows a second an export writes, by the dataset's size.

Records of a dataset are repeated under new ids up to the size; clips' files stay those of the dataset. Each command
runs in a process of its own. Opening needs Chromium (CHROMIUM=path, or on the PATH), and is left out where there is
none.

    python -m benchmarks.pages out/demo
    python -m benchmarks.pages out/demo --clips 2000,200000 --forms parquet,jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import fastavro
import psutil
from rich.console import Console
from rich.table import Table

from beam_pipeline.dataset import Dataset
from transforms.avro import avro_schema
from transforms.publish import OUTCOMES

OPENED = """() => {
    const [it] = performance.getEntriesByType("navigation");
    return [it.domContentLoadedEventEnd / 1000, it.loadEventEnd / 1000];
}"""


def enlarge(dataset: Dataset, folder: Path, clips: int) -> None:
    """Writes a dataset of `clips` clips, with ends in the proportion of `dataset`'s."""
    version = folder / "versions" / "1"
    version.mkdir(parents=True)
    counts, there = {}, dataset.manifest["counts"]["clips_in"]
    for name, record in OUTCOMES.items():
        counts[name] = round(clips * dataset.count(name) / there)
        with (version / f"{name}.avro").open("wb") as file:
            rows = islice(_repeated(dataset, name), counts[name])
            fastavro.writer(file, fastavro.parse_schema(avro_schema(record)), rows, codec="deflate")
    files = {name: [f"{name}.avro"] for name in OUTCOMES}
    manifest = {**dataset.manifest, "version": 1, "files": files, "counts": {"clips_in": clips, **counts}}
    manifest.pop("pairs", None)
    (version / "manifest.json").write_text(json.dumps(manifest))
    (folder / "current").write_text('{"version": 1}')


def _repeated(dataset: Dataset, name: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(cycle(list(dataset.rows(name)))):
        yield {**row, "clip": {**row["clip"], "clip_id": f"{row['clip']['clip_id']}_{number}"}}


def measure(*arguments: str) -> tuple[float, float]:
    """Seconds and MB at the peak of a command of Earshot's."""
    command = [sys.executable, "-m", "beam_pipeline.cli", *arguments]
    started, peak = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, watched.memory_info().rss)
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, peak / (1 << 20)


def opened(page: Path) -> str:
    """Seconds until the page's content is there and until all of it is, in a new browser."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, filter(None, names))), None)
    if path is None:
        return "–"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        tab.goto(page.as_uri())
        shown, loaded = tab.evaluate(OPENED)
        browser.close()
    return f"{shown:.2f} / {loaded:.2f}"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="whose records are repeated")
    parser.add_argument("--clips", default="2000,20000", help="sizes (default: %(default)s)")
    parser.add_argument("--forms", default="hf,webdataset,jsonl", help="of exports (default: %(default)s)")
    options = parser.parse_args(arguments)
    report = Table(title="earshot report", title_justify="left")
    for column in ("clips", "s to make", "peak MB", "page, MB", "s to open: content / all"):
        report.add_column(column, justify="right")
    exports = Table(title="earshot export", title_justify="left")
    for column in ("clips", "form", "s", "captions/s", "peak MB"):
        exports.add_column(column, justify="right")
    for clips in map(int, options.clips.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch, "data")
            enlarge(Dataset.open(options.dataset), root, clips)
            page = Path(scratch, "report.html")
            seconds, mb = measure("report", str(root), "--output", str(page))
            size = page.stat().st_size / 1e6
            report.add_row(f"{clips:,}", f"{seconds:.1f}", f"{mb:.0f}", f"{size:.1f}", opened(page))
            captions = Dataset.open(str(root)).count("captions")
            for form in filter(None, options.forms.split(",")):
                seconds, mb = measure("export", str(root), "--to", form, "--output", str(Path(scratch, form)))
                exports.add_row(f"{clips:,}", form, f"{seconds:.1f}", f"{captions / seconds:.0f}", f"{mb:.0f}")
    Console().print(report, exports)


if __name__ == "__main__":
    main()
