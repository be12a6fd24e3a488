"""Google's storage on this machine: an emulator, and before it what the emulator lacks, preconditions on generations.

An upload with ``ifGenerationMatch=<g>`` is refused with 412 unless the object's generation is ``g``; 0 means that there
is no such object (https://cloud.google.com/storage/docs/request-preconditions).
"""

from __future__ import annotations

import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

import pytest

BUCKET = "datasets"


@contextmanager
def storage() -> Iterator[str]:
    """The address of a storage with one empty bucket, in memory."""
    server = pytest.importorskip("gcp_storage_emulator.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    emulator = server.create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET)
    emulator.start()
    behind, lock = f"http://127.0.0.1:{port}", threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            wanted = parse_qs(urlsplit(self.path).query).get("ifGenerationMatch")
            with lock:  # what is compared must not change before it is written
                if wanted and self.command in ("POST", "PUT") and _generation(behind, body) != wanted[0]:
                    self.reply(412, {}, b'{"error": {"code": 412, "message": "conditionNotMet"}}')
                    return
                self.reply(*_forward(behind, self, body))

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = answer

        def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    front = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    front.daemon_threads = True
    thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{front.server_port}"
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
