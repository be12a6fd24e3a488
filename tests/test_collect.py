"""`earshot gc`: what goes, what stays; and a dataset reads and reruns as before, wherever a collection is stopped."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest

from beam_pipeline import collect as module
from beam_pipeline.cli import main
from beam_pipeline.collect import MANY_FILES, Plan, collect, plan
from beam_pipeline.compare import compare
from beam_pipeline.config import ConfigError
from beam_pipeline.run import Result, run
from demo.world import make_scene, write_scenes
from tests.datasets import profile
from transforms import versions
from transforms.avro import avro_schema, read_avro, to_record
from transforms.ingest import ClipSource
from transforms.records import Finding, Written
from transforms.store import write_rows

DAY_S = 86_400
CLIPS = 2


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collect")
    write_scenes([make_scene(4322, index) for index in range(CLIPS)], folder)
    return folder


@pytest.fixture(scope="module")
def three(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of three versions: of other tags, of another writer, and the one of `rerun`."""
    folder = tmp_path_factory.mktemp("three")
    for changes in ({"tags": 2}, {"at_most": 1}, {}):
        rerun(folder / "data", media, **changes)
    return folder / "data"


@pytest.fixture
def data(three: Path, tmp_path: Path) -> Path:
    """A copy of that dataset, for one test."""
    return Path(shutil.copytree(three, tmp_path / "data"))


def rerun(data: Path, media: Path, **changes: Any) -> Result:
    source = ClipSource(str(media / "clips.csv"))
    return run(profile(data.parent, **changes), source, str(data), quiet=True)


def files(data: Path) -> dict[str, bytes]:
    return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}


def aged(path: Path, days: float) -> Path:
    """A file, or all files of a folder, as if they were written days ago."""
    for file in [path] if path.is_file() else (found for found in path.rglob("*") if found.is_file()):
        os.utime(file, (time.time() - days * DAY_S,) * 2)
    return path


def going(todo: Plan) -> dict[str, str]:
    """Which folders go, or files of them, and why."""
    return {"/".join(step.place): step.why for step in todo.steps}


def fingerprints(data: Path, *numbers: int) -> set[str]:
    """The folders of the store that versions name."""
    found = set()
    for number in numbers:
        named = versions.manifest(str(data), number)
        found |= {f"store/cues/{name}/{cue['fingerprint']}" for name, cue in named["cues"].items()}
        found.add(f"store/written/{named['writer'].replace(':', '-')}")
    return found


def in_store(data: Path) -> set[str]:
    return {str(file.parent.relative_to(data)) for file in (data / "store").rglob("*.avro")}


def test_of_a_dataset_whose_versions_all_stay_nothing_goes(data: Path) -> None:
    before = files(aged(data, 30))
    todo = plan(str(data))
    assert (todo.kept, todo.running, todo.steps) == ((1, 2, 3), (), ())
    assert collect(todo) == []
    assert files(data) == before


