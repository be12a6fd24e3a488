"""Other engines: a job is sent to a job service, and run by workers that know nothing but what they are sent.

Beam's own local job service needs no Java. Flink, which does, has tests of its own (`make test-flink`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import apache_beam as beam
import psutil
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline import engines
from beam_pipeline.config import ConfigError
from beam_pipeline.options import beam_options
from beam_pipeline.run import Result, RunError, run
from demo.world import make_scene, write_scenes
from model_handlers.base import Loaded
from tests.datasets import profile, records
from transforms import versions
from transforms.ingest import ClipSource
from transforms.publish import OUTCOMES, Publish

SERVICE = "apache_beam.runners.portability.local_job_service_main"
POOL = "apache_beam.runners.worker.worker_pool_main"
START_S = 60.0

pytestmark = pytest.mark.timeout(240)


@contextmanager
def process(*arguments: str, cwd: Path) -> Iterator[int]:
    """A program in a session of its own, which ends with everything that it started, whatever happens here."""
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"]]
    )  # a pool's workers are a bare `python`
    environment = {
        "PATH": path,
        "HOME": str(cwd),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    with (cwd / f"{arguments[0]}.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=cwd, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield child.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def alive(group: int) -> list[psutil.Process]:
    """The processes of a group that are more than an entry in a table."""
    found = []
    for each in psutil.process_iter(["status"]):
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(each.pid) == group and each.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(each)
    return psutil.wait_procs(found, timeout=10)[1]


def port_in(file: Path) -> int:
    deadline = time.monotonic() + START_S
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return int(file.read_text())


def wait_until_it_listens(port: int) -> None:
    """Beam asks a pool for a worker once: one that is still importing refuses, and ends the job."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("localhost", port), timeout=START_S).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    kinds = [None, None, "silent", "no_video", "truncated"]
    write_scenes([make_scene(4321, index, fault=kind) for index, kind in enumerate(kinds)], folder)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("service")
    with process(SERVICE, "--port_file", "port", "--staging_dir", "staged", cwd=folder):
        yield f"localhost:{port_in(folder / 'port')}"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    with process(POOL, f"--service_port={port}", cwd=tmp_path) as pid:
        wait_until_it_listens(port)
        yield f"localhost:{port}"
    assert not alive(pid)


