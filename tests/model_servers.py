"""Servers on this machine that hand out models' files: well, badly, slowly, and as the hub does."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Behaviour:
    """What a server has, how it gives it away, and what it was asked for.

    Attributes:
        files: path → content.
        models: hub id → file name → content; served in the hub's protocol, at `COMMIT`, where ``main`` is.
        redirects: path → where to.
        cuts: path → after how many bytes to hang up, one for each request; when they are used up, it no longer does.
        answers: path → status codes to give first.
        ranges: whether it knows how to send a part.
        pause_s: before each 16 KiB.
        asked: method, path, and the `Range` header of every request.
        tokens: the `Authorization` header of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    pause_s: float = 0.0
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""

    def gets(self, path: str) -> list[str | None]:
        """The `Range` of each GET of a file."""
        return [part for method, asked, part in self.asked if method == "GET" and asked == path]

    def listing(self, model: str) -> list[dict]:
        """A repository's files, as the hub lists them: large ones by SHA-256, small ones by their id in git."""
        files = []
        for name, content in self.models[model].items():
            oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            file = {"type": "file", "path": name, "size": len(content), "oid": oid}
            if len(content) > 10_000:
                file["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            files.append(file)
        return files


def self_signed(folder: Path) -> Path:
    """Writes a certificate for 127.0.0.1 and its key into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(address, False).add_extension(x509.BasicConstraints(True, None), True)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem) + private)
    return path


@contextmanager
def serving(behaviour: Behaviour, certificate: Path | None = None) -> Iterator[Behaviour]:
    """Runs a server until the context ends, with TLS where it has a certificate; its address is in `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, behaviour)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    behaviour.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, behaviour: Behaviour) -> None:
    path = unquote(urlsplit(request.path).path)
    behaviour.asked.append((request.command, path, request.headers.get("Range")))
    behaviour.tokens.append(request.headers.get("Authorization"))
    if behaviour.answers.get(path):
        return _send(request, behaviour.answers[path].pop(0), b"")
    if path in behaviour.redirects:
        return _send(request, 302, b"", {"Location": behaviour.redirects[path]})
    if named := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/main", path):
        return _send(request, 200, json.dumps({"id": named[1], "sha": COMMIT}).encode())
    if tree := re.fullmatch(rf"/api/models/([^/]+/[^/]+)/tree/(?:{COMMIT}|main)", path):
        if tree[1] in behaviour.models:
            return _send(request, 200, json.dumps(behaviour.listing(tree[1])).encode())
        return _send(request, 404, b"", {"X-Error-Code": "RepoNotFound"})
    headers = {}
    content = behaviour.files.get(path)
    if file := re.fullmatch(rf"/([^/]+/[^/]+)/resolve/(?:{COMMIT}|main)/(.+)", path):
        content = behaviour.models.get(file[1], {}).get(file[2])
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content or b"").hexdigest()}"'}
    if content is None:
        return _send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
    _send_file(request, behaviour, path, content, headers)


def _send_file(
    request: BaseHTTPRequestHandler, behaviour: Behaviour, path: str, content: bytes, headers: dict[str, str]
) -> None:
    part = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "")) if behaviour.ranges else None
    start, status = 0, 200
    if part:
        start, status = int(part[1]), 206
        if start >= len(content):
            return _send(request, 416, b"")
        headers = {**headers, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
    body = content[start:]
    cut = behaviour.cuts[path].pop(0) if request.command == "GET" and behaviour.cuts.get(path) else None
    _send(request, status, body, headers, cut, behaviour.pause_s)


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    cut: int | None = None,
    pause_s: float = 0.0,
) -> None:
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command == "HEAD":
        return
    sent = body if cut is None else body[:cut]
    try:
        for at in range(0, len(sent), 1 << 14):
            request.wfile.write(sent[at : at + (1 << 14)])
            request.wfile.flush()
            time.sleep(pause_s)
    except OSError:  # whoever asked is gone
        request.close_connection = True
    if cut is not None:
        request.close_connection = True
