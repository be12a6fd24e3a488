"""Models are found where their row says, or the message says what to do."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from model_handlers import weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache, offline."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cache


@pytest.fixture
def hub_that_knows_nothing(tmp_path, monkeypatch):
    """A server on this machine that answers as the hub does for a repository that does not exist."""

    class NotFound(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def test_local_folder_and_file_are_taken_as_they_are(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"w")
    assert weights.local_path(str(tmp_path)) == tmp_path
    assert weights.local_path(str(file)) == file


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert weights.local_path("~/model") == tmp_path / "model"


def test_package_path_is_found_inside_the_package():
    path = weights.local_path("pkg://model_handlers/weights.py")
    assert path == Path(weights.__file__)


@pytest.mark.parametrize("model", ["/no/such/model", "./no-such-model", "pkg://model_handlers/no-such-model"])
def test_path_that_is_not_there_is_named_in_the_message(model):
    with pytest.raises(weights.ModelError, match=r"nothing at .*no.such.model.*give a folder"):
        weights.local_path(model)


def test_hub_id_without_revision_is_refused():
    with pytest.raises(weights.ModelError, match="needs a `revision`"):
        weights.local_path("some-org/some-model")


def test_unreachable_hub_says_how_to_bring_the_files(hub_cache):
    with pytest.raises(weights.ModelError) as caught:
        weights.local_path("some-org/some-model", COMMIT)
    message = str(caught.value)
    assert "some-org/some-model" in message
    assert f"hf download some-org/some-model --revision {COMMIT}" in message


def test_downloaded_snapshot_is_used_without_a_network(hub_cache):
    snapshot = hub_cache / "models--some-org--some-model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert weights.local_path("some-org/some-model", COMMIT, ("*.json",)) == snapshot


def test_repository_that_does_not_exist_points_at_the_spelling(hub_that_knows_nothing):
    with pytest.raises(weights.ModelError, match=r"no such repository.*spelling"):
        weights.local_path("some-org/misspelt", COMMIT)


def _folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_checksum_is_of_names_and_contents_alone(tmp_path):
    first = _folder(tmp_path / "a", {"config.json": b"{}", "sub/weights": b"12"})
    second = _folder(tmp_path / "b", {"sub/weights": b"12", "config.json": b"{}"})
    assert weights.checksum(first) == weights.checksum(second)
    assert weights.checksum(first).startswith("sha256:")


@pytest.mark.parametrize(
    "files",
    [{"a": b"12", "b": b"4"}, {"a": b"12", "c": b"3"}, {"a": b"12"}, {"a": b"12", "b": b"3", "c": b""}],
    ids=["other content", "other name", "one less", "one more"],
)
def test_checksum_changes_with_what_is_in_the_folder(tmp_path, files):
    base = _folder(tmp_path / "base", {"a": b"12", "b": b"3"})
    assert weights.checksum(_folder(tmp_path / "other", files)) != weights.checksum(base)


def test_identity_is_the_revision_of_a_hub_id_and_the_checksum_of_files(tmp_path):
    folder = _folder(tmp_path / "model", {"config.json": b"{}"})
    assert weights.identity("some-org/some-model", COMMIT) == f"some-org/some-model@{COMMIT}"
    assert weights.identity(str(folder)) == weights.checksum(folder)
