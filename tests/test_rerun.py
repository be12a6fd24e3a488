"""A scheduled rerun looks first whether there is anything to do, and starts a job only if there is."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from beam_pipeline import rerun
from beam_pipeline.config import load_profile
from beam_pipeline.needed import inputs, need
from beam_pipeline.run import run
from demo.world import make_scene, write_scenes
from tests.datasets import CLIPS, listed, profile, rows
from transforms.ingest import ClipSource


class Dataflow:
    """Google's token and launch methods on this machine; notes what it is asked for."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.launched: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.replies: list[tuple[int, dict[str, Any]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/token":
                    self.reply(200, {"access_token": "issued", "expires_in": 3600, "token_type": "Bearer"})
                    return
                service.launched.append({"path": self.path, **json.loads(body)})
                service.tokens.append(self.headers["Authorization"])
                ready = service.replies.pop(0) if service.replies else (200, {"job": {"id": "2026-job"}})
                self.reply(*ready)

            def reply(self, status: int, content: dict[str, Any]) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        (folder / "key.json").write_text(json.dumps(_service_account(f"{self.endpoint}/token")))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(folder / "key.json"))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def _service_account(token_uri: str) -> dict[str, str]:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    named = {"type": "service_account", "project_id": "p", "client_email": "launcher@p.iam", "private_key_id": "0"}
    return {**named, "private_key": key.decode(), "token_uri": token_uri}


@pytest.fixture
def dataflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataflow]:
    service = Dataflow(tmp_path, monkeypatch)
    yield service
    service.close()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rerun")
    write_scenes([make_scene(4321, index) for index in range(CLIPS)], folder)
    return folder


