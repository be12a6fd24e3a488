"""The whole job on real media with the trained demo models."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.cli import main
from beam_pipeline.config import load_profile
from beam_pipeline.run import Result, RunError, run
from benchmarks.plain import plain_run
from model_handlers.weights import ModelError
from tests.media_files import mutated_files
from transforms.ingest import ClipSource
from transforms.records import Caption, Failure, Rejection

NAMES = ("captions", "rejected", "failed")


def outcomes(result: Result) -> list[Any]:
    return [outcome for name in NAMES for outcome in result.read(name)]


def by_origin(ended: list[Any]) -> dict[str, Any]:
    """Outcomes by the row that listed them. Scores are rounded: a batch's size may change a sum's last digits."""
    assert max(Counter(outcome.clip.origin for outcome in ended).values()) == 1
    return {outcome.clip.origin: _rounded(outcome) for outcome in ended}


def _rounded(outcome: Any) -> Any:
    if isinstance(outcome, Failure):
        return outcome
    cues = [(cue.name, cue.skipped, [(i.text[:30], round(i.score or 0, 3)) for i in cue.items]) for cue in outcome.cues]
    return replace(outcome, cues=tuple(cues)) if isinstance(outcome, Caption) else (outcome.clip, outcome.reason, cues)


def earshot(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it, in a process of its own."""
    (cwd / "clips.mp4").touch()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "beam_pipeline.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def result(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    done = run(
        load_profile("demo"), ClipSource(str(world / "clips.csv")), str(tmp_path_factory.mktemp("out")), quiet=True
    )
    return done


def test_the_pipeline_gives_what_a_plain_loop_over_the_same_clips_gives(world: Path, result: Result) -> None:
    plain = plain_run(load_profile("demo"), ClipSource(str(world / "clips.csv")))
    assert by_origin(outcomes(result)) == by_origin(plain)


def test_every_fault_of_the_world_ends_where_it_belongs(world: Path, result: Result) -> None:
    truths = [json.loads(line) for line in (world / "truth.jsonl").read_text().splitlines()]
    faults = {truth["clip_id"]: (*truth["faults"], "good")[0] for truth in truths}
    ends: dict[str, Counter] = {}
    for outcome in outcomes(result):
        end = outcome.reason if isinstance(outcome, Rejection) else type(outcome).__name__
        ends.setdefault(faults[outcome.clip.clip_id], Counter())[end] += 1
    assert ends["good"]["Caption"] >= 11  # of 12; the sync filter may take one
    assert ends["shifted"] == {"out_of_sync": 1}
    assert ends["speech_over_music"] == {"labelled_speech_and_music": 1}
    assert ends["silent"] == {"silent": 1}
    assert ends["no_audio"] == {"no_audio": 1}
    assert ends["no_video"] == {"Caption": 1}
    assert ends["truncated"] == {"Failure": 1}
    assert ends["not_a_video"] == {"Failure": 1}


def test_the_manifest_accounts_for_every_clip_and_names_every_model(result: Result) -> None:
    counts = result.manifest["counts"]
    assert counts["clips_in"] == counts["captions"] + counts["rejected"] + counts["failed"] == 20
    assert set(result.manifest["cues"]) == {handler.name for handler in load_profile("demo").handlers()}
    assert all(len(cue["fingerprint"]) == 16 for cue in result.manifest["cues"].values())
    assert sum(result.manifest["reasons"].values()) == counts["rejected"] + counts["failed"]


def test_rows_that_name_no_clip_and_duplicates_are_failures_with_file_and_line(world: Path, tmp_path: Path) -> None:
    with (world / "clips.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    listing = tmp_path / "list.csv"
    uri = world / first["uri"]
    listing.write_text(f"clip_id,uri,start_s,end_s\na,{uri},0,10\na,{uri},0,10\nb,{uri},ten,20\nc,{uri},5,4\n")
    done = run(load_profile("demo"), ClipSource(str(listing)), str(tmp_path / "out"), quiet=True)
    failures = sorted(done.read("failed"), key=lambda failure: failure.clip.origin)
    assert [failure.clip.origin for failure in failures] == [f"{listing}:{line}" for line in (3, 4, 5)]
    assert f"duplicate of {listing}:2" in failures[0].error
    assert "'ten'" in failures[1].error
    assert done.manifest["counts"]["clips_in"] == 4


def test_two_hundred_mutated_files_each_end_exactly_once_and_none_stops_the_run(tmp_path: Path) -> None:
    files = mutated_files(tmp_path / "media", count=200, seed=11)
    listing = tmp_path / "list.jsonl"
    listing.write_text("".join(json.dumps({"clip_id": str(i), "uri": str(f)}) + "\n" for i, f in enumerate(files)))
    done = run(load_profile("demo"), ClipSource(str(listing)), str(tmp_path / "out"), quiet=True)
    ended = Counter(outcome.clip.clip_id for outcome in outcomes(done))
    assert ended == Counter({str(number): 1 for number in range(len(files))})
    assert done.manifest["counts"]["failed"] > 20  # the mutations do harm …
    assert done.manifest["counts"]["failed"] < 200  # … but not to every file


def test_a_missing_model_is_named_before_anything_runs(world: Path, tmp_path: Path) -> None:
    profile = load_profile("demo")
    cues = {**profile.cues, "audio_tags": {**profile.cues["audio_tags"], "model": "/no/such/model"}}
    with pytest.raises(ModelError, match="/no/such/model"):
        run(replace(profile, cues=cues), ClipSource(str(world / "clips.csv")), str(tmp_path), quiet=True)


def test_a_broken_model_fails_the_run_with_its_message_and_publishes_nothing(world: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "Cnn14_mAP=0.431.pth").write_bytes(b"not a checkpoint")
    (broken / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/0,Dog\n")
    profile = load_profile("demo")
    cues = {**profile.cues, "audio_tags": {**profile.cues["audio_tags"], "model": str(broken)}}
    with pytest.raises(RunError) as caught:
        run(replace(profile, cues=cues), ClipSource(str(world / "clips.csv")), str(tmp_path / "out"), quiet=True)
    assert "Traceback" not in str(caught.value)
    assert "Cnn14" in str(caught.value)
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_the_command_captions_a_file_of_ones_own(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = next((world / "clips").glob("*_00000.mp4"))
    assert main(["caption", str(clip)]) == 0
    printed = capsys.readouterr().out
    for cue in ("image_caption", "audio_tags", "synchronisation"):
        assert cue in printed
    assert "demo models" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--profile", "demo", "--clips", "/no/such/list.csv", "--output", "out"], "/no/such/list.csv"),
        (["run", "--profile", "nonesuch", "--clips", ".", "--output", "out"], "no profile 'nonesuch'"),
        (["run", "--profile", "demo", "--clips", ".", "--output", "out", "--shard=2"], "did you mean --shards"),
        (["caption", "/no/such/file.mp4"], "/no/such/file.mp4"),
        (["demo", "--cuont", "3"], "--cuont"),
        (["run", "--profile", "demo", "--clips", "a.mp4", "b.mp4", "--output", "out"], "quote a glob"),
        (["run", "--profile", "demo", "--clips", "clips.mp4", "--output", "/proc/x"], "/proc/x"),
        (
            ["run", "--profile", "demo", "--clips", ".", "--output", "out", "--direct_num_workers=x"],
            "invalid int value",
        ),
    ],
)
def test_what_the_user_got_wrong_is_said_in_one_line_without_a_stack_trace(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = earshot(*arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert not list(tmp_path.rglob("runs/*"))
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
