"""Sound files for tests: given samples in any container, codec, rate and layout, with tags and a cover picture."""

from __future__ import annotations

import base64
import io
import struct
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import OutputContainer
from PIL import Image

from tests.media_files import add_cover

_FRONT_COVER = 3  # the type of picture, in ID3v2's and FLAC's common numbering
_CHUNK = 1024  # samples given to an encoder at once


@dataclass(frozen=True)
class Coding:
    """How a sound file is coded.

    Attributes:
        codec: FFmpeg's name of the encoder.
        rate: samples per second, in Hz.
        layout: FFmpeg's name of the channel layout.
        sample_format: what the encoder is given; its own first choice where empty.
        container: FFmpeg's name of the container; by the file's ending where empty.
        tags: the file's metadata.
        cover: whether there is an attached picture.
        options: of the encoder.
        muxer: options of the container.
    """

    codec: str
    rate: int = 44_100
    layout: str = "stereo"
    sample_format: str = ""
    container: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    cover: bool = False
    options: dict[str, str] = field(default_factory=dict)
    muxer: dict[str, str] = field(default_factory=dict)


def write_sound(path: Path, samples: np.ndarray, coding: Coding) -> Path:
    """Writes mono `samples` (float32 at `coding.rate`) to every channel of a file at `path`."""
    with av.open(path, "w", format=coding.container or None, options=coding.muxer) as container:
        options = {"strict": "experimental", **coding.options}  # FFmpeg's own Vorbis encoder asks for the first
        stream = container.add_stream(coding.codec, rate=coding.rate, layout=coding.layout, options=options)
        if coding.sample_format:
            stream.codec_context.format = coding.sample_format
        if coding.cover:
            _add_cover(container)
        for name, value in coding.tags.items():
            container.metadata[name] = value
        whole = np.ascontiguousarray(np.repeat(samples[None], stream.codec_context.layout.nb_channels, axis=0))
        frame = AudioFrame.from_ndarray(whole.astype(np.float32), format="fltp", layout=coding.layout)
        frame.sample_rate, frame.time_base, frame.pts = coding.rate, Fraction(1, coding.rate), 0
        fifo, converter = AudioFifo(), AudioResampler(stream.codec_context.format, coding.layout, coding.rate)
        fifo.write(frame)
        while chunk := fifo.read(_CHUNK, partial=True):
            for converted in converter.resample(chunk):
                container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return path


def _add_cover(container: OutputContainer) -> None:
    if container.format.name in ("ogg", "opus"):  # keeps the picture in a tag
        container.metadata["METADATA_BLOCK_PICTURE"] = base64.b64encode(_flac_picture(jpeg())).decode()
        return
    add_cover(container)


def jpeg() -> bytes:
    """A small picture."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


def _flac_picture(data: bytes) -> bytes:
    """FLAC's picture block (RFC 9639, section 8.8), which Ogg's files carry as a tag."""
    kind = b"image/jpeg"
    head = struct.pack(">II", _FRONT_COVER, len(kind)) + kind + struct.pack(">I", 0)
    return head + struct.pack(">IIIII", 64, 64, 24, 0, len(data)) + data


def id3(frames: dict[str, bytes]) -> bytes:
    """An ID3v2.3 tag of raw frames, text frames beginning with the byte that names their encoding."""
    body = b"".join(name.encode() + struct.pack(">IH", len(data), 0) + data for name, data in frames.items())
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + body


def id3_picture(data: bytes) -> bytes:
    """The frame ``APIC`` of an ID3v2 tag."""
    return b"\x00image/jpeg\x00" + bytes([_FRONT_COVER]) + b"\x00" + data


def with_sizes(wav: bytes, riff: int, data: int) -> bytes:
    """A WAV file that says other sizes than it has, in bytes."""
    changed, at = bytearray(wav), wav.index(b"data")
    changed[4:8], changed[at + 4 : at + 8] = struct.pack("<I", riff), struct.pack("<I", data)
    return bytes(changed)
