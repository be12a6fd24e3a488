"""Reading a published version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beam_pipeline.config import ConfigError
from beam_pipeline.dataset import Dataset
from beam_pipeline.run import Result, run
from tests.datasets import CLIPS, listed, profile, rows
from transforms.avro import to_record
from transforms.records import Caption


@pytest.fixture(scope="module")
def result(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("dataset")
    source = listed(folder, world, *rows(world)[:CLIPS], {"clip_id": "gone", "uri": "gone.mp4"})
    return run(profile(folder), source, str(folder / "out"), quiet=True)


def test_a_version_gives_its_records_and_how_many_there_are(result: Result) -> None:
    dataset = Dataset.open(result.root)
    assert (dataset.version, dataset.manifest) == (result.version, result.manifest)
    captions = list(dataset.read("captions"))
    assert captions == list(result.read("captions"))
    assert all(isinstance(caption, Caption) for caption in captions)
    assert [to_record(caption) for caption in captions] == list(dataset.rows("captions"))
    assert (dataset.count("captions"), dataset.count("failed"), dataset.count("qa")) == (len(captions), 1, 0)
    assert list(dataset.read("qa")) == []


def test_a_folder_that_is_no_dataset_or_lacks_the_version_is_one_line(result: Result, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing has been published here"):
        Dataset.open(str(tmp_path))
    with pytest.raises(ConfigError, match="there is no version 7"):
        Dataset.open(result.root, 7)


def test_a_damaged_file_is_one_line_that_names_it(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "versions" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(result.manifest))
    (folder / "captions.avro").write_bytes(Path(result.folder, "captions.avro").read_bytes()[:-30])
    (tmp_path / "current").write_text('{"version": 1}')
    dataset = Dataset.open(str(tmp_path))
    with pytest.raises(ConfigError, match=r"captions\.avro: cannot be read"):
        list(dataset.read("captions"))
    with pytest.raises(ConfigError, match=r"rejected\.avro: cannot be read|failed\.avro: cannot be read"):
        [*dataset.rows("rejected"), *dataset.rows("failed")]


def test_a_manifest_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "versions" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (tmp_path / "current").write_text('{"version": 1}')
    with pytest.raises(ConfigError, match="not one that Earshot wrote"):
        Dataset.open(str(tmp_path))
