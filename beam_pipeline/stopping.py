"""What ends a run on this machine before its time: Ctrl-C, and a worker process that is gone.

Beam starts the worker processes of ``--direct_running_mode=multi_processing`` and, where the kernel kills one for want
of memory, waits for it, or fails with the words of its transport; in the meantime its threads print their stack traces.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

_AWAITS_WORKER = "run_worker"  # Beam's thread that waits for a worker process, and fails if that ends badly
_SAID_LATER_S = 3.0  # within which that thread says so, once the connection to the worker is gone


@contextmanager
def stoppable() -> Iterator[None]:
    """Sees to it that Ctrl-C stops the job, even where a library that is just being imported swallows the first one.

    It is repeated each second until the job has ended, as it is when a worker process has ended badly; then a
    `RuntimeError` says which way. Elsewhere than in the main thread neither is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked, lost, ended, main = threading.Event(), threading.Event(), threading.Event(), threading.main_thread()
    how = ""

    def stop(*_: object) -> None:
        asked.set()
        raise KeyboardInterrupt

    def failed(args: threading.ExceptHookArgs) -> None:
        nonlocal how
        if args.thread is not None and args.thread.name == _AWAITS_WORKER:
            if not asked.is_set():  # else the same Ctrl-C ended it
                how = str(args.exc_value)
                lost.set()
                asked.set()
        elif not isinstance(args.exc_value, grpc.RpcError):  # these have lost their worker, and nothing to tell
            before[1](args)

    def repeat() -> None:
        asked.wait()
        while not ended.wait(1.0) and main.ident is not None:
            signal.pthread_kill(main.ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, stop), threading.excepthook
    threading.excepthook = failed
    threading.Thread(target=repeat, name="stop", daemon=True).start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if lost.wait(_SAID_LATER_S if "Channel closed prematurely" in str(error) else 0):
            raise RuntimeError(_of(how)) from error
        raise
    finally:
        ended.set()
        if not asked.is_set():  # else threads that read from a channel may yet find it closed
            threading.excepthook = before[1]
        asked.set()
        signal.signal(signal.SIGINT, before[0])


def _of(how: str) -> str:
    """What is said of a worker process that ended, in Beam's words with `how`."""
    code = re.search(r"return code (-?\d+)", how)
    number = int(code.group(1)) if code else 1
    number = number - 128 if number > 128 else -number if number < 0 else 0  # as shells tell a signal, or as Python
    if number == signal.SIGKILL:
        return (
            "a worker process was killed (SIGKILL; the machine may be out of memory): run it again, "
            "with fewer processes (--direct_num_workers) or smaller models; what was computed is kept"
        )
    return f"a worker process ended early ({how}): run it again; what was computed is kept"
