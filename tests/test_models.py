"""`earshot models` and `--models`: the demo's models at addresses on this machine, one of which speaks as the hub does.

Commands that ask the hub run in a process of their own, because its address is read once a process.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipeline.cli import main
from beam_pipeline.config import ConfigError, load_profile
from beam_pipeline.models import check_place
from demo.world import make_scene, write_clip
from model_handlers.references import safe_path
from model_handlers.store import Entry, Facts, Store
from model_handlers.weights import ModelError, local_path
from tests.model_servers import COMMIT, Behaviour, serving

MODELS = Path(__file__).parent.parent / "demo" / "models"
CHECKPOINT = MODELS / "audio_tags" / "Cnn14_demo.pth"
LABELS = MODELS / "audio_tags" / "class_labels_indices.csv"
BLIP2 = "org/blip2"
PINS = (
    f"sha256:{hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()}",
    f"md5:{hashlib.md5(LABELS.read_bytes()).hexdigest()}",
)
PROFILE = """
description = "the demo's models by their addresses"
[cues]
loudness = {{ handler = "loudness:Loudness" }}
image_caption = {{ handler = "image_caption:ImageCaption", model = "{hub}", revision = "{commit}" }}
audio_tags = {{ handler = "audio_tags:AudioTags", model = "{tags}", labels = "{labels}" }}
[caption]
handler = "template_writer:TemplateWriter"
"""


Here = Callable[..., tuple[int, str, str]]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_profile(folder: Path, server: str, **other: str) -> Path:
    names = {
        "hub": BLIP2,
        "commit": COMMIT,
        "tags": f"{server}/tags.pth#sha256={sha256(CHECKPOINT.read_bytes())}",
        "labels": f"{server}/labels.csv#md5={hashlib.md5(LABELS.read_bytes()).hexdigest()}",
    }
    path = folder / "mine.toml"
    path.write_text(PROFILE.format(**{**names, **other}))
    return path


@pytest.fixture
def server() -> Iterator[Behaviour]:
    files = {"/tags.pth": CHECKPOINT.read_bytes(), "/labels.csv": LABELS.read_bytes()}
    repository = {file.name: file.read_bytes() for file in (MODELS / "image_caption").iterdir()}
    repository["pytorch_model.bin"] = b"the same weights once more"
    with serving(Behaviour(files=files, models={BLIP2: repository})) as behaviour:
        yield behaviour


@pytest.fixture
def profile(tmp_path: Path, server: Behaviour) -> Path:
    return write_profile(tmp_path, server.url)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, server: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "EARSHOT_CACHE": str(tmp_path / "cache"),
        "HF_HOME": str(tmp_path / "hub"),
        "HF_ENDPOINT": server.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "beam_pipeline.cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def earshot(*arguments: object) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs a command in this process, which spares it the start."""

    def command(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return command


def bytes_sent(server: Behaviour) -> list[str]:
    """The files that were asked for, not counting the hub's listings."""
    return [path for method, path, _ in server.asked if method == "GET" and not path.startswith("/api/")]


def test_what_was_fetched_serves_without_a_network_and_is_the_same_model(
    tmp_path: Path, server: Behaviour, profile: Path, here: Here
) -> None:
    place = tmp_path / "place"
    status, out, err = earshot("models", "fetch", "--profile", profile, "--to", place)
    assert status == 0, err
    assert [line.split("│")[2].strip() for line in out.splitlines() if line.startswith("│")] == ["fetched"] * 3
    assert not [path for path in bytes_sent(server) if path.endswith(".bin")]  # not among the handler's patterns
    index = json.loads((place / "models.json").read_bytes())
    assert f"{BLIP2}@{COMMIT}" in index
    for entry in index.values():
        for name, facts in entry["files"].items():
            content = (place / name).read_bytes()
            assert facts == {"size": len(content), "sha256": sha256(content)}

    server.asked.clear()
    status, out, _ = here("models", "fetch", "--profile", profile, "--to", place)
    assert status == 0
    assert out.count("was there") == 3
    assert server.asked == []

    status, out, err = here("models", "check", "--profile", profile, "--models", place, "--device", "cpu")
    assert (status, "failed" in out) == (0, False), err
    loaded = load_profile(str(profile))
    placed = [handler.fingerprint() for handler in replace(loaded, models=str(place)).handlers()]
    assert placed == [handler.fingerprint() for handler in loaded.handlers()]

    write_clip(make_scene(4321, 0), tmp_path / "clip.mp4")
    (there, said, err), (_, known, _) = (
        here("caption", tmp_path / "clip.mp4", "--profile", name, *more)
        for name, more in ((profile, ("--models", place)), ("demo", ()))
    )
    assert server.asked == []
    assert there == 0, err
    image_caption = next(line for line in known.splitlines() if line.startswith("image_caption"))
    assert re.split(r"\s{2,}", image_caption)[1] in said


def test_a_model_at_a_branch_is_fetched_with_its_commit_and_a_warning(
    tmp_path: Path, server: Behaviour, here: Here
) -> None:
    profile, place = write_profile(tmp_path, server.url, commit="main"), tmp_path / "place"
    status, out, err = earshot("models", "fetch", "--profile", profile, "--to", place)
    assert status == 0, err
    assert f"main is commit {COMMIT} now" in " ".join(out.replace("│", " ").split())
    write_clip(make_scene(4321, 0), tmp_path / "clip.mp4")
    status, out, _ = here("caption", tmp_path / "clip.mp4", "--profile", profile, "--models", place)
    assert status == 0
    assert f"image_caption names {BLIP2} at 'main', which is no commit" in " ".join(out.split())


def test_a_fetch_that_was_killed_is_completed_by_the_next(tmp_path: Path, server: Behaviour, profile: Path) -> None:
    place = tmp_path / "place"
    server.pause_s = 0.02  # two seconds for the largest file
    process = start("models", "fetch", "--profile", profile, "--to", place)
    deadline = time.monotonic() + 120
    large = f"/{BLIP2}/resolve/{COMMIT}/model.safetensors"
    part = place / "hub" / BLIP2 / COMMIT / "model.safetensors.part"
    while not (part.is_file() and part.stat().st_size > 100_000):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    have = part.stat().st_size
    before = set(bytes_sent(server))
    assert not (place / "models.json").exists()

    server.pause_s = 0
    server.asked.clear()
    status, _, err = earshot("models", "fetch", "--profile", profile, "--to", place)
    assert status == 0, err
    assert server.gets(large) == [f"bytes={have}-"]
    assert before & set(bytes_sent(server)) == {large}  # what was finished stays
    assert set(Store(place).index()) == {f"{BLIP2}@{COMMIT}", *PINS}
    assert not any(Store(place).faults(entry, thorough=True) for entry in Store(place).index().values())


def test_every_model_that_cannot_be_had_is_named_at_once(tmp_path: Path, server: Behaviour, here: Here) -> None:
    server.models.clear()
    server.files["/tags.pth"] = b"something else"
    profile = write_profile(tmp_path, server.url)
    status, out, err = earshot("models", "fetch", "--profile", profile, "--to", tmp_path / "place")
    assert status == 2
    assert out.count("failed") == 2
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("earshot: ")]
    assert len(lines) == 2
    assert f"{BLIP2}' at revision {COMMIT}: no such repository on the hub" in lines[0]
    assert sha256(b"something else") in lines[1]

    status, out, err = here("models", "check", "--profile", profile, "--models", tmp_path / "place")
    lines = [line for line in err.splitlines() if line.startswith("earshot: ")]
    assert status == 2
    assert [line.split(": ")[1] for line in lines] == ["image_caption", "audio_tags"]
    assert all("earshot models fetch" in line for line in lines)


