"""What people are shown of a clip: its sound as a file, and its pictures as a strip."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from beam_pipeline.excerpts import Excerpts, MediaError, SoundFormat, encoded
from tests.media_files import write_clip
from transforms.records import Clip

RATE = 32_000


def heard(data: bytes) -> tuple[np.ndarray, int]:
    """Samples and rate of a sound file, as another player has them."""
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        frames = [frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)]
        return np.concatenate(frames), stream.rate


def tone(seconds: float, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("form", ["flac", "wav"])
@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 3.3])
def test_files_without_loss_hold_each_sample_to_16_bits(form: SoundFormat, seconds: float) -> None:
    samples = tone(seconds)
    there, rate = heard(encoded(samples, RATE, form))
    assert (rate, there.shape, there.dtype) == (RATE, samples.shape, np.int16)
    assert np.abs(there / 32_767 - samples).max() < 1 / 32_767


def test_an_mp3_is_small_and_as_long_as_the_clip() -> None:
    samples = tone(5.0)
    data = encoded(samples, RATE, "mp3", 48_000)
    there, rate = heard(data)
    assert rate == RATE
    assert there.shape == samples.shape
    assert len(data) == pytest.approx(5 * 48_000 / 8, rel=0.05)
    assert np.abs(there - samples)[RATE : 4 * RATE].max() < 0.05


def test_samples_beyond_full_scale_are_cut_and_do_not_wrap() -> None:
    there, _ = heard(encoded(tone(0.1, 3.0), RATE, "wav"))
    assert (there.min(), there.max()) == (-32_767, 32_767)


def test_sound_and_strip_are_those_of_the_clips_stretch(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", seconds=6.0, size=(64, 48))
    with Excerpts() as excerpts:
        whole = excerpts.sound(Clip("whole", str(path)))
        part = excerpts.sound(Clip("part", str(path), 2.0, 4.0, media_start_s=2.0))
        strip = excerpts.strip(Clip("part", str(path), 2.0, 4.0, media_start_s=2.0), pictures=4, height=24)
    assert whole is not None
    assert part is not None
    assert len(part) == 2 * RATE
    assert np.allclose(part, whole[2 * RATE : 4 * RATE], atol=1e-3)
    assert strip is not None
    assert strip[0] == [0.0, 0.5, 1.0, 1.5]
    assert Image.open(io.BytesIO(strip[1])).size == (4 * 32, 24)


def test_what_a_clip_has_not_is_none_and_what_is_broken_says_so(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", audio="", size=(64, 48))
    sound = write_clip(tmp_path / "sound.mp4", video="")
    (tmp_path / "text.mp4").write_text("no video " * 100)
    with Excerpts() as excerpts:
        assert excerpts.sound(Clip("silent", str(silent))) is None
        assert excerpts.strip(Clip("sound", str(sound))) is None
        for name in ("text.mp4", "gone.mp4"):
            with pytest.raises(MediaError):
                excerpts.sound(Clip("broken", str(tmp_path / name)))
