"""Google's storage on this machine: an emulator, and before it what the emulator lacks.

An upload with ``ifGenerationMatch=<g>`` is refused with 412 unless the object's generation is ``g``; 0 means that there
is no such object (https://cloud.google.com/storage/docs/request-preconditions). Whoever asks again after an upload in
parts that is complete hears so (https://cloud.google.com/storage/docs/performing-resumable-uploads#status-check).
`Faults` makes some requests go wrong; which ones follows from a seed. What was asked is noted, so that operations can
be counted and priced.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

from gcp_storage_emulator import server

BUCKET = "datasets"
PASSING = ("503", "429", "reset", "lost", "cut", "short", "slow")
# https://cloud.google.com/storage/pricing#operations-by-class, of the JSON API.
CLASS_A = ("list", "write", "copy", "upload part")
CLASS_B = ("read", "metadata")
_CLIENTS_PART = ("content-length", "transfer-encoding", "connection", "date", "server")


@dataclass(frozen=True)
class Faults:
    """Which requests go wrong, and how.

    Attributes:
        rate: share of requests; whether one is hit follows from the seed, what it asks for, and how often that was
            asked for before, so threads do not matter, and a retry has its own luck.
        seed: of the draw.
        kinds: ``503`` and ``429``; ``reset`` breaks the connection before anything has happened, ``lost`` after it has;
            ``cut`` breaks it amid the body; ``short`` ends the body before its announced length; ``slow`` sends it in
            pieces; ``damaged`` changes a byte; ``403`` is no permission.
        only: a regular expression of what may be hit, ``METHOD path?query``.
        slow_s: how long a slow answer takes.
    """

    rate: float
    seed: int = 0
    kinds: tuple[str, ...] = PASSING
    only: str = ""
    slow_s: float = 0.5

    def hits(self, what: str, times: int) -> str:
        """The kind of fault that a request meets; empty for none."""
        if not re.search(self.only, what):
            return ""
        drawn = hashlib.sha256(f"{self.seed} {times} {what}".encode()).digest()
        if int.from_bytes(drawn[:8], "big") >= self.rate * 2**64:
            return ""
        return self.kinds[int.from_bytes(drawn[8:12], "big") % len(self.kinds)]


@dataclass
class Storage:
    """A running storage.

    Attributes:
        address: for ``STORAGE_EMULATOR_HOST``.
        faults: what goes wrong from now on.
        delay_s: how long each answer waits, as a far away storage would.
        asked: what was asked for (`operation`), with the bytes of the answer.
        met: how often each fault was met.
        packed: objects that were uploaded with Content-Encoding gzip, which the emulator forgets.
    """

    address: str
    faults: Faults = field(default_factory=lambda: Faults(0))
    delay_s: float = 0.0
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    times: Counter[str] = field(default_factory=Counter)
    packed: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, what: str) -> str:
        with self.lock:
            self.times[what] += 1
            kind = self.faults.hits(what, self.times[what])
            if kind:
                self.met[kind] += 1
            return kind

    def forget(self) -> None:
        """Starts counting anew."""
        with self.lock:
            self.asked, self.met, self.times = [], Counter(), Counter()

    def operations(self, of: str = "") -> Counter[str]:
        """How often each operation was asked for, of names that match the regular expression `of`."""
        with self.lock:
            return Counter(operation for operation, name, _ in self.asked if re.search(of, name))

    def bytes_read(self, of: str = "") -> int:
        with self.lock:
            return sum(size for operation, name, size in self.asked if operation == "read" and re.search(of, name))


def operation(method: str, path: str) -> tuple[str, str]:
    """What a request is, as Google counts it, and the object that it is about."""
    url = urlsplit(path)
    query = parse_qs(url.query)
    _, _, name = url.path.partition("/o/")
    if url.path.startswith("/upload"):
        return ("upload part" if "upload_id" in query else "write"), unquote(query.get("name", [""])[0])
    if method == "GET":
        if not name:
            return ("list" if url.path.endswith("/o") else "bucket"), query.get("prefix", [""])[0]
        return ("read" if query.get("alt") == ["media"] or url.path.startswith("/download") else "metadata"), unquote(
            name
        )
    return {"DELETE": "delete", "POST": "batch" if "/batch" in url.path else "copy"}.get(method, method), unquote(name)


@contextmanager
def storage() -> Iterator[str]:
    """The address of a storage with one empty bucket, in memory."""
    with faulty_storage() as running:
        yield running.address


@contextmanager
def faulty_storage(faults: Faults | None = None) -> Iterator[Storage]:
    """A storage with one empty bucket, in memory, of which some requests go wrong."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    emulator = server.create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    emulator.start()
    behind, lock = f"http://127.0.0.1:{port}", threading.Lock()
    finished: dict[str, tuple[int, dict[str, str], bytes]] = {}  # uploads in parts, and the answer to their last one
    state = Storage("")
    state.faults = faults or state.faults

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(state.delay_s)
            what, name = operation(self.command, self.path)
            kind = state.fault(f"{self.command} {self.path} {self.headers.get('Range', '')}")
            if kind in ("503", "429", "403"):
                self.reply(int(kind), {}, json.dumps({"error": {"code": int(kind), "message": "injected"}}).encode())
                return
            if kind == "reset":
                self.break_off()
                return
            query = parse_qs(urlsplit(self.path).query)
            wanted, (upload, *_) = query.get("ifGenerationMatch"), query.get("upload_id", [""])
            with lock:  # what is compared must not change before it is written
                if wanted and self.command in ("POST", "PUT") and _generation(behind, body) != wanted[0]:
                    status, headers, content = 412, {}, b'{"error": {"code": 412, "message": "conditionNotMet"}}'
                elif upload in finished:
                    status, headers, content = finished[upload]
                else:
                    status, headers, content = _forward(behind, self, body)
                    if upload and status == 200:
                        finished[upload] = status, headers, content
            if name in state.packed:
                headers["Content-Encoding"] = "gzip"
            # Where to go on is told in headers (uploads) and in what is said of an object (its media link).
            headers = {key: value.replace(behind, state.address) for key, value in headers.items()}
            if what != "read":
                content = content.replace(behind.encode(), state.address.encode())
            with state.lock:
                state.asked.append((what, name, len(content)))
            if kind == "lost":
                self.break_off()
                return
            self.reply(status, headers, content, kind)

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = answer

        def reply(self, status: int, headers: dict[str, str], body: bytes, kind: str = "") -> None:
            self.send_response(status)
            for header, value in headers.items():
                if header.lower() not in _CLIENTS_PART:
                    self.send_header(header, value)
            self.send_header("Content-Length", str(len(body) + 1000 * (kind == "short")))
            self.end_headers()
            if self.command == "HEAD":
                return
            if kind == "damaged" and body:
                body = bytes([body[0] ^ 1]) + body[1:]
            if kind == "cut":
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                time.sleep(0.02)  # or else what was sent is thrown away with the connection
                self.break_off()
            elif kind == "slow":
                for part in range(4):
                    self.wfile.write(body[len(body) * part // 4 : len(body) * (part + 1) // 4])
                    self.wfile.flush()
                    time.sleep(state.faults.slow_s / 4)
            else:
                self.wfile.write(body)
            if kind == "short":
                self.close_connection = True

        def break_off(self) -> None:
            """Resets the connection: closing it with nothing left to send makes the system say so."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        def finish(self) -> None:
            with suppress(OSError, ValueError):  # the connection was broken off
                super().finish()

        def log_message(self, *args: object) -> None:
            pass

    class Front(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *args: object) -> None:
            pass  # a client that has gone away

    front = Front(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{front.server_port}"
    thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        front.shutdown()
        front.server_close()
        thread.join()
        emulator.stop()


def _generation(behind: str, body: bytes) -> str:
    """Of the object that a multipart upload names."""
    name = re.search(rb'"name": ?"([^"]+)"', body)
    assert name, body[:200]
    try:
        with urllib.request.urlopen(f"{behind}/storage/v1/b/{BUCKET}/o/{quote(name[1].decode(), safe='')}") as answer:
            return str(json.loads(answer.read())["generation"])
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return "0"
        raise


def _forward(behind: str, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
    left_out = ("host", "accept-encoding")
    headers = {name: value for name, value in request.headers.items() if name.lower() not in left_out}
    forwarded = urllib.request.Request(behind + request.path, body or None, headers, method=request.command)
    try:
        with urllib.request.urlopen(forwarded) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def upload(url: str, content: bytes) -> None:
    """Writes an object by Beam's file system."""
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.create(url, compression_type="uncompressed") as file:
        file.write(content)
