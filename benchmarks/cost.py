"""Time and money for a large dataset on Dataflow, on paper: writes deploy/COST.md.

What is known goes in as it was measured (benchmarks/measured.toml, the figures of RESULTS.md) or counted
(`benchmarks.flops`); prices and everything that nobody has measured are inputs with names (deploy/prices.toml). All is
computed twice, with every assumption at its favourable and at its unfavourable end, and shown as a range.

    python -m benchmarks.cost           # writes deploy/COST.md again
    python -m benchmarks.cost --json    # prints the figures instead
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.pipeline import by_view
from beam_pipeline.presets import Preset, fit, load_preset
from model_handlers.base import CueHandler
from model_handlers.views import Listing

ROOT = Path(__file__).parent.parent
MEASURED, PRICES, DOCUMENT = ROOT / "benchmarks" / "measured.toml", ROOT / "deploy" / "prices.toml", "deploy/COST.md"
PRESETS = ("l4", "t4", "a100")
ENDS = ("favourable", "unfavourable")
SIZES = ("320x240", "1280x720")  # of the measured clips: the favourable end and the other
HOUR = 3600.0


@dataclass(frozen=True)
class Inputs:
    """All that goes in, with the assumptions at one of their ends.

    Attributes:
        prices: by what is paid for.
        gpus: peak and memory speed, by accelerator.
        assume: each assumption's value.
        decode: clips a second of a core, by view.
        flops: what each cue's model has to do for a clip.
    """

    prices: Mapping[str, Mapping[str, Any]]
    gpus: Mapping[str, Mapping[str, Any]]
    assume: Mapping[str, float]
    decode: Mapping[str, float]
    flops: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, end: int, measured: Path = MEASURED, prices: Path = PRICES) -> Inputs:
        """Reads the two files; `end` is 0 for what is favourable, 1 for what is not."""
        facts, given = (tomllib.loads(path.read_text(encoding="utf-8")) for path in (measured, prices))
        assume = {n: value[end] if isinstance(value, list) else value for n, value in given["assumptions"].items()}
        return cls(given["prices"], given["gpus"], assume, facts["decode"][SIZES[end]], facts["flops"])


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes:
        gpu_s: of a GPU, for each clip.
        decode_s: of a core, for each clip.
        bound: which of the two a GPU worker waits for: ``the GPU`` or ``decoding``.
        worker_hours: of GPU workers together.
        hours: from start to manifest.
        caption_hours: of which the language model's provider takes so many.
        dollars: by what they are for.
    """

    gpu_s: float
    decode_s: float
    bound: str
    worker_hours: float
    hours: float
    caption_hours: float
    dollars: Mapping[str, float]

    @property
    def total(self) -> float:
        """All dollars of the run."""
        return sum(self.dollars.values())


def gpu_seconds(handler: CueHandler, accelerator: str, inputs: Inputs) -> float:
    """Seconds of a GPU that a cue takes for a clip: arithmetic or reading the weights, whichever is longer.

    What a model writes word by word comes on top: for each word it reads its weights again, once for a batch.
    """
    load, gpu = inputs.flops[handler.name], inputs.gpus[accelerator]
    arithmetic = load["gflop"] / (1000 * gpu["tflops"] * inputs.assume["gpu_utilisation"])
    speed = gpu["memory_gb_s"] * inputs.assume["memory_utilisation"]
    once, again = (load[name] / handler.batch_size / speed for name in ("read_once_gb", "read_again_gb"))
    return max(arithmetic, once) + again


def decode_seconds(handlers: Iterable[CueHandler], inputs: Inputs) -> float:
    """Seconds of a core that decoding takes for a clip: once for each view."""
    views = {handler.view for handler in handlers if not isinstance(handler.view, Listing)}
    return sum(1 / inputs.decode[type(view).__name__] for view in views)


def estimate(
    preset: Preset, profile: Profile, inputs: Inputs, only: Collection[str] | None = None, captions: bool = True
) -> Estimate:
    """What it takes to compute the cues `only` (all where it is ``None``) of all clips, and their captions."""
    assume, clips = inputs.assume, inputs.assume["clips"]
    handlers = tuple(h for h in profile.handlers() if only is None or h.name in only)
    on_gpu = tuple(handler for handler in handlers if handler.name in inputs.flops)
    gpu_s = sum(gpu_seconds(handler, preset.gpu.accelerator, inputs) for handler in on_gpu)
    decode_s = decode_seconds(handlers, inputs)
    cores = preset.gpu.cores * assume["cores_for_decoding"]
    worker_hours = clips * max(gpu_s, decode_s / cores) / HOUR
    asked = clips * assume["kept"] * assume["answers"] if captions else 0
    caption_hours = asked / assume["llm_requests_per_minute"] / 60
    workers = preset.job.most_workers
    starting = workers * assume["startup_hours"] if handlers else 0
    hours = assume["startup_hours"] + worker_hours / workers + caption_hours
    fetches = clips * sum(1 for view in by_view(handlers) if not isinstance(view, Listing))
    dollars = {
        "GPU workers": (worker_hours + starting) * gpu_worker_hour(preset, inputs),
        "plain workers": clips * assume["plain_core_ms"] / 1000 / HOUR * plain_core_hour(inputs),
        "shuffle": clips * assume["shuffle_kb"] / 1e6 * inputs.prices["dataflow"]["shuffle_gb"],
        "requests to storage": fetches * assume["fetch_requests"] / 1000 * inputs.prices["storage"]["class_b_1000"],
        "captions": asked * answer_dollars(inputs),
    }
    return Estimate(
        gpu_s,
        decode_s,
        "the GPU" if gpu_s > decode_s / cores else "decoding",
        worker_hours,
        hours,
        caption_hours,
        dollars,
    )


