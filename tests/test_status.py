"""What a version is can be read from its manifest alone, on a disk or in a bucket."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.config import ConfigError
from beam_pipeline.run import Result, run
from beam_pipeline.show import console
from beam_pipeline.status import status, status_shown
from demo.world import make_scene, write_scenes
from tests.datasets import CLIPS, profile
from tests.gcs import BUCKET, storage
from transforms import versions
from transforms.ingest import ClipSource


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("status")
    kinds = [None] * (CLIPS - 1) + ["silent"]
    write_scenes([make_scene(4321, index, fault=kind) for index, kind in enumerate(kinds)], folder / "media")
    return run(profile(folder), ClipSource(str(folder / "media" / "clips.csv")), str(folder / "data"), quiet=True)


def shown(root: str, version: int | None = None) -> str:
    with console.capture() as captured:
        status_shown(status(root, version))
    return captured.get()


def only_the_manifest(root: str, copy: Path) -> str:
    """A dataset of which nothing but pointer and manifests is left."""
    for path in (*Path(root).rglob("manifest.json"), *Path(root).rglob("claimed"), Path(root) / "current"):
        (copy / path.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy / path.relative_to(root))
    return str(copy)


def test_a_version_is_told_of_from_its_manifest_alone(result: Result, tmp_path: Path) -> None:
    said = shown(only_the_manifest(result.root, tmp_path / "copy"))
    for wanted in ("1 (current)", "clips.csv", "silent", "audio_tags", "decode frame", result.manifest["run"]):
        assert wanted in said, wanted
    assert f"{CLIPS} │ clips in" in said
    found = status(str(tmp_path / "copy"))
    assert found.seconds is not None
    assert 0 <= found.seconds < 600
    assert json.loads(json.dumps(found.as_json()))["manifest"]["counts"] == result.manifest["counts"]


def test_an_older_version_and_runs_that_published_nothing_are_told_of(result: Result, tmp_path: Path) -> None:
    root = only_the_manifest(result.root, tmp_path / "copy")
    first, second = Path(versions.folder(root, 1)), Path(versions.folder(root, 2))
    shutil.copytree(first, second)
    older = json.loads((first / "manifest.json").read_text())
    del older["finished"]  # as manifests were before they said
    (first / "manifest.json").write_text(json.dumps(older))
    versions.advance(root, 2)
    versions.claim(root, "killed")
    found = status(root, 1)
    assert (found.version, found.current, found.unfinished, found.seconds) == (1, 2, (3,), None)
    said = shown(root, 1)
    assert "(current)" not in said
    assert "killed before they published: 3" in said


def test_what_is_not_there_is_said_and_what_to_look_for(tmp_path: Path, result: Result) -> None:
    with pytest.raises(ConfigError, match="nothing has been published here"):
        status(str(tmp_path))
    with pytest.raises(ConfigError, match="there is no version 7"):
        status(result.root, 7)
    versions.claim(str(tmp_path / "under_way"), "a run")
    with pytest.raises(ConfigError, match="a run claims version 1"):
        status(str(tmp_path / "under_way"))
    (tmp_path / "current").write_text("rubbish")
    with pytest.raises(ConfigError, match="not a pointer"):
        status(str(tmp_path))


def test_a_version_in_a_bucket_is_told_of_as_one_on_a_disk(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    with storage() as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
        monkeypatch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
        for name in ("current", "versions/1/manifest.json", "versions/1/claimed"):
            with FileSystems.create(f"gs://{BUCKET}/data/{name}", compression_type="uncompressed") as file:
                file.write((Path(result.root) / name).read_bytes())
        found = status(f"gs://{BUCKET}/data")
    assert found.manifest == versions.manifest(result.root, 1)
    assert found.current == 1
