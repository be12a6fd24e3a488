"""As much of Google's cloud as a submission to Dataflow meets: tokens, its storage, and the service that takes jobs.

It checks what Earshot sends, not what Dataflow would make of it.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import RunnerResult

from tests.gcs import BUCKET, storage

JOB_ID = "2026-11-21_00_00_00-1"
PROJECT, REGION = "test-project", "us-central1"
MOST = 200_000_000  # bytes of a request that are read
# Whoever waits for a job that failed waits 50 s more for a message of why.
FAILURE = {
    "id": "1",
    "time": "2026-11-21T00:00:00Z",
    "messageText": "Workflow failed.",
    "messageImportance": "JOB_MESSAGE_ERROR",
}


@dataclass
class Service:
    """What was asked of it.

    Attributes:
        address: ``http://localhost:…``; the name, because Beam speaks REST to a ``localhost`` only.
        storage: of the storage's emulator.
        key_file: of a service account that can get a token here.
        jobs: every job that was posted.
        requests: method, path and body of every request.
        state: of the job, for whoever asks; of a failed one there is a message.
    """

    address: str
    storage: str
    key_file: Path
    jobs: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    state: str = "JOB_STATE_DONE"

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sends Google's clients here."""
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", self.storage)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(self.key_file))
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
        monkeypatch.setenv("NO_GCE_CHECK", "true")
        # Beam keeps the credentials of the process.
        monkeypatch.setattr("apache_beam.internal.gcp.auth._Credentials._credentials_init", False)
        # In a thread of its own it would ask Google in which regions the account may be used.
        asking = "google.auth.credentials.CredentialsWithRegionalAccessBoundary._maybe_start_regional_access_boundary"
        monkeypatch.setattr(f"{asking}_refresh", lambda *_: None)

    def flags(self) -> list[str]:
        """Beam's options for a job here."""
        return [
            "--runner=DataflowRunner",
            f"--project={PROJECT}",
            f"--region={REGION}",
            f"--temp_location=gs://{BUCKET}/tmp",
            f"--dataflow_endpoint={self.address}",
        ]

    def staged(self) -> dict[str, bytes]:
        """Every object in the bucket, by name."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage as client

        bucket = client.Client(project=PROJECT, credentials=AnonymousCredentials()).bucket(BUCKET)
        return {blob.name: blob.download_as_bytes() for blob in bucket.list_blobs()}

    def pipeline(self, job: dict[str, Any]) -> beam_runner_api_pb2.Pipeline:
        """The pipeline that a job names, as it was staged."""
        url = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        return beam_runner_api_pb2.Pipeline.FromString(self.staged()[url.removeprefix(f"gs://{BUCKET}/")])


def run_here(pipeline: beam_runner_api_pb2.Pipeline) -> RunnerResult:
    """Runs a staged pipeline on this machine: its steps as they were sent, cut into stages by their hints."""
    for environment in pipeline.components.environments.values():
        environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
    result = FnApiRunner().run_via_runner_api(pipeline, PipelineOptions())
    assert result.wait_until_finish() == "DONE"
    return result


@contextmanager
def dataflow(folder: Path) -> Iterator[Service]:
    """A service with an empty bucket; `folder` holds the account's key."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MOST))
            service.requests.append((self.command, self.path, body))
            if self.path.startswith("/token"):
                self.reply({"access_token": "local", "expires_in": 3600, "token_type": "Bearer"})
            elif self.command == "POST" and self.path.split("?")[0].endswith("/jobs"):
                service.jobs.append(json.loads(body))
                self.reply({"id": JOB_ID, "projectId": PROJECT, "location": REGION, "name": service.jobs[-1]["name"]})
            elif "/messages" in self.path:
                self.reply({"jobMessages": [FAILURE] if service.state == "JOB_STATE_FAILED" else []})
            elif JOB_ID in self.path:
                self.reply({"id": JOB_ID, "projectId": PROJECT, "location": REGION, "currentState": service.state})
            else:
                self.reply({"error": {"code": 404, "message": self.path}}, 404)

        do_GET = do_POST = do_PUT = answer

        def reply(self, content: dict[str, Any], status: int = 200) -> None:
            sent = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    address = f"http://localhost:{server.server_port}"
    with storage() as bucket:
        service = Service(address, bucket, _key(folder, f"{address}/token"))
        try:
            yield service
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            socket.setdefaulttimeout(None)  # Beam sets one when it takes credentials


def _key(folder: Path, token_uri: str) -> Path:
    """A service account's key file, made up."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "key.json"
    account = f"tester@{PROJECT}.iam.gserviceaccount.com"
    content = {"type": "service_account", "project_id": PROJECT, "private_key": private.decode()}
    path.write_text(json.dumps({**content, "client_email": account, "token_uri": token_uri}))
    return path
