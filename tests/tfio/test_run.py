"""The whole job with sound decoded by tensorflow-io gives what it gives with PyAV."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from beam_pipeline.config import Profile, load_profile
from beam_pipeline.run import Result, run
from demo.world import make_scene, synthesise_audio
from model_handlers.views import Audio
from tests.sound_files import Coding, write_sound
from transforms.ingest import ClipSource
from transforms.records import Caption

CODINGS = {
    "stereo.wav": Coding("pcm_s16le"),
    "surround.wav": Coding("pcm_s24le", 96_000, "5.1"),
    "cover.flac": Coding("flac", cover=True),
    "cover.mp3": Coding("libmp3lame", cover=True),
    "vorbis.ogg": Coding("vorbis"),
}


def of_sound_alone(profile: Profile) -> set[str]:
    return {handler.name for handler in profile.handlers() if isinstance(handler.view, Audio)}


def with_tfio(profile: Profile) -> Profile:
    """The profile with tensorflow-io as the decoder of every cue of sound alone."""
    sound = of_sound_alone(profile)
    rows = {name: {**row, "decoder": "tensorflow-io"} if name in sound else row for name, row in profile.cues.items()}
    return replace(profile, cues=rows)


def captions(result: Result) -> dict[str, Caption]:
    return {Path(caption.clip.uri).name: caption for caption in result.read("captions")}


def scores(caption: Caption, cue: str) -> dict[str, float]:
    (found,) = (c for c in caption.cues if c.name == cue)
    return {item.text: item.score or 0.0 for item in found.items}


def test_captions_are_those_of_pyav_and_only_what_tensorflow_io_does_not_read_fails(tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for number, (name, coding) in enumerate(CODINGS.items()):
        write_sound(sounds / name, synthesise_audio(make_scene(4322, number + 1), coding.rate), coding)
    source = ClipSource(str(sounds))
    plain = run(load_profile("demo"), source, str(tmp_path / "pyav"), quiet=True)

    refused = write_sound(sounds / "aac.m4a", synthesise_audio(make_scene(4322, 0), 44_100), Coding("aac"))
    other = run(with_tfio(load_profile("demo")), source, str(tmp_path / "tfio"), quiet=True)

    expected, found = captions(plain), captions(other)
    assert set(expected) == set(found) == set(CODINGS)
    for name, caption in found.items():
        assert caption.caption == expected[name].caption
        for cue, tolerance in (("audio_tags", 0.02), ("loudness", 0.1)):  # a probability, dB
            here, there = (scores(one[name], cue) for one in (expected, found))
            likely = {text for text, score in here.items() if cue == "loudness" or score >= 0.1}
            assert likely
            assert all(abs(here[text] - there[text]) < tolerance for text in likely), (name, cue)
    (failure,) = other.read("failed")
    assert failure.clip.uri == str(refused)
    assert "tensorflow-io reads WAV" in failure.error
    assert other.manifest["counts"] == Counter(clips_in=6, captions=5, rejected=0, failed=1)
    changed = {
        cue
        for cue, facts in plain.manifest["cues"].items()
        if facts["fingerprint"] != other.manifest["cues"][cue]["fingerprint"]
    }
    assert {"loudness", "audio_tags"} <= changed == of_sound_alone(load_profile("demo"))
