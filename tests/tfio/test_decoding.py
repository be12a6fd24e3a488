"""Samples by tensorflow-io are those by PyAV, of the same length and at the same time; what it cannot read is said."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from demo.world import make_scene, synthesise_audio
from model_handlers.views import Audio, Header
from tests.media_files import mutated_files, sound_at, write_clip
from tests.sound_files import Coding, with_sizes, write_sound
from transforms.decoder import Decoder
from transforms.media import Limits, MediaError, NoTrack, decode

LOSSLESS = {
    "16 bits.wav": Coding("pcm_s16le"),
    "24 bits, surround, 96 kHz.wav": Coding("pcm_s24le", 96_000, "5.1"),
    "8 bits.wav": Coding("pcm_u8", 22_050, "mono"),
    "float.wav": Coding("pcm_f32le", 48_000),
    "16 bits.flac": Coding("flac", cover=True),
    "24 bits.flac": Coding("flac", 48_000, "5.1", "s32", options={"bits_per_raw_sample": "24"}),
}
LOSSY = {
    "vorbis.ogg": Coding("vorbis", cover=True),
    "cover.mp3": Coding("libmp3lame", cover=True),
    "16 kHz.mp3": Coding("libmp3lame", 16_000, "mono"),
    "no header.mp3": Coding("libmp3lame", muxer={"write_xing": "0"}),
}
CODINGS = {**LOSSLESS, **LOSSY}
STRETCHES = [(0.0, None), (3.21, 2.0), (0.1, 0.5), (9.5, 4.0)]
LOSSY_AGREE = 2e-6  # two decoders of one stream in single precision; seen: 6e-7


def by_tfio(rate: int) -> Audio:
    return Audio(rate, "tensorflow-io")


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, scene = tmp_path_factory.mktemp("sounds"), make_scene(4322, 1)
    return {
        name: write_sound(folder / name, synthesise_audio(scene, coding.rate), coding)
        for name, coding in CODINGS.items()
    }


def both(decoder: Decoder, path: Path, stretch: tuple[float, float | None], rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples by tensorflow-io and by PyAV."""
    there, here = decoder.submit(path, *stretch, by_tfio(rate)).result(), decode(path, *stretch, Audio(rate))
    assert isinstance(there, np.ndarray)
    assert isinstance(here, np.ndarray)
    assert there.dtype == here.dtype == np.float32
    assert there.shape == here.shape
    return there, here


@pytest.mark.parametrize("stretch", STRETCHES)
@pytest.mark.parametrize("name", CODINGS)
def test_at_the_files_own_rate_the_samples_are_pyavs(
    decoder: Decoder, sounds: dict[str, Path], name: str, stretch: tuple[float, float | None]
) -> None:
    there, here = both(decoder, sounds[name], stretch, CODINGS[name].rate)
    assert np.abs(here).max() > 0.01
    assert np.abs(there - here).max() <= (0 if name in LOSSLESS else LOSSY_AGREE)


@pytest.mark.parametrize("rate", [16_000, 32_000])
@pytest.mark.parametrize("name", CODINGS)
def test_resampled_they_differ_only_near_the_highest_frequency(
    decoder: Decoder, sounds: dict[str, Path], name: str, rate: int
) -> None:
    for stretch in STRETCHES:
        there, here = both(decoder, sounds[name], stretch, rate)
        spectra = [np.fft.rfft(samples * np.hanning(len(samples))) for samples in (there, here)]
        audible = np.fft.rfftfreq(len(here), 1 / rate) < 0.85 * min(rate, CODINGS[name].rate) / 2
        difference, whole = (np.linalg.norm(part[audible]) for part in (spectra[0] - spectra[1], spectra[1]))
        assert difference < 2e-3 * whole
        assert np.corrcoef(there, here)[0, 1] > 0.99


