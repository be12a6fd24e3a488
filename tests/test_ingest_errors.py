"""Ingest: what becomes of rows and sources that are wrong."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from tests.source_lists import AUDIOSET, CLASS_LABELS, CUT, VGGSOUND, listed, put
from transforms.ingest import ClipSource, ReadClips, SourceError, read_clips
from transforms.records import Clip
from transforms.sources import resolve

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
        ({"clips": "empty"}, "holds no media files (3gp aac aif"),
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
