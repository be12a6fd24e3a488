"""Decodes in processes of their own, so that a file that crashes, hangs or fills the memory fails alone.

This is the parent's side; a child is `transforms.decoding_child`, run as a program. The pictures and samples come back
in shared memory (`transforms.segments`).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from model_handlers.views import AudioVideoView, Decoded, MediaInfo, MomentsView, View
from transforms.decoding_child import START_TIMEOUT_S
from transforms.media import Limits, MediaError, NoTrack
from transforms.pieces import Piece
from transforms.segments import look_at
from transforms.tfio_audio import DecoderMissing

_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Decoder:
    """Decodes clips in child processes, which are started as they are needed and kept. Safe to use from many threads.

    Args:
        limits: what one decode may take.
        processes: how many decodes may run at once, at most.
    """

    def __init__(self, limits: Limits | None = None, processes: int = 1) -> None:
        self._limits = limits or Limits()
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="decoder")
        self._lock = threading.Lock()
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []
        self._closed = False

    def submit(
        self,
        path: str | Path | Piece,
        clip_start_s: float,
        duration_s: float | None,
        view: View,
        spent: Callable[[float], None] = lambda seconds: None,
    ) -> Future[Decoded]:
        """Starts a decode as soon as a process is free; takes what `transforms.media.decode` takes.

        `spent` is told, before the future is done, how many seconds the decode took, waiting for a process left out.

        Returns a future whose `result()` is the payload, or raises `NoTrack` or `MediaError`; the latter also when the
        decode took too long or too much memory, or crashed. Raises `DecoderMissing` where the view's decoder is not
        installed.
        """
        request = {
            "path": asdict(path) if isinstance(path, Piece) else str(path),
            "clip_start_s": clip_start_s,
            "duration_s": duration_s,
            "view": [type(view).__name__, asdict(view)],
            "limits": asdict(self._limits),
        }
        return self._threads.submit(self._timed, request, spent)

    def pids(self) -> list[int]:
        """The ids of the running child processes."""
        with self._lock:
            return [child.pid for child in self._children]

    def close(self) -> None:
        """Ends the child processes. What was submitted and is not done is cancelled or fails with `RuntimeError`."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for child in self._children:
                child.kill()
        self._threads.shutdown()
        for child in self._children:
            child.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _timed(self, request: dict[str, Any], spent: Callable[[float], None]) -> Decoded:
        started = time.monotonic()
        try:
            return self._decode(request)
        finally:
            spent(time.monotonic() - started)

    def _decode(self, request: dict[str, Any]) -> Decoded:
        child = self._take()
        try:
            if request["view"][1].get("decoder") == "tensorflow-io":
                child.load_tensorflow()
            payload = child.decode(request, self._limits.timeout_s)
        except _ChildLostError as lost:
            self._drop(child)
            if self._closed:
                raise RuntimeError("the decoder was closed") from lost
            raise MediaError(str(lost), lost.retryable) from None
        except (MediaError, NoTrack, DecoderMissing):
            self._give_back(child)
            raise
        except BaseException:
            self._drop(child)
            raise
        self._give_back(child)
        return payload

    def _take(self) -> _Child:
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            if idle.is_alive():
                return idle
            self._drop(idle)  # ended between two requests, so neither is to blame
            return self._take()
        child = _Child()
        with self._lock:
            self._children.add(child)
        return child

    def _give_back(self, child: _Child) -> None:
        with self._lock:
            self._idle.append(child)

    def _drop(self, child: _Child) -> None:
        with self._lock:
            self._children.discard(child)
        child.kill()


_shared: dict[tuple[int, Limits], Decoder] = {}
_shared_lock = threading.Lock()


def shared_decoder(limits: Limits) -> Decoder:
    """Returns this process's decoder for `limits`; all steps of a worker share it. It has at most a child a core."""
    with _shared_lock:
        key = (os.getpid(), limits)  # threads and sockets do not survive a fork
        if key not in _shared:
            _shared[key] = Decoder(limits, processes=os.cpu_count() or 1)
        return _shared[key]


