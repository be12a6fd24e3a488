"""Sounds in exports: the same samples that the pipeline hears, and nothing lost silently where there are none."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, RecordingSet, SupervisionSet

from beam_pipeline.dataset import Dataset
from beam_pipeline.excerpts import Excerpts
from tests.exporting import IDS, RATE, caption, clip, expected, expected_pairs, pairs_of, plain, publish, run, tone
from transforms.records import Caption, Clip

NAMES = ("plain", "../a.b", "日本/語", "x" * 300)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Caption]:
    """Four good clips, two of them of one file; one whose file is gone, one that is no media, one that has no sound."""
    folder = tmp_path_factory.mktemp("media")
    long = str(tone(folder / "long [1] ü.wav", 4, channels=2))
    where: list[dict[str, Any]] = [
        {"uri": str(tone(folder / "one.wav", 1)), "end_s": None},
        {"uri": long, "start_s": 31.0, "end_s": 32.0, "media_start_s": 1.0},
        {"uri": f"file://{folder}/long%20%5B1%5D%20%C3%BC.wav", "start_s": 2.5, "end_s": 9.0, "media_start_s": 2.5},
        {"uri": str(tone(folder / "two.wav", 2)), "end_s": 2.0},
    ]
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    good = [
        caption(Clip(name, origin=name, **place), f"Sound {name[:9]}.")
        for name, place in zip(NAMES, where, strict=True)
    ]
    bad = [caption(Clip("gone", str(folder / "gone.wav")))]
    bad.append(caption(Clip("broken", str(folder / "broken.wav")), split="test"))
    return [good[0], bad[0], *good[1:], bad[1]]


@pytest.fixture(scope="module")
def root(rows: list[Caption], tmp_path_factory: pytest.TempPathFactory) -> str:
    return publish(tmp_path_factory.mktemp("data"), 1, rows, pairs_of(rows))


@pytest.fixture(scope="module")
def heard(rows: list[Caption]) -> dict[str, np.ndarray]:
    """What the pipeline hears of the good clips."""
    with Excerpts() as excerpts:
        found = {row.clip.clip_id: excerpts.sound(row.clip, RATE) for row in rows if row.clip.clip_id in NAMES}
    assert all(samples is not None and len(samples) for samples in found.values())
    return found  # type: ignore[return-value]


def same(content: bytes, samples: np.ndarray) -> None:
    """Whether a sound file holds the samples, within 16 bits."""
    found, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    assert rate == RATE
    assert found.shape == samples.shape
    assert np.abs(found - samples).max() <= 1.01 / 32_767


def left_out(out: Path) -> dict[str, str]:
    with (out / "left_out.csv").open(encoding="utf-8", newline="") as file:
        return {row["clip_id"]: row["reason"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("form", ["flac", "wav"])
def test_datasets_has_the_sounds_that_the_pipeline_hears(
    form: str, root: str, heard: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    assert run(root, "hf", tmp_path / "out", "--audio", form, "--rate", str(RATE), "--questions") == 0
    found = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert isinstance(found["train"].features["audio"], datasets.Audio)
    assert found["train"].features["audio"].sampling_rate == RATE
    table = found["train"].cast_column("audio", datasets.Audio(decode=False))
    assert [row["clip_id"] for row in table] == list(NAMES)
    for row in table:
        sound = row.pop("audio")
        assert row in expected(root)
        assert sound["path"].endswith(f".{form}")
        same(sound["bytes"], heard[row["clip_id"]])
    questions = datasets.load_dataset(str(tmp_path / "out"), "qa", cache_dir=str(tmp_path / "cache"))
    assert list(questions["train"]) == [row for row in expected_pairs(root) if row["clip_id"] in NAMES]


def test_what_has_no_sound_is_left_out_and_listed_with_the_reason(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "webdataset", tmp_path / "out", "--audio", "flac", "--rate", str(RATE)) == 0
    assert "left out, its sound cannot be had: 2" in capsys.readouterr().out
    reasons = left_out(tmp_path / "out")
    assert list(reasons) == ["gone", "broken"]
    assert "no such file" in reasons["gone"].lower()
    assert reasons["broken"]
    assert "| its sound cannot be had | 2 |" in (tmp_path / "out/README.md").read_text()


def test_webdataset_has_the_sounds_that_the_pipeline_hears(
    root: str, heard: dict[str, np.ndarray], tmp_path: Path
) -> None:
    import webdataset

    assert run(root, "webdataset", tmp_path / "out", "--audio", "flac", "--rate", str(RATE)) == 0
    samples = list(webdataset.WebDataset(str(tmp_path / "out/train-000000.tar"), shardshuffle=False).decode())
    assert [sample["json"]["clip_id"] for sample in samples] == list(NAMES)
    for sample in samples:
        same(sample["flac"], heard[sample["json"]["clip_id"]])


@pytest.mark.parametrize(("form", "name"), [("jsonl", "train.jsonl"), ("fusion_audio", "train.json")])
def test_other_forms_have_the_sounds_in_files_beside_them(
    form: str, name: str, root: str, heard: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(root, form, out, "--audio", "flac", "--rate", str(RATE)) == 0
    text = (out / name).read_text(encoding="utf-8")
    rows = json.loads(text) if form == "fusion_audio" else list(map(json.loads, text.splitlines()))
    assert [row["clip_id"] for row in rows] == list(NAMES)
    for row in rows:
        path = out / row["audio_id" if form == "fusion_audio" else "audio"]
        assert path.resolve().is_relative_to(out.resolve() / "audio")
        same(path.read_bytes(), heard[row["clip_id"]])
    assert len(list(out.glob("audio/*/*"))) == len(NAMES)


def test_lhotse_reads_its_files_wherever_the_folder_is_moved(
    root: str, heard: dict[str, np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(root, "lhotse", tmp_path / "first", "--audio", "flac", "--rate", str(RATE)) == 0
    (tmp_path / "first").rename(out)
    cuts = list(CutSet.from_file(out / "cuts.jsonl.gz").with_recording_path_prefix(out))
    assert [cut.id for cut in cuts] == list(NAMES)
    rows = {row["clip_id"]: row for row in expected(root)}
    for cut in cuts:
        assert np.array_equal(cut.load_audio().shape, (1, len(heard[cut.id])))
        assert np.abs(cut.load_audio()[0] - heard[cut.id]).max() <= 1.01 / 32_767
        (said,) = cut.supervisions
        row = rows[cut.id]
        assert (said.text, said.start, said.duration) == (row["caption"], 0.0, cut.duration)
        told = {name: value for name, value in row.items() if name not in ("caption", "cues", "attempts")}
        assert plain(said.custom) == told
    recordings = RecordingSet.from_file(out / "recordings.jsonl.gz")
    supervisions = SupervisionSet.from_file(out / "supervisions.jsonl.gz")
    assert [it.id for it in recordings] == [it.recording_id for it in supervisions] == list(NAMES)


def test_lhotse_refers_to_the_source_media_where_no_sound_is_written(
    root: str, heard: dict[str, np.ndarray], tmp_path: Path
) -> None:
    assert run(root, "lhotse", tmp_path / "out") == 0
    assert not (tmp_path / "out/audio").exists()
    cuts = {cut.id: cut for cut in CutSet.from_file(tmp_path / "out/cuts.jsonl.gz")}
    assert list(cuts) == list(NAMES)
    assert [(cut.start, round(cut.duration, 6)) for cut in cuts.values()] == [
        (0.0, 1.0),
        (1.0, 1.0),
        (2.5, 1.5),
        (0.0, 2.0),
    ]
    assert isinstance(cuts["plain"], MonoCut)
    for name, cut in cuts.items():
        sound = cut.load_audio().mean(axis=0)  # two channels of the same
        assert np.abs(sound - heard[name]).max() <= 2 / 32_767
    assert set(left_out(tmp_path / "out")) == {"gone", "broken"}


def test_lhotse_cannot_refer_into_a_shard(tmp_path: Path) -> None:
    member = Clip("in a shard", "/data/shard.tar#offset=512&length=9&name=a.wav", end_s=1.0)
    root = publish(tmp_path / "data", 1, [caption(member), caption(Clip("far", "gs://bucket/a.wav"))])
    assert run(root, "lhotse", tmp_path / "out") == 1
    assert len(left_out(tmp_path / "out")) == 2


def test_an_export_in_which_no_sound_could_be_read_says_so_by_its_status(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", 1, [caption(clip("a")), caption(clip("b"))])
    assert run(root, "csv", tmp_path / "out", "--audio", "wav") == 1
    assert list(left_out(tmp_path / "out")) == ["a", "b"]
    assert run(root, "csv", tmp_path / "text") == 0


@pytest.mark.parametrize(("form", "more"), [("csv", ["--audio", "wav"]), ("lhotse", [])])
@pytest.mark.parametrize("uri", ["clips/gone.wav", "clips/gone.tar#offset=512&length=9&name=../a.wav"])
def test_a_file_that_is_gone_is_named_with_its_whole_path(
    uri: str, form: str, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = publish(tmp_path / "data", 1, [caption(Clip("a", uri))])
    monkeypatch.chdir(tmp_path)
    assert run(root, form, tmp_path / "out", *more) == 1
    if "#" not in uri:
        assert f"no such file: {tmp_path}/clips/gone.wav" in left_out(tmp_path / "out")["a"]
    elif form == "csv":
        assert f"no such file: {tmp_path}/clips/gone.tar" in left_out(tmp_path / "out")["a"]


def test_hostile_ids_write_no_file_outside(tmp_path: Path) -> None:
    sound = str(tone(tmp_path / "one.wav", 0.1))
    rows = [caption(Clip(clip_id, sound)) for clip_id in IDS]
    root = publish(tmp_path / "data", 1, rows)
    before = set(tmp_path.parent.rglob("*.flac"))
    assert run(root, "jsonl", tmp_path / "a/b/out", "--audio", "flac", "--rate", str(RATE)) == 0
    written = set(tmp_path.parent.rglob("*.flac")) - before
    assert len(written) == len(IDS)
    assert all(path.parent.parent == tmp_path / "a/b/out/audio" for path in written)
    assert Dataset.open(root).count("captions") == len(IDS)
