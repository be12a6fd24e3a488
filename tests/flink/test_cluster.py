"""The demo profile on a real Flink cluster: two TaskManagers, each with its own Python workers (`make test-flink`)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.config import PROFILES, load_profile
from beam_pipeline.run import Result, run
from demo.world import make_scene, write_scenes
from deploy.flink.cluster import Cluster
from tests.datasets import records
from transforms import versions
from transforms.ingest import ClipSource

KINDS = (None, None, None, None, None, "shifted", "silent", "no_video", "truncated")
ROOT = Path(__file__).parents[2]
RUN_S = 900.0

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers as for the local run: what is added up in which order
    # Two slots each, of which a job takes one: what is left of the cluster can go on alone.
    with Cluster(tmp_path_factory.mktemp("cluster"), task_managers=2, slots=2) as cluster:
        yield cluster
    assert not cluster.pids()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_scenes([make_scene(4321, index, fault=kind) for index, kind in enumerate(KINDS)], folder)
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's, in batches of one: a batch's size may change a sum's last digits, and each engine makes its own."""
    path = tmp_path_factory.mktemp("profile") / "single.toml"
    path.write_text(re.sub(r"batch_size = \d+", "batch_size = 1", (PROFILES / "demo.toml").read_text()))
    return path


@pytest.fixture(scope="module")
def local(profile: Path, clips: Path, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = str(tmp_path_factory.mktemp("local"))
    return run(load_profile(str(profile)), ClipSource(str(clips)), folder, quiet=True)


def started(cluster: Cluster, profile: Path, clips: Path, output: Path) -> subprocess.Popen[str]:
    """The command as a user runs it."""
    flags = [*cluster.flags, "--parallelism=2"]
    command = [sys.executable, "-m", "beam_pipeline.cli", "run", "--profile", str(profile), "--clips", str(clips)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "--output", str(output), *flags], env=environment, **pipes)


def wait_until(happens: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + RUN_S
    while not happens() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert process.poll() is None, process.communicate()
    assert happens()


def jobs(cluster: Cluster, state: str) -> list[dict[str, Any]]:
    return [job for job in cluster.ask("jobs/overview")["jobs"] if job["state"] == state]


def failures(cluster: Cluster, job: str) -> str:
    """What a job met and recovered from, as stack traces."""
    return "\n".join(
        entry["stacktrace"] for entry in cluster.ask(f"jobs/{job}/exceptions")["exceptionHistory"]["entries"]
    )


def published(output: Path) -> Result:
    version = versions.current(str(output))
    assert version is not None
    return Result(str(output), version, versions.manifest(str(output), version), {}, 0.0)


def assert_the_same(there: Result, here: Result) -> None:
    assert records(there) == records(here)
    for what in ("counts", "reasons", "splits", "digest"):
        assert there.manifest[what] == here.manifest[what]


def test_the_dataset_is_the_local_one(
    cluster: Cluster, profile: Path, clips: Path, local: Result, tmp_path: Path
) -> None:
    process = started(cluster, profile, clips, tmp_path)
    out, err = process.communicate(timeout=RUN_S)
    assert process.returncode == 0, err
    assert_the_same(published(tmp_path), local)
    assert f"is run on http://{cluster.master}" in err
    assert " tasks done" in err
    assert "What came out" in out
    assert re.search(r"\b9\b\W+clips in", out)
    assert not list(tmp_path.rglob("*.part"))


def test_a_job_that_loses_a_task_manager_recovers_and_nothing_is_lost_or_doubled(
    cluster: Cluster, profile: Path, clips: Path, local: Result, tmp_path: Path
) -> None:
    process = started(cluster, profile, clips, tmp_path)
    wait_until(lambda: list(tmp_path.glob("store/cues/audio_tags/*/*.avro")), process)
    [job] = jobs(cluster, "RUNNING")
    cluster.kill_task_manager(2)
    try:
        _, err = process.communicate(timeout=RUN_S)
        assert process.returncode == 0, err
        assert "is no longer reachable" in failures(cluster, job["jid"])
        assert_the_same(published(tmp_path), local)
        assert [path.name for path in (tmp_path / "versions").iterdir()] == ["1"]
    finally:
        cluster.start_task_manager(2)
        cluster.wait(2)


def test_ctrl_c_cancels_the_job_and_says_so(cluster: Cluster, profile: Path, clips: Path, tmp_path: Path) -> None:
    process = started(cluster, profile, clips, tmp_path)
    wait_until(lambda: jobs(cluster, "RUNNING"), process)
    [job] = jobs(cluster, "RUNNING")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "stopped; the job was cancelled, nothing of it was published" in err
    assert "Traceback" not in err
    assert cluster.ask(f"jobs/{job['jid']}")["state"] == "CANCELED"
    assert not list((tmp_path / "versions").iterdir())
