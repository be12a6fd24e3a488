"""Files in a bucket: fetched whole or not at all, whatever goes wrong on the way, and removed again."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.cli import main
from tests.gcs import BUCKET, PASSING, Faults, Storage, faulty_storage, upload
from transforms import fetch, remote
from transforms.fetch import open_media
from transforms.media import MediaError

CONTENT = random.Random(3).randbytes(3_000_000)
URL = f"gs://{BUCKET}/clips/a.mp4"
QUICK = remote.Patience(wait_s=0.01, most_wait_s=0.05)


@pytest.fixture(scope="module")
def running() -> Iterator[Storage]:
    patch = pytest.MonkeyPatch()
    with faulty_storage() as storage:
        patch.setenv("STORAGE_EMULATOR_HOST", storage.address)
        patch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
        upload(URL, CONTENT)
        yield storage
    patch.undo()


@pytest.fixture
def bucket(running: Storage) -> Iterator[Storage]:
    """A storage without faults; a test sets its own."""
    running.forget()
    yield running
    running.faults = Faults(0)


class Once(Faults):
    """A fault at the first time that something is asked for."""

    def hits(self, what: str, times: int) -> str:
        return super().hits(what, times) if times == 1 else ""


def copies() -> list[Path]:
    return list(fetch.scratch(os.getpid()).glob("clip-*"))


def test_a_fetch_is_one_request_of_the_cheap_class(bucket: Storage) -> None:
    with open_media(URL, patience=QUICK) as path:
        assert isinstance(path, Path)
        assert path.suffix == ".mp4"
        assert path.read_bytes() == CONTENT
    asked = bucket.operations()
    assert asked["read"] == 1
    assert not asked["list"]
    assert not asked["metadata"]
    assert copies() == []


@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_costs_another_request_and_nothing_else(bucket: Storage, kind: str) -> None:
    bucket.faults = Once(1.0, kinds=(kind,), only="^GET")
    with open_media(URL, patience=QUICK) as path:
        assert path.read_bytes() == CONTENT
    assert bucket.met[kind] >= 1
    assert remote.read(URL, 1000, 2000) == CONTENT[1000:3000]
    assert remote.size_of(URL) == len(CONTENT)


def test_a_download_that_was_cut_goes_on_where_it_broke_off(bucket: Storage) -> None:
    bucket.faults = Once(1.0, kinds=("cut",), only="alt=media")
    sink = io.BytesIO()
    assert remote.copy(URL, sink, 1 << 30) == len(CONTENT)
    assert sink.getvalue() == CONTENT
    first, *others = [size for what, _, size in bucket.asked if what == "read"]
    assert first == len(CONTENT)
    assert 0 < max(others) < len(CONTENT)


def test_damaged_content_is_noticed_and_fetched_again(bucket: Storage) -> None:
    bucket.faults = Once(1.0, kinds=("damaged",), only="alt=media")
    with open_media(URL, patience=QUICK) as path:
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()
    assert bucket.operations()["read"] == 2
    bucket.faults = Faults(1.0, kinds=("damaged",), only="alt=media")
    with (
        pytest.raises(MediaError, match="its CRC32C says, 3 times") as caught,
        open_media(URL, patience=QUICK),
    ):
        pass
    assert caught.value.retryable
    assert copies() == []


def test_a_thousand_reads_of_which_a_third_goes_wrong_are_all_right(bucket: Storage) -> None:
    bucket.faults = Faults(0.33, seed=1, slow_s=0.01)
    rng = random.Random(2)
    for _ in range(300):
        first, length = rng.randrange(len(CONTENT)), rng.randrange(1, 50_000)
        assert remote.read(URL, first, length, QUICK) == CONTENT[first : first + length]
    assert set(bucket.met) == set(PASSING)


def test_a_storage_that_stays_away_is_a_failure_in_the_end(bucket: Storage) -> None:
    bucket.faults = Faults(1.0, kinds=("503",))
    brief = replace(QUICK, insist_s=0.5)
    with pytest.raises(MediaError, match="cannot fetch") as caught, open_media(URL, patience=brief):
        pass
    assert caught.value.retryable
    assert copies() == []


def test_bytes_that_trickle_are_given_up(bucket: Storage) -> None:
    bucket.faults = Faults(1.0, kinds=("slow",), slow_s=2.0)
    with open_media(URL, patience=replace(QUICK, grace_s=30.0)) as path:
        assert isinstance(path, Path)
        assert path.read_bytes() == CONTENT
    started, brief = time.monotonic(), replace(QUICK, grace_s=0.3, slowest=100e6)
    with pytest.raises(MediaError, match=r"after \d+ bytes given up"), open_media(URL, patience=brief):
        pass
    assert time.monotonic() - started < 2.0, "it was not read to its end"


def test_a_long_download_that_breaks_off_is_taken_up_again(bucket: Storage) -> None:
    class Slow(io.BytesIO):
        """Takes longer over the first piece than a request is insisted on."""

        def write(self, part: Any) -> int:
            if not self.tell():
                time.sleep(1.0)
            return super().write(part)

    bucket.faults, sink = Once(1.0, kinds=("cut",)), Slow()
    assert remote.copy(URL, sink, len(CONTENT), replace(QUICK, insist_s=0.5)) == len(CONTENT)
    assert sink.getvalue() == CONTENT
    assert bucket.met["cut"]


def test_what_is_stored_packed_is_refused_with_what_to_do(bucket: Storage) -> None:
    remote.blob_at(f"gs://{BUCKET}/packed.mp4").upload_from_string(gzip.compress(CONTENT[:1000]))
    bucket.packed.add("packed.mp4")
    with pytest.raises(MediaError, match="Content-Encoding gzip; upload it again") as caught:
        open_media(f"gs://{BUCKET}/packed.mp4").__enter__()
    assert not caught.value.retryable


def test_folders_that_were_left_half_made_or_half_removed_go_after_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folders = [tmp_path / name for name in ("earshot-new-a", "earshot-clips-b", "earshot-new-c", "earshot-clips-d")]
    for folder in folders:
        folder.mkdir()
    for folder in folders[:2]:
        os.utime(folder, (1, 1))
    code = "import os; from transforms.fetch import scratch; scratch(os.getpid())"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sorted(tmp_path.iterdir()) == sorted(folders[2:])


def test_a_server_that_says_nothing_is_not_waited_for(bucket: Storage) -> None:
    bucket.delay_s = 3.0
    started, brief = time.monotonic(), replace(QUICK, insist_s=0.5, silence_s=0.3)
    try:
        with pytest.raises(MediaError, match="cannot fetch"), open_media(URL, patience=brief):
            pass
    finally:
        bucket.delay_s = 0.0
    assert time.monotonic() - started < 3


def test_what_is_not_there_fails_for_good_and_what_is_forbidden_may_be_allowed(bucket: Storage) -> None:
    with pytest.raises(MediaError, match=f"no such file: gs://{BUCKET}/none.mp4") as caught:
        open_media(f"gs://{BUCKET}/none.mp4").__enter__()
    assert not caught.value.retryable
    bucket.faults = Faults(1.0, kinds=("403",))
    with pytest.raises(MediaError, match="no permission to read it") as caught, open_media(URL, patience=QUICK):
        pass
    assert caught.value.retryable


def test_a_file_beyond_the_limit_is_given_up_at_the_limit(bucket: Storage) -> None:
    written: list[int] = []

    class Noted(io.BytesIO):
        def write(self, part: Any) -> int:
            written.append(len(part))
            return super().write(part)

    with pytest.raises(remote.TooLarge):
        remote.copy(URL, Noted(), 100_000)
    assert 0 < sum(written) <= 100_000
    assert max(written) < 1 << 20  # never more than a little in memory
    with pytest.raises(MediaError, match="larger than the limit") as caught, open_media(URL, max_file_bytes=100_000):
        pass
    assert not caught.value.retryable
    assert copies() == []


def test_a_killed_process_leaves_a_folder_that_the_next_one_removes(tmp_path: Path, bucket: Storage) -> None:
    code = f"""
