"""Beam's options as Earshot uses them: which runner, and no silently ignored flag."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
from collections.abc import Sequence

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from beam_pipeline.config import ConfigError

# Beam's `DirectRunner` picks one of three engines, by what is installed and by what the graph holds; Earshot pins one.
LOCAL = ("directrunner", "fnapirunner")

# Dataflow's experiment by which a worker runs one process, not one for each core.
ONE_PROCESS = "no_use_multiple_sdk_containers"


def beam_options(flags: Sequence[str], own: Sequence[str] = ()) -> PipelineOptions:
    """Parses Beam's own flags. Raises `ConfigError` on one that nobody knows.

    Other runners may understand flags that Python's Beam does not, so there an unknown flag is passed on, unless it
    looks like one of `own`, the names of Earshot's options: a budget that nobody heeds, or GPUs that nobody asks for,
    would cost too much.
    """
    if flags and not flags[0].startswith("-"):
        raise ConfigError(f"{flags[0]!r} belongs to no option; quote a glob, as in --clips 'videos/*.mp4'")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options = PipelineOptions(list(flags))
            options.get_all_options()
    except SystemExit:
        raise ConfigError((said.getvalue().strip().splitlines() or ["options that Beam cannot read"])[-1]) from None
    if stray := [flag for flag in flags if flag.startswith("-") and not flag.startswith("--")]:
        raise ConfigError(f"unknown option {stray[0]}; options start with two dashes")
    known = options.get_all_options()
    unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
    for name in sorted(unknown):
        meant = difflib.get_close_matches(name.replace("_", "-"), own, n=1, cutoff=0.8)
        if is_local(options) or meant:
            close = meant or difflib.get_close_matches(name, [*own, *known], n=1)
            hint = f"; did you mean --{close[0]}?" if close else ""
            raise ConfigError(f"unknown option --{name}{hint} (earshot run --help lists Earshot's own)")
    return options


def is_local(options: PipelineOptions) -> bool:
    """Whether the run happens in this process or in processes of this machine that Beam starts itself."""
    return (options.view_as(StandardOptions).runner or LOCAL[0]).lower() in LOCAL


def is_awaited(options: PipelineOptions) -> bool:
    """Whether somebody waits for the job's end: not with ``--no_wait_until_finish``, and not in a flex template.

    A template's launcher is given ``--template_location`` and must end once the job has been described; the job starts
    after that (https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates).
    """
    described = options.view_as(GoogleCloudOptions).template_location
    return not (described or options.view_as(StandardOptions).no_wait_until_finish)


def processes(options: PipelineOptions) -> int:
    """How many worker processes a run may have at once, at most. Raises `ConfigError` where nothing limits them."""
    if is_local(options):
        direct = options.view_as(DirectOptions)
        if direct.direct_running_mode != "multi_processing":
            return 1
        return direct.direct_num_workers or os.cpu_count() or 1
    workers = options.view_as(WorkerOptions)
    fixed = (workers.autoscaling_algorithm or "").upper() == "NONE"  # else `num_workers` is how many it begins with
    machines = workers.max_num_workers or (workers.num_workers if fixed else None)
    parallelism = max(0, options.get_all_options(retain_unknown_options=True).get("parallelism") or 0)  # -1: not said
    if not machines and not parallelism:
        raise ConfigError(
            "--budget is shared out among all workers, so it needs --max_num_workers (on Flink: --parallelism)"
        )
    if ONE_PROCESS in (options.view_as(DebugOptions).experiments or []):
        return int(machines or parallelism)
    # Dataflow starts a process for each virtual core; without a type it takes machines of one.
    return int(machines or parallelism) * (cores(workers.machine_type) if workers.machine_type else 1)


def cores(machine_type: str) -> int:
    """How many virtual cores a machine of Compute Engine has, at most, as far as its name tells."""
    if custom := re.search(r"custom-(\d+)-", machine_type):
        return int(custom.group(1))
    if by_gpu := re.search(r"-(\d+)g$", machine_type):  # a3-highgpu-8g has 26 for each GPU, the most of any
        return 26 * int(by_gpu.group(1))
    number = re.search(r"-(\d+)(?:-\w+)?$", machine_type)
    return int(number.group(1)) if number else 2  # e2-medium and its like share two


def runner_for(options: PipelineOptions) -> PipelineRunner | str:
    """The pinned local runner, or the name of the one that was asked for."""
    if not is_local(options):
        return options.view_as(StandardOptions).runner
    direct = options.view_as(DirectOptions)
    if direct.direct_num_workers > 1 and direct.direct_running_mode == "in_memory":
        raise ConfigError("--direct_num_workers needs --direct_running_mode=multi_processing or multi_threading")
    return FnApiRunner()
