"""A published version in words, from its manifest alone: on any engine, of any dataset that can be read from here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apache_beam.io.filesystem import BeamIOError
from rich.table import Table

from beam_pipeline.config import ConfigError
from beam_pipeline.show import (
    console,
    costs_table,
    notice,
    outcomes_table,
    pairs_line,
    plain,
    splits_line,
    versions_line,
)
from transforms import versions


@dataclass(frozen=True)
class Status:
    """What a dataset's manifests say.

    Attributes:
        root: the dataset's folder.
        version: the version that is told of.
        current: the one to read; ``None`` where the pointer names none.
        manifest: the version's.
        unfinished: versions that were claimed and not published: runs under way, and runs that were killed.
    """

    root: str
    version: int
    current: int | None
    manifest: dict[str, Any]
    unfinished: tuple[int, ...]

    @property
    def seconds(self) -> float | None:
        """From start to manifest; ``None`` of a version whose manifest does not say."""
        try:
            started, finished = (datetime.fromisoformat(self.manifest[name]) for name in ("started", "finished"))
        except KeyError:
            return None
        return (finished - started).total_seconds()

    def as_json(self) -> dict[str, Any]:
        """For machines: the manifest, and what is known beside it."""
        beside = {"root": self.root, "current": self.current, "unfinished": list(self.unfinished)}
        return {**beside, "seconds": self.seconds, "manifest": self.manifest}


def status(root: str, version: int | None = None) -> Status:
    """What is known of a version of the dataset in `root`; of the current one where none is named.

    Raises:
        ConfigError: there is no such dataset or version, or its files are not Earshot's.
    """
    try:
        current = versions.current(root)
        claimed = versions.numbers(root)
        wanted = current if version is None else version
        if wanted is None:
            under_way = f"; a run claims version {claimed[-1]}" if claimed else ""
            raise ConfigError(f"{root}: nothing has been published here{under_way}")
        manifest = versions.manifest(root, wanted)
        unfinished = tuple(number for number in claimed if not versions.published(root, number))
    except FileNotFoundError as error:
        raise ConfigError(str(error)) from None
    except ConfigError:
        raise
    except (OSError, BeamIOError, ValueError) as error:
        raise ConfigError(f"{root}: cannot be read: {error}") from error
    return Status(root, wanted, current, manifest, unfinished)


def status_shown(found: Status) -> None:
    """Prints a version's summary as `earshot run` does at its end, and which run made it of what."""
    manifest = found.manifest
    console.print(_facts_table(found))
    console.print(outcomes_table(manifest))
    for said in (splits_line(manifest), versions_line(manifest), pairs_line(manifest)):
        if said:
            console.print(said, highlight=False)
    if costs := manifest.get("costs"):
        console.print(costs_table(costs, manifest["counts"]["clips_in"]))
    if found.unfinished:
        numbers = ", ".join(map(str, found.unfinished))
        console.print(f"under way, or killed before they published: {numbers}", highlight=False)
    notice(manifest.get("notice", ""))


def _facts_table(found: Status) -> Table:
    manifest, seconds = found.manifest, found.seconds
    source = manifest.get("source", {})
    clips = manifest["counts"]["clips_in"]
    rate = f" ({seconds:.0f} s, {clips / seconds:.2f} clips/s)" if seconds else ""
    rows = {
        "dataset": found.root,
        "version": f"{found.version}{' (current)' if found.version == found.current else ''}",
        "run": manifest.get("run", ""),
        "profile": manifest.get("profile", ""),
        "clips from": source.get("clips") or f"{len(source.get('files') or ())} files",
        "started": manifest.get("started", ""),
        "finished": f"{manifest.get('finished', '')}{rate}",
        "earshot": f"{manifest.get('earshot', '')}, Beam {manifest.get('apache_beam', '')}",
        "digest": manifest.get("digest", ""),
    }
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/]", plain(str(value)))
    return table