@pytest.fixture
def media(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the clips, for one test."""
    return Path(shutil.copytree(drawn, tmp_path / "media"))


@pytest.fixture(scope="module")
def done(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the drawn clips of which nothing is left to do; for tests that change neither."""
    folder = tmp_path_factory.mktemp("done")
    run(profile(folder), ClipSource(str(drawn / "clips.csv")), str(folder / "data"), quiet=True)
    return folder / "data"


def command(dataflow: Dataflow, folder: Path, clips: Path, data: Path) -> list[str]:
    named = {"project": "p", "region": "r", "template": "gs://b/t.json", "job-name": "earshot"}
    named |= {"worker-account": "worker@p.iam", "staging": "gs://s", "endpoint": dataflow.endpoint}
    given = {"profile": folder / "mine.toml", "clips": clips, "output": data, "preset": "l4"}
    return [f"--{n}={v}" for n, v in named.items()] + [f"--parameter={n}={v}" for n, v in given.items()]


def test_nothing_is_needed_after_a_run_until_something_changes(drawn: Path, done: Path, tmp_path: Path) -> None:
    source = ClipSource(str(drawn / "clips.csv"))
    assert need(profile(tmp_path), source, str(done)).why == "nothing has changed since version 1"
    assert not need(profile(tmp_path), source, str(done)).needed
    assert need(profile(tmp_path, tags=2), source, str(done)).why == "changed: cue audio_tags"
    assert need(profile(tmp_path, silence=-50.0), source, str(done)).why == "changed: filters"
    assert need(profile(tmp_path, at_most=1), source, str(done)).why == "changed: writer"
    assert need(profile(tmp_path), source, str(tmp_path / "new")).why == "nothing has been published yet"
    limited = need(profile(tmp_path), ClipSource(str(drawn / "clips.csv"), limit=2), str(done))
    assert limited.why == "changed: source"


def test_a_change_of_the_list_is_seen_and_one_of_the_profiles_words_is_not(media: Path, tmp_path: Path) -> None:
    listing, data = rows(media), str(tmp_path / "data")
    source = listed(tmp_path, media, *listing[:2])
    run(profile(tmp_path), source, data, quiet=True)
    text = (tmp_path / "mine.toml").read_text()
    (tmp_path / "mine.toml").write_text('notice = "read this"\n' + text)
    assert not need(load_profile(str(tmp_path / "mine.toml")), source, data).needed
    assert need(profile(tmp_path), listed(tmp_path, media, *listing[:3]), data).why == "the list of clips has changed"


def test_a_failure_is_a_reason_where_a_retry_may_mend_it_or_where_that_is_asked_for(
    media: Path, tmp_path: Path
) -> None:
    (a, *_), data = rows(media), str(tmp_path / "data")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    source = listed(tmp_path, media, a, {**a, "clip_id": "broken", "uri": str(tmp_path / "broken.mp4")})
    run(profile(tmp_path), source, data, quiet=True)
    assert not need(profile(tmp_path), source, data).needed
    assert "1 of version 1's clips failed" in need(profile(tmp_path), source, data, retry_failed=True).why
    gone = listed(tmp_path, media, a, {**a, "clip_id": "gone", "uri": "gone.mp4"})
    done = run(profile(tmp_path), gone, data, quiet=True)
    retryable = [failure.retryable for failure in done.read("failed")]
    assert need(profile(tmp_path), gone, data).needed == any(retryable)


def test_a_folder_of_clips_counts_by_its_names(media: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"1")
    chosen, source = profile(tmp_path), ClipSource(str(folder))
    first = inputs(chosen, source)
    (folder / "a.wav").write_bytes(b"replaced under its name, which the store does not notice either")
    assert inputs(chosen, source) == first
    (folder / "b.wav").write_bytes(b"1")
    assert inputs(chosen, source) != first


def test_a_later_version_that_found_everything_as_it_was_counts(media: Path, tmp_path: Path) -> None:
    chosen, source, data = profile(tmp_path), ClipSource(str(media / "clips.csv")), tmp_path / "data"
    run(chosen, source, str(data), quiet=True)
    (media / "clips.csv").write_text((media / "clips.csv").read_text() + "\n")  # other bytes, the same clips
    assert need(chosen, source, str(data)).why == "the list of clips has changed"
    manifest = json.loads((data / "versions" / "1" / "manifest.json").read_text())
    later = {**manifest, "version": 2, "inputs": inputs(chosen, source), "same_as": 1}
    (data / "versions" / "2").mkdir()
    (data / "versions" / "2" / "claimed").touch()
    (data / "versions" / "2" / "manifest.json").write_text(json.dumps(later))
    assert not need(chosen, source, str(data)).needed


def test_shards_count_by_their_names_and_sizes(media: Path, tmp_path: Path) -> None:
    chosen, source = profile(tmp_path), ClipSource(str(tmp_path / "*.tar"))
    clip = next((media / "clips").glob("*.mp4"))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(clip, "a.mp4")
    first = inputs(chosen, source)
    assert inputs(chosen, source) == first
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        tar.add(clip, "b.mp4")
    assert inputs(chosen, source) != first


def test_no_job_is_started_when_nothing_has_changed(
    dataflow: Dataflow, drawn: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(tmp_path)
    assert rerun.main(command(dataflow, tmp_path, drawn / "clips.csv", done)) == 0
    assert dataflow.launched == []
    assert 'needed=false why="nothing has changed since version 1"' in capsys.readouterr().out


def test_a_job_is_started_as_the_worker_when_something_has(
    dataflow: Dataflow, drawn: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(tmp_path, tags=2)
    dataflow.replies = [(503, {}), (200, {"job": {"id": "2026-job"}})]
    assert rerun.main(command(dataflow, tmp_path, drawn / "clips.csv", done)) == 0
    assert 'job="2026-job"' in capsys.readouterr().out
    assert len(dataflow.launched) == 2  # asked again after the 503
    asked = dataflow.launched[-1]
    assert asked["path"] == "/v1b3/projects/p/locations/r/flexTemplates:launch"
    assert dataflow.tokens[-1] == "Bearer issued"
    launch = asked["launchParameter"]
    assert (launch["jobName"], launch["containerSpecGcsPath"]) == ("earshot", "gs://b/t.json")
    assert launch["environment"]["serviceAccountEmail"] == "worker@p.iam"
    assert launch["parameters"]["preset"] == "l4"
    assert launch["parameters"]["output"] == str(done)


def test_a_run_under_way_is_left_alone_and_a_refusal_is_an_error(
    dataflow: Dataflow, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(tmp_path)
    arguments = command(dataflow, tmp_path, media / "clips.csv", tmp_path / "none")
    dataflow.replies = [(409, {"error": {"message": "there is an active job of this name"}})]
    assert rerun.main(arguments) == 0
    assert "running=true" in capsys.readouterr().out
    dataflow.replies = [(403, {"error": {"message": "no permission\nERROR forged"}})]
    assert rerun.main(arguments) == 1
    said = capsys.readouterr().err
    assert "403: no permission\\nERROR forged" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"profile": "nonesuch"}, "nonesuch"), ({"clips": "/no/such.csv"}, "does not exist"), ({"output": ""}, "output")],
)
def test_what_has_to_be_put_right_first_starts_nothing(
    changed: dict[str, str],
    message: str,
    dataflow: Dataflow,
    drawn: Path,
    done: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    profile(tmp_path)
    arguments = command(dataflow, tmp_path, drawn / "clips.csv", done)
    arguments += [f"--parameter={name}={value}" for name, value in changed.items()]
    assert rerun.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert dataflow.launched == []


def test_a_shard_that_was_replaced_by_one_of_its_size_counts(media: Path, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    chosen, source = profile(tmp_path), ClipSource(str(tmp_path / "shards"))
    shard = tmp_path / "shards" / "a[1].tar"
    with tarfile.open(shard, "w") as tar:
        tar.add(next((media / "clips").glob("*.mp4")), "a.mp4")
    first, size = inputs(chosen, source), shard.stat().st_size
    with tarfile.open(shard, "w") as tar:
        tar.add(next((media / "clips").glob("*.mp4")), "b.mp4")
    os.utime(shard, (1, 1))
    assert shard.stat().st_size == size
    assert inputs(chosen, source) != first


def test_what_is_no_clip_in_a_folder_of_clips_does_not_count(media: Path, tmp_path: Path) -> None:
    chosen, source = profile(tmp_path), ClipSource(str(media / "clips"))
    first = inputs(chosen, source)
    (media / "clips" / "out").mkdir()
    (media / "clips" / "out" / "manifest.json").write_text("{}")
    assert inputs(chosen, source) == first


def test_a_condition_and_the_order_of_cues_count(drawn: Path, done: Path, tmp_path: Path) -> None:
    chosen, source = profile(tmp_path), ClipSource(str(drawn / "clips.csv"))
    first, *others = chosen.cues
    turned = replace(chosen, cues={name: chosen.cues[name] for name in (*others, first)})
    assert need(turned, source, str(done)).why == "changed: order"
    wanted = {**chosen.cues["audio_tags"], "when": {"cue": "media"}}
    conditional = replace(chosen, cues={**chosen.cues, "audio_tags": wanted})
    assert need(conditional, source, str(done)).why == "changed: conditions"


def test_what_failed_again_just_as_before_is_left_alone_for_a_week(media: Path, tmp_path: Path) -> None:
    (a, *_), data = rows(media), tmp_path / "data"
    chosen, source = profile(tmp_path), listed(tmp_path, media, a, {**a, "clip_id": "gone", "uri": "gone.mp4"})
    run(chosen, source, str(data), quiet=True)
    assert "may be mended by a retry" in need(chosen, source, str(data)).why
    manifest = json.loads((data / "versions" / "1" / "manifest.json").read_text())
    shutil.copytree(data / "versions" / "1", data / "versions" / "2")
    for days, needed in ((1, False), (8, True)):  # as a job leaves it that nobody waited for
        finished = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
        later = {**manifest, "version": 2, "same_as": 1, "finished": finished}
        (data / "versions" / "2" / "manifest.json").write_text(json.dumps(later))
        assert need(chosen, source, str(data)).needed == needed