def gpu_worker_hour(preset: Preset, inputs: Inputs) -> float:
    """Dollars that an hour of one GPU worker costs."""
    gpu, flow = preset.gpu, inputs.prices["dataflow"]
    machine = gpu.cores * flow["vcpu_hour"] + gpu.ram_gb * flow["memory_gb_hour"]
    return machine + preset.job.disk_gb * flow["disk_gb_hour"] + inputs.prices["gpu_hour"][gpu.accelerator]


def plain_core_hour(inputs: Inputs) -> float:
    """Dollars for an hour of a plain worker's core, with its 4 GB."""
    return inputs.prices["dataflow"]["vcpu_hour"] + 4 * inputs.prices["dataflow"]["memory_gb_hour"]


def answer_dollars(inputs: Inputs) -> float:
    """Dollars that one answer of the language model costs, asked for by itself."""
    llm, assume = inputs.prices["llm"], inputs.assume
    return (assume["tokens_in"] * llm["million_in"] + assume["tokens_out"] * llm["million_out"]) / 1e6


def kept_dollars(inputs: Inputs) -> tuple[float, float]:
    """Dollars a month for keeping the clips' files, and for the dataset."""
    month = inputs.assume["clips"] * inputs.prices["storage"]["gb_month"]
    return month * inputs.assume["clip_mb"] / 1e3, month * inputs.assume["record_kb"] / 1e6


def check_dollars(inputs: Inputs) -> float:
    """Dollars for finding out that a rerun has nothing to do: one core and 2 GiB of Cloud Run for a while."""
    price = inputs.prices["check"]
    return inputs.assume["check_seconds"] * (price["vcpu_second"] + 2 * price["gib_second"])


def figures(profile: Profile, ends: tuple[Inputs, Inputs]) -> dict[str, Any]:
    """Everything that the document shows, favourable end first."""
    found: dict[str, Any] = {"cues": {}, "presets": {}, "reruns": {}}
    for name in PRESETS:
        preset = load_preset(name)
        estimates = [estimate(preset, profile, inputs) for inputs in ends]
        both = [{**asdict(one), "total": one.total} for one in estimates]
        found["presets"][name] = {"misfit": _misfit(preset, profile), **dict(zip(ENDS, both, strict=True))}
        for handler in profile.handlers():
            if handler.name in ends[0].flops:
                times = [gpu_seconds(handler, preset.gpu.accelerator, inputs) for inputs in ends]
                found["cues"].setdefault(handler.name, {})[name] = times
    first = load_preset(PRESETS[0])
    found["reruns"] = {
        "audio_tags and its captions": [estimate(first, profile, i, ("audio_tags",)).total for i in ends],
        "synchronisation alone": [estimate(first, profile, i, ("synchronisation",), False).total for i in ends],
        "captions alone": [estimate(first, profile, i, ()).total for i in ends],
        "nothing": [check_dollars(i) for i in ends],
    }
    found["kept"] = [kept_dollars(i) for i in ends]
    return found


def _misfit(preset: Preset, profile: Profile) -> str:
    """Why the profile's models do not fit the preset's GPU; empty where they do."""
    try:
        fit(preset, profile)
    except ConfigError as error:
        return str(error)
    return ""


def document(profile: Profile, ends: tuple[Inputs, Inputs]) -> str:
    """deploy/COST.md."""
    from benchmarks.cost_text import text

    return text(figures(profile, ends), ends, profile.name)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the figures instead of writing the document")
    options = parser.parse_args(arguments)
    profile, ends = load_profile("auto_acd"), (Inputs.read(0), Inputs.read(1))
    if options.json:
        print(json.dumps(figures(profile, ends), indent=2))
        return
    (ROOT / DOCUMENT).write_text(document(profile, ends), encoding="utf-8")
    Console().print(f"wrote {DOCUMENT}", highlight=False)


if __name__ == "__main__":
    main()
