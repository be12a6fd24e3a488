"""A job on other machines: handed over, watched, cancelled when it is no longer wanted, its errors explained."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from beam_pipeline.config import ConfigError
from beam_pipeline.options import is_local
from beam_pipeline.show import every
from transforms.ingest import ClipSource

SAID_EVERY_S = 10.0
_CANCEL_S = 60.0
_ENDED = {"FINISHED", "FAILED", "CANCELED"}  # a Flink job's states that it does not leave


class Stopped(KeyboardInterrupt):
    """The user has stopped a job. The message goes on with what became of it."""


@dataclass(frozen=True)
class Flink:
    """A Flink cluster's REST interface.

    Attributes:
        master: its address, as ``http://host:port``.
    """

    master: str

    @classmethod
    def of(cls, options: PipelineOptions) -> Flink | None:
        """The cluster that a run's options name; ``None`` where they name none."""
        flink = options.view_as(FlinkRunnerOptions).flink_master.strip()
        runner = (options.view_as(StandardOptions).runner or "").lower()
        if "flink" not in runner or flink.startswith("["):  # [auto], [local]: one within the job server
            return None
        return cls(flink.rstrip("/") if "://" in flink else f"http://{flink}")

    def ask(self, path: str, method: str = "GET") -> dict[str, Any]:
        """Raises `OSError` where nobody answers, and `ValueError` where it is no Flink that does."""
        request = urllib.request.Request(f"{self.master}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def job(self, name: str) -> dict[str, Any]:
        """What the cluster says of the job of this name; nothing where it does not know it (yet)."""
        found = [job for job in self.ask("jobs/overview")["jobs"] if job["name"] == name]
        return found[0] if found else {}

    def cancel(self, name: str) -> bool:
        """Cancels a job and waits for its end; returns whether it has ended."""
        deadline = time.monotonic() + _CANCEL_S
        with suppress(OSError, ValueError):
            if (job := self.job(name)) and job["state"] not in _ENDED:
                self.ask(f"jobs/{job['jid']}?mode=cancel", "PATCH")
            while time.monotonic() < deadline:
                if not job or self.job(name).get("state") in _ENDED:
                    return True
                time.sleep(0.5)
        return False


def check(options: PipelineOptions) -> None:
    """Raises `ConfigError` where options name a Flink cluster that is not there, or one that needs another version."""
    cluster = Flink.of(options)
    if cluster is None:
        return
    try:
        runs = str(cluster.ask("overview")["flink-version"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"--flink_master: no JobManager answers at {cluster.master} ({error}); it takes host:port of the "
            "JobManager's REST interface, port 8081 unless set otherwise"
        ) from None
    flink, short = options.view_as(FlinkRunnerOptions), runs.rpartition(".")[0]
    if not flink.flink_job_server_jar and flink.flink_version != short:
        raise ConfigError(f"--flink_version: {cluster.master} runs Flink {runs}; add --flink_version={short}")


def whole_paths(source: ClipSource, output: str, options: PipelineOptions) -> tuple[ClipSource, str]:
    """The same, on another engine with whole paths: workers have another current folder, and may have the same disk."""
    if is_local(options):
        return source, output

    def whole(path: str) -> str:
        return path if not path or "://" in path else os.path.abspath(path)

    there: dict[str, Any] = {name: whole(getattr(source, name)) for name in ("clips", "media", "class_labels")}
    return replace(source, files=tuple(map(whole, source.files)), **there), whole(output)


def job_name(result: PipelineResult) -> str:
    """What the engine calls a job; empty where Beam does not say."""
    if getattr(result, "has_job", False):  # Dataflow's
        return str(result.job_id())
    # Beam's job servers append an id of their own to the name that the cluster gets to know.
    return str(getattr(result, "_job_id", "")).rpartition("_")[0]


def silent(line: str) -> None:
    """Says nothing, for runs that nobody watches."""


def finished(
    pipeline: beam.Pipeline, options: PipelineOptions, elsewhere: threading.Event, say: Callable[[str], None]
) -> str | None:
    """Runs a job to its end on another engine; returns the state in which it ended.

    `say` is told how far it is. `elsewhere` is cleared where the job is known to have ended without success, so that
    nothing of it will be published.

    Raises `Stopped` after Ctrl-C, when the job has been cancelled, and what Beam raises when the job fails.
    """
    cluster = Flink.of(options)
    where = f"on {cluster.master}" if cluster else f"by {options.view_as(StandardOptions).runner}"
    with _own_signal_handler():
        result = pipeline.run()
    name = job_name(result)
    say(f"the job {name} is run {where}")
    try:
        with _watched(cluster, name, say):
            return result.wait_until_finish()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it comes again each second
        _quiet_reader()
        say("cancelling the job …")
        if not (cluster.cancel(name) if cluster else _cancelled(result)):
            raise Stopped(f", but the job {name} could not be cancelled: it may go on {where}, and publish") from None
        elsewhere.clear()
        raise Stopped(
            "; the job was cancelled, nothing of it was published, and what it computed is kept for the next"
        ) from None
    except RuntimeError:
        if _ended(result):
            elsewhere.clear()
        raise


def _quiet_reader() -> None:
    """Beam's thread that reads a job's messages dies loudly when its job server stops, as it does at exit."""
    shown = threading.excepthook

    def show(told: threading.ExceptHookArgs) -> None:
        if told.thread is None or told.thread.name != "wait_until_finish_read":
            shown(told)

    threading.excepthook = show


def _cancelled(result: PipelineResult) -> bool:
    """Cancels a job by Beam's own means; returns whether it has ended."""
    deadline = time.monotonic() + _CANCEL_S
    try:
        result.cancel()
    except Exception:  # an engine's client may raise anything, and the answer to all of it is the same
        return False
    while not _ended(result) and time.monotonic() < deadline:
        time.sleep(0.5)
    return _ended(result)


def _ended(result: PipelineResult) -> bool:
    try:
        return PipelineState.is_terminal(result.state)
    except Exception:  # as above: whoever would know may be gone
        return False


@contextmanager
def _own_signal_handler() -> Iterator[None]:
    """Beam's job server for Flink takes over SIGINT, and would be gone before it could cancel the job."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _watched(cluster: Flink | None, name: str, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Says every ten seconds how far a job on Flink is; nothing where it is on another engine."""
    if cluster is None:
        return nullcontext()
    begun = time.monotonic()

    def tell() -> None:
        with suppress(OSError, ValueError, KeyError):
            if job := cluster.job(name):
                tasks = job["tasks"]
                say(f"{time.monotonic() - begun:.0f} s: {tasks['finished']} of {tasks['total']} tasks done")

    return every(SAID_EVERY_S, tell)


# What a job's error looks like, and what to do. Engines wrap errors in errors, so they are looked for, not matched.
_ADVICE = (
    (
        r"No such file or directory: '(?:\S*/)?java'",
        "Beam's job server needs Java: install a JRE 17, or name one by --job_server_java_launcher",
    ),
    (
        r"FutureTimeoutError",
        "nobody answers at --job_endpoint; start the job server, or use --runner=FlinkRunner, which starts one",
    ),
    (
        r"ConnectException: Connection refused|Could not connect to rest endpoint",
        "nobody answers at --flink_master; it takes host:port of the JobManager's REST interface (8081, if not set)",
    ),
    (
        r"Cannot run program \"docker\"",
        "the TaskManagers have no Docker; start a worker pool beside each and say --environment_type=EXTERNAL "
        "--environment_config=localhost:50000 (deploy/flink/README.md)",
    ),
    (
        r"NoResourceAvailableException|Could not acquire the minimum required resources",
        "the cluster has too few free task slots; start more TaskManagers, or give a smaller --parallelism",
    ),
    (
        r"Insufficient number of network buffers",
        "set taskmanager.network.sort-shuffle.min-buffers to 16, or taskmanager.memory.network.max higher, in the "
        "cluster's configuration",
    ),
    (
        r"UNAVAILABLE: io exception",
        "a TaskManager cannot reach its Python workers; start a worker pool where --environment_config says",
    ),
    (
        r"ModuleNotFoundError: No module named '(?:beam_pipeline|transforms|model_handlers|demo)'",
        "the Python workers have no Earshot; install the same version there",
    ),
    (
        r"Unable to (?:fetch|download).*jar|HTTP Error 404.*",
        "Beam's job server could not be downloaded; name a copy by --flink_job_server_jar",
    ),
)


def advice(error: str) -> str:
    """What a user can do about an error of an engine, in one sentence; empty where nothing is known."""
    return next((what for pattern, what in _ADVICE if re.search(pattern, error)), "")


def plain_error(error: str) -> str:
    """The message of a Java stack trace, without what wraps it: the innermost cause's first line."""
    text = re.sub(r"^Pipeline \S+ failed in state \w+: ", "", error.strip())
    causes = re.findall(r"Caused by: (.+)", text)
    line = causes[-1] if causes else text.splitlines()[0] if text else ""
    return re.sub(r"^(?:[a-z]\w*\.)+(?=[A-Z]\w*(?:Exception|Error)\b)", "", line).strip()
