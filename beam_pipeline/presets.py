"""What a run asks Dataflow for: which machines, where the GPUs go, and how many copies of the models each one holds.

GPUs go to the stages that run models and to no other (Dataflow calls it right fitting): the pipeline puts
`Placed.hints` on those stages, which therefore share one kind of worker; all others run on plain machines.

A worker runs either one process for each core, each with models of its own, which share the GPU by NVIDIA's
Multi-Process Service, or one process whose threads share one copy; Dataflow has nothing in between
(https://cloud.google.com/dataflow/docs/gpu/use-nvidia-mps). The first is chosen where it fits, because Python's lock
keeps the threads of one process on about one core. Either way clips are decoded by child processes on all cores.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from beam_pipeline.config import ConfigError, Profile
from beam_pipeline.options import ONE_PROCESS, beam_options
from beam_pipeline.shipped import shipped

PRESETS = files("beam_pipeline") / "presets"
RUNNER = "DataflowRunner"
_STRICT = ConfigDict(extra="forbid")

# Both are estimates; nothing here has run on a GPU. What CUDA, cuBLAS and cuDNN keep in each process, in GB:
CONTEXT_GB = 0.6
# and what the allocator cannot use of the rest, because free memory lies in pieces.
SPARE = 0.1

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Gpu:
    """The machines on which models run.

    Attributes:
        machine_type: Compute Engine's name.
        accelerator: Dataflow's name of the GPU; each machine has one.
        memory_gb: what the GPU has, in GB (10^9 bytes).
        cores: of the machine.
        ram_gb: likewise.
    """

    __pydantic_config__ = _STRICT

    machine_type: str
    accelerator: str
    memory_gb: Amount
    cores: Count
    ram_gb: Amount


@dataclass(frozen=True)
class Workers:
    """The machines on which everything else runs: Compute Engine's name, and how many cores that is."""

    __pydantic_config__ = _STRICT

    machine_type: str
    cores: Count


@dataclass(frozen=True)
class Job:
    """What holds for all machines.

    Attributes:
        most_workers: machines at once, at most.
        disk_gb: of each; the image with its models has to fit.
        threads: of a process that is alone on its machine: bundles that it works on at once.
    """

    __pydantic_config__ = _STRICT

    most_workers: Count
    disk_gb: Annotated[int, Field(ge=30)]
    threads: Count


@dataclass(frozen=True)
class Preset:
    """A set of machines for a run on Dataflow."""

    __pydantic_config__ = _STRICT

    name: str
    description: str
    gpu: Gpu
    workers: Workers
    job: Job


@dataclass(frozen=True)
class Fit:
    """How a profile's models fit a preset's GPU.

    Attributes:
        rows: GB for each row that wants a GPU: weights and one batch.
        copies: of all of them on one GPU; 0 where no row wants one.
    """

    rows: Mapping[str, float]
    copies: int

    @property
    def each_gb(self) -> float:
        """GB that one copy of all models takes, with what its process needs beside."""
        return sum(self.rows.values()) + CONTEXT_GB


@dataclass(frozen=True)
class Placed:
    """Where a run happens: Beam's flags, and the resource hints of stages that run models on a GPU."""

    flags: tuple[str, ...] = ()
    hints: Mapping[str, str] = field(default_factory=dict)


def load_preset(name: str) -> Preset:
    """Reads a preset by its name, or by the path of a TOML file. Raises `ConfigError`."""
    path = Path(name) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(Preset).validate_python({"name": Path(name).stem, **content})
    except FileNotFoundError:
        raise ConfigError(
            f"no preset {name!r}; there are: {', '.join(shipped('presets'))}, or give the path of a .toml file"
        ) from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {problems}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a preset: {error}") from None


