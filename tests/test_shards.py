"""Clips in tar shards: what is listed, where shards are looked for, and that a clip is read where it lies."""

from __future__ import annotations

import io
import json
import random
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_handlers.views import Audio, AudioVideo, AudioVideoView, Header, MediaInfo, MiddleFrame
from tests.media_files import write_clip
from tests.shard_files import content, listed, pack
from transforms import shards
from transforms.decoder import Decoder
from transforms.fetch import open_media
from transforms.ingest import SourceError
from transforms.media import MediaError, decode
from transforms.pieces import Member

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
VIEWS = (Header(), MiddleFrame(), Audio(16_000), AudioVideo(fps=25, short_side=128, crop=112, rate=16_000))


def shard_with(folder: Path, name: str, told: bytes, extension: str = "json") -> Path:
    return pack(folder / name, {"a.mp4": b"clip a", f"a.{extension}": told, "b.mp4": b"clip b"})


# What is listed


@pytest.mark.parametrize("tar_format", FORMATS.values(), ids=FORMATS)
def test_samples_become_clips_in_order_with_what_their_siblings_say(tmp_path: Path, tar_format: int) -> None:
    told = {"video_id": "v", "start_s": 30, "end_s": 40.5, "labels": ["Dog", "Bark"], "split": "train", "width": 360}
    files = {
        "dir/b.mp4": b"the clip b",
        "dir/b.json": json.dumps(told).encode(),
        "dir/b.cls": b"Bark\nPets\n",
        "dir/b.txt": b"a dog barks",
        "a.flac": b"the clip a",
        "a.jpg": b"a picture",
    }
    path = pack(tmp_path / "0.tar", files, tar_format)
    clips, errors = listed(path)
    assert errors == []
    first, second = clips
    assert (first.clip_id, first.video_id, first.labels) == ("dir/b", "v", ("Dog", "Bark", "Pets"))
    assert (first.start_s, first.end_s, first.media_start_s, first.split) == (30.0, 40.5, 0.0, "train")
    assert (second.clip_id, second.video_id, second.labels, second.end_s) == ("a", "a", (), None)
    assert {clip.source for clip in clips} == {"shards"}
    assert first.uri.startswith(f"{path}#offset=512&length=10&name=dir%2Fb.mp4")
    assert [content(clip) for clip in clips] == [b"the clip b", b"the clip a"]
    assert listed(path, name="mine", limit=1)[0][0].source == "mine"


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_long_and_foreign_names(tmp_path: Path, tar_format: int) -> None:
    long = "/".join(["deep" * 20] * 4) + "/clip"
    files = {f"{long}.mp4": b"long", "ünï中 [1].webm": b"foreign", "dir.with.dots/x.mp4": b"dots", "\udcff.mp4": b"?"}
    clips, errors = listed(pack(tmp_path / "0.tar", files, tar_format))
    assert len(errors) == 1
    assert "not UTF-8" in errors[0]
    assert "name=%FF.mp4" in errors[0]
    assert {clip.clip_id: content(clip) for clip in clips} == {
        long: b"long",
        "ünï中%20%5B1%5D": b"foreign",
        "dir.with.dots/x": b"dots",
    }


def test_shards_of_the_webdataset_package(tmp_path: Path) -> None:
    import webdataset as wds

    random_bytes = random.Random(0).randbytes
    samples = {f"{number:06d}": random_bytes(number * 700) for number in range(1, 8)}
    with wds.ShardWriter(str(tmp_path / "shard-%06d.tar"), maxcount=3, verbose=0) as writer:
        for key, media in samples.items():
            writer.write({"__key__": key, "mp4": media, "json": {"tag": ["Rain"], "text": ["it rains"]}, "cls": 3})
    clips, errors = listed(tmp_path / "shard-{000000..000002}.tar")
    assert errors == []
    assert {clip.clip_id: content(clip) for clip in clips} == samples
    assert {clip.labels for clip in clips} == {("Rain",)}
    assert [sample["__key__"] for sample in wds.WebDataset(str(tmp_path / "shard-000001.tar"), shardshuffle=False)] == [
        clip.clip_id for clip in clips[3:6]
    ]


def test_what_belongs_to_no_sample_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in {
            "folder.mp4": tarfile.DIRTYPE,
            "no_ending": tarfile.REGTYPE,
            ".hidden.mp4": tarfile.REGTYPE,
            "d/._x.mp4": tarfile.REGTYPE,
            "__meta__/info.mp4": tarfile.REGTYPE,
            "failed.json": tarfile.REGTYPE,  # what video2dataset writes of a video that it could not get
            "./a.MP4": tarfile.REGTYPE,
            "/b.left.wav": tarfile.REGTYPE,
        }.items():
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
    clips, errors = listed(path)
    assert ([clip.clip_id for clip in clips], errors) == (["a", "b"], [])


