"""One run from start to summary: build the job, run it, show how far it is, and say what came out."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from beam_pipeline import engines
from beam_pipeline.config import ConfigError, Profile
from beam_pipeline.needed import inputs
from beam_pipeline.options import beam_options, is_local, processes, runner_for
from beam_pipeline.pipeline import Run, build, recipe
from beam_pipeline.plan import Plan, plan
from beam_pipeline.presets import RUNNER, Placed, check_key, place
from beam_pipeline.show import every, progress_bars, said
from beam_pipeline.stopping import stoppable
from transforms import versions
from transforms.avro import read_avro
from transforms.ingest import ClipSource
from transforms.media import Limits
from transforms.progress import read_ticks
from transforms.publish import DATASETS
from transforms.store import FOLDER


class RunError(RuntimeError):
    """A run that did not end well. The message holds the reason, without Beam's stack traces."""


@dataclass(frozen=True)
class Result:
    """What a finished run left behind.

    Attributes:
        root: the dataset's folder.
        version: the one to read: what the run published or, where nothing has changed, what was there.
        manifest: that version's.
        costs: by step, how many ``clips`` this run worked on, and the ``seconds`` that took.
        seconds: wall-clock time.
        unchanged: whether the run found every record as it was.
    """

    root: str
    version: int
    manifest: dict[str, Any]
    costs: dict[str, Any]
    seconds: float
    unchanged: bool = False

    @property
    def folder(self) -> str:
        """Where the version's files lie."""
        return versions.folder(self.root, self.version)

    def read(self, name: str) -> Iterator[Any]:
        """The records of ``captions``, ``rejected`` or ``failed``; or of ``qa``, where questions were asked."""
        paths = [FileSystems.join(self.folder, file) for file in self.manifest["files"][name]]
        return read_avro(paths, DATASETS[name])


@dataclass(frozen=True)
class Launched:
    """A job that was handed over.

    Attributes:
        root: the dataset's folder.
        version: the number that the job publishes.
        run: the run's name.
        job: the engine's name for it; empty where a template's launcher has described it and others start it.
    """

    root: str
    version: int
    run: str
    job: str


def run(
    profile: Profile,
    source: ClipSource,
    output: str,
    flags: Sequence[str] = (),
    *,
    retry_failed: bool = False,
    budget_dollars: float | None = None,
    limits: Limits | None = None,
    shards: int = 1,
    quiet: bool = False,
    own_options: Sequence[str] = (),
    preset: str = "",
) -> Result:
    """Runs `profile` over `source` and publishes what came out as a version of the dataset in `output`.

    What earlier runs into `output` know is not computed again. Once captions have cost `budget_dollars`, no more are
    asked for; the clips without one fail, and the next run takes them up. `preset` says where on Dataflow.

    Raises `ConfigError`, `SourceError` or `ModelError` before any work where they can be seen by then, and `RunError`
    when the job fails; a run that failed or was stopped publishes nothing, but what it computed is kept.
    """
    source, output = engines.whole_paths(source, output, beam_options(flags, own_options))
    ready = _Ready.of(profile, source, output, flags, own_options, preset, budget_dollars)
    local, elsewhere = is_local(ready.options), threading.Event()
    with tempfile.TemporaryDirectory(prefix="earshot-") as ticks, _claimed(output, ready.name, elsewhere) as version:
        job = ready.job(output, version, retry_failed=retry_failed, limits=limits or Limits(), shards=shards)
        pipeline = ready.pipeline(replace(job, progress=ticks if local else ""))
        clock = time.monotonic()
        steps = [*(handler.name for handler in profile.handlers()), *(writer.task for writer in profile.writers())]
        with _failures_explained(), stoppable(), _shown(ticks, steps, quiet or not local):
            if local:
                state = pipeline.run().wait_until_finish()
            else:
                elsewhere.set()
                state = engines.finished(pipeline, ready.options, elsewhere, engines.silent if quiet else said)
            if state not in (None, "DONE"):
                raise RuntimeError(f"the job ended as {state}")
        seconds = time.monotonic() - clock
        done = versions.manifest(output, version)
    if (same := done.get("same_as")) is not None:
        versions.remove(output, version)
        version = same
    return Result(output, version, versions.manifest(output, version), done["costs"], seconds, same is not None)


