"""How far a run is: every step ticks once a clip, and whoever watches reads the ticks.

Beam's own metrics of a local run can only be read when it has ended, so local runs also append one byte a clip to a
file per step. Appending needs no lock and works for threads, processes and a machine's own worker pools alike.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import apache_beam as beam

from transforms import telemetry

T = TypeVar("T")


@dataclass
class Tick(beam.PTransform):
    """Counts what passes as ``done`` of a step's metrics and, where a folder is given, in the file ``<folder>/<step>``.

    Without a `step`, every element counts for the step of its own ``name`` (cues do).
    """

    step: str = ""
    folder: str = ""

    def expand(self, pcoll: beam.PCollection[T]) -> beam.PCollection[T]:
        return pcoll | beam.Map(self.tick)

    def tick(self, element: T) -> T:
        """Counts one element and hands it on."""
        step = self.step or element.name  # type: ignore[attr-defined]
        telemetry.count(step, "done")
        if self.folder:
            with open(os.path.join(self.folder, step), "ab", buffering=0) as file:
                file.write(b".")
        return element


def read_ticks(folder: str | Path) -> dict[str, int]:
    """Returns how many clips each step has passed so far."""
    return {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
