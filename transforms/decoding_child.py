"""The process that decodes for `transforms.decoder`: one request a line of JSON, one reply a line, and arrays.

It imports `transforms.media` and what that needs, so neither Beam nor torch; TensorFlow only where a view's decoder is
tensorflow-io, before its first such view and outside of the limits on time and memory, which are a clip's.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from model_handlers.views import Audio, AudioVideo, Header, MediaInfo, MiddleFrame, Moments, View
from transforms import tfio_audio
from transforms.media import Limits, MediaError, NoTrack, decode
from transforms.pieces import Piece
from transforms.segments import Segments
from transforms.tfio_audio import DecoderMissing

START_TIMEOUT_S = 120.0  # of the process, and of TensorFlow
_VIEWS: dict[str, type[View]] = {view.__name__: view for view in (Header, MiddleFrame, Audio, AudioVideo, Moments)}
_CPU_GRACE_S = 5.0  # the parent's clock comes first; this one ends a child that hangs when its parent is gone


def _serve(connection: socket.socket) -> None:
    """Answers requests until the parent closes the connection."""
    connection.sendall(b'{"is": "ready"}\n')
    segments = Segments()
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
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time() + START_TIMEOUT_S))
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


def _answer(request: dict[str, Any], segments: Segments, loaded_bytes: int) -> dict[str, Any]:
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
    with suppress(ConnectionError):  # the parent has gone, and nobody wants the answer
        _serve(connection)


if __name__ == "__main__":
    main()
