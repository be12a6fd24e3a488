"""A clip's pictures: the one in the middle, a few at their times, or all at a fixed rate; scaled, upright, in RGB."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from model_handlers.views import AudioVideo, Moments, MomentsView
from transforms.tracks import MediaError, MediaFile, shown_s

Allocate = Callable[[tuple[int, ...], type], np.ndarray]

_ROUNDING = 1e-6  # of a tick that is a fraction in the file and a float here
_NOT_WORTH_IT = 0.05  # of the time between moments: at the end of what AAC makes of 10 s, 10.008 s, there is none


def middle_frame(media: MediaFile, allocate: Allocate) -> np.ndarray:
    """The frame shown in the middle of the clip: uint8 (height, width, 3). Raises `NoTrack` or `MediaError`."""
    stream = media.video
    at_s = media.start_s + media.duration_s / 2
    shown = media.frame_at(stream, at_s) or _nearest_frame(media, stream, at_s)
    if shown is None:
        media.check_complete(stream, media.start_s, at_s)
        raise MediaError(f"no picture can be decoded ({media.errors} damaged packets)")
    frame_s, frame = shown
    media.check_complete(stream, frame_s + shown_s(frame, stream), at_s)
    pixel = _pixel_shape(stream)
    width, height = round(frame.width * max(pixel, 1.0)), round(frame.height / min(pixel, 1.0))
    media.check_size(width, height)
    rgb = frame.reformat(width, height, "rgb24", interpolation="BILINEAR", threads=1)
    upright = _upright(_pixels(rgb), frame)
    picture = allocate(upright.shape, np.uint8)
    picture[:] = upright
    return picture


def _nearest_frame(media: MediaFile, stream: VideoStream, at_s: float) -> tuple[float, VideoFrame] | None:
    """The last frame at or before `at_s` that can be decoded, else the first after it."""
    nearest: tuple[float, VideoFrame] | None = None
    for frame_s, frame in media.frames(stream, media.start_s, media.end_s):
        if nearest is None or frame_s <= at_s:
            nearest = frame_s, frame
        if frame_s > at_s:
            break
    return nearest


def frames(media: MediaFile, view: AudioVideo, allocate: Allocate) -> np.ndarray:
    """Frames on a grid of `view.fps` from the clip's start; each shows from the tick nearest to its time on."""
    stream = media.video
    count = round(media.duration_s * view.fps)
    if count == 0:
        raise MediaError(f"the clip lasts {media.duration_s:.3f} s, less than one frame at {view.fps} fps")
    squares = allocate((count, view.crop, view.crop, 3), np.uint8)
    scaler = _CentreSquare(view, _pixel_shape(stream))
    filled, held, reached_s = 0, None, media.start_s
    for frame_s, frame in media.frames(stream, media.start_s, media.end_s):
        tick = min(math.floor((frame_s - media.start_s) * view.fps + 0.5 + _ROUNDING), count)
        if held is not None and tick > filled:  # so a frame that no tick shows is not scaled either
            squares[filled:tick] = scaler(held)
            filled = tick
        held, reached_s = frame, frame_s + shown_s(frame, stream)
        if filled == count:
            break
    media.check_complete(stream, reached_s, media.end_s)
    if held is None:
        raise MediaError(f"no picture can be decoded ({media.errors} damaged packets)")
    if filled < count:
        squares[filled:] = scaler(held)
    return squares


