"""One run from start to summary: build the job, run it, show how far it is, and say what came out."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline.config import ConfigError, Profile
from beam_pipeline.options import beam_options, is_local, processes, runner_for
from beam_pipeline.pipeline import Run, build, recipe
from beam_pipeline.plan import Plan, plan
from beam_pipeline.show import progress_bars
from transforms import versions
from transforms.avro import read_avro
from transforms.ingest import ClipSource
from transforms.media import Limits
from transforms.progress import read_ticks
from transforms.publish import OUTCOMES
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
        """The records of ``captions``, ``rejected`` or ``failed``."""
        paths = [FileSystems.join(self.folder, file) for file in self.manifest["files"][name]]
        return read_avro(paths, OUTCOMES[name])


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
) -> Result:
    """Runs `profile` over `source` and publishes what came out as a version of the dataset in `output`.

    What earlier runs into `output` know is not computed again. Once captions have cost `budget_dollars`, no more are
    asked for; the clips without one fail, and the next run takes them up.

    Raises `ConfigError`, `SourceError` or `ModelError` before any work where they can be seen by then, and `RunError`
    when the job fails; a run that failed or was stopped publishes nothing, but what it computed is kept.
    """
    options = beam_options(flags, own_options)
    runner = runner_for(options)
    share = None if budget_dollars is None else budget_dollars / processes(options)
    if budget_dollars is not None and not profile.writer().priced:
        raise ConfigError("--budget needs price_in and price_out in [caption]; without them nothing counts")
    local = is_local(options)
    started = datetime.now(UTC)
    name = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    facts = {
        "run": name,
        "started": started.isoformat(timespec="seconds"),
        "earshot": _version("earshot-captions"),
        "apache_beam": _version("apache-beam"),
        "source": asdict(source),
        **recipe(profile),
    }
    with tempfile.TemporaryDirectory(prefix="earshot-") as ticks, _claimed(output, name) as version:
        facts["version"] = version
        progress = ticks if local else ""
        job = Run(profile, source, output, version, facts, retry_failed, limits or Limits(), shards, progress, share)
        pipeline = beam.Pipeline(runner=runner, options=options)
        build(pipeline, job)
        clock = time.monotonic()
        steps = [handler.name for handler in profile.handlers()]
        with _stoppable(), _failures_explained(), _shown(ticks, steps, quiet or not local):
            state = pipeline.run().wait_until_finish()
            if state not in (None, "DONE"):
                raise RuntimeError(f"the job ended as {state}")
        seconds = time.monotonic() - clock
        done = versions.manifest(output, version)
    if (same := done.get("same_as")) is not None:
        versions.remove(output, version)
        version = same
    return Result(output, version, versions.manifest(output, version), done["costs"], seconds, same is not None)


def foresee(
    profile: Profile,
    source: ClipSource,
    output: str,
    flags: Sequence[str] = (),
    retry_failed: bool = False,
    own_options: Sequence[str] = (),
) -> Plan:
    """Says what `run` would have to do with the same arguments, opening no media and loading no model.

    It happens on this machine, whatever runner `flags` name. Raises what `run` raises before it starts.
    """
    beam_options(flags, own_options)
    job = Run(profile, source, output, 0, {}, retry_failed)
    with _failures_explained():
        return plan(job, FnApiRunner(), PipelineOptions())


@contextmanager
def _claimed(output: str, run: str) -> Iterator[int]:
    """Takes a version's number for a run, and gives it back when the run fails before it has published."""
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
            if not versions.published(output, version):
                versions.remove(output, version)
        raise


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
def _stoppable() -> Iterator[None]:
    """Sees to it that Ctrl-C stops the job, even where a library that is just being imported swallows the first one.

    It is repeated each second until the job has ended. Elsewhere than in the main thread nothing has to be done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked, ended, main = threading.Event(), threading.Event(), threading.main_thread()

    def stop(*_: object) -> None:
        asked.set()
        raise KeyboardInterrupt

    def repeat() -> None:
        asked.wait()
        while not ended.wait(1.0) and main.ident is not None:
            signal.pthread_kill(main.ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, stop)
    threading.Thread(target=repeat, name="stop", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        asked.set()
        signal.signal(signal.SIGINT, before)


@contextmanager
def _shown(ticks: str, steps: list[str], quiet: bool) -> Iterator[None]:
    """Shows progress while the job runs in this thread."""
    if quiet:
        yield
        return
    stop = threading.Event()
    with progress_bars(steps) as update:

        def watch() -> None:
            while not stop.wait(0.25):
                update(read_ticks(ticks))

        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            update(read_ticks(ticks))


@contextmanager
def _failures_explained() -> Iterator[None]:
    """Turns what Beam makes of a worker's exception into one line: the exception's own message.

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
        if "KeyboardInterrupt" in text:
            raise KeyboardInterrupt from None
        raise RunError(f"{text}; nothing was published") from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