@pytest.fixture(scope="module")
def local(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("local")
    return run(profile(folder), ClipSource(str(media / "clips.csv")), str(folder / "data"), quiet=True)


def flags(service: str, environment: str, config: str = "") -> list[str]:
    given = ["--runner=PortableRunner", f"--job_endpoint={service}", f"--environment_type={environment}"]
    return [*given, f"--environment_config={config}"] if config else given


def assert_the_same(here: Result, there: Result) -> None:
    assert records(there) == records(here)
    assert there.manifest["digest"] == here.manifest["digest"]
    assert there.manifest["counts"] == here.manifest["counts"]


def test_a_job_service_whose_workers_are_threads_of_ours_gives_the_local_records(
    media: Path, local: Result, service: str, tmp_path: Path
) -> None:
    source = ClipSource(str(media / "clips.csv"))
    there = run(profile(tmp_path), source, str(tmp_path / "data"), flags(service, "LOOPBACK"), quiet=True)
    assert local.manifest["counts"] == {"clips_in": 5, "captions": 3, "rejected": 1, "failed": 1}
    assert_the_same(local, there)


def test_worker_processes_that_share_nothing_with_ours_give_the_local_records(
    media: Path, local: Result, service: str, pool: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = ClipSource(str(media / "clips.csv"))
    there = run(profile(tmp_path), source, str(tmp_path / "data"), flags(service, "EXTERNAL", pool))
    assert_the_same(local, there)
    assert "is run by PortableRunner" in capfd.readouterr().err


def test_a_model_that_fails_in_a_worker_is_named_in_one_line_and_nothing_is_published(
    media: Path, service: str, pool: str, tmp_path: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "Cnn14_mAP=0.431.pth").write_bytes(b"not a checkpoint")
    (tmp_path / "broken" / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/0,Dog\n")
    whole = profile(tmp_path)
    cues = {**whole.cues, "audio_tags": {**whole.cues["audio_tags"], "model": str(tmp_path / "broken")}}
    broken, source = replace(whole, cues=cues), ClipSource(str(media / "clips.csv"))
    with pytest.raises(RunError) as caught:
        run(broken, source, str(tmp_path / "data"), flags(service, "EXTERNAL", pool), quiet=True)
    said = str(caught.value)
    assert "Cnn14" in said
    assert "Traceback" not in said
    assert "\n" not in said
    assert not list((tmp_path / "data" / "versions").iterdir())


def test_a_job_endpoint_where_nobody_answers_is_an_error_that_says_so(media: Path, tmp_path: Path) -> None:
    nobody = [*flags("localhost:1", "LOOPBACK"), "--job_server_timeout=1"]
    with pytest.raises(RunError, match="nobody answers at --job_endpoint"):
        run(profile(tmp_path), ClipSource(str(media / "clips.csv")), str(tmp_path / "data"), nobody, quiet=True)


def test_models_of_several_steps_load_one_at_a_time() -> None:
    """Lazy imports, as transformers has them, fail now and then when two threads meet in them."""
    at_once, most = 0, 0

    def load() -> object:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        time.sleep(0.02)
        at_once -= 1
        return object()

    threads = [threading.Thread(target=Loaded(load).get) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--runner=FlinkRunner", "--flink_master=host:8081"], "http://host:8081"),
        (["--runner=FlinkRunner", "--flink_master=https://host/flink/"], "https://host/flink"),
        (["--runner=FlinkRunner"], None),
        (["--runner=PortableRunner", "--job_endpoint=host:8099"], None),
    ],
)
def test_the_cluster_that_can_cancel_a_job_is_the_one_that_the_options_name(
    given: list[str], expected: str | None
) -> None:
    cluster = engines.Flink.of(beam_options(given))
    assert (cluster and cluster.master) == expected


@pytest.mark.parametrize("shards", [1, 3])
def test_a_publication_that_is_repeated_with_other_files_leaves_what_was_published(
    local: Result, tmp_path: Path, shards: int
) -> None:
    """An engine that loses a worker after the manifest was written, and before it heard so, does it all again."""
    root, outcomes = str(tmp_path), {name: list(local.read(name)) for name in OUTCOMES}
    version = versions.claim(root, "test")
    for files in (3, shards):
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            inputs = {name: pipeline | name >> beam.Create(ended) for name, ended in outcomes.items()}
            origins = [ended.clip.origin for name in OUTCOMES for ended in outcomes[name]]
            inputs["listed"] = pipeline | "listed" >> beam.Create(origins)
            inputs["costs"] = pipeline | "no costs" >> beam.Create([])
            _ = inputs | Publish(root, version, {}, files)
        found = versions.manifest(root, version)
        assert versions.current(root) == version
        assert "same_as" not in found
        assert found["digest"] == local.manifest["digest"]
        assert records(Result(root, version, found, {}, 0.0)) == records(local)


class _Overview(BaseHTTPRequestHandler):
    """A JobManager's answer to who it is."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"flink-version": "1.20.5", "slots-total": 4}')

    def log_message(self, *_: object) -> None:
        pass


def test_a_cluster_of_another_version_and_one_that_is_not_there_are_seen_before_any_work(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("localhost", 0), _Overview)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    master = f"--flink_master=localhost:{server.server_port}"
    with pytest.raises(ConfigError, match=r"runs Flink 1\.20\.5; add --flink_version=1\.20"):
        engines.check(beam_options(["--runner=FlinkRunner", master]))
    engines.check(beam_options(["--runner=FlinkRunner", master, "--flink_version=1.20"]))
    server.shutdown()
    server.server_close()
    with pytest.raises(ConfigError, match="no JobManager answers"):
        run(profile(tmp_path), ClipSource("c.csv"), str(tmp_path / "data"), ["--runner=FlinkRunner", master])
    assert not (tmp_path / "data").exists()


def test_paths_are_whole_where_workers_have_another_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ClipSource("a/clips.csv", media="{video_id}.mp4", class_labels="gs://bucket/names.csv")
    source, output = engines.whole_paths(given, "out", beam_options(["--runner=FlinkRunner"]))
    assert (source.clips, source.media) == (f"{tmp_path}/a/clips.csv", f"{tmp_path}/{{video_id}}.mp4")
    assert (source.class_labels, output) == ("gs://bucket/names.csv", f"{tmp_path}/out")
    assert engines.whole_paths(given, "out", beam_options([])) == (given, "out")


@pytest.mark.parametrize(
    ("error", "line", "what"),
    [
        (
            "Pipeline BeamApp-1 failed in state FAILED: java.net.ConnectException: Connection refused",
            "ConnectException: Connection refused",
            "--flink_master",
        ),
        (
            "org.apache.flink.runtime.JobException: Recovery is suppressed\n\tat org.apache.Flink.run(Flink.java:1)\n"
            "Caused by: java.io.IOException: Insufficient number of network buffers: required 512",
            "IOException: Insufficient number of network buffers: required 512",
            "sort-shuffle.min-buffers",
        ),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'java'", None, "needs Java"),
        ("something else", "something else", ""),
    ],
)
def test_an_engines_error_becomes_a_line_and_what_to_do(error: str, line: str | None, what: str) -> None:
    assert line in (None, engines.plain_error(error))
    assert what in engines.advice(error)
    assert bool(what) == bool(engines.advice(error))
