"""A run that is killed at any moment has kept what it found, and the next one makes the dataset whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from beam_pipeline.config import load_profile
from beam_pipeline.run import Result, run
from demo.world import make_scene, write_scenes
from tests.counted import FOLDER, count
from tests.datasets import profile, records
from transforms.ingest import ClipSource
from transforms.records import Finding, Written
from transforms.store import read_rows

KILLS, CLIPS, BATCH = 12, 8, 2
CUES = ("labels", "media", "place", "loudness", "audio_tags")
COUNTED = {"audio_tags:AudioTags": "Tags", "place:Place": "Place", "template_writer:TemplateWriter": "Writer"}


def one_run(profile_path: str, clips: str, output: str, counts: str) -> None:
    """What a killed process was doing."""
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ[FOLDER] = counts
    run(load_profile(profile_path), ClipSource(clips), output, quiet=True)


def start(folder: Path, output: Path) -> tuple[multiprocessing.process.BaseProcess, float]:
    """Starts a run in a process of its own; returns that, and when it had claimed its version."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.test_killed", "model_handlers.nets.resnet", "model_handlers.nets.cnn14"])
    counts = output.with_name(f"{output.name}-counts")
    counts.mkdir()
    arguments = (str(folder / "mine.toml"), str(folder / "media" / "clips.csv"), str(output), str(counts))
    process = context.Process(target=one_run, args=arguments)
    process.start()
    deadline = time.monotonic() + 120
    while not list(output.glob("versions/*/claimed")) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    return process, time.monotonic()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_scenes([make_scene(4321, index) for index in range(CLIPS)], folder / "media")
    profile(folder)
    text = (folder / "mine.toml").read_text()
    for model in ("audio_tags:AudioTags", "place:Place", "template_writer:TemplateWriter"):
        assert model in text
        text = text.replace(model, f"tests.counted:Counted{COUNTED[model]}")
    text = text.replace(" }\n", f", batch_size = {BATCH} }}\n")
    (folder / "mine.toml").write_text(f"{text}batch_size = {BATCH}\n")
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> tuple[Result, float]:
    """A dataset whose run was left alone, and how many seconds that took from claiming a version to the end."""
    process, claimed = start(folder, folder / "whole")
    process.join(120)
    took = time.monotonic() - claimed
    assert process.exitcode == 0
    found = json.loads((folder / "whole" / "versions" / "1" / "manifest.json").read_text())
    return Result(str(folder / "whole"), 1, found, {}, 0.0), took


def stored(output: Path, cue: str) -> int:
    """How many findings of a cue, or how many captions, the store holds, twice or not."""
    folder, kind = (
        (output / "store" / "cues" / cue, Finding) if cue != "caption" else (output / "store" / "written", Written)
    )
    return sum(1 for file in folder.rglob("*.avro") for _ in read_rows(str(file), kind))


@pytest.mark.parametrize("nth", range(KILLS))
def test_a_run_killed_at_any_moment_is_completed_by_the_next_and_at_most_a_batch_is_computed_twice(
    folder: Path, undisturbed: tuple[Result, float], nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, took = undisturbed
    output = tmp_path / "data"
    process, claimed = start(folder, output)
    moment = took * (nth + random.Random(nth).random()) / KILLS  # somewhere in each of so many equal parts of a run
    time.sleep(max(0.0, claimed + moment - time.monotonic()))
    process.kill()  # SIGKILL; it may have ended by itself just before
    process.join()

    monkeypatch.setenv(FOLDER, str(tmp_path / "data-counts"))
    before = {cue: stored(output, cue) for cue in (*CUES, "caption")}
    for cue in ("place", "audio_tags", "caption"):
        assert before[cue] <= count(cue) <= before[cue] + BATCH  # what was computed and is lost
    source = ClipSource(str(folder / "media" / "clips.csv"))
    again = run(load_profile(str(folder / "mine.toml")), source, str(output), quiet=True)
    assert records(again) == records(whole)
    for cue in CUES:
        computed = again.costs.get(cue, {"clips": 0})["clips"]
        assert before[cue] + computed == stored(output, cue) == CLIPS
