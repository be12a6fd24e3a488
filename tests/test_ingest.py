"""Ingest: what each kind of source lists, what becomes of bad rows, and that Beam and plain Python agree."""

from __future__ import annotations

import json
import os
import random
import re
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

from transforms.ingest import ClipSource, ReadClips, SourceError, read_clips
from transforms.records import Clip, Failure
from transforms.sources import resolve

AUDIOSET = """\
# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"
-0RWZT-miFs, 420.500, 430.000, "/m/03v3yw"
zzzzzzzzzzz, 30.000, 31.500, "/m/068hy"
"""
CLASS_LABELS = 'index,mid,display_name\n0,/m/068hy,"Domestic animals, pets"\n1,/m/07q6cd_,Squeak\n'
VGGSOUND = '---g-f_I2yQ,1,"people marching",test\n-0jeONf82dE,21,"horse clip-clop, far",train\n'
CUT = "/data/{video_id}_{start:06d}.mp4"


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def listed(folder: Path, file: str, content: str | bytes, **settings: Any) -> tuple[list[Clip], list[str]]:
    """The clips of one list and what its failures say, with the folder's name taken out of both."""
    clips, failures = read_clips(ClipSource(str(put(folder, {file: content}) / file), **settings))
    for failure in failures:
        assert failure.step == "ingest"
        assert failure.error.startswith(f"{failure.clip.origin}: ")
        assert not failure.retryable
    return clips, [failure.error.removeprefix(f"{folder}/") for failure in failures]


def ids(folder: Path, pattern: str = "") -> dict[str, str]:
    """Clip ids by path relative to the folder."""
    clips, failures = read_clips(ClipSource(str(folder / pattern) if pattern else str(folder)))
    assert failures == []
    return {os.path.relpath(clip.uri, folder): clip.clip_id for clip in clips}


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


# Rows that are wrong

BAD_VALUES = [
    ("a.mp4,20,10", "end_s 10 is not after start_s 20"),
    ("a.mp4,20,20", "end_s 20 is not after start_s 20"),
    ("a.mp4,x,10", "start_s 'x' is not a number of seconds"),
    ("a.mp4,0,1_0", "end_s '1_0' is not a number of seconds"),
    ("a.mp4,nan,10", "start_s 'nan' is not between 0 and 100000000 seconds"),
    ("a.mp4,0,inf", "end_s 'inf' is not between 0 and 100000000 seconds"),
    ("a.mp4,-1,10", "start_s '-1' is not between 0 and 100000000 seconds"),
    ("a.mp4,0,1e300", "end_s '1e300' is not between 0 and 100000000 seconds"),
    ("a.mp4,0", "2 columns instead of 3 (uri, start_s, end_s)"),
    ("a.mp4,0,10,", "4 columns instead of 3 (uri, start_s, end_s)"),
    (",0,10", "video_id is empty, and so is clip_id"),
    ('"a.mp4"x,0,10', "not CSV: ',' expected after '\"'"),
    ("a\0.mp4,0,10", "clip_id 'a\\x00_000000' holds a control character"),
]


@pytest.mark.parametrize(("row", "error"), BAD_VALUES)
def test_a_bad_row_is_a_failure_that_says_where_and_why(tmp_path: Path, row: str, error: str) -> None:
    clips, errors = listed(tmp_path, "x.csv", f"uri,start_s,end_s\nfirst.mp4,0,1\n{row}\nlast.mp4,0,1\n")
    assert [clip.video_id for clip in clips] == ["first", "last"]
    assert errors == [f"x.csv:3: {error}"]


def test_a_failed_rows_clip_holds_nothing_but_where_it_was_listed(tmp_path: Path) -> None:
    source = ClipSource(str(put(tmp_path, {"a.csv": AUDIOSET + "v,9,8,x\n"}) / "a.csv"), media="/d/{video_id}.mp4")
    _, [failure] = read_clips(source)
    assert failure.clip == Clip(clip_id="", uri="", source="audioset", origin=f"{tmp_path}/a.csv:7")
    assert failure.error == f"{tmp_path}/a.csv:7: end_s 8 is not after start_s 9"