def test_of_several_media_files_the_one_with_a_picture_is_the_clip(tmp_path: Path) -> None:
    files = {"a.mp3": b"1", "a.webm": b"2", "a.flac": b"3", "b.wav": b"4", "b.mp3": b"5"}
    clips, _ = listed(pack(tmp_path / "0.tar", files))
    assert [content(clip) for clip in clips] == [b"2", b"5"]


@pytest.mark.parametrize(
    ("told", "values"),
    [
        ({"videoID": "v", "start": 3, "end": "13"}, {"video_id": "v", "start_s": 3.0, "end_s": 13.0}),
        ({"clips": [["00:01:02.500", "00:01:12.5"]], "url": "u"}, {"start_s": 62.5, "end_s": 72.5}),
        ({"text": ["a dog barks"], "tag": ["Dog", " Bark "], "original_data": {}}, {"labels": ("Dog", "Bark")}),
        ({"clip_id": "mine", "media_start_s": 5, "start_s": 5, "end_s": 9}, {"clip_id": "mine", "media_start_s": 5.0}),
        ({"label": "Rain", "start_s": 0}, {"labels": ("Rain",)}),
        ({"label": 7, "tags": [], "start": None}, {"labels": (), "start_s": 0.0}),
    ],
)
def test_json_of_common_datasets(tmp_path: Path, told: dict[str, Any], values: dict[str, Any]) -> None:
    clips, errors = listed(shard_with(tmp_path, "0.tar", json.dumps(told).encode()))
    assert errors == []
    assert {name: getattr(clips[0], name) for name in values} == values


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"start_s": "soon"}', "start_s 'soon' is not a number"),
        (b'{"start_s": 5, "end_s": 4}', "end_s 4 is not after start_s 5"),
        (b'{"video_id": 7}', "video_id 7 is not text"),
        (b'{"clip_id": "a\\u0000"}', "control character"),
        (b'{"media_start_s": -1}', "media_start_s -1"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (1 << 20) + b"{}", "'a.json' is larger than the limit of 1 MiB"),
    ],
)
def test_a_sample_whose_json_is_wrong_fails_alone(tmp_path: Path, told: bytes, message: str) -> None:
    clips, errors = listed(shard_with(tmp_path, "0.tar", told))
    assert [clip.clip_id for clip in clips] == ["b"]
    assert len(errors) == 1
    assert message in errors[0]
    assert "name=a.mp4" in errors[0]


# Names and keys