def without_hub(profile: Path) -> Path:
    """Drops the row that the hub is needed for."""
    lines = [line for line in profile.read_text().splitlines() if not line.startswith("image_caption")]
    profile.write_text("\n".join([*lines, 'scene = ""']))
    return profile


def test_the_hash_of_a_file_is_found_out_and_pasting_it_downloads_nothing(
    tmp_path: Path, server: Behaviour, here: Here
) -> None:
    profile = without_hub(write_profile(tmp_path, server.url, tags=f"{server.url}/tags.pth"))
    place = tmp_path / "place"
    status, _, err = here("models", "fetch", "--profile", profile, "--to", place)
    pinned = f"{server.url}/tags.pth#sha256={sha256(CHECKPOINT.read_bytes())}"
    assert status == 2
    assert pinned in err
    status, _, err = here("models", "check", "--profile", profile, "--models", place)
    assert status == 2
    assert "needs the hash" in err
    asked = server.gets("/tags.pth")
    profile = without_hub(write_profile(tmp_path, server.url, tags=pinned))
    assert here("models", "fetch", "--profile", profile, "--to", place)[0] == 0
    assert here("models", "check", "--profile", profile, "--models", place)[0] == 0
    assert server.gets("/tags.pth") == asked


def test_the_hub_itself_is_the_default_and_keeps_its_own_cache(tmp_path: Path, server: Behaviour) -> None:
    code = f"from model_handlers.weights import local_path; print(local_path({BLIP2!r}, {COMMIT!r}, ('*.json',)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert Path(out.strip()).is_relative_to(tmp_path / "hub")
    assert (Path(out.strip()) / "config.json").read_bytes() == server.models[BLIP2]["config.json"]