BAD_JSON = [
    ('{"uri": "a.mp4"', "not JSON: "),
    ("[1]", "[1] is not a JSON object"),
    ("[" * 60_000, "not JSON: "),
    ('{"uri": "a.mp4", "start": 1}', "unknown key 'start'; the keys are clip_id, uri"),
    ('{"uri": 7}', "uri 7 is not text"),
    ('{"uri": "a.mp4", "labels": "dog"}', "labels 'dog' is not a list"),
    ('{"uri": "a.mp4", "labels": ["dog", 1]}', "labels 1 is not text"),
    ('{"uri": "a.mp4", "start_s": NaN}', "start_s nan is not between"),
    ('{"uri": "a.mp4", "start_s": true}', "start_s True is not a number"),
    ('{"uri": "a.mp4", "start_s": [1]}', "start_s [1] is not a number"),
    ('{"uri": "a.mp4", "start_s": 1' + "0" * 400 + "}", "is not a number"),
    ('{"uri": "a.mp4", "start_s": 1' + "0" * 5000 + "}", "not JSON: "),
    ('{"uri": "a.mp4", "clip_id": "\\ud800"}', "clip_id '\\ud800' is not UTF-8"),
    ('{"clip_id": "a"}', "uri is empty, and there is no media template"),
    ('{"clip_id": "a", "uri": "b\\u0000"}', "control character"),
    ('{"clip_id": "a", "video_id": "v", "uri": "b\\u0000"}', "uri 'b\\x00' holds a NUL"),
]


@pytest.mark.parametrize(("row", "error"), BAD_JSON, ids=range(len(BAD_JSON)))
def test_a_bad_json_row_is_a_failure_that_says_where_and_why(tmp_path: Path, row: str, error: str) -> None:
    clips, errors = listed(tmp_path, "x.jsonl", f'{{"uri": "first.mp4"}}\n{row}\n{{"uri": "last.mp4"}}\n')
    assert [clip.video_id for clip in clips] == ["first", "last"]
    assert len(errors) == 1
    assert errors[0].startswith("x.jsonl:2: ")
    assert error in errors[0]


@pytest.mark.parametrize(
    "row",
    [
        b"bad\xff\xfe.mp4",
        b'"never closed',
        b"x" * 70_000,
        b'"' + b"x" * 70_000 + b'"',
        b'"' + (b"y" * 99 + b"\n") * 700,
    ],
)
def test_bytes_quotes_and_lengths_that_are_wrong_cost_their_own_row_only(tmp_path: Path, row: bytes) -> None:
    clips, errors = listed(tmp_path, "x.csv", b"uri\nfirst.mp4\n" + row + b"\nlast.mp4\n")
    names = [clip.video_id for clip in clips if clip.video_id[0] != "y"]
    assert names == ["first", "last"]
    assert errors[0].startswith("x.csv:3: ")
    rows = row.count(b"\n") + 3
    assert len({clip.origin for clip in clips}) + len(errors) == rows - row.endswith(b"\n")


def test_every_row_is_a_clip_or_a_failure_whatever_the_file_holds(tmp_path: Path) -> None:
    rng = random.Random(7)
    pieces = [
        b"a.mp4",
        b",",
        b"\n",
        b"\r\n",
        b'"',
        b"1",
        b"\xff",
        b"\0",
        b" ",
        b";",
        b"nan",
        b"-",
        "é".encode(),
        b"\xed\xa0\x80",
    ]
    for round_ in range(300):
        body = b"".join(rng.choices(pieces, k=rng.randrange(60)))
        clips, errors = listed(tmp_path, "x.csv", b"uri,start_s\n" + body)
        origins = [int(clip.origin.rsplit(":", 1)[1]) for clip in clips] + [int(e.split(":")[1]) for e in errors]
        assert len(set(origins)) == len(origins), (round_, body)
        for line, text in enumerate(body.replace(b"\r\n", b"\n").split(b"\n"), 2):
            if text.strip() and b'"' not in body:
                assert line in origins, (round_, body)
        for clip in clips:
            clip.uri.encode()


def test_of_rows_with_one_id_the_first_stays(tmp_path: Path) -> None:
    rows = "clip_id,uri\na,1.mp4\nb,2.mp4\na,3.mp4\na,4.mp4\n"
    clips, errors = listed(tmp_path, "x.csv", rows)
    assert [(clip.clip_id, Path(clip.uri).name) for clip in clips] == [("a", "1.mp4"), ("b", "2.mp4")]
    assert errors == [f"x.csv:{line}: clip_id 'a' is a duplicate of {tmp_path}/x.csv:2" for line in (4, 5)]
    _, [duplicate, _] = read_clips(ClipSource(f"{tmp_path}/x.csv"))
    assert (duplicate.clip.clip_id, duplicate.clip.origin) == ("a", f"{tmp_path}/x.csv:4")


