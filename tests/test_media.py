"""Decoding by view, on real files whose pictures carry their number and whose sound tells its time."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from model_handlers.views import Audio, AudioVideo, Header, MiddleFrame
from tests.media_files import CONTAINERS, picture_number, sound_at, sound_shift_s, write_clip
from transforms.media import Limits, MediaError, NoTrack, decode

WITH_PICTURE = [suffix for suffix, (video, _, _) in CONTAINERS.items() if video]
SMALL = AudioVideo(fps=25, short_side=128, crop=112, rate=16_000)
BARS = 64  # pixels of the square of bars in a view of SMALL
# Formats that do not say by how much a codec delays the first sound (1105 samples of MP3, 1024 of AAC), so that players
# are late by as much.
LATE_S = {"avi": 0.026, "ts": 0.022}


def numbers(frames: np.ndarray) -> list[int]:
    return [picture_number(frame, BARS) for frame in frames]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return {suffix: write_clip(folder / f"clip.{suffix}", seconds=2.0) for suffix in CONTAINERS}


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", seconds=60.0, fps=10, channels=1)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize(("start_s", "duration_s"), [(0.0, 1.5), (0.5, 1.0), (0.33, 0.77)])
def test_sound_has_exactly_the_clips_length_and_its_time(
    clips: dict[str, Path], suffix: str, start_s: float, duration_s: float
) -> None:
    for rate in (16_000, 32_000):
        samples = decode(clips[suffix], start_s, duration_s, Audio(rate))
        assert samples.shape == (round(duration_s * rate),)
        assert samples.dtype == np.float32
        assert abs(sound_shift_s(samples, rate, start_s) - LATE_S.get(suffix, 0.0)) < 0.002


@pytest.mark.parametrize("suffix", WITH_PICTURE)
def test_picture_and_sound_of_a_stretch_start_together(clips: dict[str, Path], suffix: str) -> None:
    view = decode(clips[suffix], 0.52, 1.0, SMALL)
    assert view.frames.shape == (25, 112, 112, 3)
    assert view.frames.dtype == np.uint8
    assert view.audio.shape == (16_000,)
    first = 12 if suffix in LATE_S else 13  # MPEG-4 in AVI shows everything a frame late; .ts starts with the sound
    assert numbers(view.frames) == list(range(first, first + 25))
    assert abs(sound_shift_s(view.audio, 16_000, 0.52) - LATE_S.get(suffix, 0.0)) < 0.002


@pytest.mark.parametrize("suffix", WITH_PICTURE)
def test_middle_frame_is_the_one_shown_in_the_middle(clips: dict[str, Path], suffix: str) -> None:
    picture = decode(clips[suffix], 0.0, 1.64, MiddleFrame())
    assert picture.shape == (120, 160, 3)
    assert picture.dtype == np.uint8
    assert picture_number(picture) == (19 if suffix in LATE_S else 20)  # 0.82 s at 25 fps, or a frame late


def test_middle_frame_inside_a_group_of_pictures_equals_the_one_decoded_with_all_before_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", seconds=2.0, encoder={"bf": "3", "preset": "medium"})
    frames = decode(path, 0.0, None, AudioVideo(fps=25, short_side=120, crop=120)).frames
    for index in range(20, 28):
        picture = decode(path, index / 25 - 0.01, 0.04, MiddleFrame())
        assert picture_number(picture) == index
        assert picture_number(frames[index]) == index
        assert np.abs(picture[:, 20:140].astype(int) - frames[index]).mean() < 1


def test_header_tells_tracks_and_length(clips: dict[str, Path]) -> None:
    info = decode(clips["mp4"], 0.0, None, Header())
    assert (info.duration_s, info.video, info.audio) == (2.0, "h264 160x120 25 fps", "aac 44100 Hz 2 channels")
    info = decode(clips["webm"], 0.5, 1.0, Header())
    assert (info.duration_s, info.video, info.audio) == (1.0, "vp9 160x120 25 fps", "opus 48000 Hz 2 channels")
    info = decode(clips["mp3"], 0.0, None, Header())
    assert (info.video, info.audio) == (None, "mp3 44100 Hz 2 channels")


def test_clip_deep_in_a_long_file_starts_exactly_there(long_clip: Path) -> None:
    view = decode(long_clip, 30.0, 4.0, AudioVideo(fps=10, short_side=128, crop=112, rate=16_000))
    assert numbers(view.frames) == list(range(300, 340))
    assert abs(sound_shift_s(view.audio, 16_000, 30.0)) < 0.001
    assert picture_number(decode(long_clip, 30.0, 4.1, MiddleFrame())) == 320
    assert abs(sound_shift_s(decode(long_clip, 41.37, 2.0, Audio(32_000)), 32_000, 41.37)) < 0.001


def test_clip_that_runs_past_the_files_end_ends_there(clips: dict[str, Path]) -> None:
    assert decode(clips["mp4"], 1.5, 10.0, Header()).duration_s == pytest.approx(0.5)
    assert decode(clips["mp4"], 1.5, 10.0, Audio(16_000)).shape == (8_000,)
    assert decode(clips["mp4"], 1.5, 10.0, SMALL).frames.shape[0] == 12


@pytest.mark.parametrize("start_s", [2.0, 17.5])
def test_clip_that_starts_past_the_files_end_is_an_error(clips: dict[str, Path], start_s: float) -> None:
    with pytest.raises(MediaError, match=r"starts at .* but the file ends at 2\.0 s"):
        decode(clips["mp4"], start_s, 1.0, Audio(16_000))


def test_frames_at_another_rate_show_the_picture_nearest_in_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", seconds=2.0, fps=30)
    shown = numbers(decode(path, 0.0, None, SMALL).frames)
    assert len(shown) == 50
    assert all(abs(number / 30 - tick / 25) <= 0.5 / 25 + 1e-6 for tick, number in enumerate(shown))


def test_variable_frame_rate_shows_each_picture_until_the_next(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.6, 0.64, 1.4, 1.48, 1.52]
    path = write_clip(tmp_path / "clip.mp4", frame_times=times, sound_until=1.6)
    shown = numbers(decode(path, 0.0, 1.6, SMALL).frames)
    expected = [max(i for i, time in enumerate(times) if time <= tick / 25 + 1e-6) for tick in range(40)]
    assert shown == expected
    assert picture_number(decode(path, 0.0, 1.0, MiddleFrame())) == 2


def test_sound_that_starts_late_is_preceded_by_silence(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv"):
        samples = decode(write_clip(tmp_path / f"c.{suffix}", sound_from=0.8), 0.0, 2.0, Audio(16_000))
        assert samples.shape == (32_000,)
        assert np.abs(samples[: int(0.75 * 16_000)]).max() < 1e-3
        assert abs(sound_shift_s(samples[16_000:], 16_000, 1.0)) < 0.002


def test_sound_that_ends_early_by_its_own_header_is_followed_by_silence(tmp_path: Path) -> None:
    samples = decode(write_clip(tmp_path / "clip.mp4", seconds=4.0, sound_until=1.0), 0.0, None, Audio(16_000))
    assert samples.shape == (64_000,)
    assert np.abs(samples[:8_000]).max() > 0.4
    assert np.abs(samples[24_000:]).max() < 1e-3


def test_picture_that_ends_early_by_its_own_header_stays(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frame_times=[i / 25 for i in range(25)], sound_until=4.0)
    shown = numbers(decode(path, 0.0, None, SMALL).frames)
    assert shown == [*range(25), *[24] * 75]
    assert picture_number(decode(path, 0.0, None, MiddleFrame())) == 24


def test_channels_are_averaged_and_stay_within_one(tmp_path: Path) -> None:
    mono = decode(write_clip(tmp_path / "mono.wav", channels=1), 0.0, None, Audio(22_050))
    stereo = decode(write_clip(tmp_path / "stereo.wav"), 0.0, None, Audio(22_050))
    expected = sound_at(np.arange(44_100) / 22_050)
    assert np.abs(mono - expected).max() < 1e-4
    assert np.abs(stereo - expected).max() < 1e-4


@pytest.mark.parametrize("kind", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_sample_format_has_the_same_scale(tmp_path: Path, kind: str) -> None:
    samples = decode(write_clip(tmp_path / "clip.wav", audio=kind, seconds=1.0), 0.0, None, Audio(22_050))
    assert np.abs(samples - sound_at(np.arange(22_050) / 22_050)).max() < 0.01


@pytest.mark.parametrize(
    ("pix_fmt", "size"),
    [
        ("yuv420p", (160, 120)),
        ("yuv422p", (162, 122)),
        ("yuv444p", (161, 121)),
        ("yuv420p10le", (160, 120)),
        ("gray", (160, 120)),
    ],
)
def test_every_pixel_format_and_odd_sizes_decode(tmp_path: Path, pix_fmt: str, size: tuple[int, int]) -> None:
    path = write_clip(tmp_path / "clip.mp4", seconds=1.0, pix_fmt=pix_fmt, size=size)
    picture = decode(path, 0.0, None, MiddleFrame())
    assert picture.shape == (size[1], size[0], 3)
    assert picture_number(picture) == 12
    assert abs(int(picture[5, 5, 0]) - 90) < 6
    frames = decode(path, 0.0, None, SMALL).frames
    assert numbers(frames) == list(range(25))
    assert abs(int(frames[12, 5, 5, 0]) - 90) < 6


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_picture_is_upright(tmp_path: Path, turned: int, mirrored: bool) -> None:
    path = write_clip(tmp_path / "clip.mp4", seconds=1.0, turned=turned, mirrored=mirrored)
    expected = write_clip(tmp_path / "plain.mp4", seconds=1.0)
    upright, stored = decode(path, 0.0, None, MiddleFrame()), decode(expected, 0.0, None, MiddleFrame())
    turn = np.rot90(stored, turned // 90)  # counter-clockwise, then mirrored
    assert np.array_equal(upright, turn[:, ::-1] if mirrored else turn)
    square = decode(path, 0.0, None, SMALL).frames[12]
    turn = np.rot90(decode(expected, 0.0, None, SMALL).frames[12], turned // 90)
    assert np.array_equal(square, turn[:, ::-1] if mirrored else turn)


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    wide = write_clip(tmp_path / "wide.mp4", seconds=1.0, pixel=Fraction(3, 2))
    assert decode(wide, 0.0, None, MiddleFrame()).shape == (120, 240, 3)
    high = write_clip(tmp_path / "high.mp4", seconds=1.0, pixel=Fraction(1, 2))
    assert decode(high, 0.0, None, MiddleFrame()).shape == (240, 160, 3)
    assert decode(high, 0.0, None, SMALL).frames.shape == (25, 112, 112, 3)


def test_clip_without_the_track_says_which(tmp_path: Path, clips: dict[str, Path]) -> None:
    silent = write_clip(tmp_path / "silent.mp4", audio="")
    for view in (Audio(16_000), SMALL):
        with pytest.raises(NoTrack, match="no audio track"):
            decode(silent, 0.0, None, view)
    for view in (MiddleFrame(), SMALL):
        with pytest.raises(NoTrack, match="no video track"):
            decode(clips["m4a"], 0.0, None, view)
    assert decode(silent, 0.0, None, Header()).audio is None
    assert decode(silent, 0.0, None, MiddleFrame()).shape == (120, 160, 3)


def test_cover_art_is_no_picture(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "song.mp3", cover=True)
    assert decode(path, 0.0, None, Header()).video is None
    with pytest.raises(NoTrack, match="no video track"):
        decode(path, 0.0, None, MiddleFrame())
    assert abs(sound_shift_s(decode(path, 0.0, 2.0, Audio(16_000)), 16_000, 0.0)) < 0.002


@pytest.mark.parametrize(
    ("suffix", "muxer"), [("mp4", {"movflags": "faststart"}), ("mkv", {}), ("webm", {}), ("avi", {}), ("wav", {})]
)
def test_file_that_was_cut_off_is_truncated_not_short(tmp_path: Path, suffix: str, muxer: dict[str, str]) -> None:
    path = write_clip(tmp_path / f"clip.{suffix}", seconds=6.0, muxer=muxer)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    for view in (Audio(16_000), SMALL):
        if suffix == "wav" and view is SMALL:
            continue
        with pytest.raises(MediaError, match=r"truncated: (audio|video) ends at [23]\.\d s of \d\.\d s"):
            decode(path, 0.0, None, view)
    assert decode(path, 0.0, 1.0, Audio(16_000)).shape == (16_000,)  # what is there can be used


def test_a_few_damaged_packets_are_skipped(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", seconds=4.0)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(len(data) // 4, len(data) // 2, 30):
        data[at] ^= 0xFF
    path.write_bytes(data)
    assert decode(path, 0.0, None, Audio(16_000)).shape == (64_000,)
    assert decode(path, 0.0, None, SMALL).frames.shape == (100, 112, 112, 3)


def test_clip_above_the_length_limit_is_told_how_to_list_it(long_clip: Path) -> None:
    limits = Limits(max_clip_s=20.0)
    with pytest.raises(MediaError, match=r"longer than the limit of 20 s: list it .* start_s and end_s"):
        decode(long_clip, 0.0, None, Audio(16_000), limits)
    assert decode(long_clip, 10.0, 20.0, Header(), limits).duration_s == 20.0
    assert decode(long_clip, 45.0, None, Header(), limits).duration_s == pytest.approx(15.0)


def test_frame_above_the_size_limit_is_refused_before_decoding(clips: dict[str, Path]) -> None:
    with pytest.raises(MediaError, match="160x120 is above the limit of 10000 pixels"):
        decode(clips["mp4"], 0.0, None, MiddleFrame(), Limits(max_pixels=10_000))
    assert decode(clips["mp4"], 0.0, None, Audio(16_000), Limits(max_pixels=10_000)).shape == (32_000,)


def test_what_is_no_media_file_says_so(tmp_path: Path, clips: dict[str, Path]) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("a,b\n" * 1000)
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:2,\n{clips['mp4']}\n#EXT-X-ENDLIST\n")
    (tmp_path / "head.mp4").write_bytes(clips["mp4"].read_bytes()[:2000])
    said = {
        "empty.mp4": "empty",
        "text.mp4": "not media|not a container",
        "list.m3u8": "not media|not a container",
        "head.mp4": "not media, or damaged",
        ".": "not a file",
    }
    for name, words in said.items():
        with pytest.raises(MediaError, match=words) as caught:
            decode(tmp_path / name, 0.0, None, Header())
        assert not caught.value.retryable


def test_a_picture_is_no_clip(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "still.png")
    with pytest.raises(MediaError, match="not a container of sound or video"):
        decode(tmp_path / "still.png", 0.0, None, MiddleFrame())


def test_missing_and_unreadable_files_may_work_next_time(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file") as caught:
        decode(tmp_path / "nowhere.mp4", 0.0, None, Header())
    assert caught.value.retryable
    locked = write_clip(tmp_path / "locked.wav")
    locked.chmod(0)
    if not os.access(locked, os.R_OK):  # root reads everything
        with pytest.raises(MediaError, match="no permission") as caught:
            decode(locked, 0.0, None, Header())
        assert caught.value.retryable


@pytest.mark.parametrize(("start_s", "duration_s"), [(-1.0, 1.0), (0.0, 0.0), (0.0, -2.0), (float("nan"), 1.0)])
def test_impossible_stretches_are_errors(clips: dict[str, Path], start_s: float, duration_s: float) -> None:
    with pytest.raises(MediaError, match="no stretch"):
        decode(clips["mp4"], start_s, duration_s, Audio(16_000))


def test_file_names_are_taken_literally(tmp_path: Path) -> None:
    for name in ("concat:a|b.wav", "-i.wav", "höre %03d?.wav", "http:x.wav"):
        path = write_clip(tmp_path / "clip.wav").rename(tmp_path / name)
        assert decode(path, 0.0, None, Audio(16_000)).shape == (32_000,)


def test_a_crop_that_does_not_fit_is_the_profiles_mistake(clips: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="crop of 224") as caught:
        decode(clips["mp4"], 0.0, None, AudioVideo(short_side=200, crop=224))
    assert not isinstance(caught.value, MediaError)
