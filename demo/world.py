"""Makes the demo world: real MP4 clips of drawn things that sound, with known truth and known faults.

Worlds are told apart by their seed, and a clip is a pure function of (seed, index). Seed 7 is the demo's; seeds 100 to
199 are for held-out evaluation; models are trained on seeds from 1000 upwards, never on the others.

    python -m demo.world --seed 7 --count 40 --out /tmp/world
"""

from __future__ import annotations

import argparse
import csv
import heapq
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from demo.drawing import render_frame, render_frames
from demo.occasions import Occasion, make_occasion, make_occasions
from demo.scenes import (
    FAULTS,
    PLACES,
    SOURCES,
    Place,
    Scene,
    Source,
    envelope,
    image_caption,
    labels,
    listed_labels,
    make_scene,
    make_scenes,
    reference_caption,
    truth,
)
from demo.soundtrack import synthesise_audio

__all__ = [
    "AUDIO_RATE",
    "FAULTS",
    "PLACES",
    "SOURCES",
    "Occasion",
    "Place",
    "Scene",
    "Source",
    "envelope",
    "image_caption",
    "labels",
    "make_occasion",
    "make_occasions",
    "make_scene",
    "make_scenes",
    "read_truth",
    "reference_caption",
    "render_frame",
    "render_frames",
    "synthesise_audio",
    "write_clip",
    "write_scenes",
    "write_world",
    "write_world_shown",
]

AUDIO_RATE = 44_100
AAC_FRAME = 1024  # samples an AAC frame holds (ISO/IEC 14496-3)
CSV_COLUMNS = ("clip_id", "uri", "video_id", "start_s", "end_s", "labels", "source")


def write_clip(scene: Scene, path: Path) -> None:
    """Writes the scene to `path` as MP4 (H.264, AAC mono at 44.1 kHz), with its faults.

    A truncated clip is cut at 40 to 70 % of its bytes; half of them have their index (the `moov` box) at the front, so
    that their header still reads.
    """
    rng = np.random.default_rng([scene.seed, 5])
    if "not_a_video" in scene.faults:
        page = b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n"
        path.write_bytes(page if rng.random() < 0.5 else rng.bytes(20_000))
        return
    index_first = rng.random() < 0.5
    _mux(scene, path, index_first)
    if "truncated" in scene.faults:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * rng.uniform(0.4, 0.7))])


def _mux(scene: Scene, path: Path, index_first: bool) -> None:
    # Bit-exact (no date, no library version) and one encoder thread: the same scene gives the same bytes.
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if index_first else {})
    with av.open(str(path), "w", format="mp4", options=options) as container:
        tracks: list[Iterator[tuple[Any, Any]]] = []
        if "no_video" not in scene.faults:
            video = container.add_stream("libx264", rate=scene.fps, options={"preset": "ultrafast", "crf": "23"})
            video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
            video.thread_count = 1
            tracks.append((video, frame) for frame in _video_frames(scene))
        if "no_audio" not in scene.faults:
            coding = {"b": "96k", "aac_coder": "fast"}
            audio = container.add_stream("aac", rate=AUDIO_RATE, layout="mono", options=coding)
            tracks.append((audio, frame) for frame in _audio_frames(scene))
        for stream, frame in heapq.merge(*tracks, key=lambda pair: pair[1].time):  # so that a cut file has some of both
            container.mux(stream.encode(frame))
        for stream in container.streams:
            container.mux(cast(Any, stream).encode(None))


def _video_frames(scene: Scene) -> Iterator[av.VideoFrame]:
    frames = render_frames(scene)
    for number, pixels in enumerate(frames):
        if number == 0 or not np.array_equal(pixels, frames[number - 1]):  # most frames are at rest: convert once
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, scene.fps)
        yield frame


def _audio_frames(scene: Scene) -> Iterator[av.AudioFrame]:
    audio = synthesise_audio(scene, AUDIO_RATE)
    for start in range(0, len(audio), AAC_FRAME):
        chunk = np.ascontiguousarray(audio[None, start : start + AAC_FRAME])
        frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, start, Fraction(1, AUDIO_RATE)
        yield frame


