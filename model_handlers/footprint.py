"""How much of a GPU's memory a model takes, told before any GPU is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SINGLE, HALF = 4, 2  # bytes of a number


@dataclass(frozen=True)
class Footprint:
    """What a published model takes.

    Not measured on a GPU: the parameters were counted, and the tensors that are alive at the peak of a pass in single
    precision were added up, on a CPU and at full size (`python -m benchmarks.memory`). What kernels need as they work,
    and memory that lies in pieces, come on top (`beam_pipeline.presets`).

    Attributes:
        parameters_m: millions of parameters.
        clip_mb: MB (10^6 bytes) that each clip of a batch adds.
        pass_mb: MB that a pass takes whatever the batch.
        weights: whether the weights are ``cast`` to the row's precision when they are loaded, or kept ``single``, and
            copied to half precision during each pass where the row asks for it (`torch.autocast` caches the copies).
    """

    parameters_m: float
    clip_mb: float
    pass_mb: float = 0.0
    weights: Literal["cast", "single"] = "single"

    def gb(self, batch_size: int, precision: str) -> float:
        """GB (10^9 bytes) of weights and one batch at a row's precision; ``auto`` is half precision on a GPU."""
        single = precision == "fp32"
        each = SINGLE if single else HALF if self.weights == "cast" else SINGLE + HALF
        # Under autocast some layers stay in single precision; here all are counted so.
        tensors = (self.pass_mb + batch_size * self.clip_mb) * (HALF / SINGLE if each == HALF else 1)
        return (self.parameters_m * each + tensors) / 1000