@pytest.mark.parametrize("name", ["../x", "a\\..\\x"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, server: Behaviour, name: str) -> None:
    server.models[BLIP2] = {"config.json": b"{}", name: b"evil"}
    profile = write_profile(tmp_path, server.url)
    profile.write_text(profile.read_text().replace("image_caption:ImageCaption", "audio_tags:AudioTags"))
    server.models[BLIP2][f"{name}.pth"] = b"evil"
    status, _, err = earshot("models", "fetch", "--profile", profile, "--to", tmp_path / "deep" / "place")
    assert status == 2
    assert "no path within" in err
    assert not [path for path in tmp_path.rglob("x*") if path.is_file()]

    index = {f"{BLIP2}@{COMMIT}": {"path": "hub/m", "files": {f"hub/m/{name}": {"size": 4, "sha256": "0" * 64}}}}
    (tmp_path / "models.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="not a list of models"):
        local_path(BLIP2, COMMIT, mirror=str(tmp_path))


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "a//b", "a\\..\\x", "", ".", "a/./b", "a/"])
def test_a_path_is_safe_only_below_its_folder(path: str) -> None:
    assert safe_path("a..b/c.d/..e") == "a..b/c.d/..e"
    with pytest.raises(ModelError, match="no path within"):
        safe_path(path)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a": 1}', b'{"a": {"path": "x", "files": {"x": {"size": "?"}}}}'])
def test_a_list_of_models_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "models.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"--models .*models\.json: not a list of models"):
        check_place(str(tmp_path))


def test_a_place_without_models_is_refused_before_the_run(tmp_path: Path, profile: Path, here: Here) -> None:
    status, _, err = here("run", "--profile", profile, "--clips", "x", "--output", tmp_path, "--models", tmp_path)
    assert status == 2
    assert f"there is no models.json; fill it with `earshot models fetch --to {tmp_path}`" in err


def test_a_row_cannot_say_where_a_run_has_its_models(tmp_path: Path, server: Behaviour) -> None:
    text = write_profile(tmp_path, server.url).read_text().replace('commit}"', 'commit}", mirror = "/x"')
    (tmp_path / "mine.toml").write_text(text.replace('"loudness:Loudness"', '"loudness:Loudness", mirror = "/x"'))
    with pytest.raises(ConfigError, match="no parameter 'mirror'"):
        load_profile(str(tmp_path / "mine.toml"))


def put(place: Path, key: str, name: str, content: bytes, patterns: tuple[str, ...] = ()) -> Path:
    """Writes one file and its entry into a place."""
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    entry = Entry(str(Path(name).parent), {name: Facts(len(content), sha256(content))}, patterns)
    Store(place)._record(key, entry)
    return path


def test_every_model_of_the_demo_passes_the_check(here: Here) -> None:
    status, out, err = here("models", "check", "--profile", "demo")
    assert (status, err.rstrip().splitlines()[-1]) == (0, "caption: ok")
    assert "LocalWriter" in out
    assert "failed" not in out + err


def test_damage_in_a_place_is_noticed(tmp_path: Path) -> None:
    key, name = f"{BLIP2}@{COMMIT}", f"hub/{BLIP2}/{COMMIT}/config.json"
    path = put(tmp_path, key, name, b"12345")
    assert local_path(BLIP2, COMMIT, mirror=str(tmp_path)) == path.parent
    path.write_bytes(b"1234")
    with pytest.raises(ModelError, match="has 4 bytes, not 5"):
        local_path(BLIP2, COMMIT, mirror=str(tmp_path))
    path.write_bytes(b"54321")  # of the right length: only reading it all can tell
    assert local_path(BLIP2, COMMIT, mirror=str(tmp_path)) == path.parent
    entry = Store(tmp_path).index()[key]
    assert "SHA-256" in Store(tmp_path).faults(entry, thorough=True)[0]
    path.unlink()
    with pytest.raises(ModelError, match="is missing"):
        local_path(BLIP2, COMMIT, mirror=str(tmp_path))


def test_a_changed_file_fails_the_check(tmp_path: Path, profile: Path, here: Here) -> None:
    place = tmp_path / "place"
    assert here("models", "fetch", "--profile", without_hub(profile), "--to", place)[0] == 0
    (labels,) = place.rglob("labels.csv")
    labels.write_bytes(labels.read_bytes().swapcase())
    status, _, err = here("models", "check", "--profile", profile, "--models", place)
    assert status == 2
    assert f"audio_tags: the SHA-256 of {labels} is not" in err


def test_files_that_were_not_asked_for_then_are_missed(tmp_path: Path) -> None:
    put(tmp_path, f"{BLIP2}@{COMMIT}", f"hub/{BLIP2}/{COMMIT}/config.json", b"{}", ("*.json", "*.txt"))
    assert local_path(BLIP2, COMMIT, ("*.json",), str(tmp_path))
    for patterns in (("*.json", "*.bin"), ()):
        with pytest.raises(ModelError, match="some of its files were not fetched"):
            local_path(BLIP2, COMMIT, patterns, str(tmp_path))
    with pytest.raises(ModelError, match=r"it was not fetched to .* run `earshot models fetch`"):
        local_path("org/other", COMMIT, mirror=str(tmp_path))


def test_what_lies_on_this_machine_stays_where_it_is(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "audio_tags", tmp_path / "tags")
    for reference in (str(tmp_path / "tags"), "pkg://demo/models/audio_tags"):
        assert local_path(reference, mirror=str(tmp_path / "empty")) == local_path(reference)
