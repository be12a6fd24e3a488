"""The cost model's arithmetic, by hand on small numbers; and the document says what the command computes."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from beam_pipeline.config import load_profile
from beam_pipeline.presets import load_preset
from benchmarks import cost, flops
from benchmarks.cost import DOCUMENT, MEASURED, PRICES, ROOT, Inputs, estimate, gpu_seconds
from benchmarks.cost_text import between, two_digits

GPU = {"tflops": 100, "memory_gb_s": 500}
LOAD = {"gflop": 1000, "read_once_gb": 2, "read_again_gb": 0, "parameters_m": 500}


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    """A world of round numbers: a thousand clips, one model of 0.02 s, one view of 0.5 core seconds."""
    prices: dict[str, dict[str, Any]] = {
        "dataflow": {"vcpu_hour": 0.1, "memory_gb_hour": 0.01, "disk_gb_hour": 0.001, "shuffle_gb": 1.0},
        "gpu_hour": {"nvidia-l4": 1.0},
        "storage": {"gb_month": 0.02, "class_a_1000": 0.005, "class_b_1000": 0.4},
        "llm": {"million_in": 1.0, "million_out": 2.0},
        "check": {"vcpu_second": 0.001, "gib_second": 0.0001},
    }
    assume = {
        **{"clips": 3600, "gpu_utilisation": 0.5, "memory_utilisation": 0.5, "cores_for_decoding": 0.5},
        **{"clip_mb": 1, "fetch_requests": 2, "plain_core_ms": 10, "shuffle_kb": 100, "record_kb": 20},
        **{"tokens_in": 1000, "tokens_out": 100, "answers": 1.5, "llm_requests_per_minute": 54, "kept": 0.5},
        **{"startup_hours": 0.25, "check_seconds": 50},
    }
    decode = {"Header": 1e9, "MiddleFrame": 2, "Audio": 4, "AudioVideo": 1}
    return Inputs(prices, {"nvidia-l4": GPU}, assume, decode, {"place": LOAD})


def handler(name: str) -> Any:
    (found,) = (handler for handler in load_profile("auto_acd").handlers() if handler.name == name)
    return found


def test_a_model_takes_as_long_as_its_arithmetic_or_as_reading_its_weights(inputs: Inputs) -> None:
    place = replace(handler("place"), batch_size=4)
    assert gpu_seconds(place, "nvidia-l4", inputs) == pytest.approx(0.02)  # 1 TFLOP at 50 TFLOP/s
    heavy = replace(inputs, flops={"place": {**LOAD, "read_once_gb": 50}})
    assert gpu_seconds(place, "nvidia-l4", heavy) == pytest.approx(0.05)  # 50 GB at 250 GB/s for four clips
    writing = replace(inputs, flops={"place": {**LOAD, "read_again_gb": 100}})
    assert gpu_seconds(place, "nvidia-l4", writing) == pytest.approx(0.02 + 0.1)


def test_a_worker_waits_for_the_slower_of_gpu_and_decoding(inputs: Inputs) -> None:
    l4, profile = load_preset("l4"), load_profile("auto_acd")
    found = estimate(l4, profile, inputs, ("place",), captions=False)
    assert (found.gpu_s, found.decode_s, found.bound) == (pytest.approx(0.02), 0.5, "decoding")
    assert found.worker_hours == pytest.approx(0.5 / (l4.gpu.cores * 0.5))  # 3600 clips
    fast = estimate(l4, profile, replace(inputs, decode={**inputs.decode, "MiddleFrame": 1e6}), ("place",), False)
    assert (fast.bound, fast.worker_hours) == ("the GPU", pytest.approx(0.02))


def test_views_that_cues_share_are_decoded_once(inputs: Inputs) -> None:
    both = estimate(load_preset("l4"), load_profile("auto_acd"), inputs, ("loudness", "audio_tags", "clap"), False)
    assert both.decode_s == pytest.approx(0.25 + 0.25)  # 32 kHz for two of them, 48 kHz for the third


def test_money_is_what_workers_requests_shuffle_and_answers_cost(inputs: Inputs) -> None:
    l4 = load_preset("l4")
    found = estimate(l4, load_profile("auto_acd"), inputs, ("place",))
    hour = l4.gpu.cores * 0.1 + l4.gpu.ram_gb * 0.01 + l4.job.disk_gb * 0.001 + 1.0
    assert cost.gpu_worker_hour(l4, inputs) == pytest.approx(hour)
    workers = l4.job.most_workers
    assert found.dollars["GPU workers"] == pytest.approx((found.worker_hours + workers * 0.25) * hour)
    assert found.dollars["plain workers"] == pytest.approx(3600 * 0.010 / 3600 * (0.1 + 4 * 0.01))
    assert found.dollars["shuffle"] == pytest.approx(3600 * 100e3 / 1e9)
    assert found.dollars["requests to storage"] == pytest.approx(3600 * 2 * 0.4 / 1000)  # one view opens files
    assert found.dollars["captions"] == pytest.approx(3600 * 0.5 * 1.5 * (1000 * 1.0 + 100 * 2.0) / 1e6)
    assert found.total == pytest.approx(sum(found.dollars.values()))
    assert found.caption_hours == pytest.approx(2700 / 54 / 60)
    assert found.hours == pytest.approx(0.25 + found.worker_hours / workers + found.caption_hours)


def test_captions_alone_need_no_gpu_and_nothing_costs_cents(inputs: Inputs) -> None:
    found = estimate(load_preset("l4"), load_profile("auto_acd"), inputs, ())
    assert (found.worker_hours, found.dollars["GPU workers"]) == (0, 0)
    assert cost.check_dollars(inputs) == pytest.approx(50 * 0.0012)
    assert cost.check_dollars(Inputs.read(1)) < 0.01
    assert cost.kept_dollars(inputs) == (pytest.approx(3.6 * 0.02), pytest.approx(0.072 * 0.02))


def test_the_favourable_end_is_never_dearer_than_the_other() -> None:
    profile = load_profile("auto_acd")
    for name in cost.PRESETS:
        low, high = (estimate(load_preset(name), profile, Inputs.read(end)) for end in (0, 1))
        assert (low.total, low.hours, low.gpu_s, low.decode_s) < (high.total, high.hours, high.gpu_s, high.decode_s)
        assert all(low.dollars[what] <= high.dollars[what] for what in low.dollars)


def test_the_document_is_what_the_command_computes() -> None:
    profile, ends = load_profile("auto_acd"), (Inputs.read(0), Inputs.read(1))
    written = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    assert written == cost.document(profile, ends), "run python -m benchmarks.cost"


def test_figures_are_there_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    cost.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert set(found["presets"]) == {"l4", "t4", "a100"}
    assert found["presets"]["l4"]["misfit"] == ""


def test_every_model_of_the_profile_is_counted_and_every_price_says_where_it_is_from() -> None:
    facts, given = (tomllib.loads(path.read_text(encoding="utf-8")) for path in (MEASURED, PRICES))
    models = {h.name for h in load_profile("auto_acd").handlers() if h.model}
    assert set(facts["flops"]) == models == set(flops.CUES)
    for price in given["prices"].values():
        assert price["source"]
        assert isinstance(price["read"], bool)
    assert {load_preset(name).gpu.accelerator for name in cost.PRESETS} == set(given["gpus"])


def test_measured_figures_are_those_of_the_results() -> None:
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    facts = tomllib.loads(MEASURED.read_text(encoding="utf-8"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in results.splitlines() if "|" in line]
    for size, views in facts["decode"].items():
        for view, speed in views.items():
            (row,) = (row for row in rows if row[:2] == [size, view])
            assert float(row[3]) == speed, (size, view)  # in the decoding process
    assert f"{facts['planning']['ms_per_clip']} ms and {facts['planning']['kb_per_clip']} kB a clip" in results


@pytest.mark.parametrize("name", ["place", "clap"])
def test_operations_can_be_counted_again(name: str) -> None:
    load, written = flops.count(name), tomllib.loads(MEASURED.read_text(encoding="utf-8"))["flops"][name]
    assert load.flops / 1e9 == pytest.approx(written["gflop"], abs=0.06)
    assert load.parameters / 1e6 == pytest.approx(written["parameters_m"], abs=0.06)


def test_resnet_50_has_the_operations_that_its_paper_names() -> None:
    assert flops.count("place").flops == pytest.approx(2 * 4.1e9, rel=0.02)  # 4.1 G multiplications with additions


def test_ranges_have_two_digits() -> None:
    assert between(0.0742, 0.0738) == "0.074"
    assert between(2449, 720.3) == "720 to 2,400"
    assert [two_digits(value) for value in (0, 0.00044, 9.96, 99.6, 2.35)] == ["0", "0.00044", "10", "100", "2.4"]
