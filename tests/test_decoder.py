"""Decoding in a process of its own: the same results, and only the guilty clip fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apache_beam.io.localfilesystem import LocalFileSystem

from model_handlers.views import Audio, AudioVideo, AudioVideoView, Header, MediaInfo, MiddleFrame
from tests.media_files import mutated_files, write_clip
from transforms.decoder import Decoder, shared_decoder
from transforms.fetch import open_media
from transforms.media import Limits, MediaError, NoTrack, decode

SMALL = AudioVideo(fps=25, short_side=128, crop=112, rate=16_000)
VIEWS = (Header(), MiddleFrame(), Audio(16_000), SMALL)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("decoder") / "clip.mp4")


@pytest.fixture(scope="module")
def slow_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 s, so that a view of it takes seconds and hundreds of megabytes."""
    return write_clip(tmp_path_factory.mktemp("slow") / "slow.mp4", seconds=100.0, fps=1, channels=1, rate=8_000)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


def parts(payload: Any) -> list[np.ndarray]:
    return [payload.frames, payload.audio] if isinstance(payload, AudioVideoView) else [payload]


def started(decoder: Decoder, clip: Path) -> int:
    """The id of the one child process."""
    decoder.submit(clip, 0.0, None, Header()).result()
    (pid,) = decoder.pids()
    return pid


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1  # its other threads may still be ending
    except FileNotFoundError:
        return False


def soon(is_so: Callable[[], bool]) -> bool:
    """Whether it is so within ten seconds: threads and processes take a moment to clean up."""
    deadline = time.monotonic() + 10
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so()


def wait_until_gone(pid: int) -> bool:
    return soon(lambda: not is_running(pid))


