"""What the README tells a reader to do, done to the letter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fastavro

from demo.world import make_scene, write_clip

ROOT = Path(__file__).parent.parent
PACKAGES = ("beam_pipeline", "transforms", "model_handlers", "demo")


def test_adding_a_cue_takes_the_file_and_the_row_that_the_readme_shows(tmp_path: Path) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Add a cue")[1].split("\n## ")[0]
    (path,) = re.findall(r"The file, `(model_handlers/\w+\.py)`", section)
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (row,) = re.findall(r"```toml\n\[cues\]\n(.*?)```", section, re.DOTALL)

    checkout = tmp_path / "checkout"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert not (checkout / path).exists()
    (checkout / path).write_text(code, encoding="utf-8")
    profile = (checkout / "beam_pipeline/profiles/demo.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(profile.replace("[cues]\n", f"[cues]\n{row}"), encoding="utf-8")
    clips = tmp_path / "clips"
    clips.mkdir()
    write_clip(make_scene(4321, 0), clips / "clip.mp4")

    command = [sys.executable, "-m", "beam_pipeline.cli", "run", "--profile", str(tmp_path / "mine.toml")]
    command += ["--clips", str(clips), "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "versions" / "1"
    manifest = json.loads((folder / "manifest.json").read_text())
    name = row.split(" = ")[0]
    assert manifest["cues"][name]["fingerprint"]
    (file,) = manifest["files"]["captions"]
    with (folder / file).open("rb") as stream:
        (record,) = fastavro.reader(stream)
    (cue,) = (cue for cue in record["cues"] if cue["name"] == name)
    assert [item["text"] for item in cue["items"]] in (["light"], ["dark"])