class _CentreSquare:
    """Scales a frame so that its short side has `view.short_side` pixels, and cuts the centre square out.

    The cut comes first (a little wider than the square): what is cut off need not be scaled.
    """

    def __init__(self, view: AudioVideo, pixel: float) -> None:
        self._view = view
        self._pixel = pixel
        self._made_for: tuple = ()
        self._ends: tuple[FilterContext, FilterContext] | None = None

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        made_for = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._ends is None or made_for != self._made_for:  # a stream may change in its course
            self._ends, self._made_for = self._graph(frame), made_for
        source, sink = self._ends
        source.push(frame)
        scaled = sink.pull()
        assert isinstance(scaled, VideoFrame)
        square = _pixels(scaled)[self._top : self._top + self._view.crop, self._left : self._left + self._view.crop]
        return _upright(square, frame)

    def _graph(self, frame: VideoFrame) -> tuple[FilterContext, FilterContext]:
        crop, short_side = self._view.crop, self._view.short_side
        scale = short_side / min(frame.width * self._pixel, frame.height)
        x, width, scaled_width, self._left = _window(frame.width, scale * self._pixel, crop)
        y, height, scaled_height, self._top = _window(frame.height, scale, crop)
        self._alive = graph = Graph()
        graph.threads = 1
        steps = [
            graph.add(
                "buffer",
                width=str(frame.width),
                height=str(frame.height),
                pix_fmt=frame.format.name,
                time_base="1/1000",
                colorspace=str(int(frame.colorspace)),
                range=str(int(frame.color_range)),
            ),
            graph.add("crop", f"{width}:{height}:{x}:{y}:exact=1"),
            graph.add("scale", f"{scaled_width}:{scaled_height}:flags=bilinear"),
            graph.add("format", "yuv420p"),  # two steps, each with a fast path, where one to RGB would have none
            graph.add("scale", "flags=bilinear"),
            graph.add("format", "rgb24"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*steps).configure()
        return steps[0], steps[-1]


def _window(size: int, scale: float, crop: int) -> tuple[int, int, int, int]:
    """What to cut along a side of `size` pixels so that, scaled, it holds the centre `crop` pixels and a little more.

    The pixels are those that scaling the whole side first would give: start and length are such that they scale to
    whole pixels, to a tenth, and there is a pixel to spare at either end for the filter.

    Returns where the cut starts (even, as subsampled chroma needs it), its length, its length once scaled, and where in
    that the centre starts.
    """
    whole = max(crop, round(size * scale))
    scale = whole / size
    first = (whole - crop) // 2

    def fits(source: int) -> bool:
        return abs(source * scale - round(source * scale)) < 0.1

    start = next((at for at in range(int((first - 1) / scale) // 2 * 2, 0, -2) if fits(at)), 0)
    left = first - round(start * scale)
    shortest = math.ceil((left + crop + 1) / scale)
    length = next((n for n in range(shortest, size - start) if fits(n)), size - start)
    return start, length, round(length * scale), left


def _pixels(frame: VideoFrame) -> np.ndarray:
    """The pixels of an rgb24 frame, not copied: uint8, shape (height, width, 3)."""
    plane = frame.planes[0]
    strides = (plane.line_size, 3, 1)
    return np.ndarray((frame.height, frame.width, 3), np.uint8, buffer=memoryview(plane), strides=strides)


def _upright(pixels: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Turns and mirrors pixels (height, width, 3) as the display matrix of `frame` says, in quarter turns.

    The matrix (ISO/IEC 14496-12, 6.2.2) maps a pixel to x' = ax + cy, y' = bx + dy.
    """
    if "DISPLAYMATRIX" not in frame.side_data:
        return pixels
    matrix: Any = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]
    a, b, _, c, d, *_ = struct.unpack("=9i", memoryview(matrix))
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _pixel_shape(stream: VideoStream) -> float:
    """Width of a pixel over its height."""
    ratio = float(stream.sample_aspect_ratio or 1)
    return ratio if 0.1 < ratio < 10 else 1.0  # others come from damaged headers


def moments(media: MediaFile, view: Moments, allocate: Allocate) -> MomentsView:
    """A few frames, each as it is shown at its time; where the picture begins later, its first frame at that time.

    A picture that ends before the clip stays to the end, as players have it.
    """
    stream = media.video
    ticks = [media.start_s + at_s for at_s in _ticks(media.duration_s, view)]
    times: list[float] = []
    pictures: list[np.ndarray] = []
    reached_s = media.start_s
    size: tuple[int, int] | None = None
    for at_s, frame_s, frame in _shown(media, stream, ticks):
        reached_s = max(reached_s, frame_s + shown_s(frame, stream))
        if times and at_s <= times[-1]:
            continue  # what was to be shown between is damaged
        size = size or _scaled_size(media, frame, _pixel_shape(stream), view.short_side)
        rgb = frame.reformat(*size, "rgb24", interpolation="BILINEAR", threads=1)
        pictures.append(np.ascontiguousarray(_upright(_pixels(rgb), frame)))
        times.append(at_s)
    media.check_complete(stream, reached_s, ticks[-1])
    if not pictures:
        raise MediaError(f"no picture can be decoded ({media.errors} damaged packets)")
    shown = allocate((len(pictures), *pictures[0].shape), np.uint8)
    np.stack(pictures, out=shown)
    times_s = allocate((len(times),), np.float64)
    times_s[:] = np.maximum(np.array(times) - media.start_s, 0.0)
    return MomentsView(shown, times_s)


def _ticks(duration_s: float, view: Moments) -> list[float]:
    """When a clip of this length is looked at, in seconds from its start."""
    count = max(1, math.ceil(duration_s / view.every_s - _NOT_WORTH_IT))
    if count <= view.most:
        return [number * view.every_s for number in range(count)]
    return [number * duration_s / view.most for number in range(view.most)]


def _scaled_size(media: MediaFile, frame: VideoFrame, pixel: float, short_side: int) -> tuple[int, int]:
    """Width and height with square pixels and a short side of at most `short_side`."""
    width, height = frame.width * max(pixel, 1.0), frame.height / min(pixel, 1.0)
    media.check_size(round(width), round(height))
    scale = min(1.0, short_side / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _shown(media: MediaFile, stream: VideoStream, ticks: list[float]) -> Iterator[tuple[float, float, VideoFrame]]:
    """Yields (when it is looked at, when it comes up, frame), decoding only what the frames wanted depend on.

    What lies between two keyframes can only be decoded in a row. So where one instant is wanted of it the file is
    sought through for it (10 frames of 10 s of 720p with a keyframe every 12 frames take 61 ms instead of 180 ms), and
    where several are they are decoded in one go (with one keyframe, seeking for each would take 860 ms).
    """
    keyframes = _keyframes(stream)
    for _, group in groupby(ticks, lambda at_s: bisect_right(keyframes, at_s + _ROUNDING)):
        wanted = list(group)
        alone = media.frame_at(stream, wanted[0] + _ROUNDING) if len(wanted) == 1 else None
        if alone:
            yield wanted[0], *alone
        else:
            yield from _in_one_go(media, stream, wanted)


def _keyframes(stream: VideoStream) -> list[float]:
    """About when the keyframes are that the file's index names, in seconds; none where it has no index."""
    if stream.time_base is None:
        return []
    first = stream.start_time or 0
    entries = [entry for entry in stream.index_entries if entry.is_keyframe]
    return sorted(float((entry.timestamp - first) * stream.time_base) for entry in entries)


def _in_one_go(media: MediaFile, stream: VideoStream, ticks: list[float]) -> Iterator[tuple[float, float, VideoFrame]]:
    held: tuple[float, VideoFrame] | None = None
    left = 0  # ticks before this one are done
    for frame_s, frame in media.frames(stream, ticks[0], ticks[-1] + _ROUNDING):
        first_left = left
        while left < len(ticks) and frame_s > ticks[left] + _ROUNDING:
            if held:
                yield ticks[left], *held
            left += 1
        if held is None and left > first_left:
            yield frame_s, frame_s, frame
        if left == len(ticks):
            return
        held = frame_s, frame
    if held:
        for at_s in ticks[left:]:
            yield at_s, *held
