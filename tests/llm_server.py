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
- `accepts` are the forms of `response_format` that the server takes; another is answered 400.

The faults are the keys of `FAULTS`. What it saw: `requests`, `answered` (completions that were paid for), both also by
clip in `asked_of` and `answered_of`, whose keys are the first user message (`llm.shown_cues(brief, headings)`); `peak`,
the most requests at once; `bodies` and `keys`, what came; for batches, `uploads` and `batches`.

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
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time
from typing import Any

FORMS = ("json_schema", "json_object", "")
Reply = tuple[int, dict[str, str], bytes]
Mischief = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class LlmServer:
    """What a server does, and what it was asked; see the top of this file."""

    faults: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    latency_s: float = 0.0
    script: list[str] = field(default_factory=list)
    faulty: int = 1000
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
            return STATUSES[fault](self, key)
        self.answered += 1
        self.answered_of[clip] += 1
        return 200, {}, json.dumps(completion(body, fault)).encode()

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


def clip_of(body: Mapping[str, Any]) -> str:
    """Whose request it is: the first user message, which shows the clip's cues."""
    return next(m["content"] for m in body["messages"] if m["role"] == "user")


def answer_to(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a well-behaved model answers: a caption of what the cues of the sound say first."""
    cues = [json.loads(line) for line in clip_of(body).splitlines() if line.startswith("{")]
    heard = [cue for cue in cues if "audio" in cue["cue"]] or cues
    sounds = list(
        dict.fromkeys((cue["says"][0]["text"].lower().strip(". "), cue["cue"]) for cue in heard if cue["says"])
    )
    if not sounds:
        return {"caption": "", "events": [], "abstained": "The cues do not tell what can be heard."}
    events = [{"sound": sound, "cues": [cue]} for sound, cue in sounds[:2]]
    said = " and ".join(dict.fromkeys(sound for sound, _ in sounds[:2]))
    return {"caption": f"The sound of {said} can be heard.", "events": events, "abstained": ""}


def completion(body: Mapping[str, Any], fault: str = "") -> dict[str, Any]:
    """A chat completion that answers `body`, with what `fault` does to its content."""
    content: str | None = json.dumps(answer_to(body))
    message: dict[str, Any] = {"role": "assistant"}
    finish = "stop"
    match fault:
        case "wrong_schema":
            content = json.dumps({"sentence": "A dog barks.", "score": 3})
        case "bad_caption":
            bad = {"caption": "The image shows a red car.", "events": [], "abstained": ""}
            content = json.dumps(bad)
        case "odd":
            odd = {"caption": "A dog \ud800 barks.", "events": [], "abstained": ""}
            content = json.dumps(odd, ensure_ascii=False)
        case "abstains":
            content = json.dumps({"caption": "", "events": [], "abstained": "Nothing is certain."})
        case "length":
            content, finish = str(content)[:20], "length"
        case "content_filter":
            content, finish = None, "content_filter"
        case "refusal":
            content, message["refusal"] = None, "I cannot\nhelp with that. " + "x" * 5000
    message["content"] = content
    tokens_in, tokens_out = sum(len(m["content"]) for m in body["messages"]) // 4, len(content or "") // 4
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    found = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "usage": usage}
    if fault == "no_usage":
        del found["usage"]
    if fault == "cached":
        found["usage"] = {**usage, "prompt_tokens_details": {"cached_tokens": tokens_in // 2}}
    if fault == "boasts":
        found["usage"] = {"prompt_tokens": 10**400, "completion_tokens": -1}
    return {**found, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def as_json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A reply with a JSON body."""
    return status, headers or {}, json.dumps(content).encode()


def failure(status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> Reply:
    """A reply that says what went wrong, as OpenAI does."""
    return as_json({"error": {"message": message, "type": "error", "param": None, "code": code}}, status, headers)


def _json_or_none(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _limit(headers: Callable[[float], dict[str, str]]) -> Callable[[LlmServer, str], Reply]:
    return lambda server, _: failure(429, "Rate limit reached", "rate_limit", headers(server.retry_after_s))


def _plain(status: int, message: str = "no", code: str | None = None) -> Callable[[LlmServer, str], Reply]:
    return lambda server, key: failure(status, message.replace("KEY", key), code)


# Faults that are a proper HTTP reply.
STATUSES: dict[str, Callable[[LlmServer, str], Reply]] = {
    "400": _plain(400, "Your input image is not valid"),
    "401": _plain(401, "Incorrect API key provided: KEY. It ends in sk-abc12***********wxyz.", "invalid_api_key"),
    "403": _plain(403, "KEY may not"),
    "404": _plain(404, "The model `any` does not exist", "model_not_found"),
    "408": _plain(408),
    "409": _plain(409),
    "413": _plain(413),
    "422": _plain(422),
    "429": _plain(429, "Rate limit reached"),
    "429_seconds": _limit(lambda s: {"Retry-After": f"{s:.3f}"}),
    "429_ms": _limit(lambda s: {"retry-after-ms": str(int(1000 * s))}),
    "429_date": _limit(lambda s: {"Retry-After": formatdate(time() + s, usegmt=True)}),
    "quota": _plain(429, "You exceeded your current quota, please check your plan", "insufficient_quota"),
    "500": _plain(500, "The server had an error"),
    "503": _plain(503, "Overloaded"),
    "no_choices": lambda *_: as_json({"id": "x", "object": "chat.completion", "choices": []}),
    "null_choices": lambda *_: as_json({"choices": [{"message": None}]}),
    "list": lambda *_: as_json([1, 2]),
    "nested": lambda *_: (200, {}, b"[" * 900_000),
    "garbage": lambda *_: (200, {}, b"\xff\xfe<html>Bad gateway"),
    "html": lambda *_: (502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>"),
}
# Faults of a completion, which is paid for nonetheless.
PAID = (
    "odd",
    "wrong_schema",
    "bad_caption",
    "abstains",
    "length",
    "content_filter",
    "refusal",
    "no_usage",
    "cached",
    "boasts",
)


async def _reset(out: asyncio.StreamWriter) -> None:
    out.transport.abort()


async def _half(out: asyncio.StreamWriter) -> None:
    out.write(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"choices": [{"message": {"content": "{')
    await out.drain()
    out.close()


async def _not_http(out: asyncio.StreamWriter) -> None:
    out.write(b"220 smtp.example.org ready\r\n")
    await out.drain()
    out.close()


async def _endless(out: asyncio.StreamWriter, status: str = "200 OK") -> None:
    out.write(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b" " * (1 << 16)
    while True:
        out.write(b"10000\r\n" + chunk + b"\r\n")
        await out.drain()


async def _endless_error(out: asyncio.StreamWriter) -> None:
    await _endless(out, "500 Internal Server Error")


async def _slow(out: asyncio.StreamWriter) -> None:
    out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while True:
        out.write(b" ")
        await out.drain()
        await asyncio.sleep(0.05)


async def _hang(out: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


ON_THE_WIRE: dict[str, Mischief] = {
    "reset": _reset,
    "half": _half,
    "not_http": _not_http,
    "endless": _endless,
    "endless_error": _endless_error,
    "slow": _slow,
    "hang": _hang,
}
FAULTS = (*STATUSES, *PAID, *ON_THE_WIRE)


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
