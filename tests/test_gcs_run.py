"""A whole run on Google's storage, of which every twentieth request goes wrong: the same records as on a disk."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.cli import main
from beam_pipeline.config import load_profile
from beam_pipeline.run import Result, run
from demo.world import FAULTS, make_scene, write_scenes
from model_handlers import weights
from tests.gcs import BUCKET, Faults, Storage, faulty_storage, upload
from transforms.ingest import ClipSource
from transforms.publish import OUTCOMES

GOOD = 3
MODELS = Path(__file__).parent.parent / "demo" / "models"


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips.csv and real MP4s: some good ones, and one of every fault."""
    folder = tmp_path_factory.mktemp("gcs-world")
    kinds = [None] * GOOD + list(FAULTS)
    write_scenes([make_scene(4321, index, fault=kind) for index, kind in enumerate(kinds)], folder)
    return folder


def ended(result: Result, place: str) -> dict[str, Any]:
    """Outcomes by clip, as if media and models lay where the demo has them."""
    found = {}
    for name in OUTCOMES:
        for record in result.read(name):
            assert record.clip.clip_id not in found
            text = json.dumps([name, asdict(record)], sort_keys=True).replace(place, "")
            text = re.sub(rf"gs://{BUCKET}/models/(\w+)#sha256=\w+", r"pkg://demo/models/\1", text)
            # A batch's size may change a sum's last digits, and clips come in another order; an embedding is digits.
            text = re.sub(r'"text": "([\w+/=]{30})[\w+/=]{100,}"', r'"text": "\1"', text)
            found[record.clip.clip_id] = json.loads(text, parse_float=lambda number: round(float(number), 3))
    return found


@pytest.fixture(scope="module")
def profiles(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The demo's profile with a list of benchmark clips, for a disk and for the storage."""
    folder = tmp_path_factory.mktemp("profiles")
    text = importlib.resources.files("beam_pipeline").joinpath("profiles", "demo.toml").read_text()
    benchmark = (small_world / "clips.csv").read_text().splitlines()[1].split(",")[0]
    (folder / "benchmark.csv").write_text(f"clip_id\n{benchmark}\n")
    here, there = folder / "here.toml", folder / "there.toml"
    here.write_text(f'{text}\n[splits.benchmarks]\nours = "{folder / "benchmark.csv"}"\n')
    for model in sorted(set(re.findall(r'"pkg://demo/models/(\w+)"', text))):
        weights_hash = weights.checksum(MODELS / model).replace(":", "=")
        text = text.replace(f'"pkg://demo/models/{model}"', f'"gs://{BUCKET}/models/{model}#{weights_hash}"')
    assert "pkg://" not in text
    there.write_text(f'{text}\n[splits.benchmarks]\nours = "gs://{BUCKET}/lists/benchmark.csv"\n')
    return here, there


@pytest.fixture(scope="module")
def storage(
    small_world: Path, profiles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Storage]:
    """A storage with the world's clips, the demo's models and the list; from then on requests go wrong."""
    patch = pytest.MonkeyPatch()
    with faulty_storage() as storage:
        patch.setenv("STORAGE_EMULATOR_HOST", storage.address)
        patch.setenv("GOOGLE_CLOUD_PROJECT", "test")
        patch.setenv("EARSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda options: None)
        for root, place in ((small_world, "world"), (MODELS, "models"), (profiles[0].parent, "lists")):
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    upload(f"gs://{BUCKET}/{place}/{path.relative_to(root)}", path.read_bytes())
        storage.forget()
        storage.faults = Faults(0.05, seed=6)
        yield storage
    patch.undo()


@pytest.fixture(scope="module")
def local(small_world: Path, profiles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The same run on a disk."""
    output = str(tmp_path_factory.mktemp("local"))
    return run(load_profile(str(profiles[0])), ClipSource(str(small_world / "clips.csv")), output, quiet=True)


def earshot(*arguments: str) -> int:
    return main([str(argument) for argument in arguments])


def test_a_run_wholly_on_a_storage_with_faults_gives_the_records_of_a_run_on_a_disk(
    small_world: Path,
    local: Result,
    profiles: tuple[Path, Path],
    storage: Storage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, output = f"gs://{BUCKET}/world", f"gs://{BUCKET}/out"
    profile = load_profile(str(profiles[1]))
    expected = ended(local, str(small_world))
    done = run(profile, ClipSource(f"{place}/clips.csv"), output, quiet=True)
    found = ended(done, place)
    assert found.keys() == expected.keys()
    assert [found[clip] for clip in sorted(found)] == [expected[clip] for clip in sorted(found)]
    assert done.manifest["counts"] == local.manifest["counts"]
    assert done.manifest["benchmarks"] == local.manifest["benchmarks"] == {"ours": 1}
    assert len(storage.met) >= 4  # kinds of faults
    assert sum(storage.met.values()) >= 5

    # The other commands, against the same storage, with another twentieth of requests that go wrong.
    storage.faults = Faults(0.05, seed=7)
    capsys.readouterr()
    command = ("--profile", profiles[1], "--clips", f"{place}/clips.csv", "--output", output)
    assert earshot("plan", *command, "--json") == 0
    assert json.loads(capsys.readouterr().out)["nothing_to_do"]
    folder = run(profile, ClipSource(f"{place}/clips", limit=3), output, quiet=True)  # other clips by their ids
    assert folder.version == 2
    assert earshot("diff", output, "1", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)
    assert earshot("gc", output, "--keep", "1", "--older-than", "0", "--apply") == 0
    monkeypatch.setenv("EARSHOT_CACHE", str(tmp_path))
    capsys.readouterr()
    earshot("models", "check", "--profile", profiles[1])
    tried = capsys.readouterr().err
    assert all(f"{name}: ok" in tried for name in profile.cues)
