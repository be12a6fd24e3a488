"""Models in a bucket: an emulator of Google's storage stands in for the bucket, Beam's own client asks it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.cli import main
from beam_pipeline.config import load_profile
from model_handlers import weights
from model_handlers.weights import ModelError, local_path
from tests.gcs import BUCKET, Faults, Storage, faulty_storage
from tests.model_servers import Behaviour, serving

TAGS = Path(__file__).parent.parent / "demo" / "models" / "audio_tags"
CHECKPOINT, LABELS = (TAGS / "Cnn14_demo.pth").read_bytes(), (TAGS / "class_labels_indices.csv").read_bytes()


@pytest.fixture(scope="module")
def running() -> Iterator[Storage]:
    with faulty_storage() as storage:
        yield storage


@pytest.fixture
def bucket(running: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of the bucket for one test; Beam spends twenty seconds looking for credentials if it is let."""
    running.faults = Faults(0)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.address)
    monkeypatch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "cache"))
    return f"gs://{BUCKET}/{tmp_path.name}"


def write(url: str, content: bytes) -> None:
    with FileSystems.create(url) as file:
        file.write(content)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.parent.name != "locks")


def test_models_go_to_a_bucket_and_come_from_there_once(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pins = hashlib.sha256(CHECKPOINT).hexdigest(), hashlib.md5(LABELS).hexdigest()
    with serving(Behaviour(files={"/tags.pth": CHECKPOINT, "/labels.csv": LABELS})) as web:
        profile = tmp_path / "mine.toml"
        profile.write_text(
            'description = "tags"\n[caption]\nhandler = "template_writer:TemplateWriter"\nscene = ""\n'
            f'[cues.audio_tags]\nhandler = "audio_tags:AudioTags"\nmodel = "{web.url}/tags.pth#sha256={pins[0]}"\n'
            f'labels = "{web.url}/labels.csv#md5={pins[1]}"\n'
        )
        for _ in range(2):
            assert main(["models", "fetch", "--profile", str(profile), "--to", bucket]) == 0, capsys.readouterr().err
        assert sorted(path for _, path, _ in web.asked) == ["/labels.csv", "/tags.pth"]
    assert files_in(tmp_path / "cache") == ["models.json"]  # what has arrived does not stay
    (index,) = FileSystems.match([f"{bucket}/models.json"])[0].metadata_list
    assert set(json.loads(FileSystems.open(index.path).read())) == {f"sha256:{pins[0]}", f"md5:{pins[1]}"}

    for _ in range(2):
        status = main(["models", "check", "--profile", str(profile), "--models", bucket])
        assert status == 0, capsys.readouterr().err
    (handler,) = load_profile(str(profile)).handlers()
    handler.mirror = bucket
    path = handler.locate()
    assert path.is_relative_to(tmp_path / "cache")
    assert path.read_bytes() == CHECKPOINT
    born = path.stat().st_ino
    assert handler.locate().stat().st_ino == born


def test_a_file_and_a_folder_in_a_bucket_are_pinned_by_their_hash(bucket: str, tmp_path: Path) -> None:
    for path in TAGS.iterdir():
        write(f"{bucket}/tags/{path.name}", path.read_bytes())
    digest = weights.checksum(TAGS)
    folder = f"{bucket}/tags#{digest.replace(':', '=')}"
    assert weights.identity(folder) == weights.identity(str(TAGS))
    assert {path.name: path.read_bytes() for path in local_path(folder).iterdir()} == {
        path.name: path.read_bytes() for path in TAGS.iterdir()
    }
    file = f"{bucket}/tags/class_labels_indices.csv#sha256={hashlib.sha256(LABELS).hexdigest()}"
    assert local_path(file).read_bytes() == LABELS
    write(f"{bucket}/tags/more.txt", b"!")
    assert local_path(folder).is_dir()  # what is in the cache is what the hash says
    (tmp_path / "cache").rename(tmp_path / "away")
    with pytest.raises(ModelError, match="the folder's hash is sha256:"):
        local_path(folder)
    assert files_in(tmp_path / "cache") == []


def test_what_is_not_in_a_bucket_is_named(bucket: str) -> None:
    with pytest.raises(ModelError, match=f"there is no file and no folder {bucket}/nothing"):
        local_path(f"{bucket}/nothing#sha256={'0' * 64}")
    with pytest.raises(ModelError, match=r"there is no models\.json in .*earshot models fetch"):
        local_path("org/name", "abc", mirror=bucket)


@pytest.mark.parametrize("only", ["alt=media", "GET"])
def test_models_that_may_not_be_read_are_one_error_that_says_so(bucket: str, running: Storage, only: str) -> None:
    write(f"{bucket}/models.json", b"{}")
    running.faults = Faults(1.0, kinds=("403",), only=only)
    with pytest.raises(ModelError, match=r"models\.json: cannot be (read: no permission|listed)"):
        local_path("org/name", "abc", mirror=bucket)


def test_models_that_cannot_be_written_are_one_error_that_says_so(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Behaviour(files={"/labels.csv": LABELS})) as web:
        profile = tmp_path / "mine.toml"
        profile.write_text(
            'description = "tags"\n[caption]\nhandler = "template_writer:TemplateWriter"\nscene = ""\n'
            f'[cues.audio_tags]\nhandler = "audio_tags:AudioTags"\nmodel = "{TAGS / "Cnn14_demo.pth"}"\n'
            f'labels = "{web.url}/labels.csv#md5={hashlib.md5(LABELS).hexdigest()}"\n'
        )
        assert main(["models", "fetch", "--profile", str(profile), "--to", "gs://no-such-bucket/models"]) == 2
    said = capsys.readouterr().err
    assert "gs://no-such-bucket/models: cannot be written to: there is no such bucket" in said
    assert "Traceback" not in said
