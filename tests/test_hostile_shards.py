"""Shards that mean harm, or were put together badly, cost their own clips at most, and none in silence."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from model_handlers.views import Header
from tests.shard_files import content, listed, pack
from transforms import shards
from transforms.fetch import open_media
from transforms.ingest import SourceError
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


# What is refused


def entry(name: str, kind: bytes, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (entry("a.mp4", tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link or a device"),
        (entry("a.mp4", tarfile.LNKTYPE, linkname="b.mp4"), "is a link or a device"),
        (entry("a.mp4", tarfile.FIFOTYPE), "is a link or a device"),
        (
            entry(
                "a.mp4",
                tarfile.REGTYPE,
                pax_headers={"GNU.sparse.map": "0,512", "GNU.sparse.size": "4096", "GNU.sparse.name": "a.mp4"},
            ),
            "sparse",
        ),
    ],
    ids=["symbolic link", "hard link", "pipe", "sparse"],
)
def test_members_that_are_no_stretch_of_the_shard_are_refused(
    tmp_path: Path, info: tarfile.TarInfo, message: str
) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("b.mp4"))
        tar.addfile(info)
    clips, errors = listed(path)
    assert [clip.clip_id for clip in clips] == ["b"]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_sparse_file_as_gnu_tar_packs_it_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.mp4").open("wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 19)
        file.write(b"data")
    (tmp_path / "b.mp4").write_bytes(b"whole")
    subprocess.run(["tar", "-S", "-cf", "0.tar", "a.mp4", "b.mp4"], cwd=tmp_path, check=True)
    clips, errors = listed(tmp_path / "0.tar")
    assert [content(clip) for clip in clips] == [b"whole"]
    assert "sparse" in errors[0]


def test_a_member_beyond_the_limit_fails_alone(tmp_path: Path) -> None:
    path = pack(tmp_path / "0.tar", {"a.mp4": bytes(1001), "b.mp4": bytes(1000)})
    large, small = shards.contents(str(path), {".mp4": shards.VIDEO}, 1000).samples
    assert "'a.mp4' is larger than the limit" in large.error
    assert (small.key, small.error) == ("b", "")


def test_compressed_shards_are_refused_with_what_to_do(tmp_path: Path) -> None:
    plain = pack(tmp_path / "0.tar", {"a.mp4": b"1"})
    for name in ("1.tar.gz", "1.tgz", "1.tar"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
        with pytest.raises(SourceError, match=r"compressed.*unpack"):
            listed(tmp_path / name)
    (tmp_path / "1.tar.gz").unlink()
    (tmp_path / "1.tgz").unlink()
    clips, errors = listed(tmp_path / "*.tar")  # one of many fails alone
    assert [clip.clip_id for clip in clips] == ["a"]
    assert "compressed (gzip)" in errors[0]


@pytest.mark.parametrize(
    ("made_of", "message"),
    [
        (b"", "the shard is empty"),
        (bytes(10240), "no media file among the shard's 0 members"),
        (b"a text" * 300, "no tar, or damaged"),
    ],
    ids=["empty", "no members", "text"],
)
def test_a_shard_without_clips_is_an_error_before_the_run(tmp_path: Path, made_of: bytes, message: str) -> None:
    (tmp_path / "0.tar").write_bytes(made_of)
    with pytest.raises(SourceError, match=message):
        listed(tmp_path / "0.tar")
    pack(tmp_path / "0.tar", {"a.txt": b"", "a.json": b"{}"})
    with pytest.raises(SourceError, match="no media file among the shard's 2 members"):
        listed(tmp_path / "0.tar")


def cut_shard(folder: Path, at: int) -> tuple[Path, list[int]]:
    """A shard of three clips of 1000 bytes, cut; and where its members' contents begin."""
    path = pack(folder / "cut.tar", {f"{name}.mp4": name.encode() * 1000 for name in "abc"})
    path.write_bytes(path.read_bytes()[:at])
    return path, [512, 2048, 3584]


@pytest.mark.parametrize(
    ("at", "left", "message"),
    [
        (3584 + 999, "ab", "cut off at byte 4583, within 'c.mp4'"),
        (3584 + 1000, "abc", "damaged"),  # the content is there, what fills its block is not
        (3584, "ab", "cut off at byte 3584, within 'c.mp4'"),
        (3072, "ab", "cut off at byte 3072, between two members"),
        (3072 + 100, "ab", ""),
        (2048 + 5, "a", "cut off at byte 2053, within 'b.mp4'"),
    ],
)
def test_of_a_shard_that_was_cut_off_what_is_there_is_listed(tmp_path: Path, at: int, left: str, message: str) -> None:
    path, _ = cut_shard(tmp_path, at)
    clips, errors = listed(path)
    assert [clip.clip_id for clip in clips] == list(left)
    assert [content(clip) for clip in clips] == [name.encode() * 1000 for name in left]
    assert len(errors) == 1
    assert errors[0].startswith(f"{path}: after {len(left)} members: ")
    assert message in errors[0]


def test_damaged_headers_end_a_shard_and_take_no_memory(tmp_path: Path) -> None:
    path = pack(tmp_path / "0.tar", {"a.mp4": bytes(1000), "b.mp4": bytes(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[:1536] + b"\xff" * 512 + whole[2048:])
    clips, errors = listed(path)
    assert [clip.clip_id for clip in clips] == ["a"]
    assert "damaged at byte 1536" in errors[0]
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):  # records of 8 GiB, says the header
        huge = tarfile.TarInfo("x")
        huge.type, huge.size = kind, (8 << 30) - 1
        path.write_bytes(whole[:1536] + huge.tobuf(tarfile.GNU_FORMAT) + whole[2048:])
        clips, errors = listed(path)
        assert [clip.clip_id for clip in clips] == ["a"]
        assert "a header of" in errors[0]


def test_300_mutated_shards_are_listed_or_refused(tmp_path: Path) -> None:
    rng = random.Random(5)
    files = {f"{n}.mp4": bytes(rng.randrange(3000)) for n in range(5)}
    files |= {f"{n}.json": b'{"label": "x"}' for n in range(5)}
    whole = pack(tmp_path / "0.tar", files, tarfile.PAX_FORMAT).read_bytes()
    started, outcomes = time.monotonic(), {"clips": 0, "refused": 0, "damaged": 0}
    for _ in range(300):
        mutated = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(mutated))
            damage = rng.randbytes(rng.randrange(1, 30))
            mutated[place : place + len(damage)] = damage
        (tmp_path / "0.tar").write_bytes(bytes(mutated))
        found = listed_shard(str(tmp_path / "0.tar"))
        outcomes["damaged" if found.error else "clips"] += 1
        for sample in found.samples:
            assert sample.error or sample.clip
        try:
            listed(tmp_path / "0.tar")
        except SourceError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5
    assert time.monotonic() - started < 60


# What means harm


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


def test_more_members_than_a_shard_may_have_end_its_listing(tmp_path: Path) -> None:
    path = shard(tmp_path, b"".join(member(f"{n:03d}.mp4") for n in range(20)) + END)
    found = shards.contents(path, {".mp4": shards.VIDEO}, 1 << 30, max_members=10)
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