import os, signal, sys
import apache_beam.internal.gcp.auth as auth
auth.get_service_credentials = lambda options: None
from transforms.fetch import open_media
with open_media({URL!r}) as path:
    print(path, flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()
"""

    def start(how: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "TMPDIR": str(tmp_path), "STORAGE_EMULATOR_HOST": bucket.address}
        command = [sys.executable, "-c", code, how]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)

    with start("killed") as killed:
        left = Path(killed.communicate()[0].strip())
    assert killed.returncode == -signal.SIGKILL
    assert left.read_bytes() == CONTENT
    with start("waiting") as first, start("waiting") as second:
        assert first.stdout
        assert second.stdout
        here = Path(first.stdout.readline().strip()), Path(second.stdout.readline().strip())
        assert not left.parent.exists()
        assert all(path.exists() for path in here)  # nobody removes what is in use
        for process in (first, second):
            process.communicate("\n")
    assert list(tmp_path.glob("earshot-*")) == []


def test_each_process_has_a_folder_of_its_own_below_the_temporary_one() -> None:
    mine = fetch.scratch(os.getpid())
    assert mine.parent == Path(tempfile.gettempdir())
    assert not fetch._is_abandoned(mine)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ("gs://nobucket/clips.csv", "there is no bucket gs://nobucket"),
        ("gs://nobucket/*.tar", "there is no bucket gs://nobucket"),
        (f"gs://{BUCKET}/lists/lost.csv", "there is no bucket gs://nobucket"),
    ],
)
def test_a_bucket_that_does_not_exist_is_one_error_before_work(
    bucket: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str], clips: str, message: str
) -> None:
    upload(f"gs://{BUCKET}/lists/lost.csv", b"clip_id,uri\na,gs://nobucket/a.mp4\n")
    command = ["run", "--profile", "demo", "--clips", clips, "--output", str(tmp_path / "out")]
    assert main(command) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("manifest.json"))


def test_output_that_cannot_be_written_to_is_one_error_before_work(
    bucket: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clips.csv").write_text("clip_id,uri\na,/a.mp4\n")
    command = ["run", "--profile", "demo", "--clips", str(tmp_path / "clips.csv"), "--output"]
    assert main([*command, "gs://nobucket/out"]) == 2
    assert "cannot be written to" in " ".join(capsys.readouterr().err.split())
    bucket.faults = Faults(1.0, kinds=("403",))
    assert main([*command, f"gs://{BUCKET}/out"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be written to" in said
    assert "no permission" in said


def test_clips_that_may_not_be_read_are_one_error_before_work(
    bucket: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips.csv").write_text(f"clip_id,uri\na,{URL}\n")
    bucket.faults = Faults(1.0, kinds=("403",))
    for clips in (f"gs://{BUCKET}/clips", str(tmp_path / "clips.csv")):
        assert main(["run", "--profile", "demo", "--clips", clips, "--output", str(tmp_path / "out")]) == 2
        assert "no permission to read" in " ".join(capsys.readouterr().err.split())
