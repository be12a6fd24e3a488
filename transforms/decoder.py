"""Decodes in processes of their own, so that a file that crashes, hangs or fills the memory fails alone.

The pictures and samples come back in anonymous shared memory whose descriptor travels over the socket: nothing is
copied or pickled, and as the memory has no name, nothing is left behind however a process ends. Memory that the parent
has let go of is filled again: fresh pages would cost a tenth of a decode. A child is this module run as a program; it
imports `transforms.media` and what that needs, so neither Beam nor torch; TensorFlow only where a view's decoder is
tensorflow-io, before its first such view and outside of the limits on time and memory, which are a clip's.
"""

from __future__ import annotations

import gc
import json
import math
import mmap
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import numpy as np

from model_handlers.views import (
    Audio,
    AudioVideo,
    AudioVideoView,
    Decoded,
    Header,
    MediaInfo,
    MiddleFrame,
    Moments,
    MomentsView,
    View,
)
from transforms import tfio_audio
from transforms.media import Limits, MediaError, NoTrack, decode
from transforms.pieces import Piece
from transforms.tfio_audio import DecoderMissing

_VIEWS: dict[str, type[View]] = {view.__name__: view for view in (Header, MiddleFrame, Audio, AudioVideo, Moments)}
_START_TIMEOUT_S = 120.0
_CPU_GRACE_S = 5.0  # the parent's clock comes first; this one ends a child that hangs when its parent is gone
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # one call instead of a page fault for every 4 KiB
_KEPT_BYTES = 128 << 20  # of unused shared memory, for each child


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
                [sys.executable, "-P", "-m", "transforms.decoder", str(theirs.fileno())],
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
            self._receive(time.monotonic() + _START_TIMEOUT_S)
        except (EOFError, TimeoutError) as error:
            self.kill()
            raise RuntimeError(
                f"the decoding process cannot be started (exit code {self._process.returncode}); "
                f"`{sys.executable} -P -m transforms.decoder` shows why"
            ) from error

    def load_tensorflow(self) -> None:
        """Makes the child ready for views by tensorflow-io. Raises `DecoderMissing`, or RuntimeError if it ends."""
        if self._has_tensorflow:
            return
        try:
            self._socket.sendall(b'{"load": "tensorflow-io"}\n')
            reply, _ = self._receive(time.monotonic() + _START_TIMEOUT_S)
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
            return reply, [self._mapped(descriptor, *facts) for descriptor, facts in pairs]
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _mapped(self, descriptor: int, shape: list[int], dtype: str, number: int) -> np.ndarray:
        """The array in shared memory; when nothing looks at it any more, the child may have the memory back."""
        array_type = np.dtype(dtype)
        size = math.prod(shape) * array_type.itemsize
        if os.fstat(descriptor).st_size < size:
            raise EOFError("the shared memory is shorter than the child said")
        memory = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | _POPULATE)
        flat = np.frombuffer(memory, array_type)  # every view of it, and every tensor made of it, keeps this one alive
        weakref.finalize(flat, self._unused.append, number).atexit = False
        return flat.reshape(shape)

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


# The child's side.


@dataclass
class _Segment:
    """A piece of shared memory."""

    number: int
    descriptor: int
    size: int = 0


