"""What a run would have to do is said before it does it, and is what it then does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.cli import main
from beam_pipeline.run import run
from demo.world import make_scene, write_scenes
from tests.datasets import CLIPS, clips, profile
from transforms.ingest import ClipSource


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and a dataset after one run over them."""
    folder = tmp_path_factory.mktemp("plan")
    write_scenes([make_scene(4321, index) for index in range(CLIPS)], folder / "media")
    run(profile(folder), ClipSource(str(folder / "media" / "clips.csv")), str(folder / "data"), quiet=True)
    return folder


def plan(folder: Path, capsys: pytest.CaptureFixture[str], clips: Path, data: str = "data") -> dict[str, Any]:
    capsys.readouterr()
    command = ["plan", "--profile", str(folder / "mine.toml"), "--clips", str(clips), "--output", str(folder / data)]
    assert main([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def to_do(found: dict[str, Any]) -> dict[str, int]:
    return {step["name"]: step["to_do"] for step in found["steps"] if step["to_do"]}


def test_an_unchanged_rerun_has_nothing_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile(folder)
    found = plan(folder, capsys, folder / "media" / "clips.csv")
    assert found["nothing_to_do"]
    assert found["clips"] == CLIPS
    assert (found["model_hours"], found["decode_hours"]) == (0.0, 0.0)
    known = {step["name"]: step["known"] for step in found["steps"] if step["model"]}
    assert known == dict.fromkeys(("labels", "media", "place", "loudness", "audio_tags", "caption"), CLIPS)


def test_a_plan_is_what_the_run_then_does_and_opens_no_media(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "data", tmp_path / "data")
    hidden = folder / "hidden"
    (folder / "media").rename(hidden)
    try:
        shutil.copytree(hidden, tmp_path / "listed", ignore=shutil.ignore_patterns("*.mp4"))
        profile(tmp_path, tags=2)
        found = plan(tmp_path, capsys, tmp_path / "listed" / "clips.csv")
    finally:
        hidden.rename(folder / "media")
    source = ClipSource(str(folder / "media" / "clips.csv"))
    done = run(profile(tmp_path, tags=2), source, str(tmp_path / "data"), quiet=True)
    assert to_do(found) == clips(done)
    (tags,) = (step for step in found["steps"] if step["name"] == "audio_tags")
    assert tags["seconds"] == pytest.approx(CLIPS * tags["seconds_each"])
    assert found["model_hours"] > 0


def test_a_new_dataset_has_everything_to_do_and_no_idea_how_long_that_takes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(folder)
    found = plan(folder, capsys, folder / "media" / "clips.csv", "elsewhere")
    assert set(to_do(found).values()) == {CLIPS}
    assert found["model_hours"] is None
    assert not (folder / "elsewhere").exists()


def test_a_rerun_shows_its_plan_and_a_first_run_does_not(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(folder)
    clips = str(folder / "media" / "clips.csv")
    for data, shown in ((folder / "data", True), (tmp_path / "new", False)):
        assert main(["run", "--profile", str(folder / "mine.toml"), "--clips", clips, "--output", str(data)]) == 0
        assert (f"To do for {CLIPS} clips" in capsys.readouterr().out) == shown