def fit(preset: Preset, profile: Profile, one_process: bool = False) -> Fit:
    """Says how many copies of a profile's models a worker holds: one for each core where they fit, else one.

    Args:
        preset: which machine.
        profile: whose rows say what they take.
        one_process: whether there has to be one copy only.

    Raises:
        ConfigError: not even one fits, or a row does not say what it takes.
    """
    rows = {name: gb for name, gb in profile.gpu_memory().items() if gb is None or gb > 0}
    if unsaid := [name for name, gb in rows.items() if gb is None]:
        raise ConfigError(
            f"{unsaid[0]}: nothing says how much of a GPU's memory its model takes; give the row gpu_gb, in GB"
        )
    found = Fit({name: gb for name, gb in rows.items() if gb is not None}, 1 if rows else 0)
    usable = preset.gpu.memory_gb * (1 - SPARE)
    if found.copies and found.each_gb > usable:
        shown = ", ".join(f"{name} {gb:.1f}" for name, gb in sorted(found.rows.items(), key=lambda row: -row[1]))
        raise ConfigError(
            f"preset {preset.name}: the models take {found.each_gb:.1f} GB ({shown}, CUDA {CONTEXT_GB:.1f}), but of "
            f"{preset.gpu.accelerator}'s {preset.gpu.memory_gb:g} GB only {usable:.1f} are for them. Take a larger one "
            'or smaller batches (batch_size), or device = "cpu" for a row; where one takes less than is said, give it '
            "gpu_gb"
        )
    several = not one_process and found.copies and preset.gpu.cores * found.each_gb <= usable
    return Fit(found.rows, preset.gpu.cores) if several else found


def place(name: str, profile: Profile, flags: Sequence[str] = (), own_options: Sequence[str] = ()) -> Placed:
    """Works out where a run happens.

    Args:
        name: of a preset, or the path of one.
        profile: what runs.
        flags: the user's own for Beam; they go before those of the preset.
        own_options: names of Earshot's options, for advice.

    Raises:
        ConfigError: the preset cannot be used so.
    """
    preset = load_preset(name)
    options = beam_options(flags, own_options)
    experiments = options.view_as(DebugOptions).experiments or []
    _check(options, preset.name)
    found = fit(preset, profile, ONE_PROCESS in experiments)
    if found.copies == 1 and "use_multiple_sdk_containers" in experiments:
        raise ConfigError(
            f"preset {preset.name}: a GPU holds one copy of the models, and with the experiment "
            "use_multiple_sdk_containers each core would load one; leave it out"
        )
    several = found.copies > 1
    threads = -(-preset.job.threads // found.copies) if several else preset.job.threads
    own = [
        f"--machine_type={preset.workers.machine_type}",
        f"--max_num_workers={preset.job.most_workers}",
        f"--disk_size_gb={preset.job.disk_gb}",
        f"--number_of_worker_harness_threads={threads}",
        "--no_save_main_session",  # nothing of Earshot is defined in __main__
    ]
    if found.copies == 1 and ONE_PROCESS not in experiments:
        own.append(f"--experiments={ONE_PROCESS}")
    return Placed((*own, *flags), hints(preset, several) if found.copies else {})


def hints(preset: Preset, several: bool) -> dict[str, str]:
    """Beam's resource hints for stages that run models; `several`: whether processes share a GPU."""
    accelerator = [
        f"type:{preset.gpu.accelerator}",
        "count:1",
        f"machine_type:{preset.gpu.machine_type}",
        "install-nvidia-driver",
        *(["use_nvidia_mps"] if several else []),
    ]
    return {"accelerator": ";".join(accelerator), "min_ram": f"{preset.gpu.ram_gb:g}GB"}


def _check(options: PipelineOptions, name: str) -> None:
    """Raises `ConfigError` on options that do not go with a preset."""
    runner = options.view_as(StandardOptions).runner or ""
    if runner.lower() != RUNNER.lower():
        raise ConfigError(f"--preset {name} is for Dataflow: give --runner={RUNNER} as well, or leave the preset out")
    if not options.view_as(WorkerOptions).sdk_container_image:
        raise ConfigError(
            f"--preset {name} needs the image that workers run: --sdk_container_image=… (deploy/dataflow/README.md "
            "says how to build it)"
        )
    cloud = options.view_as(GoogleCloudOptions)
    if any(option.startswith("worker_accelerator") for option in cloud.dataflow_service_options or []):
        raise ConfigError(f"--preset {name} says where GPUs go; leave the service option worker_accelerator out")
    if cloud.flexrs_goal:
        raise ConfigError(f"--preset {name}: Dataflow has no FlexRS for jobs with GPUs in some stages only")


def check_key(profile: Profile) -> None:
    """Raises `ConfigError` where a writer wants a key that no worker will have."""
    for writer in profile.writers():
        if getattr(writer, "key_env", "") and not getattr(writer, "key_secret", ""):
            raise ConfigError(
                f"{writer.task}: Dataflow's workers have no environment variables of yours. Put the key into Secret "
                f'Manager, and into [{writer.task}] key_secret = "projects/…/secrets/…/versions/latest"; or '
                'key_env = "" where none is needed'
            )
