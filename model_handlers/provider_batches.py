"""Batch mode: files of questions, answered within a day at a lower price, by OpenAI's ``/files`` and ``/batches``.

A batch that was begun is noted before anything else happens, and looked for first by whoever asks the same again: an
interrupted run pays for nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from model_handlers.api_writer import ApiWriter, check_refusals, prompt_tokens
from model_handlers.llm import harmless
from model_handlers.pace import NoAnswer, Then, backoff_s
from model_handlers.provider import Connection, refusal
from model_handlers.weights import ModelError
from model_handlers.writers import Brief, Draft

if TYPE_CHECKING:
    from openai import OpenAI

T = TypeVar("T")

MOST_REQUESTS, MOST_BYTES = 50_000, 190_000_000  # of a file; OpenAI allows 50,000 and 200 MB
_GROWTH, _MOST_GROWN = 1.5, 12  # of the pause between two looks at a batch
_ROUNDS = 2  # a question whose batch came to nothing is asked once more
_OVER = ("completed", "expired", "failed", "cancelled")


class Pending(Protocol):
    """What remembers batches that were begun and not collected yet."""

    def add(self, batch_id: str, custom_ids: Iterable[str]) -> None:
        """Notes a batch and the questions in it; of one that is noted already, those that are left."""

    def open(self) -> dict[str, set[str]]:
        """The questions that are left, by batch."""

    def close(self, batch_id: str) -> None:
        """Forgets a batch."""


class PendingBatches:
    """Remembers batches in a folder, on a disk or an object store: one JSON file for each, which appears when whole."""

    def __init__(self, folder: str):
        self.folder = folder

    def add(self, batch_id: str, custom_ids: Iterable[str]) -> None:
        if "://" not in self.folder:
            FileSystems.exists(self.folder) or FileSystems.mkdirs(self.folder)
        path, content = self._path(batch_id), json.dumps({"batch": batch_id, "questions": sorted(custom_ids)})
        part = path if "://" in self.folder else f"{path}.{uuid.uuid4().hex}.part"  # an upload appears when whole
        with FileSystems.create(part, mime_type="application/json") as file:
            file.write(content.encode())
        if part != path:
            FileSystems.rename([part], [path])

    def open(self) -> dict[str, set[str]]:
        found = {}
        for match in FileSystems.match([FileSystems.join(self.folder, "*.json")])[0].metadata_list:
            try:
                with FileSystems.open(match.path) as file:
                    noted = json.loads(file.read())
                found[noted["batch"]] = set(noted["questions"])
            except (OSError, BeamIOError):  # somebody else has just collected it
                continue
            except (ValueError, LookupError, TypeError):
                said = f"{match.path}, the note of a batch under way, is damaged; delete it to ask, and pay, again"
                raise ModelError(said) from None
        return found

    def close(self, batch_id: str) -> None:
        try:
            FileSystems.delete([self._path(batch_id)])
        except BeamIOError:
            if FileSystems.exists(self._path(batch_id)):
                raise

    def _path(self, batch_id: str) -> str:
        return FileSystems.join(self.folder, f"{hashlib.sha256(batch_id.encode()).hexdigest()[:16]}.json")


def write_in_batches(writer: ApiWriter, briefs: Sequence[Brief], connection: Connection) -> list[Draft]:
    """Asks for all of them by batches, and returns when all have been answered or given up.

    Raises:
        weights.ModelError: what went wrong would go wrong for all clips. What was answered has been kept.
    """
    from openai import OpenAI

    client = OpenAI(
        base_url=writer.base_url,
        api_key=connection.secret.reveal() or "none",
        max_retries=0,
        timeout=writer.timeout_s,
    )
    with client:
        return _Batches(writer, connection, client).all(briefs)


def under_way(writer: ApiWriter, briefs: Sequence[Brief]) -> list[int]:
    """The numbers of the briefs that are asked by a batch which nobody has collected yet."""
    noted = set().union(*writer.pending.open().values()) if writer.pending else set()
    return [number for number, brief in enumerate(briefs) if question_id(brief, writer) in noted] if noted else []


def question_id(brief: Brief, writer: ApiWriter) -> str:
    """32 hex digits of a brief and what is asked about it."""
    asked = [writer.fingerprint(), brief.clip_id, writer.conversation(brief)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]


def parts(lines: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Splits a batch's lines so that each part is within the protocol's limits."""
    part: dict[str, bytes] = {}
    size = 0
    for question, line in lines.items():
        if part and (len(part) == MOST_REQUESTS or size + len(line) > MOST_BYTES):
            yield part
            part, size = {}, 0
        part[question] = line
        size += len(line)
    if part:
        yield part


