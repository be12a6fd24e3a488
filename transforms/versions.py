"""Published versions of a dataset: ``versions/<n>/``, and ``current``, which names the one to read.

A run claims a number as it starts, so that two runs never write to one folder. A folder without a manifest is a run
under way, or one that was killed; it is no version. Numbers may have gaps.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from apache_beam.io.filesystems import FileSystems
from filelock import FileLock

from transforms.remote import blob_at, errors

VERSIONS, CURRENT, MANIFEST, CLAIM = "versions", "current", "manifest.json", "claimed"


def folder(root: str, version: int) -> str:
    """Where a version's files lie."""
    return FileSystems.join(root, VERSIONS, str(version))


def numbers(root: str) -> list[int]:
    """The numbers that are published or claimed, ascending."""
    [match] = FileSystems.match([FileSystems.join(root, VERSIONS, "*", CLAIM)])
    names = (found.path.rstrip("/").split("/")[-2] for found in match.metadata_list)
    return sorted(int(name) for name in names if name.isdecimal())  # somebody may keep a copy beside them


def current(root: str) -> int | None:
    """The version to read; ``None`` where none is published yet. Raises `ValueError` where the pointer is broken."""
    path = FileSystems.join(root, CURRENT)
    content = _read(path)
    if content is None:
        return None
    try:
        return int(json.loads(content)["version"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f'{path}: not a pointer that Earshot wrote; it should read {{"version": <number>}}') from error


def manifest(root: str, version: int) -> dict[str, Any]:
    """A version's manifest. Raises `FileNotFoundError` where it was not published."""
    path = FileSystems.join(folder(root, version), MANIFEST)
    content = _read(path)
    if content is None:
        raise FileNotFoundError(f"{path}: there is no version {version}")
    return json.loads(content)


def published(root: str, version: int) -> bool:
    """Whether a version has its manifest, and so all its files."""
    path = FileSystems.join(folder(root, version), MANIFEST)
    with errors(path) if "://" in path else nullcontext():
        return FileSystems.exists(path)


def claim(root: str, run: str) -> int:
    """Takes the next free number for a run and makes its folder. Two runs never get the same one."""
    version = max(numbers(root), default=0)
    while True:
        version += 1
        path = FileSystems.join(folder(root, version), CLAIM)
        if _create(path, json.dumps({"run": run}).encode()):
            return version


def claimant(root: str, version: int) -> str | None:
    """The run that holds a number; ``None`` where nobody does, or where the claim does not say."""
    try:
        return json.loads(_read(FileSystems.join(folder(root, version), CLAIM)) or b"{}").get("run")
    except (ValueError, AttributeError):
        return None


def advance(root: str, version: int) -> bool:
    """Makes `version` the current one, unless a later one is; returns whether it is now.

    Whoever reads meanwhile sees the old pointer or the new one.
    """
    content = json.dumps({"version": version}).encode()

    def decide(now: bytes | None) -> bytes | None:
        return None if now is not None and int(json.loads(now)["version"]) > version else content

    return _swap(FileSystems.join(root, CURRENT), decide)


def remove(root: str, version: int) -> None:
    """Removes a version's folder, its manifest first, so that no half of a version is left to be read."""
    place = folder(root, version)
    manifest_path = FileSystems.join(place, MANIFEST)
    if FileSystems.exists(manifest_path):
        FileSystems.delete([manifest_path])
    if "://" not in place:
        shutil.rmtree(place, ignore_errors=True)
        return
    [match] = FileSystems.match([FileSystems.join(place, "**")])  # an object store has no folders
    if match.metadata_list:
        FileSystems.delete([found.path for found in match.metadata_list])


def _read(path: str) -> bytes | None:
    with errors(path) if "://" in path else nullcontext():
        if not FileSystems.exists(path):
            return None
        with FileSystems.open(path, compression_type="uncompressed") as file:
            return file.read()


def _create(path: str, content: bytes) -> bool:
    """Writes a file unless there is one; returns whether there was none."""
    if path.startswith("gs://"):
        with errors(path):
            return _blob(path, content, 0)
    if "://" in path:  # no way to be the only one is known here
        if FileSystems.exists(path):
            return False
        with FileSystems.create(path, compression_type="uncompressed") as file:
            file.write(content)
        return True
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with open(path, "xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _swap(path: str, decide: Callable[[bytes | None], bytes | None]) -> bool:
    """Replaces a file by what `decide` makes of its content, as one step; returns whether it was replaced."""
    if path.startswith("gs://"):
        with errors(path):
            return _swap_blob(path, decide)
    if "://" in path:
        fresh = decide(_read(path))
        if fresh is not None:
            with FileSystems.create(path, compression_type="uncompressed") as file:
                file.write(fresh)
        return fresh is not None
    with FileLock(f"{path}.lock"):
        fresh = decide(_read(path))
        if fresh is None:
            return False
        part = f"{path}.part"
        with open(part, "wb") as file:
            file.write(fresh)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    return True


def _swap_blob(path: str, decide: Callable[[bytes | None], bytes | None]) -> bool:
    from google.api_core.exceptions import NotFound

    while True:
        blob = blob_at(path)
        try:
            blob.reload()
            generation = blob.generation
            content: bytes | None = blob.download_as_bytes()  # if newer than that, the upload will be refused
        except NotFound:
            content, generation = None, 0
        fresh = decide(content)
        if fresh is None:
            return False
        if _blob(path, fresh, generation):
            return True


def _blob(path: str, content: bytes, generation: int) -> bool:
    """Writes an object if its generation is still `generation` (0: there is none); returns whether it was."""
    from google.api_core.exceptions import PreconditionFailed

    blob = blob_at(path)
    try:
        blob.upload_from_string(content, if_generation_match=generation)
    except PreconditionFailed:
        # An answer that was lost on its way makes the client ask again, and then its own object is in the way.
        return blob_at(path).download_as_bytes() == content
    return True