def launch(
    profile: Profile,
    source: ClipSource,
    output: str,
    flags: Sequence[str] = (),
    *,
    retry_failed: bool = False,
    budget_dollars: float | None = None,
    shards: int = 1,
    own_options: Sequence[str] = (),
    preset: str = "",
) -> Launched:
    """Hands a job over as `run` does, and does not wait for its end: the job itself publishes the version.

    Where every record turns out as it was, the version's manifest says so (``same_as``), the current one stays, and
    ``earshot gc`` removes the files. Raises what `run` raises before the job has begun. Once the job may have been
    handed over, its version's number is not given to another run, whatever happens.
    """
    source, output = engines.whole_paths(source, output, beam_options(flags, own_options))
    ready = _Ready.of(profile, source, output, flags, own_options, preset, budget_dollars)
    if is_local(ready.options):
        raise ConfigError("--no_wait_until_finish: a run on this machine ends with the command; leave it out")
    portable = ready.options.view_as(PortableOptions)
    if not _is_dataflow(ready.options) and (not portable.job_endpoint or portable.environment_type == "LOOPBACK"):
        raise ConfigError(
            "--no_wait_until_finish: what this command starts for the job would end with it; leave it out, or name a "
            "job server that stays (--job_endpoint) and workers of its own (--environment_type)"
        )
    with _claimed(output, ready.name, threading.Event()) as version:
        pipeline = ready.pipeline(ready.job(output, version, retry_failed=retry_failed, shards=shards))
    with _failures_explained(f"whether the engine took the job, it has to say; version {version} stays the job's"):
        try:
            handed = pipeline.run()
        except KeyboardInterrupt:
            taken = f"; run {ready.name} may have been handed over, and publish version {version} yet"
            raise engines.Stopped(taken) from None
    return Launched(output, version, ready.name, engines.job_name(handed))


@dataclass(frozen=True)
class _Ready:
    """A run whose options have been checked, and that needs a version to write to."""

    options: PipelineOptions
    runner: PipelineRunner | str
    name: str
    facts: Mapping[str, Any]
    new: Callable[..., Run]

    @classmethod
    def of(
        cls,
        profile: Profile,
        source: ClipSource,
        output: str,
        flags: Sequence[str],
        own_options: Sequence[str],
        preset: str,
        budget_dollars: float | None,
    ) -> _Ready:
        placed = place(preset, profile, flags, own_options) if preset else Placed(tuple(flags))
        options = beam_options(placed.flags, own_options)
        if _is_dataflow(options):
            _check_reach(source, output)
            check_key(profile)
        runner = runner_for(options)
        engines.check(options)
        share = None if budget_dollars is None else budget_dollars / processes(options)
        for writer in () if budget_dollars is None else profile.writers():
            if not writer.priced:
                raise ConfigError(
                    f"--budget needs price_in and price_out in [{writer.task}]; without them nothing counts"
                )
        started = datetime.now(UTC)
        name = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        facts = {
            "run": name,
            "started": started.isoformat(timespec="seconds"),
            "earshot": _version("earshot-captions"),
            "apache_beam": _version("apache-beam"),
            "source": asdict(source),
            "inputs": inputs(profile, source),
            **recipe(profile),
        }
        new = partial(Run, profile, source, budget_dollars=share, gpu_hints=placed.hints)
        return cls(options, runner, name, facts, new)

    def job(self, output: str, version: int, **more: Any) -> Run:
        return self.new(output, version, {**self.facts, "version": version}, **more)

    def pipeline(self, job: Run) -> beam.Pipeline:
        pipeline = beam.Pipeline(runner=self.runner, options=self.options)
        build(pipeline, job)
        return pipeline