@dataclass(frozen=True)
class _Batch:
    """A batch as last seen."""

    status: str
    files: tuple[str, ...] = ()  # with answers, with errors
    problem: str = ""


class _Batches:
    """One call of `write_in_batches`."""

    def __init__(self, writer: ApiWriter, connection: Connection, client: OpenAI):
        self.writer, self.connection, self.client = writer, connection, client
        self.provider, self.pending = connection.provider, writer.pending
        self.drafts: dict[str, Draft] = {}
        self.refused: list[tuple[Brief, Draft]] = []
        self.reserved: dict[str, float] = {}
        self.stopped: NoAnswer | None = None
        self.problem = ""  # what the provider said of a batch that failed

    def all(self, briefs: Sequence[Brief]) -> list[Draft]:
        self.briefs = {question_id(brief, self.writer): brief for brief in briefs}
        self.asked = {name: self._question(name) for name in self.briefs}
        self.started = time.monotonic()
        try:
            if self.pending:
                self._collect({name: ids for name, ids in self.pending.open().items() if ids & self.briefs.keys()})
            rounds = 0
            while rounds < _ROUNDS and (left := self._open()):
                known = replace(self.provider.dialect)
                self._collect(self._begin(left))
                rounds += known == self.provider.dialect
        except NoAnswer as error:
            if error.then is Then.RUN:
                raise self.writer.cannot_go_on(error) from None
            for name in self._open():
                self.drafts[name] = Draft(error=f"no answer from a batch: {error}", retryable=True)
        finally:
            for dollars in self.reserved.values():
                self.provider.budget.settle(dollars, 0.0)
        check_refusals(self.writer, self.refused, len(self.briefs), self.provider)
        for brief, draft in self.refused:
            self._keep(brief, draft)
        lost = Draft(error=f"its batch came to nothing, twice{self.problem}", retryable=True)
        return [self.drafts.get(question_id(brief, self.writer), lost) for brief in briefs]

    def _open(self) -> list[str]:
        return [name for name in self.briefs if name not in self.drafts]

    def _begin(self, names: Sequence[str]) -> dict[str, set[str]]:
        """Begins batches of questions, as far as the budget goes, and returns which questions are in which."""
        lines = {}
        for name in names:
            asked = self.asked[name] = self._question(name)
            if name not in self.reserved:
                most = self.writer.dollars(prompt_tokens(asked["messages"]), 0, self.writer.max_tokens)
                if not self.provider.budget.reserve(most, self.writer.budget_dollars):
                    self.drafts[name] = self.writer.over_budget()
                    continue
                self.reserved[name] = most
            line = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": asked}
            lines[name] = json.dumps(line).encode() + b"\n"
        begun = {}
        for part in parts(lines):
            batch_id = self._create(b"".join(part.values()))
            if self.pending:
                self.pending.add(batch_id, part)
            begun[batch_id] = set(part)
        return begun

    def _create(self, content: bytes) -> str:
        """Begins a batch. One whose beginning went unanswered is looked for, and not begun twice."""
        file = self._persist(lambda: self.client.files.create(file=("questions.jsonl", content), purpose="batch"))

        def create() -> str:
            try:
                made = self.client.batches.create(
                    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
                )
            except Exception:
                for batch in self.client.batches.list(limit=100).data:
                    if batch.input_file_id == file.id:
                        return batch.id
                raise
            return made.id

        return self._persist(create)

    def _collect(self, batches: Mapping[str, set[str]]) -> None:
        """Waits for batches, and reads the answers of those of their questions that were asked here."""
        waiting, pause = dict(batches), self.writer.poll_s
        while waiting:
            for batch_id in list(waiting):
                batch = self._look(batch_id)
                if batch.status in _OVER:
                    self._take(batch_id, batch, waiting.pop(batch_id))
            if waiting:
                time.sleep(pause)
                pause = min(pause * _GROWTH, self.writer.poll_s * _MOST_GROWN)

    def _look(self, batch_id: str) -> _Batch:
        try:
            batch = self._persist(lambda: self.client.batches.retrieve(batch_id))
        except NoAnswer as error:
            if error.status == 404:  # the provider has forgotten it
                return _Batch("expired")
            raise
        problems = [str(problem.message) for problem in (batch.errors.data if batch.errors else None) or ()]
        return _Batch(
            batch.status,
            tuple(name for name in (batch.output_file_id, batch.error_file_id) if name),
            self.connection.secret.scrub(harmless("; ".join(problems))),
        )

    def _take(self, batch_id: str, batch: _Batch, questions: set[str]) -> None:
        if batch.problem:
            self.problem = f": {batch.problem}"
            logging.getLogger(__name__).warning("batch %s %s: %s", batch_id, batch.status, batch.problem)
        for file_id in batch.files:
            for line in self._lines(file_id):
                self._read(line)
        if self.pending:
            noted = self.pending.open().get(batch_id, set())  # others may have collected theirs meanwhile
            if rest := (questions & noted) - self.briefs.keys():
                self.pending.add(batch_id, rest)
            else:
                self.pending.close(batch_id)
        if self.stopped:
            raise self.stopped

    def _lines(self, file_id: str) -> list[bytes]:
        try:
            return self._persist(lambda: self.client.files.content(file_id).read()).splitlines()
        except NoAnswer as error:
            if error.status == 404:
                return []
            raise

    def _read(self, line: bytes) -> None:
        """Reads one line of a batch's output: an answer, a refusal, or something that has to be asked again."""
        try:
            row = json.loads(line)
            name, response = row["custom_id"], row.get("response") or {}
            status, body = response.get("status_code", 0), response.get("body")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return  # its question stays open
        if name not in self.briefs or name in self.drafts:
            return
        asked = self.asked[name]
        try:
            if status != 200:
                raise refusal(status, json.dumps(body), {}, self.connection.secret) if status else NoAnswer("not asked")
            draft = self.writer.read(body, asked, self.connection.secret)
        except NoAnswer as error:
            self._refuse(name, asked, error)
            return
        draft = replace(draft, seconds=time.monotonic() - self.started)
        self.provider.pace.answers += 1
        self.provider.budget.settle(self.reserved.pop(name, 0.0), draft.dollars)
        self.drafts[name] = draft
        self._keep(self.briefs[name], draft)

    def _refuse(self, name: str, asked: Mapping[str, Any], error: NoAnswer) -> None:
        if self.writer.adapts(self.provider.dialect, asked, error):
            return
        if error.then is Then.RUN:
            self.stopped = error  # when the rest of the file has been read
        if error.then is Then.CLIP:
            self.drafts[name] = Draft(error=str(error))
            self.refused.append((self.briefs[name], self.drafts[name]))

    def _question(self, name: str) -> dict[str, Any]:
        return self.writer.question(self.briefs[name], self.provider.dialect)

    def _keep(self, brief: Brief, draft: Draft) -> None:
        if self.writer.answered:
            self.writer.answered([(brief, draft)])

    def _persist(self, ask: Callable[[], T]) -> T:
        """Makes one request of the protocol, and makes it again as `pace.POLICY` says, for `patience_s`."""
        import openai

        deadline, attempt = time.monotonic() + self.writer.patience_s, 0
        while True:
            attempt += 1
            try:
                return ask()
            except openai.APIStatusError as error:
                reply = error.response
                failed = refusal(reply.status_code, reply.content, reply.headers, self.connection.secret)
            except (openai.APIError, ValueError) as error:
                failed = NoAnswer(self.connection.secret.scrub(f"{type(error).__name__}: {error}")[:300])
            wait = backoff_s(attempt) if failed.wait_s is None else failed.wait_s
            if failed.then in (Then.CLIP, Then.RUN) or time.monotonic() + wait >= deadline:
                raise failed
            time.sleep(wait)
