"""The cue *loudness*: how loud a clip is, measured rather than modelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from model_handlers.base import AudioCue, Example, Item, Items
from model_handlers.views import Audio

FLOOR_DBFS = -120.0  # below the quantisation noise of 16-bit audio (-98 dBFS), so only digital silence gets there


@dataclass(kw_only=True)
class Loudness(AudioCue[Callable[[np.ndarray], Items]]):
    """Two items, ``peak`` and ``rms``, whose scores are levels in dBFS; see `levels`."""

    @property
    def view(self) -> Audio:
        """32 kHz mono, as for the audio tags, so that measuring costs no decode of its own."""
        return Audio(32_000, self.decoder)

    def load(self) -> Callable[[np.ndarray], Items]:
        """There is nothing to load: the model is the measurement."""
        return levels

    def predict(self, batch: Sequence[Example], model: Callable[[np.ndarray], Items]) -> list[Items]:
        """Measures each clip on its own."""
        return [model(cast(np.ndarray, example.view)) for example in batch]


def levels(audio: np.ndarray) -> Items:
    """Peak and RMS of mono audio of shape (samples,), in dB relative to full scale.

    0 dBFS is an amplitude of 1.0, for the RMS too: a sine of full scale has a peak of 0 and an RMS of -3.01 dBFS.
    Neither falls below -120 dBFS, which is what digital silence gets. Raises ValueError on audio without samples, or
    with samples that are no finite numbers.
    """
    if not audio.size:
        raise ValueError("the clip has no audio samples")
    samples = audio.astype(np.float64)
    peak, rms = float(np.abs(samples).max()), float(np.sqrt(np.square(samples).mean()))
    if not np.isfinite(rms):
        raise ValueError("the audio holds samples that are no finite numbers")
    return Item("peak", score=_dbfs(peak)), Item("rms", score=_dbfs(rms))


def _dbfs(amplitude: float) -> float:
    return max(FLOOR_DBFS, 20 * float(np.log10(amplitude))) if amplitude > 0 else FLOOR_DBFS
