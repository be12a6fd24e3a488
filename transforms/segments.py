"""Arrays in anonymous shared memory, which one process fills and another looks at; each piece is filled again.

Their descriptors travel over a socket: nothing is copied or pickled, and as the memory has no name, nothing is left
behind however a process ends. Fresh pages would cost a tenth of a decode, so memory that nobody looks at any more goes
back to whoever fills it.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from dataclasses import dataclass

import numpy as np

_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # one call instead of a page fault for every 4 KiB
_KEPT_BYTES = 128 << 20  # of unused shared memory


@dataclass
class _Segment:
    """A piece of shared memory."""

    number: int
    descriptor: int
    size: int = 0


class Segments:
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


def look_at(descriptor: int, shape: list[int], dtype: str, number: int, *, unused: list[int]) -> np.ndarray:
    """The array in another process's shared memory; when nothing looks at it any more, `unused` gets its number.

    Raises `EOFError` where the memory is shorter than such an array.
    """
    array_type = np.dtype(dtype)
    size = math.prod(shape) * array_type.itemsize
    if os.fstat(descriptor).st_size < size:
        raise EOFError("the shared memory is shorter than the child said")
    memory = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | _POPULATE)
    flat = np.frombuffer(memory, array_type)  # every view of it, and every tensor made of it, keeps this one alive
    weakref.finalize(flat, unused.append, number).atexit = False
    return flat.reshape(shape)
