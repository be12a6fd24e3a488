"""Files of sound alone, through the whole job: what cannot apply is skipped, and the caption rests on what is heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.config import load_profile
from beam_pipeline.run import Result, run
from demo.cue_sheets import mentions
from demo.scenes import SOURCES
from demo.world import Scene, make_scene, synthesise_audio
from model_handlers.views import Audio, AudioVideo, Header, MediaInfo, MiddleFrame
from tests.sound_files import Coding, id3, id3_picture, jpeg, with_sizes, write_sound
from transforms.ingest import ClipSource
from transforms.media import MediaError, NoTrack, decode
from transforms.records import Caption, Cue, Failure

SEED = 4322
RECOGNISABLE = (1, 3, 4, 5, 6, 7)  # scenes of sounds that 8 kHz, which ends at 4 kHz, leaves what they are
CODINGS = {
    "stereo.wav": Coding("pcm_s16le", tags={"title": "Grün Ωmega 犬", "artist": "Ærø"}),
    "24 bits, surround, 96 kHz.wav": Coding("pcm_s24le", 96_000, "5.1"),
    "8 kHz.wav": Coding("pcm_s16le", 8_000, "mono"),
    "8 bits.wav": Coding("pcm_u8", layout="mono"),
    "32 bits.wav": Coding("pcm_s32le"),
    "float.wav": Coding("pcm_f32le", 48_000),
    "plain.flac": Coding("flac", layout="mono"),
    "24 bits, surround, cover.flac": Coding("flac", 96_000, "5.1", "s32", cover=True),
    "cover.mp3": Coding("libmp3lame", cover=True, tags={"title": "犬"}),
    "8 kHz.mp3": Coding("libmp3lame", 8_000, "mono"),
    "vorbis.ogg": Coding("vorbis"),
    "vorbis, cover.ogg": Coding("vorbis", cover=True, tags={"title": "Grün"}),
    "opus, surround.ogg": Coding("libopus", 48_000, "5.1"),
    "cover.opus": Coding("libopus", 48_000, cover=True),
    "cover.m4a": Coding("aac", container="mp4", cover=True),
    "96 kHz.m4a": Coding("aac", 96_000, "mono"),
    "lossless.m4a": Coding("alac"),
    "plain.aac": Coding("aac"),
}
SURROUND = [name for name in CODINGS if "surround" in name]
# Tags as they are found: Latin-1, UTF-16, text that is none of what it says, and a picture that is none.
TAGS = {
    "latin-1": {"TIT2": b"\x00Gr\xfcn"},
    "utf-16": {"TIT2": b"\x01" + "犬 Ω".encode("utf-16")},
    "no text": {"TIT2": b"\x01\xff\xfea", "TPE1": b"\x03\xff\xfe\xfd", "COMM": b"\x01eng\xff"},
    "cover": {"APIC": id3_picture(jpeg())},
    "broken cover": {"APIC": id3_picture(b"no picture" * 50)},
}
UNKNOWN_SIZES = {"ffmpeg": 0xFFFFFFFF, "sox": 0x7FFFF000, "signed": 0x7FFFFFFF, "zero": 0}  # of files written to a pipe
BROKEN = {
    "empty.wav": "the file is empty",
    "no samples.wav": "there is nothing in the file",
    "promises twice what is there.wav": "truncated: audio ends at 10.0 s of 20.0 s",
    "cut.flac": "truncated: audio ends at",
    "cut.m4a": "not media, or damaged",
    "text.mp3": "not a container|not media",
}


def scene_of(number: int) -> Scene:
    return make_scene(SEED, RECOGNISABLE[number % len(RECOGNISABLE)])


def heard_in(scene: Scene) -> set[str]:
    return {SOURCES[name].label for name in scene.sources}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Scene]]:
    """One good file of every kind in a folder of its own, with the scene whose sound it holds."""
    folder = tmp_path_factory.mktemp("sounds")
    made: dict[str, tuple[Path, Scene]] = {}
    for number, (name, coding) in enumerate(CODINGS.items()):
        scene = scene_of(number)
        made[name] = write_sound(folder / name, synthesise_audio(scene, coding.rate), coding), scene
    mp3, wav = (made[name][0].read_bytes() for name in ("8 kHz.mp3", "stereo.wav"))
    for name, tags in TAGS.items():
        made[f"{name}.mp3"] = folder / f"{name}.mp3", made["8 kHz.mp3"][1]
        made[f"{name}.mp3"][0].write_bytes(id3(tags) + mp3)
    for name, size in UNKNOWN_SIZES.items():
        made[f"size {name}.wav"] = folder / f"size {name}.wav", made["stereo.wav"][1]
        made[f"size {name}.wav"][0].write_bytes(with_sizes(wav, size, size))
    return made


@pytest.fixture(scope="module")
def result(sounds: dict[str, tuple[Path, Scene]], tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The demo profile over the folder of good files, to which broken ones are added."""
    folder = next(iter(sounds.values()))[0].parent
    wav, flac, m4a = (sounds[name][0].read_bytes() for name in ("stereo.wav", "plain.flac", "cover.m4a"))
    broken = {
        "empty.wav": b"",
        "no samples.wav": with_sizes(wav, wav.index(b"data"), 0)[: wav.index(b"data") + 8],
        "promises twice what is there.wav": with_sizes(wav, 2 * len(wav), 2 * len(wav) - 100),
        "cut.flac": flac[: len(flac) // 2],
        "cut.m4a": m4a[: len(m4a) // 2],
        "text.mp3": b"<!DOCTYPE html><html><body><h1>404 Not Found</h1></body></html>\n",
    }
    for name, data in broken.items():
        (folder / name).write_bytes(data)
    out = tmp_path_factory.mktemp("out")
    return run(load_profile("demo"), ClipSource(str(folder)), str(out), quiet=True)


def captions(result: Result) -> dict[str, Caption]:
    return {Path(caption.clip.uri).name: caption for caption in result.read("captions")}


def cues(caption: Caption) -> dict[str, Cue]:
    return {cue.name: cue for cue in caption.cues}


def test_every_good_file_is_captioned_and_only_the_broken_ones_fail(
    result: Result, sounds: dict[str, tuple[Path, Scene]]
) -> None:
    assert set(captions(result)) == set(sounds)
    assert not list(result.read("rejected"))
    assert {Path(failure.clip.uri).name for failure in result.read("failed")} == set(BROKEN)


def test_captions_and_tags_name_what_is_heard(result: Result, sounds: dict[str, tuple[Path, Scene]]) -> None:
    assert captions(result)
    for name, caption in captions(result).items():
        scene = sounds[name][1]
        tags = {item.text for item in cues(caption)["audio_tags"].items if (item.score or 0) >= 0.3}
        assert tags == heard_in(scene), name
        assert all(mentions(caption.caption, source) for source in scene.sources), name


def test_what_needs_a_picture_is_skipped_with_the_reason_and_what_needs_none_is_not(result: Result) -> None:
    handlers = load_profile("demo").handlers()
    visual = {handler.name for handler in handlers if isinstance(handler.view, MiddleFrame | AudioVideo)}
    assert {"image_caption", "synchronisation"} <= visual
    for name, caption in captions(result).items():
        assert set(cues(caption)) == {handler.name for handler in handlers}
        for cue in caption.cues:
            assert cue.skipped == ("no video track" if cue.name in visual else ""), (name, cue.name)
            assert not (cue.skipped and cue.items)
        (track,) = cues(caption)["media"].items  # a cover is no picture
        assert track.text.startswith("audio "), name
        assert {item.text for item in cues(caption)["loudness"].items} == {"peak", "rms"}


def test_a_broken_file_fails_with_what_is_wrong(result: Result) -> None:
    failures: dict[str, Failure] = {Path(failure.clip.uri).name: failure for failure in result.read("failed")}
    for name, words in BROKEN.items():
        assert any(word in failures[name].error for word in words.split("|")), failures[name].error


@pytest.mark.parametrize("name", [*CODINGS, *(f"{name}.mp3" for name in TAGS)])
def test_a_file_of_sound_has_a_header_and_sound_and_no_picture(
    sounds: dict[str, tuple[Path, Scene]], name: str
) -> None:
    path, _ = sounds[name]
    info = decode(path, 0.0, None, Header())
    assert isinstance(info, MediaInfo)
    assert info.video is None
    assert info.duration_s == pytest.approx(10.0, abs=0.04)  # a codec's last packet may hold more than was put in
    samples = decode(path, 1.5, 2.0, Audio(16_000))
    assert isinstance(samples, np.ndarray)
    assert samples.shape == (32_000,)
    for view in (MiddleFrame(), AudioVideo()):
        with pytest.raises(NoTrack, match="no video track"):
            decode(path, 0.0, None, view)


@pytest.mark.parametrize("name", SURROUND)
def test_the_mean_of_six_channels_is_as_loud_as_one(sounds: dict[str, tuple[Path, Scene]], name: str) -> None:
    path, scene = sounds[name]
    samples = decode(path, 0.0, 10.0, Audio(CODINGS[name].rate))
    expected = synthesise_audio(scene, CODINGS[name].rate)
    assert isinstance(samples, np.ndarray)
    if CODINGS[name].codec == "libopus":  # loses what cannot be heard
        assert np.std(samples) == pytest.approx(np.std(expected), rel=0.05)
    else:
        assert np.abs(samples - expected).max() < 1e-3


@pytest.mark.parametrize("name", UNKNOWN_SIZES)
def test_a_wav_file_of_unknown_size_ends_where_it_ends(sounds: dict[str, tuple[Path, Scene]], name: str) -> None:
    whole, unknown = (decode(sounds[n][0], 0.0, None, Audio(44_100)) for n in ("stereo.wav", f"size {name}.wav"))
    assert isinstance(whole, np.ndarray)
    assert np.array_equal(whole, unknown)


def test_a_wav_file_that_says_less_than_it_holds_ends_where_it_says(tmp_path: Path) -> None:
    rate = 8_000
    path = write_sound(tmp_path / "a.wav", np.full(4 * rate, 0.25, np.float32), Coding("pcm_s16le", rate, "mono"))
    wav = path.read_bytes()
    path.write_bytes(with_sizes(wav, len(wav) - 8 - 4 * rate, 4 * rate))
    assert decode(path, 0.0, None, Audio(rate)).shape == (2 * rate,)  # type: ignore[union-attr]


def test_a_wav_file_cut_short_is_an_error_but_what_is_there_can_be_used(tmp_path: Path) -> None:
    rate = 8_000
    path = write_sound(tmp_path / "a.wav", np.full(8 * rate, 0.25, np.float32), Coding("pcm_s16le", rate, "mono"))
    path.write_bytes(path.read_bytes()[: 6 * rate])
    with pytest.raises(MediaError, match=r"truncated: audio ends at 3\.0 s of 8\.0 s"):
        decode(path, 0.0, None, Audio(rate))
    assert decode(path, 0.0, 2.0, Audio(rate)).shape == (2 * rate,)  # type: ignore[union-attr]


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_an_mp3_file_begins_with_its_first_sound(tmp_path: Path, rate: int) -> None:
    sound = np.random.default_rng(0).standard_normal(2 * rate).astype(np.float32) / 10
    sound = np.convolve(sound, np.ones(8) / 8, "same").astype(np.float32)  # little above what MP3 keeps
    path = write_sound(tmp_path / "a.mp3", sound, Coding("libmp3lame", rate, "mono"))
    samples = decode(path, 0.0, 2.0, Audio(rate))
    assert isinstance(samples, np.ndarray)
    for first in range(0, rate // 10, rate // 50):
        part = slice(first, first + rate // 50)
        assert np.corrcoef(samples[part], sound[part])[0, 1] > 0.8
