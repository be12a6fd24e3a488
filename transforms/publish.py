"""The end of a run: three Avro datasets, and last, only when every clip is accounted for, a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.avroio import WriteToAvro
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsDict, AsList

from transforms.avro import avro_schema, to_record
from transforms.records import Caption, Failure, Rejection

OUTCOMES = {"captions": Caption, "rejected": Rejection, "failed": Failure}


class AccountingError(RuntimeError):
    """Clips were lost, doubled or invented on the way; the run's results are not to be trusted."""


def unaccounted(origin: str, listed: int, ended: int) -> str | None:
    """Returns what is wrong with one source row that was listed and ended so many times; ``None`` when all is well."""
    if listed == ended == 1:
        return None
    return f"{origin}: listed {listed} times, ended {ended} times"


def manifest(
    facts: Mapping[str, Any], counts: Mapping[str, int], problems: list[str], files: Mapping[str, list[str]]
) -> dict[str, Any]:
    """Returns the manifest's content. Raises `AccountingError` when any clip has not ended exactly once."""
    if problems:
        shown = "; ".join(sorted(problems)[:10])
        raise AccountingError(f"{len(problems)} clips are not accounted for, so nothing is published: {shown}")
    totals = {name: sum(n for key, n in counts.items() if key.split("/")[0] == name) for name in OUTCOMES}
    reasons = {key: n for key, n in sorted(counts.items()) if "/" in key}
    clips_in = sum(totals.values())
    return {**facts, "counts": {"clips_in": clips_in, **totals}, "reasons": reasons, "files": dict(files)}


@dataclass
class Publish(beam.PTransform):
    """Writes ``captions``, ``rejected`` and ``failed`` as Avro below `folder`, then ``manifest.json``.

    Attributes:
        folder: this run's own folder; a local path or ``gs://…``.
        facts: what the manifest says beside the counts and files.
        shards: files per dataset; 0 leaves it to the runner.
    """

    folder: str
    facts: Mapping[str, Any]
    shards: int = 1

    def expand(self, inputs: Mapping[str, beam.PCollection]) -> beam.PCollection[str]:
        """`inputs` holds the three outcomes and, as ``listed``, the origin of every source row."""
        files = {}
        for name, record in OUTCOMES.items():
            written = (
                inputs[name]
                | f"{name} to records" >> beam.Map(to_record)
                | f"write {name}"
                >> WriteToAvro(
                    FileSystems.join(self.folder, name),
                    avro_schema(record),
                    file_name_suffix=".avro",
                    num_shards=self.shards,
                    shard_name_template="" if self.shards == 1 else "-SSSSS-of-NNNNN",
                    codec="deflate",
                )
            )
            files[name] = AsList(written)
        ended = [inputs[name] | f"{name} origins" >> beam.Map(_origin) for name in OUTCOMES]
        problems = (
            {"listed": inputs["listed"] | "listed origins" >> beam.Map(_listed), "ended": ended | beam.Flatten()}
            | "group by origin" >> beam.CoGroupByKey()
            | "unaccounted" >> beam.FlatMap(_problems)
        )
        counts = (
            [inputs[name] | f"{name} reasons" >> beam.Map(_reason, name) for name in OUTCOMES]
            | "all reasons" >> beam.Flatten()
            | "count reasons" >> beam.combiners.Count.PerElement()
        )
        return (
            problems.pipeline
            | "once" >> beam.Create([self.folder])
            | "manifest" >> beam.Map(_write_manifest, self.facts, AsDict(counts), AsList(problems), **files)
        )


def _listed(origin: str) -> tuple[str, None]:
    return origin, None


def _origin(outcome: Caption | Rejection | Failure) -> tuple[str, None]:
    return outcome.clip.origin, None


def _problems(group: tuple[str, Mapping[str, Iterable[None]]]) -> Iterator[str]:
    origin, found = group
    problem = unaccounted(origin, *(sum(1 for _ in found[side]) for side in ("listed", "ended")))
    if problem:
        yield problem


def _reason(outcome: Caption | Rejection | Failure, name: str) -> str:
    """``captions``, ``rejected/<reason>`` or ``failed/<step>``."""
    if isinstance(outcome, Rejection):
        return f"{name}/{outcome.reason}"
    return f"{name}/{outcome.step}" if isinstance(outcome, Failure) else name


def _write_manifest(
    folder: str, facts: Mapping[str, Any], counts: Mapping[str, int], problems: list[str], **files: list[str]
) -> str:
    relative = {name: sorted(path[len(folder) :].lstrip("/\\") for path in paths) for name, paths in files.items()}
    content = json.dumps(manifest(facts, counts, problems, relative), indent=2, ensure_ascii=False)
    path = FileSystems.join(folder, "manifest.json")
    part = f"{path}.part"
    with FileSystems.create(part, compression_type="uncompressed") as file:
        file.write(content.encode())
    FileSystems.rename([part], [path])
    return path
