"""Real media files for tests: pictures that carry their own frame number, sound that tells its own time, and damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

BITS = 10

# What each container is made with: picture codec, sound codec, samples per second.
CONTAINERS: dict[str, tuple[str, str, int]] = {
    "mp4": ("libx264", "aac", 44_100),
    "mov": ("libx264", "aac", 48_000),
    "mkv": ("libx264", "aac", 44_100),
    "webm": ("libvpx-vp9", "libopus", 48_000),
    "avi": ("mpeg4", "libmp3lame", 44_100),
    "ts": ("libx264", "aac", 48_000),
    "wav": ("", "pcm_s16le", 22_050),
    "flac": ("", "flac", 44_100),
    "mp3": ("", "libmp3lame", 44_100),
    "ogg": ("", "libopus", 48_000),
    "m4a": ("", "aac", 44_100),
}
_FAST = {
    "libx264": {"preset": "ultrafast", "bf": "2", "crf": "15"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "mpeg4": {"qscale": "2"},
}


def numbered_picture(index: int, width: int, height: int) -> np.ndarray:
    """RGB picture with `index` in binary: vertical bars, white for 1, that fill the central square of half the side."""
    picture = np.full((height, width, 3), 90, np.uint8)
    side = min(width, height) // 2
    left, top = (width - side) // 2, (height - side) // 2
    for bit in range(BITS):
        bar = slice(left + bit * side // BITS, left + (bit + 1) * side // BITS)
        picture[top : top + side, bar] = 255 if index >> bit & 1 else 0
    return picture


def picture_number(picture: np.ndarray, side: float | None = None) -> int:
    """Reads the number of a picture whose bars fill the central square of `side` pixels (half the short side)."""
    height, width = picture.shape[:2]
    side = side or min(width, height) / 2
    left = (width - side) / 2
    bars = picture[height // 2 - 3 : height // 2 + 3].mean(axis=(0, 2))
    centres = [int(left + (bit + 0.5) * side / BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, centre in enumerate(centres) if bars[centre] > 128)


def sound_at(times: np.ndarray) -> np.ndarray:
    """A tone that rises with time, so that a stretch of it fits at one time only: 300 Hz, 60 Hz more each second."""
    return 0.5 * np.sin(2 * np.pi * (300 * times + 30 * times**2))


def sound_shift_s(samples: np.ndarray, rate: int, start_s: float) -> float:
    """By how much `samples` come later than `sound_at` says, in seconds, sought within ±0.05 s in half a second."""
    reach = rate // 20
    heard = samples[reach : min(len(samples) - reach, reach + rate // 2)]
    expected = sound_at(start_s + np.arange(len(heard) + 2 * reach) / rate)
    spectrum = np.fft.rfft(expected) * np.fft.rfft(heard, len(expected)).conj()
    scores = np.fft.irfft(spectrum, len(expected))[: 2 * reach + 1]
    return (reach - int(np.argmax(scores))) / rate


def write_clip(
    path: Path,
    *,
    seconds: float = 2.0,
    size: tuple[int, int] = (160, 120),
    fps: int = 25,
    video: str | None = None,
    audio: str | None = None,
    rate: int | None = None,
    channels: int = 2,
    pix_fmt: str = "yuv420p",
    frame_times: Iterable[float] | None = None,
    sound_from: float = 0.0,
    sound_until: float | None = None,
    turned: int = 0,
    mirrored: bool = False,
    pixel: Fraction | None = None,
    cover: bool = False,
    muxer: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
) -> Path:
    """Writes a clip of numbered pictures and rising tone, with the codecs of its container unless told others.

    ``video=""`` or ``audio=""`` leaves a track out. `frame_times` makes a variable frame rate; times are in seconds.
    """
    default_video, default_audio, default_rate = CONTAINERS[path.suffix[1:]]
    video = default_video if video is None else video
    audio = default_audio if audio is None else audio
    times = [i / fps for i in range(round(seconds * fps))] if frame_times is None else list(frame_times)
    with av.open(path, "w", options=muxer or {}) as container:
        picture = sound = None
        if video:
            options = {**_FAST.get(video, {}), **(encoder or {})}
            picture = container.add_stream(video, rate=fps, options=options)
            assert isinstance(picture, VideoStream)
            picture.width, picture.height = size
            picture.pix_fmt = pix_fmt
            if frame_times is not None:
                picture.codec_context.time_base = Fraction(1, 1000)
            if pixel is not None:
                picture.codec_context.sample_aspect_ratio = pixel
            if turned or mirrored:
                picture.set_display_rotation(turned, hflip=mirrored)
        if audio:
            sound = container.add_stream(audio, rate=rate or default_rate, layout="stereo" if channels == 2 else "mono")
            assert isinstance(sound, AudioStream)
        if cover:
            add_cover(container)
        until = seconds if sound_until is None else sound_until
        _mux(container, picture, sound, times, size, (sound_from, until), channels)
    return path


def _mux(
    container: OutputContainer,
    picture: VideoStream | None,
    sound: AudioStream | None,
    times: list[float],
    size: tuple[int, int],
    heard: tuple[float, float],
    channels: int,
) -> None:
    """Encodes pictures and sound by turns, as their times come."""
    rate = sound.rate if sound else 1
    played, last = round(heard[0] * rate), round(heard[1] * rate)
    shown = 0
    while (picture and shown < len(times)) or (sound and played < last):
        sound_left = sound is not None and played < last
        if picture and shown < len(times) and (times[shown] <= played / rate or not sound_left):
            frame = VideoFrame.from_ndarray(numbered_picture(shown, *size), format="rgb24")
            frame = frame.reformat(format=picture.pix_fmt)
            frame.time_base = Fraction(1, 90_000)
            frame.pts = round(times[shown] * 90_000)
            container.mux(picture.encode(frame))
            shown += 1
        elif sound:
            count = min(1024, last - played)
            container.mux(sound.encode(_sound_chunk(played, count, sound.rate, channels)))
            played += count
    for stream in (picture, sound):
        if stream:
            container.mux(stream.encode(None))


def _sound_chunk(start: int, count: int, rate: int, channels: int) -> AudioFrame:
    mono = sound_at((start + np.arange(count)) / rate).astype(np.float32)
    layout = "stereo" if channels == 2 else "mono"
    chunk = AudioFrame.from_ndarray(np.repeat(mono[None], channels, axis=0), format="fltp", layout=layout)
    chunk.sample_rate, chunk.time_base, chunk.pts = rate, Fraction(1, rate), start
    return chunk


def add_cover(container: OutputContainer) -> None:
    """Adds a picture that stands for the whole file, as music files have one."""
    stream = container.add_stream("mjpeg", rate=1)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
    stream.disposition = Disposition.attached_pic
    picture = VideoFrame.from_ndarray(np.full((64, 64, 3), 200, np.uint8), format="rgb24").reformat(format="yuvj420p")
    picture.pts, picture.time_base = 0, Fraction(1, 1)
    container.mux(stream.encode(picture))
    container.mux(stream.encode(None))


def mutated_files(folder: Path, count: int = 200, seed: int = 0) -> list[Path]:
    """Writes `count` damaged media files: cut, overwritten, spliced, misnamed, empty, with absurd header fields …"""
    folder.mkdir(parents=True, exist_ok=True)
    whole = [write_clip(folder / f"whole.{suffix}", seconds=2.0) for suffix in CONTAINERS]
    whole.append(write_clip(folder / "faststart.mp4", seconds=2.0, muxer={"movflags": "faststart"}))
    originals = [(path, path.read_bytes()) for path in whole]
    for path in whole:
        path.unlink()
    rng = random.Random(seed)
    files = []
    for number in range(count):
        path, data = rng.choice(originals)
        _, other = rng.choice(originals)
        harm = _HARMS[number % len(_HARMS)]
        suffix = rng.choice(list(CONTAINERS)) if harm is _keep else path.suffix[1:]
        file = folder / f"{number:03d}-{harm.__name__[1:]}.{suffix}"
        file.write_bytes(harm(bytearray(data), other, rng))
        files.append(file)
    return files


def _cut(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(1, len(data))])


def _behead(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    return bytes(data[rng.randrange(1, len(data) // 2) :])


def _flip(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 10, 100, 1000))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _flip_header(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 5, 20))):
        data[rng.randrange(min(1500, len(data)))] ^= 1 << rng.randrange(8)
        data[-rng.randrange(1, min(3000, len(data)))] ^= 1 << rng.randrange(8)  # where MP4 has its header
    return bytes(data)


def _inflate(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    """Makes header fields absurdly large: sizes, counts, rates, dimensions."""
    for _ in range(rng.choice((1, 3, 8))):
        for at in (rng.randrange(min(1500, len(data) - 4)), len(data) - rng.randrange(4, min(3000, len(data)))):
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\xff\xff"))
    return bytes(data)


def _splice(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data))]) + other[rng.randrange(len(other)) :]


def _blank(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    stop = min(len(data), start + rng.randrange(1, 20_000))
    data[start:stop] = bytes(stop - start)
    return bytes(data)


def _keep(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    return bytes(data)  # only the name is wrong


def _noise(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"", rng.randbytes(5000), b"a,b,c\n1,2,3\n" * 50, bytes(data[:64]) + rng.randbytes(3000)))


_HARMS: tuple[Callable[[bytearray, bytes, random.Random], bytes], ...] = (
    _cut,
    _behead,
    _flip,
    _flip_header,
    _inflate,
    _splice,
    _blank,
    _keep,
    _noise,
)
