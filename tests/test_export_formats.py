"""Every form of export, read by the library that it is for: what comes out is what went in, field by field."""

from __future__ import annotations

import glob
import gzip
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas
import pytest
import webdataset

from beam_pipeline.export.huggingface import HuggingFace
from beam_pipeline.export.records import caption_columns, key_of
from beam_pipeline.export.target import Wanted
from beam_pipeline.export.text import _NO_COLUMNS
from beam_pipeline.export.webdataset import WebDataset
from model_handlers.base import Item
from tests.exporting import IDS, expected, expected_pairs, hostile, pairs_of, plain, publish, run, tone
from transforms.records import Caption, Clip, Cue

AS_IT_IS: dict[str, Any] = {"keep_default_na": False}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = hostile()
    return publish(tmp_path_factory.mktemp("data"), 1, rows, pairs_of(rows), questions={"model": "m", "prompt": "q-1"})


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`datasets.load_dataset` without a network, with a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    def load(path: Path, *config: str) -> Any:
        return datasets.load_dataset(str(path), *config, cache_dir=str(tmp_path / "cache"))

    return load


def test_the_records_are_as_hostile_as_they_are_meant_to_be(root: str) -> None:
    rows = expected(root)
    assert len(rows) == len(IDS) + 1
    assert any("\ufffd" in row["caption"] for row in rows)  # what Avro makes of a lone surrogate
    assert {row["split"] for row in rows} == {"train", "test"}


def test_datasets_gives_back_exactly_the_records(root: str, tmp_path: Path, load: Any) -> None:
    assert run(root, "hf", tmp_path / "out", "--questions") == 0
    found = load(tmp_path / "out")
    assert set(found) == {"train", "test"}
    for split in found:
        assert list(found[split]) == [row for row in expected(root) if row["split"] == split]
    questions = load(tmp_path / "out", "qa")
    for split in questions:
        assert list(questions[split]) == [row for row in expected_pairs(root) if row["split"] == split]


def test_datasets_reads_all_shards(root: str, tmp_path: Path, load: Any) -> None:
    target = HuggingFace(tmp_path, Wanted(shard_bytes=2_000))  # full after its first row group
    some = [row for row in expected(root) if row["split"] == "train"]
    rows = [some[number % len(some)] | {"clip_id": f"c{number:04d}"} for number in range(2500)]
    for row in rows:
        target.add(row, None)
    target.finish()
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == [f"train-{number:05d}-of-00003.parquet" for number in range(3)]
    assert list(load(tmp_path / "data")["train"]) == rows


