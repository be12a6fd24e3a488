"""The end of a run: three Avro datasets, then, only when every clip is accounted for, a manifest and the pointer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
from apache_beam.io.avroio import _FastAvroSink
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.iobase import Write
from apache_beam.pvalue import AsDict, AsList, AsSingleton

from model_handlers.forms import CAPTION
from transforms import telemetry, versions
from transforms.avro import avro_schema, to_record
from transforms.caption import missing
from transforms.records import Caption, Failure, Pair, Rejection, Spent
from transforms.splits import BENCHMARK

OUTCOMES = {"captions": Caption, "rejected": Rejection, "failed": Failure}
QA = "qa"  # of captions, so no outcome of their own
DATASETS = {**OUTCOMES, QA: Pair}

_NEWER = ("versions", "ambiguities")  # of a caption; one that has neither is what it was before there were any


class AccountingError(RuntimeError):
    """Clips were lost, doubled or invented on the way; the run's results are not to be trusted."""


def unaccounted(origin: str, listed: int, ended: int) -> str | None:
    """Returns what is wrong with one source row that was listed and ended so many times; ``None`` when all is well."""
    if listed == ended == 1:
        return None
    return f"{origin}: listed {listed} times, ended {ended} times"


def manifest(
    facts: Mapping[str, Any],
    counts: Mapping[str, int],
    problems: list[str],
    files: Mapping[str, list[str]],
    digest: str = "",
    costs: Mapping[str, Spent] | None = None,
    splits: Mapping[str, int] | None = None,
    pairs: Mapping[str, int] | None = None,
    forms: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Returns the manifest's content. Raises `AccountingError` when any clip has not ended exactly once.

    Args:
        facts: what is known of the run before it starts.
        counts: how many clips ended how, by ``captions``, ``rejected/<reason>`` and ``failed/<step>``.
        problems: clips that are not accounted for.
        files: by dataset.
        digest: of all records, whatever their order and files.
        costs: by step, what it took in this run.
        splits: how many captions, by ``<split>`` and ``benchmark/<list>``; a list of `facts` that has none gets a 0.
        pairs: how many questions, by ``kinds/<kind>`` and ``forms/<form>``, and how many were not taken, by
            ``dropped/<reason>``; ``None`` where none were asked for.
        forms: how many captions have which form or language, by ``published/<name>``, and how many were published
            without, because it never passed its checks, by ``missing/<name>``; ``None`` where none were asked for.
    """
    if problems:
        shown = "; ".join(sorted(problems)[:10])
        raise AccountingError(f"{len(problems)} clips are not accounted for, so nothing is published: {shown}")
    totals = {name: sum(n for key, n in counts.items() if key.split("/")[0] == name) for name in OUTCOMES}
    reasons = {key: n for key, n in sorted(counts.items()) if "/" in key}
    clips_in = sum(totals.values())
    spent = {step: took.shown() for step, took in sorted((costs or {}).items())}
    found = splits or {}
    return {
        **facts,
        "counts": {"clips_in": clips_in, **totals},
        "reasons": reasons,
        "splits": {name: n for name, n in sorted(found.items()) if "/" not in name},
        "benchmarks": {
            name: found.get(f"{BENCHMARK}/{name}", 0) for name in facts.get("split_rule", {}).get("benchmarks", {})
        },
        **({} if pairs is None else {"pairs": _pairs_shown(pairs)}),
        **({} if forms is None else {"versions": _grouped(forms, "published", "missing")}),
        "costs": spent,
        "digest": digest,
        "files": dict(files),
    }


def _pairs_shown(counts: Mapping[str, int]) -> dict[str, Any]:
    groups = _grouped(counts, "kinds", "forms", "dropped")
    return {"published": sum(groups["kinds"].values()), **groups}


def _grouped(counts: Mapping[str, int], *groups: str) -> dict[str, dict[str, int]]:
    """Counts by ``<group>/<name>``, group by group."""
    return {
        group: {key.split("/", 1)[1]: n for key, n in sorted(counts.items()) if key.startswith(f"{group}/")}
        for group in groups
    }


def digest_of(outcome: Caption | Rejection | Failure | Pair) -> int:
    """128 bits of one record. Sums of them tell two datasets apart, whatever the order of their records."""
    record = {name: value for name, value in to_record(outcome).items() if value or name not in _NEWER}
    content = json.dumps([type(outcome).__name__, record], sort_keys=True)
    return int.from_bytes(hashlib.sha256(content.encode()).digest()[:16], "big")


class _AvroSink(_FastAvroSink):
    """Beam's sink; it removes what an earlier attempt has published, however many of the files hold something now.

    Beam's own does so only where as many do. What it leaves there it takes for its own where the lengths are equal, on
    a disk, whatever is in the files. Which record goes to which file is drawn anew each time: some would be lost.
    """

    def pre_finalize(self, init_result: Any, writer_results: Iterable[Any]) -> None:
        written = list(writer_results)
        super().pre_finalize(init_result, [*written, *[None] * (self.num_shards - len(written))])


@dataclass
class Publish(beam.PTransform):
    """Writes ``captions``, ``rejected`` and ``failed`` as Avro into a version's folder, then its manifest.

    And ``qa``, where questions were asked.

    Then the version becomes the current one, unless its records are those of the one that is.

    Attributes:
        root: the dataset's folder; a local path or ``gs://…``.
        version: this run's, claimed for it.
        facts: what the manifest says beside the counts and files.
        shards: files per dataset; 0 leaves it to the runner.
    """

    root: str
    version: int
    facts: Mapping[str, Any]
    shards: int = 1

    def expand(self, inputs: Mapping[str, beam.PCollection]) -> beam.PCollection[str]:
        """Writes all, and returns the manifest's path.

        `inputs`: the three outcomes; ``listed``, the origin of every source row; ``costs``, (step, `Spent`); and, where
        questions were asked, ``qa``, with ``dropped pairs``, why others were not taken.
        """
        files, folder = {}, versions.folder(self.root, self.version)
        datasets = {name: record for name, record in DATASETS.items() if name in inputs}
        for name, record in datasets.items():
            written = (
                inputs[name]
                | f"{name} to records" >> beam.Map(to_record)
                | f"write {name}"
                >> Write(
                    _AvroSink(
                        FileSystems.join(folder, name),
                        avro_schema(record),
                        codec="deflate",
                        file_name_suffix=".avro",
                        num_shards=self.shards,
                        shard_name_template="" if self.shards == 1 else "-SSSSS-of-NNNNN",
                        mime_type="application/x-avro",
                        triggering_frequency=None,
                    )
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
            [inputs[name] | f"{name} reasons" >> beam.Map(telemetry.ended) for name in OUTCOMES]
            | "all reasons" >> beam.Flatten()
            | "count reasons" >> beam.combiners.Count.PerElement()
        )
        digest = (
            [inputs[name] | f"{name} digests" >> beam.Map(digest_of) for name in datasets]
            | "all digests" >> beam.Flatten()
            | "digest" >> beam.CombineGlobally(sum)
        )
        splits = (
            inputs["captions"]
            | "captions' splits" >> beam.FlatMap(_splits)
            | "count splits" >> beam.combiners.Count.PerElement()
        )
        costs = inputs["costs"] | "costs" >> beam.CombinePerKey(_total)
        counted = [AsDict(counts), AsList(problems), AsSingleton(digest), AsDict(costs), AsDict(splits)]
        more: dict[str, AsDict] = {}
        if QA in inputs:
            more["pairs"] = AsDict(_counted_pairs(inputs))
        if self.facts.get("forms") or self.facts.get("languages"):
            more["forms"] = AsDict(_counted_versions(inputs))
        return (
            problems.pipeline
            | "once" >> beam.Create([(self.root, self.version)])
            | "manifest" >> beam.Map(_publish, self.facts, *counted, **more, **files)
        )


def _counted_pairs(inputs: Mapping[str, beam.PCollection]) -> beam.PCollection[tuple[str, int]]:
    published = inputs[QA] | "pairs' kinds" >> beam.FlatMap(_pair_kinds)
    dropped = inputs["dropped pairs"] | "reasons of dropped pairs" >> beam.Map(lambda reason: f"dropped/{reason}")
    return [published, dropped] | "all pairs" >> beam.Flatten() | "count pairs" >> beam.combiners.Count.PerElement()


def _counted_versions(inputs: Mapping[str, beam.PCollection]) -> beam.PCollection[tuple[str, int]]:
    named = inputs["captions"] | "captions' versions" >> beam.FlatMap(_version_names)
    return named | "count versions" >> beam.combiners.Count.PerElement()


def _version_names(caption: Caption) -> Iterator[str]:
    """``published/<name>`` for each form and language of a caption, ``missing/<name>`` for those that never passed."""
    for version in caption.versions:
        yield f"published/{version.language if version.form == CAPTION else version.form}"
    yield from (f"missing/{name}" for name in missing(caption))


def _pair_kinds(pair: Pair) -> tuple[str, str]:
    return f"kinds/{pair.kind}", f"forms/{pair.form}"


def _total(parts: Iterable[Spent]) -> Spent:
    return sum(parts, Spent(0))


def _listed(origin: str) -> tuple[str, None]:
    return origin, None


def _origin(outcome: Caption | Rejection | Failure) -> tuple[str, None]:
    return outcome.clip.origin, None


def _problems(group: tuple[str, Mapping[str, Iterable[None]]]) -> Iterator[str]:
    origin, found = group
    problem = unaccounted(origin, *(sum(1 for _ in found[side]) for side in ("listed", "ended")))
    if problem:
        yield problem


def _splits(caption: Caption) -> Iterator[str]:
    """The caption's split, and ``benchmark/<list>`` for each list that it is on."""
    yield caption.split
    yield from (f"{BENCHMARK}/{name}" for name in caption.benchmarks)


def _publish(
    place: tuple[str, int],
    facts: Mapping[str, Any],
    counts: Mapping[str, int],
    problems: list[str],
    digest: int,
    costs: Mapping[str, Spent],
    splits: Mapping[str, int],
    pairs: Mapping[str, int] | None = None,
    forms: Mapping[str, int] | None = None,
    **files: list[str],
) -> str:
    """Writes the manifest, whole or not at all, and moves the pointer; returns the manifest's path."""
    root, version = place
    folder = versions.folder(root, version)
    if "run" in facts and versions.claimant(root, version) not in (None, facts["run"]):
        raise AccountingError(f"version {version} was given back meanwhile, and is another run's: nothing is published")
    relative = {name: sorted(path[len(folder) :].lstrip("/\\") for path in paths) for name, paths in files.items()}
    content = manifest(facts, counts, problems, relative, f"{digest % (1 << 128):032x}", costs, splits, pairs, forms)
    now = versions.current(root)
    content["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
    # Somebody may have removed the version that is current.
    there = now is not None and now != version and versions.published(root, now)
    if now is not None and there and versions.manifest(root, now)["digest"] == content["digest"]:
        content["same_as"] = now
    path = FileSystems.join(folder, versions.MANIFEST)
    part = f"{path}.part"
    with FileSystems.create(part, compression_type="uncompressed") as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode())
    FileSystems.rename([part], [path])
    if "same_as" not in content:
        versions.advance(root, version)
    return path
