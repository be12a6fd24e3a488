"""Files by URL: resumed, checked, there once, or else a message that says what to do. The servers are real."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_handlers import downloads, weights
from model_handlers.downloads import Source, download
from model_handlers.weights import ModelError, identity, local_path
from tests.model_servers import Behaviour, self_signed, serving

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BRING = "import sys; from model_handlers.weights import local_path; print(local_path(sys.argv[1]))"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "_BACKOFF_S", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def server() -> Iterator[Behaviour]:
    with serving(Behaviour(files={"/weights.pth": CONTENT})) as behaviour:
        yield behaviour


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "locks"]


def test_a_file_by_url_is_downloaded_once_and_is_what_its_hash_says(server: Behaviour) -> None:
    url = f"{server.url}/weights.pth#sha256={SHA256}"
    path = local_path(url)
    assert path.read_bytes() == CONTENT
    assert path.name == "weights.pth"
    assert local_path(url) == path
    assert len(server.asked) == 1


def test_the_hash_is_the_identity_wherever_the_file_lies(server: Behaviour, tmp_path: Path) -> None:
    url = f"{server.url}/weights.pth#sha256={SHA256}"
    copy = tmp_path / "copy.pth"
    copy.write_bytes(CONTENT)
    assert identity(url) == identity(f"https://elsewhere.example/w.bin#sha256={SHA256.upper()}") == identity(str(copy))
    assert identity(url) != identity(url.replace(SHA256, "0" * 64))
    assert server.asked == []  # nothing has to be downloaded to know it
    path = local_path(url)
    assert local_path(f"https://elsewhere.example/w.bin#sha256={SHA256}") == path


def test_md5_serves_as_well_and_a_name_is_unquoted(server: Behaviour) -> None:
    server.files["/a/Cnn14_mAP=0.431.pth"] = CONTENT
    md5 = hashlib.md5(CONTENT).hexdigest()
    url = f"{server.url}/a/Cnn14_mAP%3D0.431.pth?download=1#md5={md5}"
    assert identity(url) == f"md5:{md5}"
    assert local_path(url).name == "Cnn14_mAP=0.431.pth"


def test_the_wrong_file_is_removed_and_both_hashes_are_named(server: Behaviour, cache: Path) -> None:
    server.files["/weights.pth"] = b"an error page"
    found = hashlib.sha256(b"an error page").hexdigest()
    with pytest.raises(ModelError, match=f"(?s)weights.pth: its sha256 is {found}, but {SHA256}"):
        local_path(f"{server.url}/weights.pth#sha256={SHA256}")
    assert files_in(cache) == []


def test_a_connection_that_breaks_is_taken_up_where_it_broke(server: Behaviour) -> None:
    server.cuts["/weights.pth"] = [200_000, 100_000, 50_000, 60_000, 40_000, 20_000]  # more than there are attempts
    assert local_path(f"{server.url}/weights.pth#sha256={SHA256}").read_bytes() == CONTENT
    asked = server.gets("/weights.pth")
    assert asked[0] is None
    assert asked[1] == "bytes=200000-"
    assert asked[2] == "bytes=300000-"
    assert len(asked) == 7


def test_a_server_that_sends_no_parts_is_asked_for_the_whole(server: Behaviour) -> None:
    server.ranges = False
    server.cuts["/weights.pth"] = [200_000]
    assert local_path(f"{server.url}/weights.pth#sha256={SHA256}").read_bytes() == CONTENT


def test_a_server_that_always_breaks_at_the_same_place_is_given_up(server: Behaviour) -> None:
    server.ranges = False
    server.cuts["/weights.pth"] = [200_000] * 50
    with pytest.raises(ModelError, match=r"4 attempts failed .*(broke|connection)"):
        local_path(f"{server.url}/weights.pth#sha256={SHA256}")
    assert len(server.asked) <= 6


def test_a_busy_server_is_asked_again_and_one_that_has_it_not_is_not(server: Behaviour) -> None:
    server.answers["/weights.pth"] = [503, 429]
    assert local_path(f"{server.url}/weights.pth#sha256={SHA256}").read_bytes() == CONTENT
    asked = len(server.asked)
    with pytest.raises(ModelError, match="the server answers 404"):
        local_path(f"{server.url}/misspelt.pth#sha256={'0' * 64}")
    assert len(server.asked) == asked + 1


def test_a_server_that_is_gone_is_named_with_the_cache_and_what_to_do(cache: Path) -> None:
    with serving(Behaviour()) as behaviour:
        url = f"{behaviour.url}/weights.pth"
    with pytest.raises(ModelError) as caught:
        local_path(f"{url}#sha256={SHA256}")
    message = str(caught.value)
    assert "\n" not in message
    for part in (url, str(cache), "earshot models fetch", "--models"):
        assert part in message


def test_a_part_of_another_file_is_thrown_away(server: Behaviour, tmp_path: Path) -> None:
    target = tmp_path / "weights.pth"
    (tmp_path / "weights.pth.part").write_bytes(b"x" * 1000)
    source = Source("weights.pth", f"{server.url}/weights.pth", f"sha256:{SHA256}")
    assert download(source, target) == SHA256
    assert server.gets("/weights.pth") == ["bytes=1000-", None]
    (tmp_path / "weights.pth.part").write_bytes(b"x" * (len(CONTENT) + 1))  # longer than the file
    assert download(source, target) == SHA256
    assert not (tmp_path / "weights.pth.part").exists()


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("https://host.example/w.pth", r"needs the hash .*w\.pth#sha256=<64 digits>.*earshot models fetch"),
        ("https://host.example/w.pth#sha256=abc", "#sha256=abc is no hash"),
        ("https://host.example/w.pth#v2", "is no hash"),
        ("file:///etc/passwd#sha256=" + "0" * 64, "give the path itself"),
        ("owner/name@abc@def", "not the form of a hub id"),
        ("owner/../name@abc", "not the form of a hub id"),
    ],
)
def test_a_reference_that_pins_nothing_is_refused(reference: str, message: str) -> None:
    for function in (local_path, identity):
        with pytest.raises(ModelError, match=message):
            function(reference)


def test_a_hub_id_may_carry_its_revision() -> None:
    assert identity("owner/name@abc123") == identity("owner/name", "abc123") == "owner/name@abc123"
    with pytest.raises(ModelError, match="a revision of its own"):
        identity("owner/name@abc123", "def")


def test_redirects_are_followed_but_not_to_a_file_and_without_the_token(server: Behaviour, tmp_path: Path) -> None:
    with serving(Behaviour()) as first:
        first.redirects["/w.pth"] = f"{server.url.replace('127.0.0.1', 'localhost')}/weights.pth"
        first.redirects["/here.pth"] = "/w.pth"
        first.redirects["/passwd"] = "file:///etc/passwd"
        first.redirects["/round"] = "/round"
        source = Source("w", f"{first.url}/here.pth", f"sha256:{SHA256}", headers={"Authorization": "Bearer secret"})
        assert download(source, tmp_path / "w") == SHA256
        assert first.tokens == ["Bearer secret"] * 2
        assert server.tokens == [None]
        for path, message in (("/passwd", "not followed"), ("/round", "redirects")):
            with pytest.raises(ModelError, match=message):
                download(Source("w", f"{first.url}{path}"), tmp_path / "other")


def test_a_download_that_was_killed_is_taken_up_by_the_next(server: Behaviour, cache: Path) -> None:
    server.pause_s = 0.05  # 1.6 s for the file
    url = f"{server.url}/weights.pth#sha256={SHA256}"
    process = subprocess.Popen([sys.executable, "-c", BRING, url])
    deadline = time.monotonic() + 60
    while not any(path.suffix == ".part" and path.stat().st_size > 65_536 for path in files_in(cache)):
        assert time.monotonic() < deadline, "nothing was written"
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (part,) = files_in(cache)
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    server.pause_s = 0
    assert local_path(url).read_bytes() == CONTENT
    assert server.gets("/weights.pth") == [None, f"bytes={have}-"]


def test_processes_that_want_the_same_file_at_once_download_it_once(server: Behaviour) -> None:
    server.pause_s = 0.05
    url = f"{server.url}/weights.pth#sha256={SHA256}"
    command = [sys.executable, "-c", BRING, url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(3)]
    paths = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert paths == {str(weights.local_path(url))}
    assert server.gets("/weights.pth") == [None]


def test_https_does_not_lead_back_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serving(Behaviour(files={"/w": CONTENT})) as plain, serving(Behaviour(), certificate) as safe:
        safe.files["/here"] = CONTENT
        safe.redirects.update({"/down": f"{plain.url}/w", "/same": f"{safe.url}/here"})
        plain.redirects["/up"] = f"{safe.url}/here"
        with pytest.raises(ModelError, match=r"redirects to http://.*not followed"):
            download(Source("w", f"{safe.url}/down", f"sha256:{SHA256}"), tmp_path / "w")
        assert plain.asked == []
        for number, url in enumerate((f"{safe.url}/same", f"{plain.url}/up")):
            assert download(Source("w", url, f"sha256:{SHA256}"), tmp_path / str(number)) == SHA256
