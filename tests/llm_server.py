"""A server on this machine that speaks OpenAI's protocol: well, badly, slowly, and as a provider on a bad day does.

    with llm_server(faults={"429": 0.1, "reset": 0.05}, seed=1, latency_s=0.2) as server:
        writer = ApiWriter(model="any", base_url=server.url, key_env="")
        ...
        assert server.requests >= server.answered

It answers ``/v1/chat/completions`` with a caption made from the cues in the prompt, and ``/v1/files`` and
``/v1/batches`` as OpenAI does. Which requests go wrong, and how:

- `faults` gives shares: fault → probability. Which request of which clip meets which fault hangs on `seed` alone, not
  on the order of requests. `faulty` is how often a clip may meet one, at most (1000: no limit).
- `script` is a list of faults for the first requests, in order of arrival; ``""`` is a good answer.
- `answer` makes the content of a good answer of the request's body.
- `accepts` are the forms of `response_format` that the server takes; another is answered 400.

What it answers unless told otherwise, and the names of the faults (`FAULTS`), are in `tests.llm_replies`. What it saw:
`requests`, `answered` (completions that were paid for), both also by clip in `asked_of` and `answered_of`, whose keys
are the first user message (`llm.shown_cues(brief, headings)`); `peak`, the most requests at once; `bodies` and `keys`,
what came; for batches, `uploads` and `batches`.

``python -m tests.llm_server --latency 0.2`` runs one in a process of its own and prints its address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any

from tests.llm_replies import (
    FAULTS,
    ON_THE_WIRE,
    STATUSES,
    Answer,
    Mischief,
    Reply,
    answer_to,
    as_json,
    clip_of,
    completion,
    failure,
)

FORMS = ("json_schema", "json_object", "")


@dataclass
class LlmServer:
    """What a server does, and what it was asked; see the top of this file."""

    faults: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    latency_s: float = 0.0
    script: list[str] = field(default_factory=list)
    faulty: int = 1000
    answer: Answer = answer_to
    accepts: Sequence[str] = FORMS
    token_limit: str = ""  # the one name of the limit of tokens that it takes; any where empty
    retry_after_s: float = 0.1
    polls: int = 1  # how often a batch says that it is not done yet
    batch_ends: list[str] = field(default_factory=list)  # of the first batches; "completed" where there is no more
    lost_batches: int = 0  # how many of the first batches are begun without a word to whoever asked
    url: str = ""
    requests: int = 0
    answered: int = 0
    asked_of: Counter[str] = field(default_factory=Counter)
    answered_of: Counter[str] = field(default_factory=Counter)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    peak: int = 0
    uploads: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    at_once: int = 0

    def fault(self, clip: str) -> str:
        """What the next request of a clip meets; empty for a good answer."""
        if self.script:
            return self.script.pop(0)
        if self.asked_of[clip] > self.faulty:
            return ""
        if not self.faults:
            return ""
        drawn = random.Random(f"{self.seed}:{self.asked_of[clip]}:{clip}").random()
        for name, share in self.faults.items():
            if (drawn := drawn - share) < 0:
                return name
        return ""

    def complete(self, body: dict[str, Any], key: str) -> Reply | Mischief:
        """Answers one chat completion, or says what is to be done to the connection instead."""
        clip = clip_of(body)
        self.requests += 1
        self.asked_of[clip] += 1
        self.bodies.append(body)
        self.keys.append(key)
        if refused := self._refused(body):
            return refused
        fault = self.fault(clip)
        if fault and fault not in FAULTS:
            raise ValueError(f"there is no fault {fault!r}; there are {', '.join(FAULTS)}")
        if fault in ON_THE_WIRE:
            return ON_THE_WIRE[fault]
        if fault in STATUSES:
            return STATUSES[fault](self.retry_after_s, key)
        self.answered += 1
        self.answered_of[clip] += 1
        return 200, {}, json.dumps(completion(body, fault, self.answer)).encode()

    def _refused(self, body: dict[str, Any]) -> Reply | None:
        form = body.get("response_format", {}).get("type", "")
        if form not in self.accepts:
            return failure(
                400, f"Invalid parameter: 'response_format' of type '{form}' is not supported with this model."
            )
        limits = [name for name in ("max_tokens", "max_completion_tokens") if name in body]
        if self.token_limit and limits != [self.token_limit]:
            return failure(
                400, f"Unsupported parameter: '{limits[0]}' is not supported. Use '{self.token_limit}' instead."
            )
        return None

    async def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply | Mischief:
        """Answers any request."""
        key = headers.get("authorization", "").removeprefix("Bearer ")
        match method, path.removeprefix("/v1").strip("/").split("/"):
            case "POST", ["chat", "completions"]:
                await asyncio.sleep(self.latency_s)
                return self.complete(json.loads(body), key)
            case "POST", ["files"]:
                return self._upload(body)
            case "GET", ["files", name, "content"] if name in self.uploads:
                return 200, {}, self.uploads[name]
            case "POST", ["batches"]:
                return self._begin_batch(json.loads(body))
            case "GET", ["batches?limit=100"]:
                return as_json({"object": "list", "data": list(self.batches.values()), "has_more": False})
            case "GET", ["batches", name] if name in self.batches:
                return self._poll(self.batches[name], key)
            case "GET", ["models"]:
                return as_json({"object": "list", "data": [{"id": "any", "object": "model"}]})
            case _:
                return failure(404, f"there is no {path}")

    def _upload(self, body: bytes) -> Reply:
        boundary = body.split(b"\r\n", 1)[0]
        for part in body.split(boundary):
            head, _, content = part.partition(b"\r\n\r\n")
            if b'name="file"' in head:
                name = f"file-{len(self.uploads)}"
                self.uploads[name] = content.removesuffix(b"\r\n")
                return as_json({"id": name, "object": "file", "bytes": len(content), "purpose": "batch"})
        return failure(400, "no file")

    def _begin_batch(self, body: dict[str, Any]) -> Reply | Mischief:
        name = f"batch_{len(self.batches)}"
        batch = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"],
            "created_at": int(time()),
            "status": "in_progress",
            "polls": 0,
        }
        self.batches[name] = batch
        if self.lost_batches:
            self.lost_batches -= 1
            return ON_THE_WIRE["reset"]
        return as_json(batch)

    def _poll(self, batch: dict[str, Any], key: str) -> Reply:
        batch["polls"] += 1
        if batch["status"] == "in_progress" and batch["polls"] > self.polls:
            nth = int(batch["id"].split("_")[1])
            end = self.batch_ends[nth] if nth < len(self.batch_ends) else "completed"
            lines = self.uploads[batch["input_file_id"]].splitlines()
            answered = {"completed": len(lines), "expired": len(lines) // 2, "cancelled": len(lines) // 3}.get(end, 0)
            self._run_batch(batch, lines[:answered], lines[answered:], key)
            batch["status"] = end
            if end == "failed":
                batch["errors"] = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "Too many."}]}
        return as_json(batch)

    def _run_batch(self, batch: dict[str, Any], done: list[bytes], undone: list[bytes], key: str) -> None:
        good, bad = [], []
        for line in reversed(done):  # the protocol promises no order
            item = json.loads(line)
            reply = self.complete(item["body"], key)
            status, _, content = failure(500, "no") if callable(reply) else reply
            response = {"status_code": status, "request_id": "r", "body": _json_or_none(content)}
            row = {"id": "x", "custom_id": item["custom_id"], "response": response, "error": None}
            (good if status == 200 else bad).append(row)
        for line in undone:
            error = {"code": "batch_expired", "message": "This request could not be executed in time."}
            bad.append({"id": "x", "custom_id": json.loads(line)["custom_id"], "response": None, "error": error})
        for kind, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[kind] = f"file-{len(self.uploads)}"
                self.uploads[batch[kind]] = "".join(json.dumps(row) + "\n" for row in rows).encode()


def _json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


async def _serve(server: LlmServer, source: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while head := await source.readuntil(b"\r\n\r\n"):
            request, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = request.split(" ")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            body = await _body(source, headers)
            server.at_once += 1
            server.peak = max(server.peak, server.at_once)
            try:
                reply = await server.reply(method, path, headers, body)
            finally:
                server.at_once -= 1
            if callable(reply):
                await reply(out)
                break
            status, more, content = reply
            fields = {"Content-Type": "application/json", "Content-Length": str(len(content)), **more}
            shown = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            out.write(f"HTTP/1.1 {status} X\r\n{shown}\r\n".encode() + content)
            await out.drain()
    out.close()


async def _body(source: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" not in headers.get("transfer-encoding", ""):
        return await source.readexactly(int(headers.get("content-length", 0)))
    parts = []
    while size := int(re.split(rb"[;\r]", await source.readline())[0], 16):
        parts.append(await source.readexactly(size))
        await source.readline()
    await source.readline()
    return b"".join(parts)


async def _listen(server: LlmServer, ready: Callable[[], None], stop: asyncio.Event) -> None:
    connections: set[asyncio.Task] = set()

    async def serve(source: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        try:
            await _serve(server, source, out)
        except asyncio.CancelledError:
            pass
        finally:
            connections.discard(task)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    ready()
    await stop.wait()
    listening.close()
    for task in list(connections):
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


@contextmanager
def llm_server(**fields: Any) -> Iterator[LlmServer]:
    """Runs a server in a thread until the context ends. Takes the fields of `LlmServer`."""
    server, started = LlmServer(**fields), threading.Event()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(_listen(server, started.set, stop)), daemon=True)
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def main() -> None:
    """Runs a server until it is killed."""
    parser = argparse.ArgumentParser(description="A server that speaks OpenAI's protocol.")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds before each answer")
    server = LlmServer(latency_s=parser.parse_args().latency)
    asyncio.run(_listen(server, lambda: print(server.url, flush=True), asyncio.Event()))


if __name__ == "__main__":
    main()
