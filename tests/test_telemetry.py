"""What a run says of itself: metrics that agree with its manifest, and a log that nobody outside can write into."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline.config import load_profile
from beam_pipeline.pipeline import Run, build, recipe
from beam_pipeline.run import Result
from model_handlers.base import Item
from model_handlers.writers import Draft
from tests.asking import brief, writer
from tests.llm_server import llm_server
from transforms import telemetry, versions
from transforms.cues import CueInfo, fetched_bytes
from transforms.ingest import ClipSource
from transforms.records import Clip, Spent
from transforms.telemetry import Sparing, line, namespace

FORGED = 'a" step="caption" error="all is well'
HOSTILE = 'x\nERROR root: all is lost\r\x1b[31m\u202e\u2028"quoted"'


class Told(NamedTuple):
    """What one run told: metrics by namespace and name, its manifest, and its warnings."""

    counters: dict[tuple[str, str], int]
    distributions: dict[tuple[str, str], Any]
    manifest: dict[str, Any]
    failed: list[Clip]
    warnings: list[logging.LogRecord]


@pytest.fixture(scope="module")
def told(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The demo's clips, faulty ones among them, and two whose ids want to forge the log."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "bad.mp4").write_bytes(b"no video")
    with (world / "clips.csv").open(newline="") as file:
        rows: list[dict[str, Any]] = [{**row, "uri": str(world / row["uri"])} for row in csv.DictReader(file)]
    for row in rows:
        row["labels"] = row["labels"].split(";") if row["labels"] else []
    bad = {"uri": str(folder / "bad.mp4"), "start_s": 0, "end_s": 10}
    rows += [{**bad, "clip_id": FORGED}, {**bad, "clip_id": HOSTILE}]
    listing = folder / "list.jsonl"
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign]
    log = logging.getLogger("earshot")
    log.addHandler(handler)
    telemetry._sparing = Sparing()
    try:
        profile, root = load_profile("demo"), str(folder / "out")
        version = versions.claim(root, "told")
        pipeline = beam.Pipeline(runner=FnApiRunner())
        build(pipeline, Run(profile, ClipSource(str(listing)), root, version, {"run": "told", **recipe(profile)}))
        result = pipeline.run()
        result.wait_until_finish()
    finally:
        log.removeHandler(handler)
    found = result.metrics().query()
    counters = {(m.key.metric.namespace, m.key.metric.name): 0 for m in found["counters"]}
    for m in found["counters"]:
        counters[m.key.metric.namespace, m.key.metric.name] += m.committed
    distributions: dict[tuple[str, str], Any] = {}
    for m in found["distributions"]:
        distributions.setdefault((m.key.metric.namespace, m.key.metric.name), []).append(m.committed)
    manifest = versions.manifest(root, version)
    failures = Result(root, version, manifest, {}, 0.0).read("failed")
    return Told(counters, distributions, manifest, [failure.clip for failure in failures], records)


def test_counters_of_how_clips_ended_are_those_of_the_manifest(told: Told) -> None:
    ended = {name: n for (space, name), n in told.counters.items() if space == "earshot.outcome"}
    captions = told.manifest["counts"]["captions"]
    assert ended.pop("captions") == captions
    assert ended == {reason.replace("/", "_"): n for reason, n in told.manifest["reasons"].items()}
    assert {"rejected_silent", "rejected_no_audio", "rejected_out_of_sync"} <= set(ended)  # the world's faults
    assert sum(n for name, n in ended.items() if name.startswith("failed")) == told.manifest["counts"]["failed"] >= 3


def test_clips_and_seconds_of_each_step_are_those_of_the_manifests_costs(told: Told) -> None:
    costs = told.manifest["costs"]
    assert len(costs) > 12
    for step, spent in costs.items():
        assert told.counters[namespace(step), "clips"] == spent["clips"], step
        seconds = sum(part.sum for part in told.distributions[namespace(step), "milliseconds"]) / 1000
        assert seconds == pytest.approx(spent["seconds"], abs=0.0006 * spent["clips"]), step  # rounded to 1 ms a clip


def test_decoding_counts_bytes_failures_and_clips_without_a_track(told: Told) -> None:
    audio = namespace("decode audio 32000 Hz")
    assert told.counters[audio, "bytes_decoded"] > 10 * 10 * 32_000 * 4  # ten clips of ten seconds in single precision
    assert told.counters[audio, "no_track"] == 1
    assert told.counters[audio, "failed"] >= 2
    assert (audio, "bytes_fetched") not in told.counters  # all files were here


def test_the_store_counts_what_it_keeps(told: Told) -> None:
    assert told.counters["earshot.store", "rows_written"] >= 15 * 11
    assert 0 < told.counters["earshot.store", "files_written"] <= told.counters["earshot.store", "rows_written"]
    assert told.counters["earshot.store", "bytes_written"] > 1000


def test_names_of_metrics_are_a_fixed_set_without_anything_from_outside(told: Told) -> None:
    for space, name in {*told.counters, *told.distributions}:
        if space.startswith("earshot"):
            assert re.fullmatch(r"earshot\.\w+", space), space
            assert re.fullmatch(r"\w+", name), name
    ours = {key for key in told.counters if key[0].startswith("earshot")}
    assert len(ours) < 150


def fields(said: str) -> dict[str, Any]:
    """What a line of the log holds, read as a query or a script would read it."""
    return {name: json.loads(value) for name, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\w+)', said)}


def test_every_metric_is_in_the_table_of_what_to_watch(told: Told) -> None:
    table = (Path(__file__).parent.parent / "deploy" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+?)(?:_<\w+>)?`", table))
    beams = re.compile("num_inferences|inference_|load_model_|model_byte_size|failed_batches_counter")
    for space, name in {*told.counters, *told.distributions}:
        if space.startswith("earshot.") and not beams.match(name):
            assert name in named or (space == "earshot.outcome" and name.split("_")[0] in named), (space, name)


def test_a_clip_that_fails_is_said_with_its_id_and_step(told: Told) -> None:
    said = [fields(record.getMessage()) for record in told.warnings]
    assert {found["clip_id"] for found in said} == {clip.clip_id for clip in told.failed}
    forged = [found for found in said if found["clip_id"] == FORGED]
    assert {found["step"].split()[0] for found in forged} == {"decode"}
    assert not any(found["retryable"] for found in forged)
    assert [found["step"] for found in said if "all is lost" in found["error"]] == ["ingest"]


@pytest.mark.parametrize("text", [HOSTILE, FORGED, "\ud800\x00\x7f", "狗叫 \\"])
def test_text_from_outside_stays_in_its_field_and_on_its_line(text: str, caplog: pytest.LogCaptureFixture) -> None:
    telemetry._sparing = Sparing()
    telemetry.say_failed("audio_tags", text, text, True)
    (record,) = caplog.records
    assert record.getMessage().isprintable()
    wanted = {"step": "audio_tags", "clip_id": text, "retryable": True, "error": text}
    assert fields(record.getMessage()) == wanted
    assert (record.levelno, record.__dict__["clip_id"]) == (logging.WARNING, text)


def test_what_an_address_may_keep_secret_stays_out_of_the_log() -> None:
    said = line({"error": "cannot fetch https://me:pw@host/a.mp4?X-Goog-Signature=0123#x, nor ftp://me:pw@host/b"})
    assert said == 'error="cannot fetch https://host/a.mp4?… nor ftp://host/b"'
    assert line({"path": "gs://bucket/a b.mp4"}) == 'path="gs://bucket/a b.mp4"'


def test_a_field_is_cut_off_where_it_is_too_long() -> None:
    assert len(line({"error": "é" * 10_000})) < 600


def test_of_many_alike_the_first_are_said_and_then_one_a_minute_with_what_was_left_out() -> None:
    now = [0.0]
    sparing = Sparing(first=2, every_s=60, clock=lambda: now[0])

    def ask(kinds: str) -> Iterator[int | None]:
        for kind in kinds:
            yield sparing.left_out(kind)

    assert list(ask("aabaa")) == [0, 0, 0, None, None]
    now[0] = 61
    assert list(ask("aab")) == [2, None, 0]
    now[0] = 130
    assert list(ask("a")) == [1]


def test_only_what_came_over_the_network_counts_as_fetched(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"0123456789")
    assert [fetched_bytes(uri, file) for uri in (str(file), f"file://{file}", "gs://bucket/a.mp4")] == [0, 0, 10]


def test_tokens_and_millionths_of_dollars_are_counted(tmp_path: Path) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    drafts = [("a", Spent(1, 0.2, 0, 900, 60, 0.000456)), ("b", Spent(1, 0.4, 0, 1100, 40, 0.000504))]
    _ = pipeline | beam.Create(drafts) | beam.MapTuple(telemetry.answered)
    result = pipeline.run()
    result.wait_until_finish()
    found = {m.key.metric.name: m.committed for m in result.metrics().query()["counters"]}
    wanted = {"clips": 2, "tokens_in": 2000, "tokens_out": 100, "micro_dollars": 960}
    assert {name: found.get(name) for name in wanted} == wanted


def test_requests_that_were_made_again_are_counted_where_the_answer_came_at_last() -> None:
    with llm_server(script=["500", "503"]) as server:
        asker = KeyedModelHandler(writer(server))
        pipeline = beam.Pipeline(runner=FnApiRunner())
        drafts = pipeline | beam.Create([("a", brief())]) | RunInference(asker)
        _ = drafts | beam.MapTuple(lambda _, draft: assert_written(draft))
        result = pipeline.run()
        result.wait_until_finish()
    (again,) = result.metrics().query(MetricsFilter().with_name("requests_repeated"))["counters"]
    assert (again.key.metric.namespace, again.committed) == ("earshot.caption", 2)


def assert_written(draft: Draft) -> None:
    assert draft.caption


def test_a_finding_is_handed_on_as_it_is() -> None:
    finding = CueInfo("tags", "0", "m").finding("a", "0+1", items=(Item("dog"),), seconds=0.1)
    assert telemetry.found(finding) is finding
