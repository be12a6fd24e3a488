"""Numbers and the pointer of a dataset's versions, on a disk and in a bucket, with many who want the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems

from tests.gcs import BUCKET, storage
from transforms import versions


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with storage() as address:
        yield address


@pytest.fixture(params=["disk", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty dataset's folder."""
    if request.param == "disk":
        return str(tmp_path / "data")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("emulator"))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    monkeypatch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
    return f"gs://{BUCKET}/{tmp_path.name}"


def write(path: str, content: bytes) -> None:
    with FileSystems.create(path, compression_type="uncompressed") as file:
        file.write(content)


def test_an_empty_dataset_has_no_version(root: str) -> None:
    assert versions.numbers(root) == []
    assert versions.current(root) is None
    with pytest.raises(FileNotFoundError, match="there is no version 1"):
        versions.manifest(root, 1)


def test_many_who_claim_at_once_get_a_number_each(root: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        claimed = sorted(threads.map(lambda n: versions.claim(root, f"run{n}"), range(8)))
    assert claimed == versions.numbers(root) == list(range(1, 9))


def test_the_pointer_moves_forwards_only(root: str) -> None:
    assert versions.advance(root, 2)
    assert not versions.advance(root, 1)
    assert versions.current(root) == 2
    assert versions.advance(root, 2)
    assert versions.advance(root, 3)
    assert versions.current(root) == 3


def test_of_many_who_move_the_pointer_at_once_the_latest_wins(root: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: versions.advance(root, n), (3, 7, 1, 8, 2, 6, 5, 4)))
    assert versions.current(root) == 8


def test_a_version_that_is_removed_is_gone_and_its_number_is_free_only_if_it_was_the_last(root: str) -> None:
    for _ in range(3):
        number = versions.claim(root, "run")
        write(FileSystems.join(versions.folder(root, number), versions.MANIFEST), json.dumps({"n": number}).encode())
    versions.remove(root, 2)
    assert versions.numbers(root) == [1, 3]
    with pytest.raises(FileNotFoundError):
        versions.manifest(root, 2)
    assert versions.manifest(root, 3) == {"n": 3}
    assert versions.claim(root, "run") == 4


@pytest.mark.parametrize("content", [b"", b"three", b"{}", b'{"version": "x"}'])
def test_a_broken_pointer_is_named(root: str, content: bytes) -> None:
    if root.startswith("/"):
        Path(root).mkdir()
    write(FileSystems.join(root, versions.CURRENT), content)
    with pytest.raises(ValueError, match="not a pointer that Earshot wrote"):
        versions.current(root)
