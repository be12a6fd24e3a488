"""Ingest: what each kind of source lists, and that Beam and plain Python agree."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import apache_beam as beam
import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from tests.source_lists import AUDIOSET, CLASS_LABELS, CUT, VGGSOUND, ids, listed, put
from transforms.ingest import ClipSource, ReadClips, SourceError, read_clips
from transforms.records import Clip, Failure
from transforms.sources import resolve

# Media files


def test_a_folder_gives_its_media_files_and_nothing_else(tmp_path: Path) -> None:
    names = ["b.mp4", "a/x.WAV", "a/deep/er/y.Opus", "notes.txt", "a/cover.jpg", ".z.mp4", ".git/v.mp4", "a/._x.mp4"]
    put(tmp_path, dict.fromkeys(names, ""))
    clips, failures = read_clips(ClipSource(f"{tmp_path}/"))
    assert failures == []
    assert clips == [
        Clip("a/deep/er/y", f"{tmp_path}/a/deep/er/y.Opus", source="folder", video_id="y", origin=clips[0].uri),
        Clip("a/x", f"{tmp_path}/a/x.WAV", source="folder", video_id="x", origin=clips[1].uri),
        Clip("b", f"{tmp_path}/b.mp4", source="folder", video_id="b", origin=clips[2].uri),
    ]


def test_files_that_differ_only_by_ending_get_distinct_ids(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["a.mp4", "a.wav", "a.mp4.mkv", "b.mp4", "c/a.mp4"], ""))
    assert ids(tmp_path) == {
        "a.mp4": "a.mp4",
        "a.wav": "a.wav",
        "a.mp4.mkv": "a.mp4.mkv",
        "b.mp4": "b",
        "c/a.mp4": "c/a",
    }


def test_ids_of_odd_names_are_escaped_and_stay_distinct(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["Cat [abc].mp4", "Cat%20[abc].mp4", "ünï中.mp4", "a\nb.mp4", "-x..y.mp4"], ""))
    assert ids(tmp_path) == {
        "Cat [abc].mp4": "Cat%20%5Babc%5D",
        "Cat%20[abc].mp4": "Cat%2520%5Babc%5D",
        "ünï中.mp4": "ünï中",
        "a\nb.mp4": "a%0Ab",
        "-x..y.mp4": "-x..y",
    }


def test_a_glob_takes_files_whatever_their_ending(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["a/1.mp4", "a/2.dat", "a/b/3.dat", "a/.4.dat"], ""))
    assert ids(tmp_path, "a/*") == {"a/1.mp4": "1", "a/2.dat": "2"}
    assert ids(tmp_path, "a/**.dat") == {"a/2.dat": "2", "a/b/3.dat": "b/3"}
    assert ids(tmp_path, "?/b/[3-5].dat") == {"a/b/3.dat": "a/b/3"}


def test_a_named_file_is_taken_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["Title [x-Y_1].mp4", ".hidden", "Title x.mp4", "no ending"], ""))
    assert ids(tmp_path, "Title [x-Y_1].mp4") == {"Title [x-Y_1].mp4": "Title%20%5Bx-Y_1%5D"}
    assert ids(tmp_path, ".hidden") == {".hidden": ".hidden"}
    assert ids(tmp_path, "no ending") == {"no ending": "no%20ending"}


def test_a_folder_with_wildcards_in_its_name(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["[a*]/x.mp4", "bab?/y.mp4", "[bb]/z.mp4"], ""))
    clips, _ = read_clips(ClipSource(str(tmp_path / "[a*]")))
    assert [clip.clip_id for clip in clips] == ["x"]


def test_paths_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"a.mp4": "", "s/b.mp4": "", "list.csv": "uri\na.mp4\n"})
    monkeypatch.chdir(tmp_path)
    found = {
        clips: [clip.uri for clip in read_clips(ClipSource(clips))[0]] for clips in ("*.mp4", "**.mp4", "s", "a.mp4")
    }
    assert found == {"*.mp4": ["a.mp4"], "**.mp4": ["a.mp4", "s/b.mp4"], "s": ["s/b.mp4"], "a.mp4": ["a.mp4"]}
    assert [clip.uri for clip in read_clips(ClipSource("."))[0]] == ["./a.mp4", "./s/b.mp4"]
    assert [clip.uri for clip in read_clips(ClipSource("list.csv"))[0]] == ["./a.mp4"]


def test_named_files_are_told_apart_by_where_they_are(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["s1/a.mp4", "s2/a.mp4", "s2/b.dat"], ""))
    files = [str(tmp_path / name) for name in ("s2/b.dat", "s1/a.mp4", "s2/a.mp4", "s1/a.mp4")]
    clips, failures = read_clips(ClipSource.of_files(files))
    assert failures == []
    assert [clip.clip_id for clip in clips] == ["s1/a", "s2/a", "s2/b"]
    for wrong in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(SourceError, match="is no file"):
            read_clips(ClipSource.of_files([files[0], str(wrong)]))


def test_a_file_name_that_is_not_utf8_is_a_failure(tmp_path: Path) -> None:
    put(tmp_path, {"a.mp4": ""})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.mp4")).touch()
    clips, failures = read_clips(ClipSource(str(tmp_path)))
    assert [clip.clip_id for clip in clips] == ["a"]
    assert [failure.clip.origin for failure in failures] == [f"{tmp_path}/b\\xff.mp4"]
    assert "not UTF-8" in failures[0].error


# AudioSet, VGGSound


def test_audioset_rows(tmp_path: Path) -> None:
    clips, errors = listed(tmp_path, "eval_segments.csv", AUDIOSET, media="/data/{split}/{video_id}_{start_ms}.mp4")
    assert errors == []
    assert clips[1] == Clip(
        "-0RWZT-miFs_000420_500",
        "/data/eval/-0RWZT-miFs_420500.mp4",
        start_s=420.5,
        end_s=430.0,
        media_start_s=0.0,
        source="audioset",
        video_id="-0RWZT-miFs",
        labels=("/m/03v3yw",),
        split="eval",
        origin=f"{tmp_path}/eval_segments.csv:5",
    )
    assert [clip.clip_id for clip in clips] == ["--4gqARaEJE_000000", clips[1].clip_id, "zzzzzzzzzzz_000030"]


def test_audioset_mids_become_display_names_where_there_is_one(tmp_path: Path) -> None:
    labels = str(put(tmp_path, {"class_labels_indices.csv": CLASS_LABELS}) / "class_labels_indices.csv")
    clips, _ = listed(tmp_path, "x.csv", AUDIOSET, media="/d/{video_id}.mp4", class_labels=labels, name="mine")
    assert [clip.labels for clip in clips] == [
        ("Domestic animals, pets", "Squeak"),
        ("/m/03v3yw",),
        ("Domestic animals, pets",),
    ]
    assert {clip.source for clip in clips} == {"mine"}
    assert {clip.split for clip in clips} == {""}


def test_vggsound_rows(tmp_path: Path) -> None:
    clips, errors = listed(tmp_path, "vggsound.csv", VGGSOUND, media=CUT)
    assert errors == []
    assert clips[1] == Clip(
        "-0jeONf82dE_000021",
        "/data/-0jeONf82dE_000021.mp4",
        start_s=21.0,
        end_s=31.0,
        source="vggsound",
        video_id="-0jeONf82dE",
        labels=("horse clip-clop, far",),
        split="train",
        origin=f"{tmp_path}/vggsound.csv:2",
    )


@pytest.mark.parametrize(
    ("media", "uri", "media_start_s"),
    [
        ("/d/{video_id}.mp4", "/d/-0jeONf82dE.mp4", 21.0),
        ("/d/{split}/{video_id}.mp4", "/d/train/-0jeONf82dE.mp4", 21.0),
        ("/d/{clip_id}.mp4", "/d/-0jeONf82dE_000021.mp4", 0.0),
        ("/d/{video_id}_{start}_{end}.mp4", "/d/-0jeONf82dE_21_31.mp4", 0.0),
        ("/d/{video_id}_{start_s:.1f}-{end_s}.mp4", "/d/-0jeONf82dE_21.0-31.0.mp4", 0.0),
        ("/d/{video_id}_{start_ms:08d}.mp4", "/d/-0jeONf82dE_00021000.mp4", 0.0),
        ("gs://bucket/{video_id}.mp4", "gs://bucket/-0jeONf82dE.mp4", 21.0),
        ("../d/{video_id}.mp4", "../d/-0jeONf82dE.mp4", 21.0),
        ("{video_id}.mp4", "./-0jeONf82dE.mp4", 21.0),
    ],
)
def test_a_template_that_names_a_time_or_the_clip_names_a_cut_file(
    tmp_path: Path, media: str, uri: str, media_start_s: float
) -> None:
    clips, _ = listed(tmp_path, "vggsound.csv", VGGSOUND, media=media)
    assert (clips[1].uri, clips[1].media_start_s, clips[1].start_s) == (uri, media_start_s, 21.0)


@pytest.mark.parametrize("kind", ["audioset", "vggsound"])
@pytest.mark.parametrize("video_id", ["../etc/x", "a/b", "/etc/passwd", "a\\b", "..", ".", ""])
def test_a_row_cannot_lead_out_of_the_templates_folder(tmp_path: Path, kind: str, video_id: str) -> None:
    row = f'{video_id}, 0, 10, "/m/1"\n' if kind == "audioset" else f"{video_id},0,dog,train\n"
    clips, errors = listed(tmp_path, "x.csv", row, kind=kind, media="/data/{video_id}/clip.mp4")
    assert clips == []
    assert len(errors) == 1


def test_split_and_clip_id_cannot_lead_out_of_the_templates_folder_either(tmp_path: Path) -> None:
    rows = "clip_id,video_id,split\n../../a,v1,train\nc2,v2,..\nc3,v3,\nc4,.,.\nc5..,v5,a..b\n"
    clips, errors = listed(tmp_path, "x.csv", rows, media="/data/{split}/{clip_id}.mp4")
    assert [clip.uri for clip in clips] == ["/data/a..b/c5...mp4"]
    assert errors == [
        "x.csv:2: clip_id '../../a' holds a slash or NUL, which the media template cannot take",
        "x.csv:3: '/data/../c2.mp4' leads out of the media template's folder",
        "x.csv:4: split is empty, but the media template names it",
        "x.csv:5: '/data/./c4.mp4' leads out of the media template's folder",
    ]


def test_a_time_that_the_template_cannot_express_is_a_failure(tmp_path: Path) -> None:
    _, errors = listed(tmp_path, "a.csv", AUDIOSET, media=CUT)
    assert errors == ["a.csv:5: start_s 420.5 is not whole seconds: use {start_ms} in the media template, not {start}"]
    _, errors = listed(tmp_path, "a.csv", AUDIOSET, media="/d/{video_id}_{end}.mp4")
    assert errors == ["a.csv:6: end_s 31.5 is not whole seconds: use {end_s} in the media template, not {end}"]
    _, errors = listed(tmp_path, "e.csv", "video_id\nv\n", media="/d/{video_id}_{end_s}.mp4")
    assert errors == ["e.csv:2: end_s is empty, but the media template names it"]


# Earshot's own


def test_earshot_csv_rows(tmp_path: Path) -> None:
    rows = (
        "\ufeffuri, start_s ,end_s,labels,split,clip_id,source,video_id\r\n"
        "sub/a b.mp4,1.5,3,Dog; Bark ;,train,mine,web,vid\r\n"
        "\r\n"
        '/abs/b.mp4,,,,,"two\r\nlines",,\r\n'
        "gs://bucket/c.mp4,7,,,,,,\r\n"
    )
    clips, errors = listed(tmp_path, "clips.csv", rows)
    assert errors == ["clips.csv:4: clip_id 'two\\nlines' holds a control character"]
    at = f"{tmp_path}/clips.csv"
    assert clips == [
        Clip("mine", f"{tmp_path}/sub/a b.mp4", 1.5, 3.0, 1.5, "web", "vid", ("Dog", "Bark"), "train", f"{at}:2"),
        Clip("c_000007", "gs://bucket/c.mp4", 7.0, None, 7.0, "earshot", "c", (), "", f"{at}:6"),
    ]


def test_earshot_jsonl_rows(tmp_path: Path) -> None:
    rows = [
        {"clip_id": "mine", "uri": "a;b.mp4", "start_s": 1, "end_s": 2.25, "labels": ["a;b", "c,d"], "split": "x"},
        {"video_id": "vid", "start_s": 2, "labels": None},
    ]
    content = "\ufeff" + "\n\n".join(map(json.dumps, rows))
    clips, errors = listed(tmp_path, "clips.JSONL", content, media="/d/{video_id}.mp4", name="web")
    assert errors == []
    at = f"{tmp_path}/clips.JSONL"
    assert clips == [
        Clip("mine", f"{tmp_path}/a;b.mp4", 1.0, 2.25, 1.0, "web", "a;b", ("a;b", "c,d"), "x", f"{at}:1"),
        Clip("vid_000002", "/d/vid.mp4", 2.0, None, 2.0, "web", "vid", (), "", f"{at}:3"),
    ]


def test_quoted_newlines_keep_origins_true(tmp_path: Path) -> None:
    rows = 'clip_id,uri,labels\na,a.mp4,"x\n\ny;z"\nb,b.mp4,\n'
    clips, errors = listed(tmp_path, "clips.csv", rows)
    assert errors == []
    assert [(clip.clip_id, clip.labels, clip.origin[-2:]) for clip in clips] == [
        ("a", ("x\n\ny", "z"), ":2"),
        ("b", (), ":5"),
    ]


# Object stores


class ObjectStore(LocalFileSystem):
    """An object store over a local folder: names have prefixes, and there are no folders."""

    root: ClassVar[Path]

    @classmethod
    def scheme(cls) -> str:
        return "store"

    def has_dirs(self) -> bool:
        return False

    def exists(self, path: str) -> bool:
        return self._file(path).is_file()

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, self._file(path).stat().st_size)

    def _list(self, dir_or_prefix: str) -> Iterator[FileMetadata]:
        for file in self.root.rglob("*"):
            path = f"store://{file.relative_to(self.root)}"
            if file.is_file() and path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def open(self, path: str, *_: Any, **__: Any) -> BinaryIO:
        return self._file(path).open("rb")

    def _file(self, path: str) -> Path:
        return self.root / path.removeprefix("store://")


def test_an_object_store_is_read_like_a_folder(tmp_path: Path) -> None:
    ObjectStore.root = put(tmp_path, dict.fromkeys(["b/v/1.mp4", "b/v/w/2.mp4", "b/v/3.txt", "b/vv/4.mp4"], ""))
    put(tmp_path, {"b/l.csv": "uri,start_s\nv/1.mp4,2\nstore://b/x.mp4,3\n"})
    for folder in ("store://b/v", "store://b/v/"):
        clips, _ = read_clips(ClipSource(folder))
        assert [(clip.clip_id, clip.uri) for clip in clips] == [
            ("1", "store://b/v/1.mp4"),
            ("w/2", "store://b/v/w/2.mp4"),
        ]
    assert [clip.clip_id for clip in read_clips(ClipSource("store://b/v*/*.mp4"))[0]] == ["v/1", "vv/4"]
    assert [clip.clip_id for clip in read_clips(ClipSource("store://b/v/3.txt"))[0]] == ["3"]
    assert [clip.uri for clip in read_clips(ClipSource("store://b/l.csv"))[0]] == [
        "store://b/v/1.mp4",
        "store://b/x.mp4",
    ]
    for missing in ("store://b/none", "store://b/none/", "store://b/none*"):
        with pytest.raises(SourceError, match=r"does not exist|nothing matches"):
            resolve(ClipSource(missing))


# Beam


def run(source: ClipSource, clips: list[Clip], failures: list[Failure], **options: Any) -> None:
    """Checks that the transform gives the clips and failures that plain Python gave, and every origin once."""
    origins = [outcome.origin for outcome in clips] + [failure.clip.origin for failure in failures]
    assert len(set(origins)) == len(origins)
    with beam.Pipeline(FnApiRunner(), options=PipelineOptions(**options)) as pipeline:
        read = pipeline | "clips" >> ReadClips(source)
        assert_that(read.clips, equal_to(clips), label="clips are equal")
        assert_that(read.failed, equal_to(failures), label="failures are equal")
        assert_that(read.listed, equal_to(origins), label="origins are equal")


def test_beam_and_plain_python_read_the_same_lists(tmp_path: Path) -> None:
    rng = random.Random(3)
    lists: dict[str, str | bytes] = {}
    for number in range(3):
        rows = [f"v{rng.randrange(40)},{rng.choice((1, 2, 'x'))},dog,train" for _ in range(60)]
        lists[f"l/{number}.csv"] = "\n".join(rows).encode() + b"\nbad\xff,1,dog,train\n"
    source = ClipSource(f"{put(tmp_path, lists)}/l/*.csv", kind="vggsound", media=CUT)
    clips, failures = read_clips(source)
    assert len(clips) + len(failures) == 183
    assert len(clips) > 50
    assert len(failures) > 50
    run(source, clips, failures)


def test_beam_and_plain_python_read_the_same_folder(tmp_path: Path) -> None:
    put(tmp_path, {f"{n % 3}/{n}.mp4": "" for n in range(20)})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.mp4")).touch()
    source = ClipSource(str(tmp_path))
    run(source, *read_clips(source), direct_num_workers=2, direct_running_mode="multi_threading")


def test_limit_takes_the_first_by_origin(tmp_path: Path) -> None:
    put(tmp_path, {f"{name}.csv": "uri\n1.mp4\nsame.mp4\n2.mp4\n" for name in "ab"} | {"m/1.mp4": "", "m/2.mp4": ""})
    source = ClipSource(f"{tmp_path}/*.csv", limit=5)
    clips, failures = read_clips(source)
    assert [clip.origin.rsplit("/", 1)[1] for clip in clips] == ["a.csv:2", "a.csv:3", "a.csv:4"]
    assert [failure.clip.origin.rsplit("/", 1)[1] for failure in failures] == ["b.csv:2", "b.csv:3"]
    run(source, clips, failures)
    assert [clip.clip_id for clip in read_clips(ClipSource(f"{tmp_path}/m", limit=1))[0]] == ["1"]
