"""Tar shards for tests, and what is listed and read of them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

from transforms.fetch import open_media
from transforms.ingest import ClipSource, read_clips
from transforms.pieces import Piece
from transforms.records import Clip


def pack(path: Path, files: dict[str, bytes], tar_format: int = tarfile.GNU_FORMAT) -> Path:
    """Writes a tar of such files."""
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def listed(path: Path | str, **settings: Any) -> tuple[list[Clip], list[str]]:
    """The clips of a shard, or of several, and what is said of those that cannot be had."""
    clips, failures = read_clips(ClipSource(str(path), **settings))
    return clips, [failure.error for failure in failures]


def content(clip: Clip) -> bytes:
    """What lies where a clip of a shard on a disk is said to lie."""
    with open_media(clip.uri) as piece:
        assert isinstance(piece, Piece)
        return piece.open().read()
