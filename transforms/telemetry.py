"""What a run says of itself while it works: metrics for each step, and a line in the log for clips that fail.

Beam carries metrics on every engine; ``deploy/README.md`` lists them. A step's namespace is ``earshot.<step>``, and a
counter's name is one of a set that code and profile fix: never a clip's id, a label or an error's text. What Beam
itself counts of a model (``inference_batch_latency_micro_secs`` and others) is in the same namespaces.

Beam's worker hands Cloud Logging a record's text and step, and drops ``extra`` (seen in 2.77). So the text holds the
fields, as ``name="value"`` with JSON's escapes: a person, ``grep`` and a query in Cloud Logging read the same line.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from apache_beam.metrics import Metrics

from transforms.records import Caption, Failure, Finding, Rejection, Spent

FIRST, EVERY_S = 10, 60.0  # lines of a kind that a process writes at once, and how often afterwards
MOST_TEXT = 500  # characters of a field in the log
_log = logging.getLogger("earshot")
_QUERY = re.compile(r"(?<=\w)(://)(?:[^\s/?#\"'<>]*@)?([^\s?#\"'<>]*)\?[^\s\"'<>]*|(?<=\w)(://)[^\s/?#\"'<>]*@")


def namespace(step: str) -> str:
    """The namespace of a step's metrics: ``decode audio 32000 Hz`` → ``earshot.decode_audio_32000_Hz``."""
    return f"earshot.{re.sub(r'[^A-Za-z0-9_]+', '_', step)}"


def count(step: str, name: str, by: float = 1) -> None:
    """Adds to a step's counter; nothing is counted as nothing, so that a counter that is there says something."""
    if by:
        Metrics.counter(namespace(step), name).inc(int(by))


def measure(step: str, name: str, value: float) -> None:
    """Adds a value to a step's distribution: Beam keeps sum, count, least and most."""
    Metrics.distribution(namespace(step), name).update(round(value))


def worked(step: str, clip_id: str, seconds: float, error: str = "", retryable: bool = False) -> None:
    """Counts a clip that a step has worked on, with the time that it took; and its failure, if it failed."""
    count(step, "clips")
    measure(step, "milliseconds", 1000 * seconds)
    if error:
        count(step, "failed_retryable" if retryable else "failed")
        say_failed(step, clip_id, error, retryable)


def found(finding: Finding) -> Finding:
    """Counts what a model has answered, and hands it on."""
    worked(finding.name, finding.clip_id, finding.seconds, finding.error, finding.retryable)
    return finding


def answered(clip_id: str, spent: Spent, error: str = "", retryable: bool = False, step: str = "caption") -> None:
    """Counts an answer of a writer: of one clip there may be several."""
    worked(step, clip_id, spent.seconds, error, retryable)
    count(step, "tokens_in", spent.tokens_in)
    count(step, "tokens_out", spent.tokens_out)
    count(step, "micro_dollars", round(1e6 * spent.dollars))


def ended(outcome: Caption | Rejection | Failure) -> str:
    """Counts how a clip has ended, and returns it: ``captions``, ``rejected/<reason>`` or ``failed/<step>``.

    These counters are the manifest's ``counts`` and ``reasons``.
    """
    match outcome:
        case Rejection():
            kind = f"rejected/{outcome.reason}"
        case Failure():
            kind = f"failed/{outcome.step}"
            if outcome.step == "ingest":  # other steps have said so when it happened
                say_failed("ingest", outcome.clip.clip_id, outcome.error, outcome.retryable)
        case _:
            kind = "captions"
    count("outcome", kind.replace("/", "_"))
    return kind


def say_failed(step: str, clip_id: str, error: str, retryable: bool) -> None:
    """Writes a warning of a clip that failed in a step; of many of one kind the first ones, and then one a minute."""
    left_out = _sparing.left_out((step, retryable))
    if left_out is None:
        return
    fields = {"step": step, "clip_id": clip_id, "retryable": retryable, "error": error}
    more = {"left_out": left_out} if left_out else {}
    _log.warning("clip failed: %s", line({**fields, **more}), extra={"step": step, "clip_id": clip_id})


def line(fields: dict[str, object]) -> str:
    """Fields as ``name=value``, texts in JSON's quotes: one line whatever they hold, and nothing a terminal obeys."""
    return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    text = json.dumps(_unsigned(value[: 4 * MOST_TEXT])[:MOST_TEXT], ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _unsigned(text: str) -> str:
    """Text in which addresses have lost what may be a password or a signature: user names and queries."""
    return _QUERY.sub(lambda match: f"{match[1]}{match[2]}?…" if match[1] else match[3], text)


@dataclass
class Sparing:
    """Lets a process say the first few things of a kind at once, and later ones from time to time.

    Kinds are few. What two million clips have to say would otherwise cost more than it tells.
    """

    first: int = FIRST
    every_s: float = EVERY_S
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._said: dict[Hashable, tuple[int, int, float]] = {}

    def left_out(self, kind: Hashable) -> int | None:
        """``None`` where one more of `kind` is not to be said; else how many were not since one was."""
        now = self.clock()
        with self._lock:
            said, unsaid, at = self._said.get(kind, (0, 0, now))
            if said >= self.first and now - at < self.every_s:
                self._said[kind] = said, unsaid + 1, at
                return None
            self._said[kind] = said + 1, 0, now
            return unsaid


_sparing = Sparing()
