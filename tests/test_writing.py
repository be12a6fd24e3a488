"""A whole run that asks a language model over HTTP: what it costs, what it survives, and what it never asks twice.

No media is opened: the clips have nothing but their labels. The server is `tests.llm_server`; its captions come from
the cues in the prompt.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.pipeline import Run, build
from beam_pipeline.run import Result, RunError, foresee, run
from tests.datasets import records
from tests.llm_server import llm_server
from transforms.ingest import ClipSource
from transforms.records import Caption, Failure, Rejection

KEY = "sk-test-0123456789abcdefghijklmnop"
SOUNDS = ("Dog", "Rain", "Church bell", "Train", "Violin", "Crowd", "Engine", "Frog", "Thunder", "Door")
PROFILE = """
description = "labels alone"
[cues]
labels = {{ handler = "dataset_labels:DatasetLabels" }}
[caption]
handler = "api_writer:ApiWriter"
model = "any"
base_url = "{url}"
key_env = "EARSHOT_TEST_KEY"
in_flight = {in_flight}
batch_size = {batch}
timeout_s = 2
patience_s = 20
price_in = 1000.0
price_out = 2000.0
{row}
[checks]
tries = {tries}
{checks}
"""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARSHOT_TEST_KEY", KEY)


def profile(folder: Path, url: str, **fields: Any) -> Profile:
    path = folder / "mine.toml"
    given = {"in_flight": 8, "batch": 16, "tries": 3, "checks": "", "row": "", **fields}
    path.write_text(PROFILE.format(url=url, **given))
    return load_profile(str(path))


def clips(folder: Path, count: int) -> ClipSource:
    lines = (
        {
            "clip_id": f"c{n:04}",
            "uri": f"/none/{n}.mp4",
            "end_s": 10,
            "labels": [SOUNDS[n % 10], SOUNDS[(n // 10) % 10]],
        }
        for n in range(count)
    )
    (folder / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ClipSource(str(folder / "clips.jsonl"))


def kinds(result: Result) -> dict[str, int]:
    counts = result.manifest["counts"]
    return {name: counts[name] for name in ("captions", "rejected", "failed")}


def test_with_three_of_ten_answers_faulty_every_clip_is_captioned_and_none_twice(tmp_path: Path) -> None:
    faults = {
        **{"429": 0.03, "429_seconds": 0.03, "500": 0.04, "503": 0.02, "reset": 0.03, "half": 0.03, "garbage": 0.03},
        **{"wrong_schema": 0.05, "bad_caption": 0.02, "no_choices": 0.02},
    }
    assert sum(faults.values()) == pytest.approx(0.3)
    with llm_server(faults=faults, seed=5, retry_after_s=0.05) as server:
        result = run(profile(tmp_path, server.url), clips(tmp_path, 100), str(tmp_path / "data"), quiet=True)
        faulty = server.requests - server.answered
    found = records(result)
    assert kinds(result) == {"captions": 100, "rejected": 0, "failed": 0}
    assert len({record.clip.clip_id for record in found.values()}) == 100
    attempts = sum(len(record.attempts) for record in found.values())
    assert faulty > 10
    assert attempts > 2
    assert server.answered == 100 + attempts  # an answer that was paid for is never asked for again
    assert all(record.prompt == "auto_acd-1" and record.model == "any" and record.events for record in found.values())


def test_an_unchanged_rerun_asks_nothing_and_new_checks_ask_only_about_what_they_refuse(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with llm_server() as server:
        first = run(profile(tmp_path, server.url), clips(tmp_path, 20), data, quiet=True)
        asked = server.requests
        again = run(profile(tmp_path, server.url), clips(tmp_path, 20), data, quiet=True)
        assert (again.unchanged, again.version, server.requests) == (True, first.version, asked)
        elsewhere = profile(tmp_path, f"{server.url}/", in_flight=3, checks="most_words = 40")
        assert run(elsewhere, clips(tmp_path, 20), data, quiet=True).costs == {}
        refused = run(profile(tmp_path, server.url, checks="least_words = 30"), clips(tmp_path, 20), data, quiet=True)
        assert server.requests == asked + 2 * 20  # two more tries each
    assert kinds(refused) == {"captions": 0, "rejected": 20, "failed": 0}
    assert refused.manifest["reasons"] == {"rejected/caption_length": 20}
    assert all(isinstance(r, Rejection) and len(r.attempts) == 3 and r.caption for r in records(refused).values())


def test_what_it_took_is_on_each_record_in_the_manifest_and_in_the_next_plan(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with llm_server(faults={"bad_caption": 0.2}, seed=2) as server:
        result = run(profile(tmp_path, server.url), clips(tmp_path, 30), data, quiet=True)
        found = [record for record in records(result).values() if isinstance(record, Caption | Rejection)]
        spent = result.manifest["costs"]["caption"]
        assert spent["clips"] == 30 < server.answered
        assert spent["tokens_in"] == sum(record.tokens_in for record in found) > 30 * 100
        assert spent["tokens_out"] == sum(record.tokens_out for record in found)
        assert spent["dollars"] == pytest.approx(sum(record.dollars for record in found), abs=1e-4)
        assert spent["dollars"] == pytest.approx(spent["tokens_in"] / 1000 + spent["tokens_out"] / 500, abs=1e-3)
        plan = foresee(profile(tmp_path, server.url), clips(tmp_path, 50), data).as_json()
    step = next(step for step in plan["steps"] if step["name"] == "caption")
    assert (step["known"], step["to_do"]) == (30, 20)
    assert step["dollars"] == pytest.approx(spent["dollars"] * 20 / 30)
    assert plan["dollars"] == pytest.approx(step["dollars"])
    assert step["tokens_in"] == pytest.approx(spent["tokens_in"] * 20 / 30)


def test_when_the_budget_is_used_up_the_rest_waits_for_the_next_run(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with llm_server() as server:
        mine = profile(tmp_path, server.url)
        part = run(mine, clips(tmp_path, 40), data, budget_dollars=5.0, quiet=True)
        assert 0 < kinds(part)["captions"] < 40
        assert part.manifest["costs"]["caption"]["dollars"] <= 5.0
        left = [record for record in records(part).values() if isinstance(record, Failure)]
        assert len(left) == 40 - kinds(part)["captions"]
        assert all(record.retryable and "budget of $5" in record.error for record in left)
        whole = run(mine, clips(tmp_path, 40), data, quiet=True)
        assert kinds(whole)["captions"] == 40
        assert server.answered == 40


def test_a_killed_run_pays_for_no_answer_twice(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with llm_server(latency_s=0.05) as server:
        profile(tmp_path, server.url, in_flight=4, batch=64)
        clips(tmp_path, 100)
        command = [sys.executable, "-m", "beam_pipeline.cli", "run", "--profile", str(tmp_path / "mine.toml")]
        command += ["--clips", str(tmp_path / "clips.jsonl"), "--output", str(data)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while server.answered < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed_at = server.answered
        assert 30 <= killed_at < 100
        result = run(load_profile(str(tmp_path / "mine.toml")), clips(tmp_path, 100), str(data), quiet=True)
        assert kinds(result)["captions"] == 100
        # Only what was under way when the process died, at most 4 requests, had to be asked again.
        assert 100 <= server.answered <= 104


def test_a_server_that_is_down_ends_the_run_with_every_clip_accounted_for(tmp_path: Path) -> None:
    mine = profile(tmp_path, "http://127.0.0.1:9/v1", row="").caption
    row = Profile("down", "", {**mine, "patience_s": 1.0}, profile(tmp_path, "http://127.0.0.1:9/v1").cues)
    started = time.monotonic()
    result = run(row, clips(tmp_path, 60), str(tmp_path / "data"), quiet=True)
    assert time.monotonic() - started < 60
    assert kinds(result) == {"captions": 0, "rejected": 0, "failed": 60}
    assert all(isinstance(r, Failure) and r.retryable and r.step == "caption" for r in records(result).values())


@pytest.mark.parametrize(("fault", "said"), [("401", "check the key"), ("quota", "quota"), ("404", "check model")])
def test_what_would_go_wrong_for_every_clip_stops_the_run_with_what_to_do(
    fault: str, said: str, tmp_path: Path
) -> None:
    with (
        llm_server(faults={fault: 1.0}) as server,
        pytest.raises(RunError, match=said) as stopped,
    ):
        run(profile(tmp_path, server.url), clips(tmp_path, 20), str(tmp_path / "data"), quiet=True)
    assert KEY not in str(stopped.value)
    assert server.requests < 60
    assert not list((tmp_path / "data").glob("versions/*/manifest.json"))


def test_a_key_that_is_not_set_is_named_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EARSHOT_TEST_KEY")
    with llm_server() as server, pytest.raises((ConfigError, RunError), match="EARSHOT_TEST_KEY"):
        run(profile(tmp_path, server.url), clips(tmp_path, 5), str(tmp_path / "data"), quiet=True)


def test_the_key_is_in_no_file_no_output_and_no_pipeline(tmp_path: Path) -> None:
    with llm_server(faults={"401": 0.2, "500": 0.2}, seed=3) as server:
        profile(tmp_path, server.url)
        clips(tmp_path, 10)
        command = [sys.executable, "-m", "beam_pipeline.cli", "run", "--profile", str(tmp_path / "mine.toml")]
        command += ["--clips", str(tmp_path / "clips.jsonl"), "--output", str(tmp_path / "data"), "--verbose"]
        said = subprocess.run(command, capture_output=True, env={**os.environ, "EARSHOT_TEST_KEY": KEY})
        assert KEY in server.keys  # the server did get it
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    for secret in (KEY.encode(), KEY[3:20].encode()):
        assert secret not in said.stdout + said.stderr + written
    pipeline = beam.Pipeline()
    build(pipeline, Run(load_profile(str(tmp_path / "mine.toml")), clips(tmp_path, 1), str(tmp_path / "d"), 1, {}))
    assert KEY.encode() not in pipeline.to_runner_api().SerializeToString()


def test_a_run_killed_while_a_batch_is_answered_collects_it_the_next_time(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with llm_server(polls=1_000_000) as server:
        profile(tmp_path, server.url, batch=64, row='mode = "batch"\npoll_s = 0.05')
        clips(tmp_path, 20)
        command = [sys.executable, "-m", "beam_pipeline.cli", "run", "--profile", str(tmp_path / "mine.toml")]
        command += ["--clips", str(tmp_path / "clips.jsonl"), "--output", str(data)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not list(data.glob("store/asked/*/*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.wait()
        assert len(server.batches) == 1
        server.polls = 1
        result = run(load_profile(str(tmp_path / "mine.toml")), clips(tmp_path, 20), str(data), quiet=True)
        assert kinds(result) == {"captions": 20, "rejected": 0, "failed": 0}
        assert (len(server.batches), server.answered) == (1, 20)
        assert not list(data.glob("store/asked/*/*.json"))
        again = run(load_profile(str(tmp_path / "mine.toml")), clips(tmp_path, 20), str(data), quiet=True)
        assert (again.unchanged, len(server.batches)) == (True, 1)