@pytest.mark.parametrize("to_rate", [16_000, 32_000, 48_000])
@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 96_000])
def test_resampling_moves_nothing_in_time(decoder: Decoder, tmp_path: Path, rate: int, to_rate: int) -> None:
    tone = sound_at(np.arange(4 * rate) / rate).astype(np.float32)
    path = write_sound(tmp_path / "tone.wav", tone, Coding("pcm_f32le", rate, "mono"))
    samples = decoder.submit(path, 1.0, 2.0, by_tfio(to_rate)).result()
    assert isinstance(samples, np.ndarray)
    assert np.abs(samples - sound_at(1.0 + np.arange(2 * to_rate) / to_rate)).max() < 1e-4


@pytest.mark.parametrize("name", ["16 bits.flac", "vorbis.ogg", "cover.mp3", "no header.mp3"])
def test_a_clip_deep_in_a_long_file_starts_exactly_there(decoder: Decoder, tmp_path: Path, name: str) -> None:
    coding = CODINGS[name]
    noise = np.random.default_rng(0).standard_normal(60 * coding.rate).astype(np.float32) / 10
    path = write_sound(tmp_path / name, noise, coding)
    for start_s in (17.123, 41.37, 58.0):
        there, here = both(decoder, path, (start_s, 1.7), coding.rate)
        assert np.abs(there - here).max() <= (0 if name in LOSSLESS else LOSSY_AGREE)
    with pytest.raises(MediaError, match="but the file ends at 60"):
        decoder.submit(path, 65.0, 1.0, by_tfio(16_000)).result()


@pytest.mark.parametrize(
    ("name", "coding", "words"),
    [
        ("sound.m4a", Coding("aac"), "this is aac in a container mov,mp4"),
        ("sound.opus", Coding("libopus", 48_000), "this is opus in a container ogg"),
        ("sound.aac", Coding("aac"), "this is aac in a container aac"),
        ("flac in.ogg", Coding("flac"), "this is flac in a container ogg"),
        ("32 bits.wav", Coding("pcm_s32le"), "this is pcm_s32le"),
        ("telephone.wav", Coding("pcm_alaw", 8_000, "mono"), "this is pcm_alaw"),
        ("32 bits.flac", Coding("flac", sample_format="s32"), "invalid_bits_per_sample: 32"),
    ],
)
def test_what_tensorflow_io_does_not_read_fails_with_what_it_is(
    decoder: Decoder, tmp_path: Path, name: str, coding: Coding, words: str
) -> None:
    path = write_sound(tmp_path / name, np.zeros(coding.rate, np.float32), coding)
    assert decode(path, 0.0, None, Audio(16_000)) is not None
    with pytest.raises(MediaError, match="tensorflow-io") as caught:
        decoder.submit(path, 0.0, None, by_tfio(16_000)).result()
    assert words in str(caught.value)
    assert not caught.value.retryable


def test_a_video_is_refused_and_one_without_sound_is_skipped(decoder: Decoder, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r'aac in a container mov,mp4.* decoder = "pyav" reads it'):
        decoder.submit(write_clip(tmp_path / "clip.mp4"), 0.0, None, by_tfio(16_000)).result()
    with pytest.raises(NoTrack, match="no audio track"):
        decoder.submit(write_clip(tmp_path / "silent.mp4", audio=""), 0.0, None, by_tfio(16_000)).result()


