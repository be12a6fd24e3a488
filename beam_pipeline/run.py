"""One run from start to summary: build the job, run it, show how far it is, and say what came out."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from beam_pipeline.config import Profile
from beam_pipeline.options import beam_options, is_local, runner_for
from beam_pipeline.pipeline import Run, build, recipe
from beam_pipeline.show import progress_bars
from transforms.avro import read_avro
from transforms.ingest import ClipSource
from transforms.media import Limits
from transforms.progress import read_ticks
from transforms.publish import OUTCOMES


class RunError(RuntimeError):
    """A run that did not end well. The message holds the reason, without Beam's stack traces."""


@dataclass(frozen=True)
class Result:
    """What a finished run left behind.

    Attributes:
        folder: the run's own folder.
        manifest: the content of its ``manifest.json``.
        seconds: wall-clock time.
    """

    folder: str
    manifest: dict[str, Any]
    seconds: float

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
    limits: Limits | None = None,
    shards: int = 1,
    quiet: bool = False,
    own_options: Sequence[str] = (),
) -> Result | None:
    """Runs `profile` over `source` and publishes in a new folder below ``<output>/runs``.

    Returns ``None`` when the runner was only asked to submit the job. Raises `ConfigError`, `SourceError` or
    `ModelError` before any work where they can be seen by then, and `RunError` when the job fails.
    """
    options = beam_options(flags, own_options)
    runner = runner_for(options)
    started = datetime.now(UTC)
    folder = FileSystems.join(output, "runs", f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}")
    facts = {
        "run": folder.rstrip("/").rsplit("/", 1)[-1],
        "started": started.isoformat(timespec="seconds"),
        "earshot": _version("earshot-captions"),
        "apache_beam": _version("apache-beam"),
        "source": source.clips,
        **recipe(profile),
    }
    if is_local(options) and "://" not in folder:
        FileSystems.mkdirs(folder)
    with tempfile.TemporaryDirectory(prefix="earshot-") as ticks:
        local = is_local(options)
        job = Run(profile, source, folder, facts, limits or Limits(), shards, ticks if local else "")
        clock = time.monotonic()
        pipeline = beam.Pipeline(runner=runner, options=options)
        build(pipeline, job)
        steps = [handler.name for handler in profile.handlers()]
        with _failures_explained(), _shown(ticks, steps, quiet or not local):
            result = pipeline.run()
            if not local and not hasattr(result, "wait_until_finish"):
                return None
            state = result.wait_until_finish()
        seconds = time.monotonic() - clock
    if state not in (None, "DONE"):
        raise RunError(f"the job ended as {state}; nothing was published in {folder}")
    with FileSystems.open(FileSystems.join(folder, "manifest.json")) as file:
        return Result(folder, json.loads(file.read()), seconds)


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
    """Turns what Beam makes of a worker's exception (its stack trace as text) into that exception's own message."""
    try:
        yield
    except RuntimeError as error:
        logging.getLogger(__name__).info("the job failed", exc_info=True)
        lines = [line for line in str(error).splitlines() if line.strip()]
        raised = [line for line in lines if line[0] not in " \t" and ": " in line and not line.startswith("Traceback")]
        raise RunError((raised or lines or ["the job failed"])[-1]) from error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
