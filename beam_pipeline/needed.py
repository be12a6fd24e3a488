"""Whether a run could change anything at all: the current version's manifest against what a run would begin with.

`earshot plan` looks at every clip, and takes 0.9 ms and 15 kB for each (benchmarks/RESULTS.md): half an hour for two
million. A scheduled rerun asks first what a few files tell: the same recipe, the same lists, and nothing that a retry
may mend, and each clip would end as it has ended.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from apache_beam.io.filesystems import FileSystems

from beam_pipeline.config import Profile
from beam_pipeline.pipeline import recipe
from transforms import versions
from transforms.avro import read_avro
from transforms.ingest import ClipSource, SourceError
from transforms.records import Failure
from transforms.remote import blob_at, errors, size_of
from transforms.sources import Listing, media_files, resolve

_ONLY_SAID = ("profile", "notice")  # of the recipe: names, which change no record
_BLOCK = 1 << 20
RETRY_AFTER_S = 7 * 24 * 3600  # how long what failed again, just as before, is not tried once more


@dataclass(frozen=True)
class Need:
    """Whether a run is needed.

    Attributes:
        needed: else it would publish nothing.
        why: what has changed; or since which version nothing has.
        version: the current one, if any.
    """

    needed: bool
    why: str
    version: int | None = None


def inputs(profile: Profile, source: ClipSource) -> str:
    """32 hex digits of all files that say which clips there are: lists, class names, lists of benchmark clips.

    Of lists the content counts; of media files the names, because one that was replaced under its name is not noticed
    by the store either; of tar shards what tells one from another of its name. Raises `SourceError` as a run does.
    """
    digest = hashlib.sha256()
    listing = resolve(source)
    try:
        for path in (source.class_labels, *sorted(profile.splits.benchmarks.values())):
            if path:
                _add(digest, path, _content(path))
        for path, what in _listed(listing):
            _add(digest, path, what)
    except OSError as error:
        raise SourceError(f"{source.clips or 'the files'}: what it lists cannot be read: {error}") from error
    return digest.hexdigest()[:32]


def need(profile: Profile, source: ClipSource, output: str, retry_failed: bool = False) -> Need:
    """Says whether a run with these arguments could publish anything new. It reads no store and opens no media.

    Raises:
        SourceError: the clips cannot be listed.
        ModelError: a model's files cannot be looked at.
        ValueError: the dataset's pointer is broken.
    """
    listed = inputs(profile, source)
    version = versions.current(output)
    if version is None:
        return Need(True, "nothing has been published yet")
    try:
        manifest = _latest(output, version)
    except FileNotFoundError:
        return Need(True, f"version {version}, the current one, is gone")
    if changed := _changed(manifest, profile, source):
        return Need(True, f"changed: {', '.join(changed)}", version)
    if manifest.get("inputs") != listed:
        return Need(True, "the list of clips has changed", version)
    # Where a later run has tried what failed once more, and in vain, it is left alone for a while.
    in_vain = "same_as" in manifest and _age_s(manifest) < RETRY_AFTER_S
    if not in_vain and (retryable := _retryable(output, manifest, retry_failed)):
        return Need(True, f"{retryable} of version {version}'s clips failed, and may be mended by a retry", version)
    return Need(False, f"nothing has changed since version {version}", version)


def _latest(output: str, current: int) -> dict[str, Any]:
    """The manifest of the current version, or of the last one after it that found every record as it was."""
    later = [number for number in versions.numbers(output) if number > current and versions.published(output, number)]
    for manifest in (versions.manifest(output, number) for number in reversed(later)):
        if manifest.get("same_as") == current:
            return manifest
    return versions.manifest(output, current)


def _changed(manifest: dict[str, Any], profile: Profile, source: ClipSource) -> list[str]:
    """What a run would begin with that the version did not, beside the lists."""
    now = {"earshot": importlib.metadata.version("earshot-captions"), "source": asdict(source), **recipe(profile)}
    now = json.loads(json.dumps(now))  # as a manifest has it: lists for tuples
    changed = [name for name, value in now.items() if name not in _ONLY_SAID and manifest.get(name) != value]
    if "cues" in changed:
        before, after = manifest.get("cues", {}), now["cues"]
        changed.remove("cues")
        changed += [f"cue {name}" for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return changed


def _retryable(output: str, manifest: dict[str, Any], all_of_them: bool) -> int:
    if not manifest["counts"]["failed"]:
        return 0
    folder = versions.folder(output, manifest["version"])
    paths = [FileSystems.join(folder, file) for file in manifest["files"]["failed"]]
    failures = read_avro(paths, Failure)
    return sum(1 for failure in failures if all_of_them or failure.retryable)


def _listed(listing: Listing) -> Iterator[tuple[str, str]]:
    """Every file of a listing, with what counts of it."""
    what = {"media": _nothing, "shards": _stamp}.get(listing.kind, _content)
    paths = (path for path, _ in media_files(listing)) if listing.kind == "media" else listing.files
    for path in paths:
        yield path, what(path)


def _nothing(_: str) -> str:
    return ""


def _content(path: str) -> str:
    digest = hashlib.sha256()
    with FileSystems.open(path, compression_type="uncompressed") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _stamp(path: str) -> str:
    """What is another when a shard was replaced, which often leaves its size as it was."""
    if path.startswith("gs://"):
        with errors(path):
            blob = blob_at(path)
            blob.reload()
            return f"{blob.size} {blob.crc32c}"
    if "://" in path:
        return str(size_of(path))
    found = os.stat(path)
    return f"{found.st_size} {found.st_mtime_ns}"


def _age_s(manifest: dict[str, Any]) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(manifest["finished"])).total_seconds()


def _add(digest: Any, *texts: str) -> None:
    for text in texts:
        encoded = text.encode(errors="surrogateescape")
        digest.update(f"{len(encoded)}:".encode() + encoded)
