"""A clip's sound and pictures for the page: decoded ahead of the rater, and the last few kept."""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from beam_pipeline.excerpts import MediaError, encoded
from transforms.records import Clip

RATE = 44_100  # Hz: all that a person hears, where models may make do with less
_KEPT = 8  # sounds and strips: a clip of two minutes takes 11 MB
_BARS = 240  # of the sound's outline


class Opens(Protocol):
    """What opens clips (`beam_pipeline.excerpts.Excerpts`)."""

    def sound(self, clip: Clip, rate: int) -> np.ndarray | None: ...

    def strip(self, clip: Clip, pictures: int, height: int) -> tuple[list[float], bytes] | None: ...


@dataclass(frozen=True)
class Sound:
    """A clip's sound.

    Attributes:
        wav: the file.
        seconds: its length.
        outline: the loudest sample of each of its parts, 0 to 100.
    """

    wav: bytes
    seconds: float
    outline: list[int]


class Media:
    """Gives what is to be heard and seen of the clips that `clip_at` names. For one event loop."""

    def __init__(self, clip_at: Callable[[int], Clip], excerpts: Opens) -> None:
        self._clip_at, self._excerpts = clip_at, excerpts
        self._kept: OrderedDict[tuple[str, int], asyncio.Task[Any]] = OrderedDict()

    async def sound(self, at: int) -> Sound:
        """The sound of the clip at a place. Raises `MediaError` where there is none to be had."""
        return await self._once("sound", at, self._sound)

    async def strip(self, at: int) -> tuple[list[float], str]:
        """When the pictures are shown, and a data URL of them beside each other. Raises `MediaError` as `sound`."""
        return await self._once("strip", at, self._strip)

    def ahead(self, at: int) -> None:
        """Starts to decode a sound that will be asked for soon."""
        self._task("sound", at, self._sound)

    async def close(self) -> None:
        """Waits for nobody: what is being decoded is given up."""
        for task in self._kept.values():
            task.cancel()
        await asyncio.gather(*self._kept.values(), return_exceptions=True)

    async def _once(self, kind: str, at: int, make: Callable[[Clip], Any]) -> Any:
        task = self._task(kind, at, make)
        try:
            return await asyncio.shield(task)  # a page that goes away takes nothing from the next that asks
        except (MediaError, OSError):
            self._kept.pop((kind, at), None)  # a disk that was away may be back when the clip is opened again
            raise

    def _task(self, kind: str, at: int, make: Callable[[Clip], Any]) -> asyncio.Task[Any]:
        key = (kind, at)
        if key not in self._kept:
            task = asyncio.ensure_future(asyncio.to_thread(make, self._clip_at(at)))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may ask for it
            self._kept[key] = task
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

    def _sound(self, clip: Clip) -> Sound:
        samples = self._excerpts.sound(clip, RATE)
        if samples is None or not len(samples):
            raise MediaError("the clip has no sound")
        return Sound(encoded(samples, RATE, "wav"), len(samples) / RATE, outline(samples))

    def _strip(self, clip: Clip) -> tuple[list[float], str]:
        found = self._excerpts.strip(clip, 5, 120)
        if found is None:
            raise MediaError("the clip has no picture")
        times, jpeg = found
        return times, "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def outline(samples: np.ndarray, bars: int = _BARS) -> list[int]:
    """Returns the loudest of each of `bars` equal parts of float samples (shape (n,)), 100 for the loudest of all."""
    edges = np.linspace(0, len(samples), min(bars, len(samples)) + 1).astype(int)[:-1]
    peaks = np.maximum.reduceat(np.abs(samples), edges)
    return np.rint(100 * peaks / max(float(peaks.max()), 1e-9)).astype(int).tolist()