class _Segments:
    """Hands out arrays in shared memory for one reply after the other, and takes back what the parent is done with."""

    def __init__(self) -> None:
        self._count = 0
        self._free: list[_Segment] = []
        self._away: dict[int, _Segment] = {}  # by number; the parent has them
        self._reply: list[tuple[_Segment, tuple[int, ...], str]] = []

    def allocate(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array for the reply that is being made; its contents are whatever was there before."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self._free:
            segment = min(self._free, key=lambda segment: (segment.size < size, segment.size))
            self._free.remove(segment)
        else:
            self._count += 1
            segment = _Segment(self._count, _anonymous_file())
        self._reply.append((segment, shape, np.dtype(dtype).str))
        if segment.size < size:
            os.ftruncate(segment.descriptor, size)
            segment.size = size
        try:
            memory = mmap.mmap(segment.descriptor, size, flags=mmap.MAP_SHARED | _POPULATE)
        except OSError as error:  # ENOMEM, under RLIMIT_AS
            raise MemoryError(f"{size} bytes for the result") from error
        return np.frombuffer(memory, dtype).reshape(shape)

    def facts(self) -> list[tuple[tuple[int, ...], str, int]]:
        """Shape, type and segment number of every array of the reply."""
        return [(shape, dtype, segment.number) for segment, shape, dtype in self._reply]

    def descriptors(self) -> list[int]:
        """The descriptors of the same."""
        return [segment.descriptor for segment, _, _ in self._reply]

    def end_reply(self, sent: bool) -> None:
        """Forgets the reply; the parent has its segments if it was sent."""
        segments = [segment for segment, _, _ in self._reply]
        self._reply = []
        if sent:
            self._away.update((segment.number, segment) for segment in segments)
        else:
            self._keep(segments)

    def take_back(self, numbers: list[int]) -> None:
        """Has segments back that the parent no longer looks at."""
        self._keep([self._away.pop(number) for number in numbers])

    def _keep(self, segments: list[_Segment]) -> None:
        self._free += segments
        while sum(segment.size for segment in self._free) > _KEPT_BYTES:
            os.close(self._free.pop(0).descriptor)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("earshot-view")
    with tempfile.TemporaryFile() as file:  # has no name either
        return os.dup(file.fileno())


def _serve(connection: socket.socket) -> None:
    """Answers requests until the parent closes the connection."""
    connection.sendall(b'{"is": "ready"}\n')
    segments = _Segments()
    gc.freeze()
    loaded_bytes = 0
    for line in connection.makefile("rb"):
        request = json.loads(line)
        if "load" in request:
            before = _mapped_bytes()
            connection.sendall(json.dumps(_load()).encode() + b"\n")
            loaded_bytes += _mapped_bytes() - before
            continue
        segments.take_back(request["unused"])
        reply = _answer(request, segments, loaded_bytes)
        data = json.dumps(reply).encode() + b"\n"
        has_arrays = "arrays" in reply
        sent = socket.send_fds(connection, [data], segments.descriptors() if has_arrays else [])
        connection.sendall(data[sent:])
        segments.end_reply(has_arrays)
        # PyAV's filter graphs refer to themselves, and Python's own schedule counts objects, not the megabytes that
        # they hold: without this a child grows by about 2 MB a clip.
        gc.collect()


def _load() -> dict[str, Any]:
    """Imports TensorFlow, which takes as long and as much memory as it does."""
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + _START_TIMEOUT_S))
    try:
        tfio_audio.load()
    except DecoderMissing as missing:
        return {"is": "missing", "message": str(missing)}
    except Exception:
        return {"is": "bug", "traceback": traceback.format_exc()}
    gc.collect()
    gc.freeze()  # 280,000 objects: looking through them after every clip would take a third of a second
    return {"is": "ready"}


def _mapped_bytes() -> int:
    """The address space in use; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _answer(request: dict[str, Any], segments: _Segments, loaded_bytes: int) -> dict[str, Any]:
    name, fields = request["view"]
    limits = Limits(**request["limits"])
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + limits.timeout_s + _CPU_GRACE_S))
    _limit(resource.RLIMIT_AS, limits.memory_bytes + loaded_bytes)
    path = request["path"]
    where = (Piece(**path) if isinstance(path, dict) else path, request["clip_start_s"], request["duration_s"])
    try:
        payload = decode(*where, _VIEWS[name](**fields), limits, segments.allocate)
    except MediaError as error:
        return {"is": "MediaError", "message": str(error), "retryable": error.retryable}
    except NoTrack as missing:
        return {"is": "NoTrack", "reason": missing.reason}
    except Exception:  # a bug; the parent raises it
        return {"is": "bug", "traceback": traceback.format_exc()}
    finally:
        _limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
    if isinstance(payload, MediaInfo):
        return {"is": "MediaInfo", "fields": asdict(payload)}
    return {"is": type(payload).__name__, "arrays": segments.facts()}


def _limit(what: int, value: int) -> None:
    """Sets a limit of this process that can be raised again later."""
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _leave_with_parent(connection: socket.socket, parent: int) -> NoReturn:
    """Ends this process when its parent has gone, even in the middle of a decode."""
    poll = select.poll()
    poll.register(connection, 0)  # tells of a hang-up only
    while not poll.poll(1000) and os.getppid() == parent:
        pass
    os._exit(1)


def main() -> None:
    """The child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = socket.socket(fileno=int(sys.argv[1]))
    threading.Thread(target=_leave_with_parent, args=(connection, os.getppid()), daemon=True).start()
    _serve(connection)


if __name__ == "__main__":
    main()