def write_scenes(
    scenes: Sequence[Scene], out: Path, progress: Callable[[int, int], None] | None = None, processes: int = 1
) -> None:
    """Writes ``clips/*.mp4``, ``clips.csv`` (for Earshot to read) and ``truth.jsonl`` (what is true) under `out`.

    Every file is written under another name and then renamed, so that a run that was stopped leaves no half clip.

    Args:
        scenes: what to write; the lists keep their order.
        out: the folder; made where it is missing.
        progress: called with (clips done, clips in all) after each clip.
        processes: how many clips are encoded at once.
    """
    (out / "clips").mkdir(parents=True, exist_ok=True)
    # A fresh interpreter each: the caller may run threads, which a fork would copy in whatever state they are.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) if processes > 1 else nullcontext() as pool:
        targets = [out / "clips" / f"{scene.clip_id}.mp4" for scene in scenes]
        for done, _ in enumerate((pool.map if pool else map)(_write_whole, scenes, targets), 1):
            if progress:
                progress(done, len(scenes))
    partial = out / "truth.jsonl.part"
    partial.write_text("".join(json.dumps(truth(scene)) + "\n" for scene in scenes), encoding="utf-8")
    os.replace(partial, out / "truth.jsonl")
    partial = out / "clips.csv.part"
    with partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for scene in scenes:
            uri, told = f"clips/{scene.clip_id}.mp4", ";".join(listed_labels(scene))
            writer.writerow((scene.clip_id, uri, scene.clip_id, 0.0, scene.duration_s, told, "demo"))
    os.replace(partial, out / "clips.csv")


def _write_whole(scene: Scene, target: Path) -> None:
    partial = target.with_suffix(".part")
    write_clip(scene, partial)
    os.replace(partial, target)


def write_world(
    seed: int,
    count: int,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
    only: str | None = None,
    processes: int = 1,
    occasions: bool = False,
) -> Sequence[Scene]:
    """Writes `count` clips of the world with that seed, as `write_scenes` does, and returns their scenes.

    Args:
        seed: the world's seed.
        count: how many clips.
        out: the folder.
        progress: called with (clips done, clips in all) after each clip.
        only: ``good`` or a fault, for clips of that kind alone.
        processes: how many clips are encoded at once.
        occasions: whether somebody speaks, music plays, and things sound one after the other: `demo.occasions`.
    """
    scenes: Sequence[Scene] = make_occasions(seed, count, only) if occasions else make_scenes(seed, count, only)
    write_scenes(scenes, out, progress, processes)
    return scenes


def write_world_shown(
    seed: int, count: int, out: Path, only: str | None = None, occasions: bool = False
) -> Sequence[Scene]:
    """`write_world` on every core, with a progress bar on the terminal's error stream."""
    columns = (TextColumn("making clips"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("clips", total=count)
        cores = len(os.sched_getaffinity(0))
        return write_world(seed, count, out, lambda done, _: bar.update(task, completed=done), only, cores, occasions)


def read_truth(out: Path) -> list[dict[str, Any]]:
    """What `write_scenes` wrote to ``truth.jsonl`` under `out`, one dictionary a clip."""
    return [json.loads(line) for line in (out / "truth.jsonl").read_text(encoding="utf-8").splitlines()]


def main(arguments: list[str] | None = None) -> None:
    """The command line: ``python -m demo.world --help``."""
    parser = argparse.ArgumentParser(
        prog="python -m demo.world",
        description="Makes a folder of small video clips with known sounds, known captions and known faults.",
        epilog="DIR then holds clips/*.mp4, clips.csv (give this to Earshot) and truth.jsonl (what is true of each). "
        "Seed 7 is the demo; 100 to 199 are held out for evaluation; models are trained on 1000 and above. "
        "Example: python -m demo.world --seed 100 --count 40 --out /tmp/world",
    )
    parser.add_argument("--seed", type=int, default=7, help="which world (default 7); same seed, same clips")
    parser.add_argument("--count", type=int, default=40, help="how many clips (default 40)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write (made if missing)")
    parser.add_argument(
        "--only",
        choices=("good", *FAULTS),
        help="clips of this kind alone; by default about 70 %% are good and each forty have every fault",
    )
    parser.add_argument(
        "--occasions", action="store_true", help="clips with speech, music and things one after the other as well"
    )
    options = parser.parse_args(arguments)
    if options.seed < 0 or options.count < 1:
        parser.error("--seed is 0 or more and --count 1 or more")
    if options.occasions and options.only == "speech_over_music":
        parser.error("speech over music is no fault of an occasion")
    scenes = write_world_shown(options.seed, options.count, options.out, options.only, options.occasions)
    good = sum(not scene.faults for scene in scenes)
    print(f"{good} good clips and {len(scenes) - good} with faults; list: {options.out / 'clips.csv'}")


if __name__ == "__main__":
    main()