def test_keys_that_two_shards_share_get_the_shards_name(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        pack(tmp_path / split / "0.tar", {"1.flac": split.encode(), f"{split}.flac": b""})
    clips, errors = listed(tmp_path)
    assert errors == []
    assert {clip.clip_id for clip in clips} == {"train/0:1", "test/0:1", "train", "test"}
    assert content(next(clip for clip in clips if clip.clip_id == "test/0:1")) == b"test"


def test_a_name_that_is_twice_in_a_shard_is_a_failure_and_so_is_an_id(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a.mp4", "b.mp4", "a.mp4", "c.mp4", "c.json"):
            data = b'{"clip_id": "b"}' if name == "c.json" else b""
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    clips, errors = listed(path)
    assert [clip.clip_id for clip in clips] == ["b"]
    assert "there is a second 'a.mp4' in this shard" in errors[0]
    assert "clip_id 'b' is a duplicate of" in errors[1]


def test_names_that_lead_elsewhere_write_nothing(tmp_path: Path) -> None:
    files = {"../out.mp4": b"1", "a/../../b.mp4": b"2", "/etc/c.mp4": b"3", "d.mp4": b"4"}
    before = set(tmp_path.parent.rglob("*"))
    clips, errors = listed(pack(tmp_path / "0.tar", files))
    assert {clip.clip_id: content(clip) for clip in clips} == {"etc/c": b"3", "d": b"4"}
    assert len(errors) == 2
    assert all("leads out of the shard" in error for error in errors)
    assert set(tmp_path.parent.rglob("*")) - before == {tmp_path / "0.tar"}


# Where shards are


def test_shards_are_found_by_name_glob_folder_and_braces(tmp_path: Path) -> None:
    for number in range(4):
        pack(tmp_path / f"s-{number:03d}.tar", {f"{number}.mp4": b""})
    for clips, keys in {
        "s-001.tar": "1",
        "s-*.tar": "0123",
        "": "0123",
        "s-{001..003}.tar": "123",
        "s-{000,002}.tar": "02",
        "s-{00,01}[0-2].tar": "",
        "s-00{0,1}*.tar": "01",
        "{s}-00[01].tar": "",
    }.items():
        if keys:
            assert [clip.clip_id for clip in listed(tmp_path / clips)[0]] == list(keys), clips
        else:
            with pytest.raises(SourceError, match=r"nothing matches|1 of 2 shards"):
                listed(tmp_path / clips)
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        shutil.copy(tmp_path / f"s-00{len(split) - 4}.tar", tmp_path / split / "0.tar")
    assert sorted(clip.clip_id for clip in listed(tmp_path / "{train,test}" / "0.tar")[0]) == ["0", "1"]
    with pytest.raises(SourceError, match=r"2 of 4 shards .* do not exist, such as .*s-004\.tar"):
        listed(tmp_path / "s-{002..005}.tar")
    with pytest.raises(SourceError, match="counts neither up"):
        listed(tmp_path / "s-{9..1}.tar")
    with pytest.raises(SourceError, match="is for lists"):
        listed(tmp_path / "s-001.tar", media="/x/{video_id}.mp4")


def test_braces_count_as_shells_do() -> None:
    assert shards.expanded("a{08..11}") == ["a08", "a09", "a10", "a11"]
    assert shards.expanded("{a,b}-{1..2}") == ["a-1", "a-2", "b-1", "b-2"]
    assert shards.expanded("plain{x}") == ["plain{x}"]
    with pytest.raises(ValueError, match="more than"):
        shards.expanded("{1..2000}-{1..2000}")


# Reading where it lies


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm", "avi", "ts", "wav", "flac", "mp3", "ogg", "m4a"])
def test_a_member_decodes_to_what_its_file_decodes_to(tmp_path: Path, decoder: Decoder, ending: str) -> None:
    file = write_clip(tmp_path / f"clip.{ending}")
    pack(tmp_path / "0.tar", {"before.mp4": bytes(777), f"clip.{ending}": file.read_bytes(), "after.mp4": b"\xff" * 99})
    clip = next(clip for clip in listed(tmp_path / "0.tar")[0] if clip.clip_id == "clip")
    for view in VIEWS if ending in ("mp4", "mkv", "webm", "avi", "ts") else (Header(), Audio(16_000)):
        expected = decode(file, 0.3, 1.2, view)
        with open_media(clip.uri) as piece:
            found = decoder.submit(piece, 0.3, 1.2, view).result()
        if isinstance(expected, MediaInfo):
            assert found == expected
        elif isinstance(expected, AudioVideoView):
            assert isinstance(found, AudioVideoView)
            assert np.array_equal(found.frames, expected.frames)
            assert np.array_equal(found.audio, expected.audio)
        else:
            assert np.array_equal(found, expected)


def test_a_cut_wav_in_a_shard_is_as_long_as_what_is_there(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    pack(tmp_path / "0.tar", {"cut.wav": whole[: len(whole) // 2], "after.wav": whole})
    clip = listed(tmp_path / "0.tar")[0][0]
    for seconds in (None, 0.8):
        alone = decode(tmp_path / "cut.wav", 0.0, seconds, Audio(16_000))
        with open_media(clip.uri) as piece:
            assert np.array_equal(decode(piece, 0.0, seconds, Audio(16_000)), alone)


def test_a_shard_that_was_changed_after_it_was_listed_is_noticed(tmp_path: Path) -> None:
    path = pack(tmp_path / "0.tar", {"a.mp4": b"first" * 100, "b.mp4": b"second" * 100})
    _, clip = listed(path)[0]
    pack(path, {"a.mp4": b"f" * 5000, "b.mp4": b"second" * 100})
    with pytest.raises(MediaError, match="was changed after it was listed") as caught, open_media(clip.uri):
        pass
    assert caught.value.retryable
    path.unlink()
    with pytest.raises(MediaError, match="no such file"), open_media(clip.uri):
        pass


def test_an_address_is_that_of_a_member_only_in_full() -> None:
    member = Member("gs://b/s-1.tar", 512, 7, "d/ü#&=.mp4")
    assert Member.of(member.uri) == member
    for other in ("gs://b/s-1.tar", "/a/b#c.mp4", "/a#offset=1&length=2", "/a#offset=-1&length=2&name=x"):
        assert Member.of(other) is None
