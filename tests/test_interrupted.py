"""Runs that are stopped, killed, or spread over processes: nothing half-done passes for a dataset."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from beam_pipeline.config import load_profile
from beam_pipeline.run import Result, run
from demo.world import make_scene, write_scenes
from transforms.ingest import ClipSource

CLIPS = 6
SPREAD = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    write_scenes([make_scene(4321, index) for index in range(CLIPS)], folder)
    return folder / "clips.csv"


def started(listed: Path, output: Path, *flags: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A run that is decoding: the process and its decoding children."""
    command = [sys.executable, "-m", "beam_pipeline.cli", "run", "--profile", "demo", "--clips", str(listed)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [*command, "--output", str(output), *flags],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a shell starts it: Ctrl-C reaches its children as well
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        decoders = children_of(process, "transforms.decoding_child")
        if decoders and list((output / "versions").iterdir()):
            return process, decoders
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"no run under way: {process.communicate()}")


def children_of(process: subprocess.Popen[str], module: str) -> list[psutil.Process]:
    """Its running descendants that are interpreters of a module."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie is none either
            if child.cmdline()[1:3] == ["-m", module] or child.cmdline()[1:4] == ["-P", "-m", module]:
                found.append(child)
    return found


def test_ctrl_c_ends_in_one_line_and_leaves_no_folder(listed: Path, tmp_path: Path) -> None:
    process, decoders = started(listed, tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; nothing of this run was published" in err
    assert "Traceback" not in out + err
    assert not list((tmp_path / "versions").iterdir())
    assert not psutil.wait_procs(decoders, timeout=10)[1]


def test_a_killed_run_leaves_no_dataset_and_no_process_and_the_next_one_completes(listed: Path, tmp_path: Path) -> None:
    process, decoders = started(listed, tmp_path)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(decoders, timeout=10)[1]
    assert not list(tmp_path.rglob("manifest.json"))
    again = run(load_profile("demo"), ClipSource(str(listed)), str(tmp_path), quiet=True)
    assert again.manifest["counts"]["clips_in"] == CLIPS
    assert len(list(tmp_path.rglob("manifest.json"))) == 1


def test_a_killed_worker_process_ends_the_run_and_the_next_one_completes(listed: Path, tmp_path: Path) -> None:
    process, decoders = started(listed, tmp_path, *SPREAD)
    children_of(process, "apache_beam.runners.worker.sdk_worker_main")[0].kill()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a worker process was killed (SIGKILL; the machine may be out of memory)" in err
    assert "nothing was published" in err
    assert "Traceback" not in out + err, err
    assert not psutil.wait_procs(decoders, timeout=10)[1]
    again = run(load_profile("demo"), ClipSource(str(listed)), str(tmp_path), SPREAD, quiet=True)
    assert again.manifest["counts"]["clips_in"] == CLIPS


def test_ctrl_c_stops_worker_processes_too(listed: Path, tmp_path: Path) -> None:
    process, decoders = started(listed, tmp_path, *SPREAD)
    workers = children_of(process, "apache_beam.runners.worker.sdk_worker_main")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; nothing of this run was published" in err
    assert not psutil.wait_procs([*workers, *decoders], timeout=10)[1]


def test_worker_processes_give_what_one_process_gives(listed: Path, tmp_path: Path) -> None:
    def captions(result: Result) -> dict[str, str]:
        return {caption.clip.clip_id: caption.caption for caption in result.read("captions")}

    alone, together = (
        run(load_profile("demo"), ClipSource(str(listed)), str(tmp_path / name), flags, quiet=True)
        for name, flags in (("alone", ()), ("together", SPREAD))
    )
    assert captions(alone)
    assert captions(together) == captions(alone)


def test_ctrl_c_stops_a_run_whose_libraries_swallow_it(listed: Path, tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "from model_handlers.place import Place\n"
        "def predict(self, batch, model):\n"
        "    for _ in range(2):\n"
        "        try:\n"
        "            signal.raise_signal(signal.SIGINT) if _ == 0 else time.sleep(60)\n"
        "        except BaseException as error:\n"
        "            if _ == 1: raise\n"
        "Place.predict = predict\n"
        "from beam_pipeline.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = ["run", "--profile", "demo", "--clips", str(listed), "--output", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code, *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 130
    assert "stopped; nothing of this run was published" in done.stderr
    assert not list((tmp_path / "versions").iterdir())
