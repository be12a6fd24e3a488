"""What people are shown of a clip: its sound, and a strip of its pictures, in forms that any browser and library opens.

Media files are hostile, so they are decoded as in a run: by another process, under limits (`transforms.decoder`).
"""

from __future__ import annotations

import io
from contextlib import ExitStack
from typing import Literal, Self, get_args

import av
import numpy as np
from PIL import Image

from model_handlers.views import Audio, Moments, MomentsView, View
from transforms import remote
from transforms.cues import duration_s
from transforms.decoder import Decoder
from transforms.fetch import open_media
from transforms.media import MediaError, NoTrack
from transforms.records import Clip
from transforms.tracks import Limits

SoundFormat = Literal["mp3", "flac", "wav"]
# Container, codec and sample format of each; MP3 because every browser plays it, those without patented codecs too.
_FORMATS = {"mp3": ("mp3", "libmp3lame", "fltp"), "flac": ("flac", "flac", "s16"), "wav": ("wav", "pcm_s16le", "s16")}
MEDIA_TYPES = {"mp3": "audio/mpeg", "flac": "audio/flac", "wav": "audio/wav"}


class NotFetched(MediaError):
    """The file did not come; `unreachable`, if that is for want of its server and not of the file."""

    def __init__(self, message: str, retryable: bool, unreachable: bool) -> None:
        super().__init__(message, retryable)
        self.unreachable = unreachable


class Excerpts:
    """Opens clips; to be closed, or used as a context. Safe to use from many threads.

    Args:
        processes: that decode.
        limits: of what is decoded.
        patience: with files far away.
    """

    def __init__(
        self, processes: int = 1, limits: Limits | None = None, patience: remote.Patience = remote.PATIENT
    ) -> None:
        self._decoder, self._patience = Decoder(limits, processes), patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes that decode."""
        self._decoder.close()

    def sound(self, clip: Clip, rate: int = 32_000) -> np.ndarray | None:
        """The clip's sound, mono: float32 in [-1, 1], shape (samples,); ``None`` where it has none.

        Raises:
            MediaError: the file is not there, or cannot be decoded; `NotFetched` where it did not come.
        """
        found = self._decoded(clip, Audio(rate))
        assert found is None or isinstance(found, np.ndarray)
        return found

    def strip(self, clip: Clip, pictures: int = 5, height: int = 90) -> tuple[list[float], bytes] | None:
        """Pictures of the clip beside each other as one JPEG, and when they are shown, in seconds.

        ``None`` where the clip has no picture. Raises `MediaError` as `sound` does.
        """
        found = self._decoded(clip, Moments(every_s=0.1, most=pictures, short_side=2 * height))
        if found is None:
            return None
        assert isinstance(found, MomentsView)
        frames = [Image.fromarray(np.ascontiguousarray(frame)) for frame in found.frames]
        width = max(1, min(4 * height, round(height * frames[0].width / frames[0].height)))
        strip = Image.new("RGB", (width * len(frames), height))
        for place, frame in enumerate(frames):
            strip.paste(frame.resize((width, height)), (place * width, 0))
        file = io.BytesIO()
        strip.save(file, "JPEG", quality=70, optimize=True)
        return found.times_s.tolist(), file.getvalue()

    def _decoded(self, clip: Clip, view: View) -> object:
        with ExitStack() as opened:
            try:
                path = opened.enter_context(open_media(clip.uri, patience=self._patience))
            except MediaError as error:
                cause = error.__cause__
                unreachable = isinstance(cause, remote.RemoteError) and not isinstance(cause, remote.Missing)
                raise NotFetched(str(error), error.retryable, unreachable) from error
            try:
                return self._decoder.submit(path, clip.media_start_s, duration_s(clip), view).result()
            except NoTrack:
                return None


def encoded(samples: np.ndarray, rate: int, form: SoundFormat, bit_rate: int = 64_000) -> bytes:
    """A sound file of mono samples in [-1, 1].

    Args:
        samples: float32, shape (samples,).
        rate: in Hz; MP3 has 8,000 to 48,000 of the usual ones.
        form: of the file: ``mp3``, or without loss at 16 bits ``flac`` and ``wav``.
        bit_rate: bits per second of an MP3.
    """
    container, codec, sample_format = _FORMATS[form]
    samples = np.nan_to_num(samples).clip(-1, 1)  # damaged files have samples that no encoder takes
    if sample_format == "s16":
        values = np.rint(samples * 32_767).astype(np.int16)[None]
    else:
        values = samples.astype(np.float32)[None]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate)
        stream.layout, stream.format = "mono", sample_format  # type: ignore[union-attr]
        if form == "mp3":
            stream.bit_rate = bit_rate  # type: ignore[union-attr]
        size = 1 << 16
        for start in range(0, values.shape[1], size):
            frame = av.AudioFrame.from_ndarray(values[:, start : start + size], format=sample_format, layout="mono")
            frame.sample_rate, frame.pts = rate, start
            output.mux(stream.encode(frame))  # type: ignore[union-attr,arg-type]
        output.mux(stream.encode(None))  # type: ignore[union-attr]
    return file.getvalue()


assert set(get_args(SoundFormat)) == set(_FORMATS)
__all__ = ["MEDIA_TYPES", "Excerpts", "MediaError", "NotFetched", "SoundFormat", "encoded"]