def foresee(
    profile: Profile,
    source: ClipSource,
    output: str,
    flags: Sequence[str] = (),
    retry_failed: bool = False,
    own_options: Sequence[str] = (),
    preset: str = "",
) -> Plan:
    """Says what `run` would have to do with the same arguments, opening no media and loading no model.

    It happens on this machine, whatever runner `flags` name. Raises what `run` raises before it starts.
    """
    beam_options(flags, own_options)
    if preset:
        place(preset, profile, flags, own_options)
    job = Run(profile, source, output, 0, {}, retry_failed)
    with _failures_explained():
        return plan(job, FnApiRunner(), PipelineOptions())


@contextmanager
def _claimed(output: str, run: str, elsewhere: threading.Event) -> Iterator[int]:
    """Takes a version's number for a run, and gives it back when the run fails before it has published.

    Not where `elsewhere` is set: then the job may go on without this process, and publish the version yet.
    """
    if found := sorted(set(output) & set("*?[")):
        raise ConfigError(f"--output {output}: {found[0]!r} stands for other characters in a path; take another name")
    if output.startswith("file:"):
        raise ConfigError(f"--output {output}: for a folder of this machine give its plain path")
    try:
        _check_folder(output)
        versions.current(output)
        version = versions.claim(output, run)
    except (OSError, BeamIOError, ValueError) as error:
        raise ConfigError(f"--output {output}: cannot be written to: {error}") from None
    try:
        yield version
    except BaseException:
        with suppress(OSError, BeamIOError):
            if not elsewhere.is_set() and not versions.published(output, version):
                versions.remove(output, version)
        raise


def _is_dataflow(options: PipelineOptions) -> bool:
    return (options.view_as(StandardOptions).runner or "").lower() == RUNNER.lower()


def _check_reach(source: ClipSource, output: str) -> None:
    """Raises `ConfigError` where Dataflow's workers would look for files of this machine on their own disks."""
    for option, where in (("--clips", source.clips), ("--media", source.media), ("--output", output)):
        if where and "://" not in where:
            raise ConfigError(
                f"{option} {where}: Dataflow's workers see no disk of this machine; give a gs://… address"
            )


def _check_folder(output: str) -> None:
    """Raises `OSError` where something on this machine stands in a dataset's way; creates nothing."""
    if "://" in output:
        return
    for name in ("", FOLDER, versions.VERSIONS):
        path = os.path.join(output, name) if name else output
        if os.path.exists(path) and not os.path.isdir(path):
            raise NotADirectoryError(f"{path} is a file")
        if os.path.isdir(path) and not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(f"no permission to write to {path}")


@contextmanager
def _shown(ticks: str, steps: list[str], quiet: bool) -> Iterator[None]:
    """Shows progress while the job runs in this thread."""
    if quiet:
        yield
        return
    with progress_bars(steps) as update:
        try:
            with every(0.25, lambda: update(read_ticks(ticks))):
                yield
        finally:
            update(read_ticks(ticks))


@contextmanager
def _failures_explained(left: str = "nothing was published") -> Iterator[None]:
    """Turns what Beam makes of a worker's exception into one line: the exception's own message, and what is left.

    In this process Beam raises the exception's own type with the step appended; from another process comes a
    RuntimeError that holds a stack trace as text.
    """
    try:
        yield
    except Exception as error:
        logging.getLogger(__name__).info("the job failed", exc_info=True)
        text = re.sub(r"\s*\[while running '.*'\]", "", str(error)).strip()
        if "Traceback (most recent call last)" in text:
            raised = [line for line in text.splitlines() if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
            text = raised[-1] if raised else text.splitlines()[-1]
        elif type(error) is not RuntimeError:
            text = f"{type(error).__name__}: {text}"
        else:
            text = engines.plain_error(text)
        if "KeyboardInterrupt" in text:
            raise KeyboardInterrupt from None
        if what := engines.advice(f"{type(error).__name__}: {error}"):
            text = f"{text}: {what}"
        raise RunError(f"{' '.join(text.split())}; {left}") from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