# Sources that are wrong


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clips": ""}, "clips is empty: give a folder"),
        ({"clips": "x", "kind": "youtube"}, "kind 'youtube' is not known: use one of auto, media, audioset"),
        ({"clips": "x", "limit": 0}, "limit 0 leaves no clips"),
        ({"clips": "x\udcff"}, "is not UTF-8: rename"),
        ({"clips": "x", "media": "/d/{ytid}.mp4"}, "unknown field {ytid}; the fields are video_id, start, end"),
        ({"clips": "x", "media": "/d/{}.mp4"}, "unknown field {}"),
        ({"clips": "x", "media": "/d/{video_id.__class__}"}, "unknown field {video_id.__class__}"),
        ({"clips": "x", "media": "/d/{video_id[0]}"}, "unknown field {video_id[0]}"),
        ({"clips": "x", "media": "/d/{video_id:{start}}"}, "the format of {video_id} cannot hold another field"),
        ({"clips": "x", "media": "/d/{video_id:06d}"}, "Unknown format code 'd'"),
        ({"clips": "x", "media": "/d/{video_id"}, "expected '}'"),
        ({"clips": "x", "media": "/d/{start}.mp4"}, "names the same file for every video: use {video_id} or {clip_id}"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=re.escape(message)):
        ClipSource(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clips": "none"}, "does not exist: check the spelling"),
        ({"clips": "none-*.mp4"}, "nothing matches"),
        ({"clips": "nowhere://bucket/x.csv"}, "cannot be read: Unable to get filesystem"),
        ({"clips": "odd/*.csv"}, "the name of the list"),
        ({"clips": "none/**.csv"}, "nothing matches"),
        ({"clips": "empty"}, "holds no media files (3gp aac avi"),
        ({"clips": "texts"}, "holds no media files"),
        ({"clips": "texts/.*"}, "matches hidden files only"),
        ({"clips": "texts", "kind": "audioset"}, "is a folder: for kind audioset give the list, or a glob of lists"),
        ({"clips": "odd.csv"}, "cannot tell what kind of list this is from its first line 'some words\\n'"),
        ({"clips": "nothing.csv"}, "cannot tell what kind of list this is from its first line ''"),
        ({"clips": "utf16.csv"}, "cannot tell what kind of list this is"),
        ({"clips": "nothing.csv", "kind": "earshot"}, "the first line is no header that names a clip_id"),
        ({"clips": "unknown.csv"}, "unknown.csv: unknown column 'lable'; the columns are clip_id, uri"),
        ({"clips": "twice.csv"}, "a column is named twice"),
        ({"clips": "bare.csv"}, "nothing says where the media is: add a column uri, or set media to a template"),
        ({"clips": "audioset.csv"}, "audioset lists name videos, not files: set media to where the files are"),
        ({"clips": "vggsound.csv"}, "vggsound lists name videos, not files"),
        ({"clips": "media.mp4", "media": CUT}, "is for lists, but"),
        ({"clips": "vggsound.csv", "media": CUT, "class_labels": "labels.csv"}, "class_labels is for AudioSet's lists"),
        ({"clips": "audioset.csv", "media": CUT, "class_labels": "none.csv"}, "none.csv' does not exist"),
        ({"clips": "audioset.csv", "media": CUT, "class_labels": "odd.csv"}, "no columns mid and display_name"),
    ],
)
def test_a_source_that_lists_nothing_is_an_error_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
) -> None:
    put(
        tmp_path,
        {
            "texts/a.txt": "",
            "texts/.hidden": "",
            "odd.csv": "some words\n",
            "nothing.csv": "",
            "utf16.csv": "uri\na.mp4\n".encode("utf-16"),
            "unknown.csv": "uri,lable\n",
            "twice.csv": "uri,uri\n",
            "bare.csv": "clip_id,video_id\n",
            "audioset.csv": AUDIOSET,
            "vggsound.csv": VGGSOUND,
            "labels.csv": CLASS_LABELS,
            "media.mp4": "",
        },
    )
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd/\xff.csv")).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=re.escape(message)):
        resolve(ClipSource(**settings))
    with pytest.raises(SourceError, match=re.escape(message)):
        beam.Pipeline(FnApiRunner()) | ReadClips(ClipSource(**settings))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (AUDIOSET, "audioset"),
        (AUDIOSET.replace("#", "\n#", 1), "audioset"),
        ('v, 0.0, 10.0, "/m/1,/m/2"\n', "audioset"),
        (VGGSOUND, "vggsound"),
        ("\ufeffclip_id,uri\n", "earshot"),
    ],
)
def test_auto_tells_lists_apart(tmp_path: Path, content: str, kind: str) -> None:
    path = put(tmp_path, {"list.csv": content}) / "list.csv"
    assert resolve(ClipSource(str(path), media=CUT)).kind == kind
    assert resolve(ClipSource(str(path), kind="media")).kind == "media"


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
