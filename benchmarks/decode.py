"""How many clips a second one core decodes, view by view, beside the ffmpeg command that does the same work.

Both are counted in processor time (user and system, of all processes involved) on one pinned core, so that neither
other programs nor waiting count; of several alternating rounds the best one does. ffmpeg writes to /dev/null, Earshot
into arrays. The ratio is the isolated decoder's speed over ffmpeg's. A command has to start for every clip, and that is
counted; as it weighs much for short clips, the bare ratio leaves it out.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from rich.console import Console
from rich.table import Table

from model_handlers.views import Audio, AudioVideo, Header, MediaInfo, MiddleFrame, View
from transforms.decoder import Decoder
from transforms.media import MediaError, NoTrack, decode

VIEWS: tuple[View, ...] = (Header(), MiddleFrame(), Audio(32_000), AudioVideo())
SIZES = ((320, 240), (1280, 720))
_ONE_THREAD = ("-v", "error", "-nostdin", "-y", "-threads", "1")


def make_clip(path: Path, width: int, height: int, seconds: int = 10, fps: int = 30) -> Path:
    """Writes a clip as they come from the web: H.264 and AAC, a moving textured scene with two things crossing it."""
    rng = np.random.default_rng(0)
    scene = rng.uniform(40, 200, (height // 16 + 2, width // 8 + 2, 3)).repeat(16, 0).repeat(16, 1)
    scene += rng.normal(0, 6, scene.shape)
    with av.open(path, "w") as container:
        picture = container.add_stream("libx264", rate=fps, options={"preset": "fast"})
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=44_100, layout="stereo")
        for index in range(seconds * fps):
            pixels = scene[index // 20 : index // 20 + height, index : index + width].clip(0, 255).astype(np.uint8)
            across = int((0.5 + 0.4 * math.sin(index / 20)) * width)
            pixels[height // 3 : height // 2, across : across + width // 10] = (220, 60, 40)
            pixels[height // 2 : height * 2 // 3, width - across : width - across + width // 12] = (30, 90, 200)
            frame = VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(picture.encode(frame))
            times = (index + np.arange(44_100 // fps) * fps / 44_100) / fps
            wave = 0.3 * np.sin(2 * np.pi * (400 + 50 * times) * times) + rng.normal(0, 0.05, len(times))
            heard = AudioFrame.from_ndarray(np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo")
            heard.sample_rate, heard.pts, heard.time_base = 44_100, index * len(times), Fraction(1, 44_100)
            container.mux(sound.encode(heard))
        container.mux(picture.encode(None))
        container.mux(sound.encode(None))
    return path


def ffmpeg_command(path: Path, view: View, duration_s: float) -> list[str]:
    """The command that does a view's work: the same frames, size, rate and formats."""
    ffmpeg = ["ffmpeg", *_ONE_THREAD, "-filter_threads", "1"]
    raw_video = ["-pix_fmt", "rgb24", "-f", "rawvideo", "/dev/null"]
    match view:
        case Header():
            return ["ffprobe", "-v", "error", "-show_format", "-show_streams", str(path)]
        case MiddleFrame():
            return [*ffmpeg, "-ss", str(duration_s / 2), "-i", str(path), "-an", "-frames:v", "1", *raw_video]
        case Audio():
            return [*ffmpeg, "-i", str(path), "-vn", "-ac", "1", "-ar", str(view.rate), "-f", "f32le", "/dev/null"]
        case AudioVideo():
            side, crop = view.short_side, view.crop
            size = f"'if(gt(iw,ih),-1,{side})':'if(gt(iw,ih),{side},-1)'"
            scale = f"fps={view.fps},scale={size}:flags=bilinear,crop={crop}:{crop}"
            audio = ["-map", "0:a:0", "-ac", "1", "-ar", str(view.rate), "-f", "f32le", "/dev/null"]
            return [*ffmpeg, "-i", str(path), "-map", "0:v:0", "-vf", scale, *raw_video, *audio]


def cpu_s(work: Callable[[], object], pids: Callable[[], list[int]] = list) -> float:
    """Processor seconds of `work` in this process, in children that end with it, and in the running `pids`."""

    def used() -> float:
        finished = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + finished.ru_utime + finished.ru_stime + sum(_cpu_s_of(pid) for pid in pids())

    before = used()
    work()
    return used() - before


def _cpu_s_of(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def pinned() -> Iterator[None]:
    """Keeps this process, and what it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _best_of(rounds: int, works: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The least seconds of each kind of work; they take turns, so that a slow moment hits all alike."""
    best = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, work in works.items():
            best[name] = min(best[name], work())
    return best


def measure(path: Path, view: View, decoder: Decoder, rounds: int) -> dict[str, float]:
    """Processor seconds for one clip: ``here``, ``isolated``, ``ffmpeg`` and ``start`` (ffmpeg's, doing nothing)."""
    info = decode(path, 0.0, None, Header())
    assert isinstance(info, MediaInfo)
    command = ffmpeg_command(path, view, info.duration_s)
    decoder.submit(path, 0.0, None, view).result()  # the child has started, the file is in memory

    def run(command: list[str]) -> float:
        return cpu_s(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))

    return _best_of(
        rounds,
        {
            "here": lambda: cpu_s(lambda: decode(path, 0.0, None, view)),
            "isolated": lambda: cpu_s(lambda: decoder.submit(path, 0.0, None, view).result(), decoder.pids),
            "ffmpeg": lambda: run(command),
            "start": lambda: run([command[0], "-version"]),
        },
    )


def main(arguments: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    parser.add_argument("--clips", type=Path, help="a folder of clips; two synthetic ones of 10 s where left out")
    parser.add_argument("--rounds", type=int, default=5, help="the best of so many is taken")
    options = parser.parse_args(arguments)
    console = Console()
    if shutil.which("ffmpeg") is None:
        console.print("No ffmpeg to compare with. Debian and Ubuntu: apt-get install ffmpeg")
        return
    table = Table(title="clips a second on one core (processor time)")
    for column in ("clip", "view"):
        table.add_column(column, overflow="fold", min_width=12)
    for column in ("in process", "isolated", "ffmpeg", "ratio", "bare ratio"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder, pinned(), Decoder() as decoder:
        made = [] if options.clips else [make_clip(Path(folder) / f"{w}x{h}.mp4", w, h) for w, h in SIZES]
        for path in made or sorted(path for path in options.clips.iterdir() if path.is_file()):
            for view in VIEWS:
                try:
                    seconds = measure(path, view, decoder, options.rounds)
                except (NoTrack, MediaError) as error:
                    table.add_row(path.name, type(view).__name__, str(error))
                    continue
                bare = max(seconds["ffmpeg"] - seconds["start"], 0.0)
                table.add_row(
                    path.name,
                    type(view).__name__,
                    *(f"{1 / seconds[name]:.1f}" for name in ("here", "isolated", "ffmpeg")),
                    f"{seconds['ffmpeg'] / seconds['isolated']:.2f}",
                    f"{bare / seconds['isolated']:.2f}",
                )
    console.print(table)


if __name__ == "__main__":
    main()
