"""Lists of clips for the tests of ingest, and how they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transforms.ingest import ClipSource, read_clips
from transforms.records import Clip

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
