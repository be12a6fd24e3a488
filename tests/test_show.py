"""What a run says of itself while it works."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress

from beam_pipeline.show import every


def test_every_does_it_again_and_again_and_never_once_the_block_has_ended() -> None:
    done: queue.Queue[threading.Thread] = queue.Queue()
    with suppress(KeyError), every(0.001, lambda: done.put(threading.current_thread())):
        thread = done.get(timeout=10)
        assert done.get(timeout=10) is thread
        assert thread is not threading.current_thread()
        raise KeyError
    assert not thread.is_alive()


def test_every_does_nothing_before_its_time_and_ends_at_once() -> None:
    done: list[float] = []
    began = time.monotonic()
    with every(60, lambda: done.append(time.monotonic())):
        pass
    assert not done
    assert time.monotonic() - began < 30