class _ChildLostError(Exception):
    """A child that gave no answer."""

    def __init__(self, message: str, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class _Child:
    """The parent's side of a child process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        # Once it has Google's credentials, Beam gives every new socket of this process a timeout, which would leave the
        # child's end such that it reads nothing where there is nothing yet.
        theirs.setblocking(True)
        root = str(Path(__file__).parent.parent)
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "transforms.decoding_child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"},
            )
        self._socket = ours
        self._has_tensorflow = False
        self._unused: list[int] = []  # numbers of segments that nothing in this process looks at any more
        self.pid = self._process.pid
        try:
            self._receive(time.monotonic() + START_TIMEOUT_S)
        except (EOFError, TimeoutError) as error:
            self.kill()
            raise RuntimeError(
                f"the decoding process cannot be started (exit code {self._process.returncode}); "
                f"`{sys.executable} -P -m transforms.decoding_child` shows why"
            ) from error

    def load_tensorflow(self) -> None:
        """Makes the child ready for views by tensorflow-io. Raises `DecoderMissing`, or RuntimeError if it ends."""
        if self._has_tensorflow:
            return
        try:
            self._socket.sendall(b'{"load": "tensorflow-io"}\n')
            reply, _ = self._receive(time.monotonic() + START_TIMEOUT_S)
        except (EOFError, TimeoutError, ConnectionError) as error:
            self.kill()
            raise RuntimeError(
                f"the decoding process cannot load TensorFlow (exit code {self._process.returncode}); "
                f"`{sys.executable} -c 'import tensorflow_io'` shows why"
            ) from error
        if reply["is"] == "missing":
            raise DecoderMissing(reply["message"])
        if reply["is"] != "ready":
            raise RuntimeError(f"the decoding process met a bug:\n{reply['traceback']}")
        self._has_tensorflow = True

    def decode(self, request: dict[str, Any], timeout_s: float) -> Decoded:
        unused = [self._unused.pop() for _ in range(len(self._unused))]
        try:
            self._socket.sendall(json.dumps({**request, "unused": unused}).encode() + b"\n")
            reply, arrays = self._receive(time.monotonic() + timeout_s)
        except TimeoutError:
            raise _ChildLostError(f"decoding it took longer than {timeout_s:g} s", retryable=True) from None
        except (EOFError, ConnectionError):
            raise self._post_mortem(timeout_s) from None
        match reply["is"]:
            case "MediaError":
                raise MediaError(reply["message"], reply["retryable"])
            case "NoTrack":
                raise NoTrack(reply["reason"])
            case "MediaInfo":
                return MediaInfo(**reply["fields"])
            case "AudioVideoView":
                return AudioVideoView(*arrays)
            case "MomentsView":
                return MomentsView(*arrays)
            case "ndarray":
                return arrays[0]
        raise RuntimeError(f"the decoding process met a bug:\n{reply['traceback']}")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _receive(self, deadline: float) -> tuple[dict[str, Any], list[np.ndarray]]:
        """One reply, a line of JSON, and the arrays that came with it."""
        line = b""
        descriptors: list[int] = []
        try:
            while not line.endswith(b"\n"):
                self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
                part, received, _, _ = socket.recv_fds(self._socket, 1 << 16, 2, _CLOSE_ON_EXEC)
                descriptors += received
                if not part:
                    raise EOFError
                line += part
            reply = json.loads(line)
            pairs = zip(descriptors, reply.get("arrays", ()), strict=True)
            arrays = [look_at(descriptor, *facts, unused=self._unused) for descriptor, facts in pairs]
            return reply, arrays
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _post_mortem(self, timeout_s: float) -> _ChildLostError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.returncode
        if code == -signal.SIGXCPU:
            return _ChildLostError(f"decoding it took longer than {timeout_s:g} s", retryable=True)
        if code == -signal.SIGKILL:
            return _ChildLostError("the decoder was killed (SIGKILL; the machine may be out of memory)", retryable=True)
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return _ChildLostError(f"the decoder crashed ({how})", retryable=False)