@pytest.mark.parametrize("name", ["16 bits.wav", "16 bits.flac", "cover.mp3"])
def test_a_file_cut_anywhere_fails_and_nothing_waits_for_the_rest(
    decoder: Decoder, sounds: dict[str, Path], tmp_path: Path, name: str
) -> None:
    whole = sounds[name].read_bytes()
    path = tmp_path / name
    for left_out in (1, 2, 10, 1_000, len(whole) // 10, len(whole) // 2):
        path.write_bytes(whole[:-left_out])
        started = time.monotonic()
        with pytest.raises(MediaError):
            decoder.submit(path, 0.0, 10.0, by_tfio(16_000)).result()
        assert time.monotonic() - started < 10


def test_wav_files_that_lie_about_their_size_fail_alone(
    decoder: Decoder, sounds: dict[str, Path], tmp_path: Path
) -> None:
    wav = sounds["16 bits.wav"].read_bytes()
    for number, size in enumerate((0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFC, 2 * len(wav))):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(with_sizes(wav, len(wav) - 8, size))
        with pytest.raises(MediaError):
            decoder.submit(path, 0.0, None, by_tfio(16_000)).result()
    assert both(decoder, sounds["16 bits.wav"], (0.0, None), 44_100)


def test_damaged_files_give_samples_or_a_named_failure(tmp_path: Path) -> None:
    files = [file for file in mutated_files(tmp_path / "mutated", count=150, seed=3) if file.suffix != ".mp4"]
    with Decoder(Limits(timeout_s=5.0)) as decoder:
        futures = {file.name: decoder.submit(file, 0.0, None, by_tfio(16_000)) for file in files}
        errors = {name: future.exception() for name, future in futures.items()}
    assert all(error is None or isinstance(error, MediaError | NoTrack) for error in errors.values()), errors
    assert sum(error is None for error in errors.values()) > 5


def test_starting_tensorflow_does_not_count_against_the_clips_time(sounds: dict[str, Path]) -> None:
    with Decoder(Limits(timeout_s=2.0)) as decoder:  # importing it alone takes longer
        assert isinstance(decoder.submit(sounds["16 bits.wav"], 0.0, None, by_tfio(44_100)).result(), np.ndarray)


def test_tensorflow_is_loaded_for_its_own_views_only_and_its_memory_does_not_count(sounds: dict[str, Path]) -> None:
    def facts(pid: int) -> str:
        return Path(f"/proc/{pid}/maps").read_text()

    path = sounds["16 bits.wav"]
    with Decoder(Limits(memory_bytes=1 << 30)) as decoder:  # of address space; TensorFlow maps more by itself
        decoder.submit(path, 0.0, None, Audio(16_000)).result()
        (pid,) = decoder.pids()
        assert "tensorflow" not in facts(pid)
        decoder.submit(path, 0.0, None, by_tfio(16_000)).result()
        decoder.submit(path, 0.0, None, Header()).result()
        assert decoder.pids() == [pid]
        assert "tensorflow" in facts(pid)
        assert len(os.listdir(f"/proc/{pid}/task")) < 10


def test_the_memory_limit_holds_for_tensorflow_too(sounds: dict[str, Path], tmp_path: Path) -> None:
    rate = 96_000
    large = write_sound(tmp_path / "large.wav", np.zeros(110 * rate, np.float32), Coding("pcm_s24le", rate, "5.1"))
    with Decoder() as decoder:
        decoder.submit(large, 0.0, 1.0, Audio(16_000)).result()
        (pid,) = decoder.pids()
        size = re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert size
    with Decoder(Limits(memory_bytes=(int(size[1]) << 10) + (300 << 20))) as decoder:
        decoder.submit(large, 0.0, 1.0, by_tfio(16_000)).result()
        with pytest.raises(MediaError):
            decoder.submit(large, 0.0, None, by_tfio(16_000)).result()  # 253 MB, and 190 MB of the file
        assert isinstance(decoder.submit(sounds["16 bits.wav"], 0.0, None, by_tfio(16_000)).result(), np.ndarray)


def test_a_child_does_not_grow_with_the_files_it_has_read(sounds: dict[str, Path]) -> None:
    def resident_mb(pid: int) -> float:
        status = Path(f"/proc/{pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) / 1024

    names = ["16 bits.flac", "vorbis.ogg", "cover.mp3", "16 bits.wav"]
    with Decoder() as decoder:
        for name in names * 2:
            decoder.submit(sounds[name], 0.0, None, by_tfio(32_000)).result()
        (pid,) = decoder.pids()
        before, files = resident_mb(pid), len(os.listdir(f"/proc/{pid}/fd"))
        for name in names * 6:
            decoder.submit(sounds[name], 0.0, None, by_tfio(32_000)).result()
        assert resident_mb(pid) < before + 40
        assert len(os.listdir(f"/proc/{pid}/fd")) <= files