def test_datasets_streams_it_too(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    assert run(root, "hf", tmp_path / "out") == 0
    rows = datasets.load_dataset(str(tmp_path / "out"), split="test", streaming=True)
    assert list(rows) == [row for row in expected(root) if row["split"] == "test"]


def test_webdataset_gives_back_exactly_the_records(root: str, tmp_path: Path) -> None:
    assert run(root, "webdataset", tmp_path / "out", "--questions") == 0
    for split in ("train", "test"):
        shards = sorted(glob.glob(str(tmp_path / f"out/{split}-*.tar")))
        samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
        rows = [row for row in expected(root) if row["split"] == split]
        assert [sample["json"] for sample in samples] == rows
        assert [sample["txt"] for sample in samples] == [row["caption"] for row in rows]
        assert [sample["__key__"] for sample in samples] == [key_of(row["clip_id"]) for row in rows]
        with (tmp_path / f"out/qa_{split}.jsonl").open(encoding="utf-8") as file:
            assert [json.loads(line) for line in file] == [r for r in expected_pairs(root) if r["split"] == split]


def test_webdataset_reads_all_shards(root: str, tmp_path: Path) -> None:
    target = WebDataset(tmp_path, Wanted(shard_bytes=1))  # full after its first clip
    rows = [row for row in expected(root) if row["split"] == "test"]
    for row in rows:
        target.add(row, None)
    target.finish()
    shards = sorted(glob.glob(str(tmp_path / "*.tar")))
    assert [Path(shard).name for shard in shards] == [f"test-{number:06d}.tar" for number in range(len(rows))]
    assert [it["json"] for it in webdataset.WebDataset(shards, shardshuffle=False).decode()] == rows


def test_keys_are_one_to_one_safe_and_readable() -> None:
    keys = [key_of(clip_id) for clip_id in (*IDS, "\ud83d", "")]
    assert len({key.lower() for key in keys}) >= len(keys) - 1  # "plain" and "PLAIN" differ in case alone
    assert len(set(keys)) == len(keys)
    for clip_id, key in zip(IDS, keys, strict=False):
        assert not set(key) & set("./\\\n \0")
        assert len(key) <= 120
        if len(clip_id) < 100:
            assert unquote(key) == clip_id
    assert key_of("dQw4w9WgXcQ_000117") == "dQw4w9WgXcQ_000117"
    assert key_of("x" * 300) != key_of("x" * 301)


def test_pandas_gives_back_exactly_the_records_from_parquet(root: str, tmp_path: Path) -> None:
    assert run(root, "parquet", tmp_path / "out", "--questions") == 0
    table = pandas.read_parquet(tmp_path / "out/captions.parquet")
    rows = [{name: _none(value) for name, value in plain(row).items()} for row in table.to_dict("records")]
    assert rows == expected(root)
    pairs = pandas.read_parquet(tmp_path / "out/qa.parquet").to_dict("records")
    assert [{name: _none(value) for name, value in plain(row).items()} for row in pairs] == expected_pairs(root)


def test_pandas_gives_back_exactly_the_texts_and_numbers_from_csv(root: str, tmp_path: Path) -> None:
    assert run(root, "csv", tmp_path / "out", "--questions") == 0
    missing = {"end_s": [""], "similarity": [""]}
    for split in ("train", "test"):
        table = pandas.read_csv(tmp_path / f"out/{split}.csv", na_values=missing, **AS_IT_IS)
        rows = [row for row in expected(root) if row["split"] == split]
        assert list(table.columns) == [name for name in caption_columns() if name not in _NO_COLUMNS]
        assert len(table) == len(rows)
        for found, row in zip(table.to_dict("records"), rows, strict=True):
            for name, value in found.items():
                wanted = row[str(name)]
                assert (json.loads(value) if isinstance(wanted, list) else _none(value)) == wanted, name
        pairs = pandas.read_csv(tmp_path / f"out/qa_{split}.csv", na_values=missing, **AS_IT_IS)
        wanted_pairs = [row for row in expected_pairs(root) if row["split"] == split]
        assert pairs["question"].tolist() == [row["question"] for row in wanted_pairs]
        assert pairs["choices"].map(json.loads).tolist() == [row["choices"] for row in wanted_pairs]


def test_json_lines_hold_exactly_the_records_for_any_reader(root: str, tmp_path: Path) -> None:
    assert run(root, "jsonl", tmp_path / "out", "--questions") == 0
    for split in ("train", "test"):
        rows = [row for row in expected(root) if row["split"] == split]
        text = (tmp_path / f"out/{split}.jsonl").read_bytes().decode()
        assert [json.loads(line) for line in text.splitlines()] == rows  # which splits at U+2028 as well
        table = pandas.read_json(tmp_path / f"out/{split}.jsonl", lines=True, dtype=False)
        assert table["caption"].tolist() == [row["caption"] for row in rows]
        pairs = (tmp_path / f"out/qa_{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert list(map(json.loads, pairs)) == [row for row in expected_pairs(root) if row["split"] == split]


def test_auto_acd_has_the_papers_columns_first(tmp_path: Path) -> None:
    from tests.exporting import caption, clip

    rows = [
        caption(clip("v", video_id="oPRC3zComfA", source="vggsound", start_s=117.0, end_s=127.0), "A dog, barking."),
        caption(
            clip("a", video_id="-abc=DEF_12", source="audioset", start_s=30.0, end_s=40.0), "=A cat.", "validation"
        ),
        caption(clip("mine/1", source="folder"), "NA", "test"),
    ]
    root = publish(tmp_path / "data", 1, rows)
    assert run(root, "auto_acd", tmp_path / "out") == 0
    found = {
        name: pandas.read_csv(tmp_path / f"out/{name}.csv", keep_default_na=False) for name in ("train", "val", "test")
    }
    assert {tuple(table.columns) for table in found.values()} == {
        ("youtube_id", "caption", "start_s", "end_s", "clip_id")
    }
    assert found["train"].values.tolist() == [["oPRC3zComfA_000117", "A dog, barking.", 117.0, 127.0, "v"]]
    assert found["val"].values.tolist() == [["-abc=DEF_12", "=A cat.", 30.0, 40.0, "a"]]
    assert found["test"].values.tolist() == [["mine/1", "NA", 0.0, 10.0, "mine/1"]]


def test_fusion_audio_is_a_list_of_instructions(root: str, tmp_path: Path) -> None:
    assert run(root, "fusion_audio", tmp_path / "out", "--questions") == 0
    rows = [row for row in expected(root) if row["split"] == "train"]
    found = json.loads((tmp_path / "out/train.json").read_text(encoding="utf-8"))
    assert list(found[0])[:6] == ["audio_id", "instruction", "input", "dataset", "task", "output"]
    assert [(it["audio_id"], it["output"], it["start_s"], it["end_s"], it["video_id"]) for it in found] == [
        (row["clip_id"], row["caption"], row["start_s"], row["end_s"], row["video_id"]) for row in rows
    ]
    questions = json.loads((tmp_path / "out/qa_train.json").read_text(encoding="utf-8"))
    wanted = [row for row in expected_pairs(root) if row["split"] == "train"]
    assert [it["output"] for it in questions] == [row["answer"] for row in wanted]
    assert questions[0]["task"] == "Open-ended questions"
    assert questions[1]["instruction"] == f"Which?\n(a) a cat\n(b) {wanted[1]['answer']}\n(c) a car"


def test_numbers_that_json_has_not_are_null(tmp_path: Path) -> None:
    sound = str(tone(tmp_path / "one.wav"))
    of = Clip("a", sound, end_s=None)
    cues = (Cue("a", "tags", "t", "m", (Item("dog", float("inf")),)),)
    root = publish(tmp_path / "data", 1, [Caption(of, "A dog.", "w", cues, "train", similarity=float("nan"))])
    for form in ("jsonl", "lhotse", "csv"):
        assert run(root, form, tmp_path / form) == 0
    row = _strict((tmp_path / "jsonl/train.jsonl").read_text())
    assert (row["similarity"], row["cues"][0]["items"][0]["score"]) == (None, None)
    assert (row["caption"], row["end_s"]) == ("A dog.", None)
    cut = _strict(gzip.decompress((tmp_path / "lhotse/cuts.jsonl.gz").read_bytes()).decode())
    assert cut["supervisions"][0]["custom"]["similarity"] is None
    table = pandas.read_csv(tmp_path / "csv/train.csv", na_values={"similarity": [""]}, **AS_IT_IS)
    assert table["similarity"].dtype == float


def _strict(text: str) -> Any:
    def refuse(name: str) -> None:
        pytest.fail(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def _none(value: Any) -> Any:
    """pandas has NaN where there is nothing."""
    return None if isinstance(value, float) and value != value else value
