"""Shards that mean harm, or were put together badly, cost their own clips at most, and none in silence."""

from __future__ import annotations

import io
import json
import tarfile
import time
from pathlib import Path

import pytest

from model_handlers.views import Header
from transforms import shards
from transforms.fetch import open_media
from transforms.media import Limits, MediaError, decode
from transforms.sources import listed_shard
from transforms.telemetry import line


def member(name: str, content: bytes = b"content", kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    return info.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512)


END = b"\0" * 1024


def shard(folder: Path, content: bytes) -> str:
    (folder / "0.tar").write_bytes(content)
    return str(folder / "0.tar")


def test_a_thousand_headers_in_a_row_are_damage_and_no_crash(tmp_path: Path) -> None:
    found = listed_shard(shard(tmp_path, member("a.mp4") + member("././@LongLink", b"x", b"L") * 1000 + END))
    assert [sample.key for sample in found.samples] == ["a"]
    assert found.error


def test_a_clock_of_400_digits_fails_its_clip_alone(tmp_path: Path) -> None:
    told = json.dumps({"start": "9" * 400 + ":00:00"}).encode()
    found = listed_shard(shard(tmp_path, member("a.json", told) + member("a.mp4") + member("b.mp4") + END))
    assert [sample.key for sample in found.samples] == ["a", "b"]


@pytest.mark.parametrize("size", [-10240, 1 << 62])
def test_a_member_that_ends_nowhere_is_damage(tmp_path: Path, size: int) -> None:
    info = tarfile.TarInfo("b.mp4")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, size
    found = listed_shard(shard(tmp_path, member("a.mp4") + info.tobuf(tarfile.GNU_FORMAT) + END))
    assert [sample.key for sample in found.samples if not sample.error] == ["a"]
    assert found.error


@pytest.mark.parametrize(
    "between", [END + b"\0" * 9000, END + b"\0" * 512 * 40], ids=["joined by cat", "a hole of zeros"]
)
def test_what_follows_the_end_is_told(tmp_path: Path, between: bytes) -> None:
    found = listed_shard(shard(tmp_path, member("a.mp4") + between + member("b.mp4") + END))
    assert [sample.key for sample in found.samples] == ["a"]
    assert "joined by cat" in found.error
    whole = listed_shard(shard(tmp_path, member("a.mp4") + END + b"\0" * 9000))
    assert not whole.error, "tar itself fills up with zeros"


def test_more_members_than_a_shard_may_have_end_its_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_MEMBERS", 10)
    found = listed_shard(shard(tmp_path, b"".join(member(f"{n:03d}.mp4") for n in range(20)) + END))
    assert len(found.samples) == 10
    assert "more than 10 members" in found.error


def test_a_name_of_a_million_dots_takes_no_time(tmp_path: Path) -> None:
    name = "./" * 500_000 + "a.mp4"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    began = time.process_time()
    found = listed_shard(shard(tmp_path, content.getvalue()))
    assert [sample.key for sample in found.samples] == ["a"]
    assert time.process_time() - began < 2


@pytest.mark.parametrize("names", [("狗.wav", "猫.wav"), ("a" * 150 + "1.wav", "a" * 150 + "2.wav")])
@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_shard_that_was_packed_in_another_order_gives_no_other_clip_s_sound(
    tmp_path: Path, names: tuple[str, str], tar_format: int
) -> None:
    def pack(*order: int) -> str:
        with tarfile.open(tmp_path / "0.tar", "w", format=tar_format) as tar:
            for number in order:
                info = tarfile.TarInfo(names[number])
                info.size = 4
                tar.addfile(info, io.BytesIO(b"%04d" % number))
        return str(tmp_path / "0.tar")

    clips = [sample.clip for sample in listed_shard(pack(0, 1)).samples]
    for number, clip in enumerate(clips):
        assert clip is not None
        with open_media(clip.uri) as piece:
            assert piece.open().read() == b"%04d" % number  # type: ignore[union-attr]
    pack(1, 0)
    for clip in clips:
        assert clip is not None
        with pytest.raises(MediaError, match="was changed after it was listed"), open_media(clip.uri):
            pass


@pytest.mark.parametrize(
    "uri",
    [
        "file://[x/a.mp4",
        "gs:///a.mp4",
        "/a.tar#offset=512&length=3&name=a.%00",
        "file:///a%00b.tar#offset=512&length=3&name=a",
    ],
)
def test_an_address_that_is_none_fails_its_clip_alone(uri: str) -> None:
    with pytest.raises(MediaError), open_media(uri) as path:
        decode(path, 0.0, None, Header(), Limits())


def test_what_an_address_hides_is_in_no_log_and_long_ones_take_no_time() -> None:
    assert "pass" not in line({"error": "cannot fetch https://user:p@ss:pass@host/a"})
    began = time.process_time()
    line({"clip_id": "a://" * 16_000})
    assert time.process_time() - began < 1
