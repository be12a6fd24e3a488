"""A few frames with their times, on real files whose pictures carry their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_handlers.views import Moments, MomentsView
from tests.media_files import CONTAINERS, picture_number, write_clip
from transforms import pictures
from transforms.decoder import Decoder
from transforms.media import Limits, MediaError, NoTrack, decode
from transforms.tracks import MediaFile

WITH_PICTURE = [suffix for suffix, (video, _, _) in CONTAINERS.items() if video]


def moments(path: Path, start_s: float = 0.0, duration_s: float | None = None, **view: Any) -> MomentsView:
    found = decode(path, start_s, duration_s, Moments(**view))
    assert isinstance(found, MomentsView)
    assert found.frames.dtype == np.uint8
    assert len(found.frames) == len(found.times_s) >= 1
    assert (np.diff(found.times_s) > 0).all()
    return found


def numbers(found: MomentsView) -> list[int]:
    return [picture_number(frame) for frame in found.frames]


@pytest.mark.parametrize("suffix", WITH_PICTURE)
def test_each_frame_is_the_one_shown_at_its_time(tmp_path: Path, suffix: str) -> None:
    found = moments(write_clip(tmp_path / f"c.{suffix}", seconds=3.0), every_s=0.52)
    late = suffix in ("avi", "ts")  # MPEG-4 in AVI shows everything a frame late; .ts starts with the sound
    assert numbers(found) == [max(0, 13 * n - late) for n in range(6)]
    assert found.times_s == pytest.approx([0.52 * n for n in range(6)], abs=0.03)
    assert found.times_s[1:] == pytest.approx([0.52 * n for n in range(1, 6)])


@pytest.mark.parametrize("group", [1, 5, 12, 250])
def test_the_frames_do_not_depend_on_where_keyframes_are(tmp_path: Path, group: int) -> None:
    path = write_clip(tmp_path / "c.mp4", seconds=4.0, encoder={"g": str(group), "bf": "3", "preset": "medium"})
    assert numbers(moments(path, every_s=0.4)) == [10 * n for n in range(10)]
    assert numbers(moments(path, 1.0, 2.0, every_s=0.4)) == [25 + 10 * n for n in range(5)]


def test_only_what_wanted_frames_depend_on_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    decode_packets = MediaFile._decode

    def counted(self: MediaFile, stream: Any, packets: Any) -> Any:
        for frame in decode_packets(self, stream, packets):
            counts.append(frame)
            yield frame

    monkeypatch.setattr(MediaFile, "_decode", counted)
    decoded = {}
    for group in (10, 250):
        path = write_clip(tmp_path / f"{group}.mp4", seconds=8.0, encoder={"g": str(group), "bf": "0"})
        counts.clear()
        moments(path, every_s=2.0)
        decoded[group] = len(counts)
    assert decoded[250] <= 152  # up to the last one wanted, once
    assert decoded[10] <= 4 * 10  # no more than a group for each


def test_a_variable_frame_rate_shows_each_picture_until_the_next(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 0.6, 0.64, 1.4, 1.48, 1.52]
    found = moments(write_clip(tmp_path / "c.mp4", frame_times=times, sound_until=2.0), every_s=0.5)
    assert numbers(found) == [0, 2, 4, 6]
    assert found.times_s.tolist() == [0.0, 0.5, 1.0, 1.5]


def test_a_picture_that_starts_late_gives_its_own_time_and_one_that_ends_early_stays(tmp_path: Path) -> None:
    late = write_clip(tmp_path / "late.mkv", frame_times=[1.2 + n / 25 for n in range(45)], sound_until=3.0)
    found = moments(late)
    assert found.times_s == pytest.approx([1.2, 2.0])
    assert numbers(found) == [0, 20]
    early = write_clip(tmp_path / "early.mp4", frame_times=[n / 25 for n in range(25)], sound_until=4.0)
    found = moments(early)
    assert numbers(found) == [0, 24, 24, 24]
    assert found.times_s.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_clip_deep_in_a_file_counts_from_its_own_start(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", seconds=40.0, fps=10, channels=1)
    found = moments(path, 30.0, 4.0)
    assert numbers(found) == [300, 310, 320, 330]
    assert found.times_s.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_a_long_clip_is_looked_at_evenly_and_no_more_often_than_asked(tmp_path: Path) -> None:
    found = moments(write_clip(tmp_path / "c.mp4", seconds=6.0), every_s=0.1, most=4)
    assert found.times_s.tolist() == [0.0, 1.5, 3.0, 4.5]
    assert len(moments(tmp_path / "c.mp4", every_s=0.1, most=60).frames) == 60


def test_the_shortest_clip_has_a_frame(tmp_path: Path) -> None:
    one = write_clip(tmp_path / "one.mp4", frame_times=[0.0], audio="")
    assert moments(one).times_s.tolist() == [0.0]
    path = write_clip(tmp_path / "c.mp4", seconds=2.0)
    assert numbers(moments(path, 0.5, 0.02)) == [12]


def test_frames_are_scaled_upright_and_never_enlarged(tmp_path: Path) -> None:
    large = write_clip(tmp_path / "large.mp4", seconds=1.0, size=(640, 480))
    assert moments(large, short_side=120).frames.shape == (1, 120, 160, 3)
    assert moments(large, short_side=480).frames.shape == (1, 480, 640, 3)
    assert moments(large, short_side=1000).frames.shape == (1, 480, 640, 3)
    turned = write_clip(tmp_path / "turned.mp4", seconds=1.0, size=(640, 480), turned=90)
    assert moments(turned, short_side=120).frames.shape == (1, 160, 120, 3)
    assert np.array_equal(moments(turned, short_side=120).frames[0], np.rot90(moments(large, short_side=120).frames[0]))


def test_what_is_missing_or_cut_off_says_so(tmp_path: Path) -> None:
    sound = write_clip(tmp_path / "c.m4a")
    with pytest.raises(NoTrack, match="no video track"):
        moments(sound)
    cut = write_clip(tmp_path / "c.mp4", seconds=6.0, muxer={"movflags": "faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"truncated: video ends at [23]\.\d s"):
        moments(cut)
    assert len(moments(cut, 0.0, 2.0).frames) == 2
    with pytest.raises(MediaError, match="above the limit"):
        decode(cut, 0.0, 1.0, Moments(), Limits(max_pixels=10_000))


@pytest.mark.parametrize("wrong", [{"every_s": 0.0}, {"most": 0}, {"short_side": 0}])
def test_impossible_views_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no such moments"):
        decode(write_clip(tmp_path / "c.mp4", seconds=1.0), 0.0, None, Moments(**wrong))


def test_another_process_decodes_the_same(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", seconds=3.0)
    with Decoder(Limits()) as decoder:
        there = decoder.submit(path, 0.0, None, Moments(every_s=0.5)).result()
    assert isinstance(there, MomentsView)
    here = moments(path, every_s=0.5)
    assert np.array_equal(there.frames, here.frames)
    assert np.array_equal(there.times_s, here.times_s)


def test_times_at_which_a_clip_is_looked_at() -> None:
    assert pictures._ticks(10.0, Moments()) == [float(n) for n in range(10)]
    assert pictures._ticks(10.008, Moments()) == [float(n) for n in range(10)]
    assert pictures._ticks(10.1, Moments()) == [float(n) for n in range(11)]
    assert pictures._ticks(0.3, Moments()) == [0.0]
