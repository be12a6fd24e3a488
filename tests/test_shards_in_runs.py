"""Clips in tar shards, in whole runs and in a bucket."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.run import run
from demo.world import make_scene, write_scenes
from tests.datasets import profile, records
from tests.gcs import BUCKET, Storage, faulty_storage, upload
from tests.shard_files import listed, pack
from transforms import shards
from transforms.fetch import open_media
from transforms.ingest import ClipSource
from transforms.media import MediaError
from transforms.sources import resolve

# Runs


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four clips of the demo's world."""
    folder = tmp_path_factory.mktemp("shards")
    write_scenes([make_scene(4321, index) for index in range(4)], folder)
    return folder


def outcomes(found: dict[str, Any]) -> dict[str, Any]:
    return {
        record.clip.clip_id: replace(record, clip=replace(record.clip, uri="", origin="", source=""))
        for record in found.values()
    }


def test_shards_give_the_same_records_as_a_folder_and_packing_them_anew_costs_nothing(
    media: Path, tmp_path: Path
) -> None:
    clips = sorted((media / "clips").glob("*.mp4"))
    files = {path.name: path.read_bytes() for path in clips}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for number, names in enumerate((clips[:3], clips[3:])):
        pack(tmp_path / "one" / f"{number}.tar", {path.name: files[path.name] for path in names})
    pack(tmp_path / "two" / "all.tar", dict(reversed(files.items())), tarfile.PAX_FORMAT)
    settings, data = profile(tmp_path), str(tmp_path / "data")
    folder = run(settings, ClipSource(str(media / "clips")), str(tmp_path / "folder"), quiet=True)
    packed = run(settings, ClipSource(str(tmp_path / "one" / "*.tar")), data, quiet=True)
    assert outcomes(records(packed)) == outcomes(records(folder))
    assert packed.manifest["counts"]["captions"] >= 3
    moved = run(settings, ClipSource(str(tmp_path / "two")), data, quiet=True)
    assert moved.costs == {}
    assert outcomes(records(moved)) == outcomes(records(folder))


def test_a_damaged_shard_in_a_run_is_accounted_for(media: Path, tmp_path: Path) -> None:
    clips = sorted((media / "clips").glob("*.mp4"))[:2]
    pack(tmp_path / "0.tar", {path.name: path.read_bytes() for path in clips})
    (tmp_path / "1.tar").write_bytes(b"")
    pack(tmp_path / "2.tar", {clips[0].name: clips[0].read_bytes()})
    (tmp_path / "2.tar").write_bytes((tmp_path / "2.tar").read_bytes()[:1000])
    done = run(profile(tmp_path), ClipSource(str(tmp_path / "*.tar")), str(tmp_path / "data"), quiet=True)
    assert done.manifest["counts"]["clips_in"] == 4
    assert sorted(failure.clip.origin for failure in done.read("failed")) == [
        str(tmp_path / "1.tar"),
        str(tmp_path / "2.tar"),
    ]


# In a bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[Storage]:
    patch = pytest.MonkeyPatch()
    with faulty_storage() as storage:
        patch.setenv("STORAGE_EMULATOR_HOST", storage.address)
        patch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
        yield storage
    patch.undo()


def test_a_member_in_a_bucket_is_fetched_alone_and_removed(bucket: Storage, tmp_path: Path) -> None:
    files = {f"{n}.mp4": bytes([n]) * 100_000 for n in range(10)}
    url = f"gs://{BUCKET}/one/0.tar"
    upload(url, pack(tmp_path / "0.tar", files).read_bytes())
    clips, errors = listed(url)
    assert errors == []
    bucket.forget()
    for clip, expected in zip(clips, files.values(), strict=True):
        with open_media(clip.uri) as path:
            assert isinstance(path, Path)
            assert path.read_bytes() == expected
        assert not path.exists()
    assert bucket.operations()["read"] == 10
    assert bucket.bytes_read() == 10 * (100_000 + 512)
    upload(url, pack(tmp_path / "0.tar", {"9.mp4": b"", **files}).read_bytes())
    with pytest.raises(MediaError, match="was changed after"), open_media(clips[-1].uri):
        pass


@pytest.mark.parametrize(
    ("count", "size", "most_requests", "most_share"),
    [(100, 1_000_000, 102, 0.07), (400, 60_000, 9, 1.01)],
    ids=["a megabyte", "60 kB"],
)
def test_listing_a_shard_in_a_bucket_asks_once_a_large_clip_and_reads_on_over_small_ones(
    bucket: Storage, tmp_path: Path, count: int, size: int, most_requests: int, most_share: float
) -> None:
    files = {}
    for n in range(count):
        files |= {f"{n:06d}.json": b'{"tag": ["Rain"]}', f"{n:06d}.mp4": bytes(size)}
    url = f"gs://{BUCKET}/many/{size}.tar"
    whole = pack(tmp_path / "0.tar", files).read_bytes()
    upload(url, whole)
    bucket.forget()
    found = shards.contents(url, {".mp4": shards.VIDEO}, 1 << 30)
    assert (len(found.samples), found.error) == (count, "")
    assert all(sample.told["json"] == b'{"tag": ["Rain"]}' for sample in found.samples)
    asked = bucket.operations()
    assert asked["read"] <= most_requests
    assert asked["metadata"] == 1
    assert bucket.bytes_read() <= most_share * len(whole)


def test_shards_in_a_bucket_are_listed_as_those_on_a_disk(bucket: Storage, tmp_path: Path) -> None:
    for number in range(3):
        path = pack(tmp_path / f"s-{number:03d}.tar", {f"{number}{c}.mp4": bytes(50_000) for c in "ab"})
        upload(f"gs://{BUCKET}/set/{path.name}", path.read_bytes())
    here = [clip.clip_id for clip in listed(tmp_path)[0]]
    for clips in ("", "/*.tar", "/s-{000..002}.tar"):
        found, errors = listed(f"gs://{BUCKET}/set{clips}")
        assert ([clip.clip_id for clip in found], errors) == (here, []), clips
    assert resolve(ClipSource(f"gs://{BUCKET}/set")).kind == "shards"
    upload(f"gs://{BUCKET}/cut/0.tar", path.read_bytes()[:70_000])
    found, errors = listed(f"gs://{BUCKET}/cut/0.tar")
    assert [clip.clip_id for clip in found] == ["2a"]
    assert "cut off at byte 70000" in errors[0]
