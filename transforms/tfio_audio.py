"""Sound by tensorflow-io instead of PyAV: WAV, FLAC, Ogg Vorbis and MP3, each read from the sample wanted on.

TensorFlow is imported by `load` alone, which `transforms.decoding_child` calls in the process that decodes. What is
said here of tensorflow-io has been seen with its version 0.37.1 on TensorFlow 2.16.2, the last pair that works.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from transforms.tracks import MediaError

# By FFmpeg's names of container and codec. PCM of 32 bits is left out: tensorflow-io takes it for floating point, and
# gives noise where there are integers.
_READ = {
    "wav": {"pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le"},
    "flac": {"flac"},
    "ogg": {"vorbis"},
    "mp3": {"mp3"},
}
# tfio.audio.resample is Speex's resampler at quality 4, whose filter is this long (resample.c, quality_map).
_FILTER = 64


class DecoderMissing(RuntimeError):
    """tensorflow-io is not installed here, or does not work with the TensorFlow that is. No clip is to blame."""


@dataclass(frozen=True)
class _Library:
    """The two modules, and the resampler as one compiled function (samples, rate in, rate out)."""

    tf: ModuleType
    tfio: ModuleType
    resample: Any


@cache
def load() -> _Library:
    """Imports TensorFlow, on one thread and off the GPU, and runs it once; later calls cost nothing.

    Takes five seconds or more, 0.6 GB of memory and 1.7 GB of address space. Raises `DecoderMissing`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it reports libraries for GPUs that it does not find
    try:
        tf, tfio = import_module("tensorflow"), import_module("tensorflow_io")
    except ImportError as error:
        raise DecoderMissing(_missing(str(error))) from error
    tf.get_logger().setLevel("ERROR")
    tf.config.set_visible_devices([], "GPU")  # it would take all of its memory
    tf.config.threading.set_intra_op_parallelism_threads(1)  # clips are decoded side by side instead
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rate = tf.TensorSpec([], tf.int64)
    # Called as it is, it builds its graph anew each time, which takes most of a second.
    resample = tf.function(tfio.audio.resample, input_signature=[tf.TensorSpec([None], tf.float32), rate, rate])
    try:
        resample(np.zeros(_FILTER, np.float32), 2, 1)
    except NotImplementedError as error:  # what it says when its libraries were built for another TensorFlow
        raise DecoderMissing(_missing(f"tensorflow-io does not work with TensorFlow {tf.__version__}")) from error
    return _Library(tf, tfio, resample)


def _missing(why: str) -> str:
    return (
        f'decoder = "tensorflow-io" cannot be used: {why}. It needs Earshot\'s extra `tfio` '
        "(pip install 'earshot-captions[tfio]', in an environment without the extra `gcp`), wherever clips are "
        'decoded; decoder = "pyav" needs nothing'
    )


def check_readable(container: str, codec: str) -> None:
    """Raises `MediaError` for what tensorflow-io does not read, or reads wrongly; both by FFmpeg's names."""
    if codec not in _READ.get(container, ()):
        raise MediaError(
            f"tensorflow-io reads WAV (8, 16 and 24 bits, float), FLAC, Ogg Vorbis and MP3, and this is {codec} in a "
            f'container {container}; decoder = "pyav" reads it'
        )


class SoundFile:
    """A sound file open in tensorflow-io. Raises `MediaError` where it cannot be read.

    Attributes:
        rate: samples per second, in Hz.
        length: samples of each channel.
    """

    def __init__(self, path: str | Path) -> None:
        self._library = load()
        with _errors(self._library.tf):
            self._tensor = self._library.tfio.audio.AudioIOTensor(str(Path(path).absolute()))
            self.rate = int(self._tensor.rate)
            self.length = int(self._tensor.shape[0])

    def read(self, first: int, stop: int) -> list[np.ndarray]:
        """Returns the channels from sample `first` up to `stop`: uint8, int16, int32 (full scale) or float32."""
        with _errors(self._library.tf):
            return list(self._tensor[first:stop].numpy().T)


def resampled(mono: np.ndarray, rate: int, to_rate: int) -> np.ndarray:
    """Resamples float32 samples; the first stays where it is in time."""
    if rate == to_rate:
        return mono
    library, delay = load(), _delay(rate, to_rate)
    padded = np.concatenate([mono[delay:], np.zeros(delay, np.float32)])  # Speex' output comes later by half its filter
    with _errors(library.tf):
        return library.resample(padded, rate, to_rate).numpy()


def _delay(rate: int, to_rate: int) -> int:
    """By how many samples of input Speex' output is late: half its filter, which is longer where the rate falls."""
    common = math.gcd(rate, to_rate)
    up, down = rate // common, to_rate // common
    length = _FILTER if up <= down else (_FILTER * up // down - 1) // 8 * 8 + 8
    return length // 2


@contextmanager
def _errors(tf: ModuleType) -> Iterator[None]:
    """Turns TensorFlow's errors into `MediaError` and `MemoryError`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(str(error)) from error
    except tf.errors.OpError as error:
        text = re.sub(r"^\{\{.*?\}\} | \[Op:.*\]$", "", error.message)
        raise MediaError(f"tensorflow-io cannot decode it, damaged or of a kind it does not read: {text}") from error
