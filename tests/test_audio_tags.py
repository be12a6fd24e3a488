"""The cues that listen without a caption: audio tags, loudness, and the facts in the header."""

from __future__ import annotations

import math
import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from model_handlers.audio_tags import CHECKPOINT, LABELS, AudioTags, find_checkpoint, read_labels
from model_handlers.base import CueHandler, Example, Item, Prediction
from model_handlers.loudness import FLOOR_DBFS, Loudness
from model_handlers.media_info import MediaFacts
from model_handlers.nets.cnn14 import Cnn14
from model_handlers.views import Audio, Header, MediaInfo
from model_handlers.weights import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("Speech", "Bark", "Vehicle horn, car horn, honking", "Music", "Silence")
DEMO = "pkg://demo/models/audio_tags"


def write_labels(path: Path, names: tuple[str, ...] = NAMES) -> None:
    path.write_text("index,mid,display_name\n" + "".join(f'{i},/m/{i},"{name}"\n' for i, name in enumerate(names)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save({"model": Cnn14(classes=len(NAMES), width=2).state_dict()}, tmp_path / "small.pth")
    write_labels(tmp_path / LABELS)
    return tmp_path


def tags(model: Path | str, **parameters: object) -> AudioTags:
    return AudioTags(name="audio_tags", model=str(model), device="cpu", **parameters)  # type: ignore[arg-type]


def clip(number: int, seconds: float) -> Example:
    rng = np.random.default_rng(number)
    return Example(f"clip{number}", (rng.uniform(0.01, 0.5) * rng.standard_normal(int(seconds * 32_000))).astype("f4"))


def answer(handler: CueHandler, examples: list[Example]) -> list[Prediction]:
    return handler.run_inference(examples, handler.load_model())


def test_tags_are_the_top_classes_with_their_probabilities(folder: Path) -> None:
    handler = tags(folder, top=2)
    example = clip(0, 1.0)
    (prediction,) = answer(handler, [example])
    with torch.inference_mode():
        probabilities = handler.load().net(torch.from_numpy(example.view)[None])[0]
    best = probabilities.argsort(descending=True)[:2].tolist()
    assert [item.text for item in prediction.items] == [NAMES[index] for index in best]
    assert [item.score for item in prediction.items] == pytest.approx(probabilities[best].tolist(), abs=1e-6)


def test_a_clips_tags_do_not_depend_on_its_batch_mates(folder: Path) -> None:
    handler = tags(folder, top=5)
    clips = [clip(number, seconds) for number, seconds in enumerate((1.0, 0.2, 1.5, 1.0, 0.01, 1.5, 1.0))]
    together = answer(handler, clips)
    assert [prediction.clip_id for prediction in together] == [example.clip_id for example in clips]
    for example, prediction in zip(clips, together, strict=True):
        (alone,) = answer(handler, [example])
        assert [item.text for item in prediction.items] == [item.text for item in alone.items]
        scores = [item.score for item in alone.items]
        assert [item.score for item in prediction.items] == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize(
    ("audio", "error"),
    [(np.zeros(0, "f4"), "no audio samples"), (np.full(32_000, np.nan, "f4"), "no finite numbers")],
)
def test_a_clip_that_cannot_be_tagged_fails_alone(folder: Path, audio: np.ndarray, error: str) -> None:
    for handler in (tags(folder), Loudness(name="loudness")):
        good, bad, other = answer(handler, [clip(0, 1.0), Example("bad", audio), clip(1, 1.0)])
        assert bad.error is not None
        assert error in bad.error
        assert bad.items == ()
        for prediction in (good, other):
            assert prediction.error is None
            assert prediction.items


def test_top_beyond_the_classes_gives_all_and_below_one_is_refused(folder: Path) -> None:
    assert len(answer(tags(folder, top=99), [clip(0, 0.5)])[0].items) == len(NAMES)
    with pytest.raises(ValueError, match="at least 1"):
        tags(folder, top=0)


def test_the_published_name_wins_among_several_checkpoints(folder: Path) -> None:
    assert find_checkpoint(folder).name == "small.pth"
    assert find_checkpoint(folder / "small.pth").name == "small.pth"
    (folder / "other.pth").touch()
    with pytest.raises(ModelError, match=r"2 files \*\.pth, but none called Cnn14_mAP=0\.431\.pth"):
        find_checkpoint(folder)
    (folder / CHECKPOINT).touch()
    assert find_checkpoint(folder).name == CHECKPOINT


def test_a_missing_checkpoint_names_the_download_and_the_place(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)nowhere.*zenodo\.org/records/3987831"):
        tags(tmp_path / "nowhere").load_model().get()
    with pytest.raises(ModelError, match=r"no file \*\.pth in .*zenodo\.org/records/3987831"):
        tags(tmp_path).load_model().get()


def test_missing_labels_name_the_download_and_the_place(folder: Path) -> None:
    (folder / LABELS).unlink()
    with pytest.raises(ModelError, match=f"no labels at {folder / LABELS}.*class_labels_indices"):
        tags(folder).load_model().get()


def test_labels_may_lie_elsewhere_but_have_to_fit(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "names.csv"
    write_labels(elsewhere, ("A", "B, with comma", "C", "D", "E"))
    assert tags(folder, labels=str(elsewhere)).load().names[1] == "B, with comma"
    write_labels(elsewhere, ("A", "B"))
    with pytest.raises(ModelError, match=r"small\.pth has 5 classes, .*names\.csv names 2"):
        tags(folder, labels=str(elsewhere)).load()


@pytest.mark.parametrize("content", ["label\nSpeech\n", "index,mid,display_name\n1,/m/1,Speech\n", "index,mid\n0,x\n"])
def test_labels_in_another_format_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / LABELS
    path.write_text(content)
    with pytest.raises(ModelError, match=LABELS):
        read_labels(path)


def test_the_fingerprint_follows_the_weights_and_the_parameters(folder: Path) -> None:
    before = tags(folder / "small.pth").fingerprint()
    assert tags(folder / "small.pth", batch_size=3).fingerprint() == before
    assert tags(folder / "small.pth", top=4).fingerprint() != before
    torch.save({"model": Cnn14(classes=len(NAMES), width=2).state_dict()}, folder / "retrained.pth")
    assert tags(folder / "retrained.pth").fingerprint() != before


def test_the_demo_model_names_the_demo_worlds_sounds() -> None:
    from demo.world import labels, make_scene, synthesise_audio

    scenes = [make_scene(190, index, "speech_over_music" if index == 5 else None) for index in range(6)]
    audio = [Example(scene.clip_id, synthesise_audio(scene, 32_000)) for scene in scenes]
    for scene, prediction in zip(scenes, answer(tags(DEMO), audio), strict=True):
        heard = labels(scene)
        assert {item.text for item in prediction.items[: len(heard)]} == set(heard)


def test_loudness_of_known_signals() -> None:
    t = np.arange(32_000) / 32_000
    sine = np.sin(2 * np.pi * 1000 * t)
    signals = (sine, 0.1 * sine, np.ones(100), np.zeros(100), np.full(100, 1e-9))
    predictions = answer(Loudness(name="loudness"), [Example(str(i), s.astype("f4")) for i, s in enumerate(signals)])
    levels = [[item.score for item in prediction.items] for prediction in predictions]
    assert [item.text for item in predictions[0].items] == ["peak", "rms"]
    root_half = 10 * math.log10(0.5)
    expected = [[0, root_half], [-20, -20 + root_half], [0, 0], [FLOOR_DBFS] * 2, [FLOOR_DBFS] * 2]
    np.testing.assert_allclose(levels, expected, atol=1e-3)


def test_loudness_shares_the_decode_of_the_tags(folder: Path) -> None:
    assert Loudness(name="loudness").view == tags(folder).view == Audio(rate=32_000)


def test_media_facts_are_one_item_a_track() -> None:
    handler = MediaFacts(name="media")
    infos = [
        MediaInfo(9.5, "h264 320x240 25 fps", "aac 44100 Hz 2 channels"),
        MediaInfo(3.0, None, "mp3 8000 Hz 1 channel"),
        MediaInfo(1.0, None, None),
    ]
    both, sound, none = answer(handler, [Example(str(number), info) for number, info in enumerate(infos)])
    assert handler.view == Header()
    assert both.items == (
        Item("video h264 320x240 25 fps", start_s=0.0, end_s=9.5),
        Item("audio aac 44100 Hz 2 channels", start_s=0.0, end_s=9.5),
    )
    assert sound.items == (Item("audio mp3 8000 Hz 1 channel", start_s=0.0, end_s=3.0),)
    assert none.items == ()


def test_handlers_travel_to_workers_and_their_models_are_weakly_referable(folder: Path) -> None:
    for handler in (tags(folder), Loudness(name="loudness"), MediaFacts(name="media")):
        copy = pickle.loads(pickle.dumps(handler))
        assert copy.fingerprint() == handler.fingerprint()
        assert weakref.ref(copy.load_model()) is not None