def test_versions_that_are_not_kept_go_with_what_only_they_need_and_a_rerun_costs_nothing(
    data: Path, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(data)
    only_old = fingerprints(data, 1, 2) - fingerprints(data, 3)
    assert len(only_old) == 2  # the tags of the first, the writer of the second
    command = ["gc", str(data), "--keep", "1"]
    assert main(command) == 0
    assert "--apply does it" in " ".join(capsys.readouterr().out.split())
    assert files(data) == before
    assert going(plan(str(data), keep=1)) == {
        **dict.fromkeys(only_old, "only versions that go need it"),
        **dict.fromkeys(("versions/1", "versions/2"), "not kept"),
    }
    assert main([*command, "--apply"]) == 0
    assert "What went" in capsys.readouterr().out
    assert files(data) == {
        name: content
        for name, content in before.items()
        if not name.startswith(("versions/1/", "versions/2/", *(f"{folder}/" for folder in only_old)))
    }
    assert os.listdir(data / "versions") == ["3"]
    assert in_store(data) == fingerprints(data, 3)
    assert not any(folder.is_dir() and not os.listdir(folder) for folder in data.rglob("*"))
    again = rerun(data, media)
    assert again.costs == {}
    assert (again.unchanged, again.version) == (True, 3)


def test_versions_that_are_kept_still_read_and_compare(data: Path) -> None:
    before = compare(str(data), 2, 3)
    collect(plan(str(data), keep=2))
    assert sorted(os.listdir(data / "versions")) == ["2", "3"]
    assert compare(str(data)) == before
    assert in_store(data) == fingerprints(data, 2, 3)


def test_the_current_version_stays_though_later_ones_are_published(data: Path) -> None:
    (data / "current").write_text('{"version": 1}')
    todo = plan(str(data), keep=1)
    assert todo.kept == (1, 3)
    collect(todo)
    assert sorted(os.listdir(data / "versions")) == ["1", "3"]
    assert in_store(data) == fingerprints(data, 1, 3)


def test_a_version_that_became_the_current_one_meanwhile_is_not_removed(data: Path) -> None:
    todo = plan(str(data), keep=1)
    (data / "current").write_text('{"version": 2}')
    with pytest.raises(ConfigError, match="version 2 has become the current one meanwhile"):
        collect(todo)
    assert sorted(os.listdir(data / "versions")) == ["2", "3"]


def test_what_a_stopped_run_found_stays_till_it_is_stale(data: Path) -> None:
    found = f"store/cues/place/{'0' * 16}"
    row = Finding("a clip", "place", "0" * 16, "a model", "0.0+10.0")
    write_rows(str(data / found), [row])
    aged(data / found, 6)
    assert plan(str(data)).steps == ()
    assert going(plan(str(data), older_than_days=5)) == {found: "no version needs it"}
    aged(data / found, 8)
    assert going(plan(str(data))) == {found: "no version needs it"}
    write_rows(str(data / found), [row])
    assert plan(str(data)).steps == ()  # a run is adding to it, or did so lately
    collect(plan(str(data), older_than_days=0))
    assert in_store(data) == fingerprints(data, 1, 2, 3)


def test_while_a_run_may_be_under_way_of_the_store_goes_nothing_that_a_version_names(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = versions.claim(str(data), "a run")
    split(data)
    aged(data / "store", 30)
    assert main(["gc", str(data), "--keep", "1", "--apply"]) == 0
    assert f"version {number} was claimed lately" in capsys.readouterr().out
    assert sorted(os.listdir(data / "versions")) == ["3", "4"]
    assert in_store(data) > fingerprints(data, 3)
    assert len(list((data / "store").rglob("*.avro"))) > MANY_FILES
    aged(data / "versions" / "4", 8)
    assert going(plan(str(data)))["versions/4"] == "its run was stopped"
    collect(plan(str(data)))
    assert os.listdir(data / "versions") == ["3"]
    assert in_store(data) == fingerprints(data, 3)


def test_files_whose_writing_was_stopped_go_when_they_are_stale(data: Path) -> None:
    (file, *_) = (data / "store").rglob("*.avro")
    parts = [file.with_name("a.avro.part"), data / "versions" / "3" / "manifest.json.part", data / "current.part"]
    before = files(data)
    for part in parts:
        part.write_bytes(b"half")
    assert plan(str(data)).steps == ()
    for part in parts:
        aged(part, 8)
    assert set(going(plan(str(data))).values()) == {"their writing was stopped"}
    collect(plan(str(data)))
    assert files(data) == before


def split(data: Path) -> dict[str, set[Finding]]:
    """Makes of one cue's file many, as many small runs do; returns the rows, by folder."""
    (folder,) = (data / "store" / "cues" / "place").iterdir()
    (file,) = folder.iterdir()
    rows = list(read_avro(str(file), Finding))
    more = [Finding(f"clip {index}", "place", folder.name, "a model", "0.0+10.0") for index in range(MANY_FILES)]
    file.unlink()
    for row in (*rows, *more, rows[0]):
        write_rows(str(folder), [row])
    return {str(folder): {*rows, *more}}


def test_many_small_files_become_one_with_the_same_rows(data: Path, media: Path) -> None:
    ((folder, rows),) = split(data).items()
    assert plan(str(data)).steps == ()  # they are younger than a day: a run under way may have listed them
    aged(Path(folder), 2)
    (step,) = plan(str(data)).steps
    assert (step.merge, len(step.files)) == (True, MANY_FILES + CLIPS + 1)
    assert collect(plan(str(data))) == []
    (file,) = Path(folder).iterdir()
    found = list(read_avro(str(file), Finding))
    assert (len(found), set(found)) == (len(rows), rows)  # a row that was there twice is there once
    assert rerun(data, media).costs == {}
    assert plan(str(data), older_than_days=0).steps == ()


def test_what_writers_made_is_merged_as_well(data: Path) -> None:
    (folder,) = (data / place for place in fingerprints(data, 3) if "written" in place and "TemplateWriter" in place)
    rows = {row for file in folder.iterdir() for row in read_avro(str(file), Written)}
    more = [
        Written(clip_id=f"clip {index}", key=f"{index:016x}", caption="A dog barks.") for index in range(MANY_FILES)
    ]
    for row in more:
        write_rows(str(folder), [row])
    collect(plan(str(data), older_than_days=0))
    (file,) = folder.iterdir()
    assert set(read_avro(str(file), Written)) == {*rows, *more}


def test_a_file_that_cannot_be_read_whole_is_not_merged_and_stays(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((folder, _),) = split(data).items()
    damaged = sorted(Path(folder).iterdir())[3]
    damaged.write_bytes(damaged.read_bytes()[:-30])
    content = damaged.read_bytes()
    assert main(["gc", str(data), "--apply", "--older-than", "0"]) == 0
    shown = "".join(capsys.readouterr().out.split())
    assert damaged.name in shown
    assert len(list(Path(folder).iterdir())) == 2
    assert damaged.read_bytes() == content


def test_large_files_stay_as_they_are_and_a_merged_one_does_not_outgrow_its_bound(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((folder, rows),) = split(data).items()
    size = max(file.stat().st_size for file in Path(folder).iterdir())
    monkeypatch.setattr("beam_pipeline.collect.MERGED_BYTES", 10 * size)
    collect(plan(str(data), older_than_days=0))
    left = list(Path(folder).iterdir())
    assert 5 < len(left) < 15
    assert {row for file in left for row in read_avro(str(file), Finding)} == rows


class Killed(BaseException):
    """Nothing that is caught on the way."""


def at_step(number: int, done: Callable[..., Any]) -> Callable[..., Any]:
    """`done`, but for the call with this number, before which the process ends."""
    left = [number]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return done(*args, **kwargs)

    return wrapped


def test_wherever_it_is_stopped_what_is_left_reads_and_the_next_collection_ends_the_same(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every removal in turn is the one before which the process ends; one after the other, in the order of the plan."""
    ((folder, rows),) = split(data).items()
    aged(data, 2)
    place = Path(folder).relative_to(data)
    whole = Path(shutil.copytree(data, tmp_path / "whole"))
    monkeypatch.setattr("beam_pipeline.collect.AT_ONCE", 1)
    removals = sum(len(step.files) for step in plan(str(data), keep=1).steps)
    assert removals > MANY_FILES
    for number in [*range(removals - MANY_FILES + 2), removals - 1]:
        copy = Path(shutil.copytree(whole, tmp_path / "copy"))
        with monkeypatch.context() as patch:
            patch.setattr(module, "_remove", at_step(number, module._remove))
            with pytest.raises(Killed):
                collect(plan(str(copy), keep=1))
        assert versions.current(str(copy)) == 3
        for version, content in module.published(str(copy)).items():  # no half of a version is left to be read
            result = Result(str(copy), version, content, {}, 0.0)
            assert len(list(result.read("captions"))) == content["counts"]["captions"]
        assert {row for file in (copy / place).glob("*.avro") for row in read_avro(str(file), Finding)} == rows
        assert in_store(copy) >= fingerprints(copy, 3)
        collect(plan(str(copy), keep=1, older_than_days=0))
        assert in_store(copy) == fingerprints(copy, 3)
        assert os.listdir(copy / "versions") == ["3"]
        assert {row for file in (copy / place).glob("*.avro") for row in read_avro(str(file), Finding)} == rows
        assert len(list((copy / place).iterdir())) <= MANY_FILES
        shutil.rmtree(copy)


def test_what_earshot_did_not_make_stays(data: Path) -> None:
    strangers = [data / name for name in ("notes.txt", "store/notes.txt", "versions/notes/a.txt", "world/clips.csv")]
    for stranger in strangers:
        stranger.parent.mkdir(parents=True, exist_ok=True)
        stranger.write_text("mine")
        aged(stranger, 100)
    collect(plan(str(data), keep=1, older_than_days=0))
    assert [stranger.read_text() for stranger in strangers] == ["mine"] * 4


def test_where_it_cannot_be_told_what_versions_need_nothing_is_removed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*options: str) -> str:
        before = files(data)
        assert main(["gc", str(data), "--apply", "--older-than", "0", *options]) == 2
        assert files(data) == before
        return " ".join(capsys.readouterr().err.split())

    assert "--keep 0: one version has to stay" in refused("--keep", "0")
    assert "--older-than -1" in refused("--older-than", "-1")
    (data / "current").write_text("3")
    assert "not a pointer that Earshot wrote" in refused()
    (data / "current").write_text('{"version": 7}')
    assert "the current version is 7, and that is not published" in refused()
    (data / "current").write_text('{"version": 3}')
    (data / "versions" / "1" / "manifest.json").write_text("{")
    assert "its versions cannot be read" in refused()
    (data / "versions" / "1" / "manifest.json").write_text("{}")
    assert "not one that Earshot wrote" in refused()
    assert main(["gc", str(tmp_path / "nowhere")]) == 2
    assert "no dataset of Earshot" in capsys.readouterr().err


def test_a_store_file_of_an_older_form_is_merged_with_the_rest(data: Path) -> None:
    ((folder, rows),) = split(data).items()
    schema = avro_schema(Finding)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "seconds"]
    row = Finding("an old one", "place", Path(folder).name, "a model")
    with (Path(folder) / "old.avro").open("wb") as stream:
        fastavro.writer(stream, schema, [to_record(row)])
    collect(plan(str(data), older_than_days=0))
    (file,) = Path(folder).iterdir()
    assert set(read_avro(str(file), Finding)) == {*rows, row}


def test_of_jobs_that_found_all_as_it_was_the_last_one_s_manifest_stays(data: Path) -> None:
    manifest = json.loads((data / "versions" / "3" / "manifest.json").read_text())
    for number in (4, 5):
        folder = data / "versions" / str(number)
        folder.mkdir()
        (folder / "claimed").write_text('{"run": "job"}')
        (folder / "manifest.json").write_text(json.dumps({**manifest, "version": number, "same_as": 3}))
    todo = plan(str(data))
    assert todo.running == (), "none of them is under way"
    assert going(todo) == {"versions/4": "it holds what another does"}