def mapped(process: int | str) -> int:
    return Path(f"/proc/{process}/maps").read_text().count("earshot-view")


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_results_are_those_of_decoding_here(decoder: Decoder, clip: Path, view: Any) -> None:
    there, here = decoder.submit(clip, 0.3, 1.4, view).result(), decode(clip, 0.3, 1.4, view)
    assert type(there) is type(here)
    if isinstance(here, MediaInfo):
        assert there == here
    else:
        for one, other in zip(parts(there), parts(here), strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
            one[:] = 0  # may be written to, as torch.from_numpy asks


def test_errors_arrive_as_what_they_are(decoder: Decoder, tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", audio="")
    with pytest.raises(NoTrack, match="no audio track"):
        decoder.submit(silent, 0.0, None, Audio(16_000)).result()
    with pytest.raises(MediaError, match="no such file") as caught:
        decoder.submit(tmp_path / "nowhere.mp4", 0.0, None, Header()).result()
    assert caught.value.retryable
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(MediaError, match="empty") as caught:
        decoder.submit(tmp_path / "empty.mp4", 0.0, None, Header()).result()
    assert not caught.value.retryable


def test_a_bug_is_no_fault_of_the_clip(decoder: Decoder, clip: Path) -> None:
    with pytest.raises(RuntimeError, match="crop of 999"):
        decoder.submit(clip, 0.0, None, AudioVideo(crop=999)).result()


def test_the_child_needs_neither_beam_nor_torch() -> None:
    code = "import sys, transforms.decoding_child; print({'apache_beam', 'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("number", "words", "retryable"),
    [(signal.SIGSEGV, r"crashed \(SIGSEGV\)", False), (signal.SIGKILL, r"killed \(SIGKILL", True)],
)
def test_a_crash_fails_its_own_request_only(clip: Path, number: signal.Signals, words: str, retryable: bool) -> None:
    with Decoder() as decoder:
        pid = started(decoder, clip)
        os.kill(pid, signal.SIGSTOP)  # so that the request is under way when the signal comes
        doomed, next_one = (decoder.submit(clip, 0.0, None, SMALL) for _ in range(2))
        time.sleep(0.2)
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(MediaError, match=words) as caught:
            doomed.result()
        assert caught.value.retryable is retryable
        assert next_one.result().frames.shape == (50, 112, 112, 3)
        assert decoder.pids() != [pid]


def test_a_child_that_ended_while_idle_fails_no_request(clip: Path) -> None:
    with Decoder() as decoder:
        pid = started(decoder, clip)
        os.kill(pid, signal.SIGKILL)
        assert wait_until_gone(pid)
        assert decoder.submit(clip, 0.0, None, Header()).result().duration_s == 2.0


def test_a_hang_fails_its_own_request_only(clip: Path) -> None:
    with Decoder(Limits(timeout_s=2.0)) as decoder:
        pid = started(decoder, clip)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(MediaError, match="longer than 2 s") as caught:
            decoder.submit(clip, 0.0, None, Header()).result()
        assert caught.value.retryable
        assert wait_until_gone(pid)
        assert decoder.submit(clip, 0.0, None, Header()).result().duration_s == 2.0


def test_time_limit_counts_from_the_start_of_the_decode_not_of_the_wait(slow_clip: Path) -> None:
    with Decoder(Limits(timeout_s=20.0)) as decoder:
        waiting = [decoder.submit(slow_clip, 0.0, None, Header()) for _ in range(3)]
        assert all(future.result().duration_s == 100.0 for future in waiting)
    with Decoder(Limits(timeout_s=0.3)) as decoder, pytest.raises(MediaError, match=r"longer than 0\.3 s"):
        decoder.submit(slow_clip, 0.0, None, AudioVideo()).result()


def test_memory_limit_fails_the_request_and_spares_the_rest(clip: Path, slow_clip: Path) -> None:
    with Decoder() as decoder:
        status = Path(f"/proc/{started(decoder, clip)}/status").read_text()
    used = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmSize"))
    with Decoder(Limits(memory_bytes=used + (200 << 20))) as decoder:
        pid = started(decoder, clip)
        with pytest.raises(MediaError, match=r"more memory than the limit of \d\.\d GiB"):
            decoder.submit(slow_clip, 0.0, None, AudioVideo()).result()  # 376 MB of pictures
        assert decoder.submit(clip, 0.0, None, SMALL).result().frames.shape == (50, 112, 112, 3)
        assert decoder.pids() == [pid]


def test_nothing_is_left_behind(clip: Path) -> None:
    open_files, views = len(os.listdir("/proc/self/fd")), mapped("self")
    with Decoder(Limits(timeout_s=60.0)) as decoder:
        pid = started(decoder, clip)
        for _ in range(20):
            decoder.submit(clip, 0.0, None, SMALL).result()
        assert len(os.listdir("/proc/self/fd")) <= open_files + 2
        assert len(os.listdir(f"/proc/{pid}/fd")) < 12
        assert soon(lambda: mapped("self") <= views)
        assert mapped(pid) == 0
        os.kill(pid, signal.SIGSTOP)
        future = decoder.submit(clip, 0.0, None, SMALL)
        time.sleep(0.5)  # a child that dies before it was asked is replaced, and nothing is lost
        os.kill(pid, signal.SIGKILL)
        assert isinstance(future.exception(), MediaError)
        kept = decoder.submit(clip, 0.0, None, Audio(16_000)).result()
        (last,) = decoder.pids()
    assert wait_until_gone(last)
    assert np.abs(kept).max() > 0.4  # a result outlives the decoder
    del kept
    assert soon(lambda: mapped("self") <= views)
    assert len(os.listdir("/proc/self/fd")) <= open_files


@pytest.mark.parametrize("busy", [False, True])
def test_the_child_leaves_with_its_parent(clip: Path, slow_clip: Path, busy: bool) -> None:
    code = f"""
import os, time
from model_handlers.views import AudioVideo, Header
from transforms.decoder import Decoder
decoder = Decoder()
decoder.submit({str(clip)!r}, 0.0, None, Header()).result()
if {busy}:
    decoder.submit({str(slow_clip)!r}, 0.0, None, AudioVideo())
    time.sleep(0.2)
print(decoder.pids()[0], flush=True)
os.kill(os.getpid(), 9)
"""
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL
    assert wait_until_gone(int(parent.stdout))


def test_requests_run_ahead_side_by_side_and_from_many_threads(clip: Path) -> None:
    with Decoder(processes=2) as decoder, ThreadPoolExecutor(8) as threads:
        starts = [i / 40 for i in range(40)]
        futures = list(threads.map(lambda start: decoder.submit(clip, start, 0.5, Audio(16_000)), starts))
        for start, future in zip(starts, futures, strict=True):
            assert np.array_equal(future.result(), decode(clip, start, 0.5, Audio(16_000)))
        assert len(decoder.pids()) == 2


def test_memory_is_used_again_only_when_nothing_looks_at_it(clip: Path) -> None:
    with Decoder() as decoder:
        views = [decoder.submit(clip, 0.0, 1.0 + i / 10, Audio(16_000)).result() for i in range(4)]
        reversed_view, number = views[2][::-1], len(views[2])
        del views[2]
        for i in range(6):  # each into memory that nothing looks at, of which there is none at first
            assert decoder.submit(clip, 0.5, 1.0, Audio(16_000)).result().shape == (16_000,), i
        (pid,) = decoder.pids()
        assert len(os.listdir(f"/proc/{pid}/fd")) < 14
        for view, seconds in zip(views, (1.0, 1.1, 1.3), strict=True):
            assert np.array_equal(view, decode(clip, 0.0, seconds, Audio(16_000)))
        assert np.array_equal(reversed_view[::-1], decode(clip, 0.0, number / 16_000, Audio(16_000)))


def test_one_request_at_a_time_needs_one_child(clip: Path) -> None:
    with Decoder(processes=4) as decoder:
        assert decoder.pids() == []
        for _ in range(8):
            decoder.submit(clip, 0.0, None, Header()).result()
        assert len(decoder.pids()) == 1


def test_closing_ends_what_is_under_way(clip: Path, slow_clip: Path) -> None:
    decoder = Decoder()
    pid = started(decoder, clip)
    running = decoder.submit(slow_clip, 0.0, None, AudioVideo())
    waiting = decoder.submit(slow_clip, 0.0, None, AudioVideo())
    time.sleep(0.2)
    decoder.close()
    assert wait_until_gone(pid)
    assert isinstance(running.exception(), RuntimeError)
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(RuntimeError):
        decoder.submit(clip, 0.0, None, Header())


def test_steps_of_a_worker_share_a_decoder() -> None:
    assert shared_decoder(Limits(timeout_s=7.0)) is shared_decoder(Limits(timeout_s=7.0))
    assert shared_decoder(Limits(timeout_s=7.0)) is not shared_decoder(Limits(timeout_s=8.0))


def test_200_damaged_files_give_a_payload_or_a_named_failure(tmp_path: Path) -> None:
    files = mutated_files(tmp_path / "mutated", count=200, seed=0)
    assert len(files) == 200
    outcomes: dict[str, int] = {}
    with Decoder(Limits(timeout_s=20.0), processes=2) as decoder:
        futures = {
            (file.name, type(view).__name__): decoder.submit(file, 0.0, None, view) for file in files for view in VIEWS
        }
        for what, future in futures.items():
            error = future.exception()
            assert error is None or isinstance(error, MediaError | NoTrack), f"{what}: {error!r}"
            outcomes[type(error).__name__] = outcomes.get(type(error).__name__, 0) + 1
    assert min(outcomes["NoneType"], outcomes["MediaError"], outcomes["NoTrack"]) > 50


class MemoFileSystem(LocalFileSystem):
    """Local files under another scheme: what is not local to Earshot, on this machine."""

    @classmethod
    def scheme(cls) -> str:
        return "memo"

    def _list(self, dir_or_prefix: str) -> Any:
        return super()._list(dir_or_prefix.removeprefix("memo://"))

    def match(self, patterns: list[str], limits: list[int] | None = None) -> Any:
        return super().match([pattern.removeprefix("memo://") for pattern in patterns], limits)

    def _path_open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return super()._path_open(path.removeprefix("memo://"), *args, **kwargs)


def test_local_files_are_used_where_they_are(clip: Path) -> None:
    for uri in (str(clip), f"file://{clip}"):
        with open_media(uri) as path:
            assert path == clip


def test_remote_files_are_copied_and_removed(clip: Path) -> None:
    with open_media(f"memo://{clip}") as path:
        assert path != clip
        assert path.suffix == ".mp4"
        assert path.read_bytes() == clip.read_bytes()
        assert decode(path, 0.0, None, Header()).duration_s == 2.0
    assert not path.exists()


def test_remote_files_that_cannot_be_had_say_why(clip: Path) -> None:
    with pytest.raises(MediaError, match="larger than the limit"), open_media(f"memo://{clip}", max_file_bytes=1000):
        pass
    with pytest.raises(MediaError, match="no such file") as caught, open_media("memo:///nowhere/clip.mp4"):
        pass
    assert caught.value.retryable
    with pytest.raises(MediaError, match="cannot fetch nope://") as caught, open_media("nope://bucket/clip.mp4"):
        pass
    assert not caught.value.retryable


def test_a_child_does_not_grow_with_the_clips_it_has_decoded(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", seconds=6.0, size=(640, 480))

    def anonymous_mb(pid: int) -> float:
        status = Path(f"/proc/{pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) / 1024

    with Decoder() as decoder:
        for _ in range(5):
            decoder.submit(clip, 0.0, None, SMALL).result()
        (pid,) = decoder.pids()
        before = anonymous_mb(pid)
        for _ in range(25):
            decoder.submit(clip, 0.0, None, SMALL).result()
        grown = anonymous_mb(pid)
        assert grown < before + 40  # frames that nothing frees are megabytes a clip
