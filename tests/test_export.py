"""``earshot export``: what it refuses, what it leaves when it is stopped, and what it says."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beam_pipeline.config import ConfigError
from beam_pipeline.dataset import Dataset
from beam_pipeline.export.command import FORMS, add_arguments
from beam_pipeline.export.export import export
from beam_pipeline.export.part import made_whole
from beam_pipeline.run import run as run_pipeline
from demo.world import make_scene, write_scenes
from tests.datasets import profile
from tests.exporting import by_id, caption, clip, expected, pairs_of, publish, run
from transforms.ingest import ClipSource

COMMAND = """
import argparse, sys
from beam_pipeline.export.command import add_arguments, main
parser = argparse.ArgumentParser()
add_arguments(parser)
sys.exit(main(parser.parse_args()))
"""


@pytest.fixture
def root(tmp_path: Path) -> str:
    rows = [caption(clip("a")), caption(clip("b"), split="test")]
    return publish(tmp_path / "data", 1, rows, pairs_of(rows))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_can_be_written_with_its_card(form: str, root: str, tmp_path: Path) -> None:
    assert run(root, form, tmp_path / "out") == (1 if form == "lhotse" else 0)  # nobody finds these media
    assert "# data" in (tmp_path / "out/README.md").read_text()
    assert not (tmp_path / "out.part").exists()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("form", FORMS)
def test_no_captions_are_an_empty_export(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = publish(tmp_path / "data", 1, [], [])
    more = [] if form == "auto_acd" else ["--questions"]
    assert run(root, form, tmp_path / "out", *more) == 0
    if form == "hf":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        import datasets

        # Only as a stream: the library makes no table of no rows.
        rows = datasets.load_dataset(str(tmp_path / "out"), split="train", streaming=True)
        assert list(rows) == []
    if form == "lhotse":
        from lhotse import CutSet

        assert not CutSet.from_file(tmp_path / "out/cuts.jsonl.gz")


def test_a_real_run_comes_out_as_its_records_are(tmp_path: Path) -> None:
    write_scenes([make_scene(4323, index) for index in range(2)], tmp_path / "media")
    result = run_pipeline(
        profile(tmp_path), ClipSource(str(tmp_path / "media/clips.csv")), str(tmp_path / "data"), quiet=True
    )
    assert run(result.root, "jsonl", tmp_path / "out") == 0
    rows = [json.loads(line) for path in (tmp_path / "out").glob("*.jsonl") for line in path.open(encoding="utf-8")]
    assert by_id(rows) == by_id(expected(result.root))
    assert len(rows) == 2


def test_an_older_version_can_be_exported(root: str, tmp_path: Path) -> None:
    publish(tmp_path / "data", 2, [caption(clip("c"))])
    assert run(root, "jsonl", tmp_path / "one", "--version", "1") == 0
    assert run(root, "jsonl", tmp_path / "two") == 0
    assert (tmp_path / "one/test.jsonl").exists()
    assert [json.loads(line)["clip_id"] for line in (tmp_path / "two/train.jsonl").open()] == ["c"]


@pytest.mark.parametrize(
    ("form", "more", "message"),
    [
        ("csv", {"version": 9}, "there is no version 9"),
        ("csv", {"splits": ["dev"]}, "--split dev: there are train, validation, test"),
        ("csv", {"rate": 10}, "--rate 10"),
        ("hf", {"shard_mb": 0}, "--shard-mb 0"),
        ("auto_acd", {"questions": True}, "--questions: auto_acd has no place for them"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    form: str, more: dict[str, object], message: str, root: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        export(root, form, str(tmp_path / "out"), **more)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_questions_that_are_not_there_are_refused(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", 1, [caption(clip("a"))])
    with pytest.raises(ConfigError, match="version 1 has none"):
        export(root, "hf", str(tmp_path / "out"), questions=True)


def test_a_folder_with_something_in_it_is_left_alone(root: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    (tmp_path / "other.part").mkdir()
    (tmp_path / "other.part/thesis.txt").write_text("precious")
    for out in ("mine", "file", "other", "data"):
        with pytest.raises(ConfigError, match=r"already|did not make it"):
            export(root, "csv", str(tmp_path / out))
    with pytest.raises(ConfigError, match="a folder of this machine"):
        export(root, "csv", "gs://bucket/out")
    assert (tmp_path / "mine/thesis.txt").read_text() == "precious"
    assert (tmp_path / "other.part/thesis.txt").read_text() == "precious"
    assert Dataset.open(root).count("captions") == 2
    (tmp_path / "empty").mkdir()
    assert run(root, "csv", tmp_path / "empty") == 0


def test_a_link_to_an_empty_folder_is_followed(root: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/empty").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk/empty")
    assert run(root, "csv", tmp_path / "out") == 0
    assert (tmp_path / "out").is_symlink()
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"empty"}
    assert set(content(tmp_path / "disk/empty")) == {"train.csv", "test.csv", "README.md"}
    with pytest.raises(ConfigError, match="already"):
        export(root, "csv", str(tmp_path / "out"))


def test_a_mount_point_is_refused_before_anything_is_done() -> None:
    with (
        pytest.raises(ConfigError, match="a file system is mounted there; give a folder in it"),
        made_whole("/proc"),
    ):
        pytest.fail("it began")


def test_a_whole_export_that_cannot_take_its_name_is_kept(root: str, tmp_path: Path) -> None:
    def made() -> None:
        with made_whole(str(tmp_path / "out")) as folder:
            (folder / "first").write_text("first")
            (tmp_path / "out").mkdir()
            (tmp_path / "out/thesis.txt").write_text("precious")

    with pytest.raises(ConfigError, match=r"the export is whole, in .*out\.part"):
        made()
    assert set(content(tmp_path / "out.part")) == {"first"}
    assert set(content(tmp_path / "out")) == {"thesis.txt"}
    (tmp_path / "out/thesis.txt").unlink()
    with pytest.raises(ConfigError, match="there is something already"):  # the next one does not take it away
        export(root, "csv", str(tmp_path / "out"))
    assert set(content(tmp_path / "out.part")) == {"first"}


def test_the_dataset_is_named_after_its_folder(root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert run(".", "csv", tmp_path / "out") == 0
    assert "\n# data\n" in (tmp_path / "out/README.md").read_text()


def test_a_split_that_was_asked_for_and_is_empty_is_said(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "csv", tmp_path / "one", "--split", "validation", "--split", "train") == 1
    assert "--split validation: version 1 has no caption to export in it" in capsys.readouterr().err
    assert set(content(tmp_path / "one")) == {"train.csv", "README.md"}
    assert run(root, "csv", tmp_path / "two", "--split", "train", "--split", "test") == 0
    assert capsys.readouterr().err == ""


def test_a_split_does_not_swallow_the_dataset(root: str, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser("earshot export")
    add_arguments(parser)
    options = parser.parse_args(["--to", "csv", "--output", str(tmp_path / "out"), "--split", "train", root])
    assert (options.dataset, options.split) == (root, ["train"])


def test_a_place_that_cannot_be_written_is_said(root: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(root, "csv", str(tmp_path / "file/out"))


def test_two_exports_do_not_write_to_one_place(root: str, tmp_path: Path) -> None:
    with made_whole(str(tmp_path / "out")) as folder:
        (folder / "first").write_text("first")
        with pytest.raises(ConfigError, match="another export is writing there"):
            export(root, "csv", str(tmp_path / "out"))
        assert not (tmp_path / "out").exists()
    assert set(content(tmp_path / "out")) == {"first"}


def test_a_damaged_version_leaves_nothing_behind(root: str, tmp_path: Path) -> None:
    path = tmp_path / "data/versions/1/captions.avro"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=r"captions\.avro: cannot be read"):
        export(root, "parquet", str(tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


@pytest.mark.parametrize("form", ["hf", "webdataset"])
def test_a_killed_export_leaves_nothing_that_looks_whole_and_the_next_one_is(form: str, tmp_path: Path) -> None:
    root = publish(tmp_path / "data", 1, [caption(clip(f"c{number:05d}")) for number in range(4_000)])
    (tmp_path / "run.py").write_text(COMMAND)
    command = [sys.executable, str(tmp_path / "run.py"), root, "--to", form, "--output", str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    part, begun = tmp_path / "out.part", time.monotonic()
    while not any(path.stat().st_size for path in part.rglob("train-*")):
        assert process.poll() is None
        assert time.monotonic() - begun < 120
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.exists()
    assert not (tmp_path / "out").exists()
    assert run(root, form, tmp_path / "out") == 0
    assert not part.exists()
    assert run(root, form, tmp_path / "clean") == 0
    assert content(tmp_path / "out") == content(tmp_path / "clean")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks = []
    for rows in (1_000, 12_000):
        root = publish(tmp_path / f"{rows}", 1, (caption(clip(f"c{number:05d}")) for number in range(rows)))
        (tmp_path / "run.py").write_text(COMMAND)
        command = [
            sys.executable,
            str(tmp_path / "run.py"),
            root,
            "--to",
            "jsonl",
            "--output",
            str(tmp_path / f"o{rows}"),
        ]
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()}) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
        assert status == 0
        peaks.append(usage.ru_maxrss / (1 if sys.platform == "darwin" else 1024))
    assert peaks[1] < peaks[0] + 25  # MiB


def test_the_command_says_what_came_out_to_people_and_to_machines(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "csv", tmp_path / "people", "--questions") == 0
    said = capsys.readouterr().out
    assert "captions: 1 train, 1 test (version 1)" in said
    assert "questions: 4" in said
    assert run(root, "csv", tmp_path / "machines", "--json", "--split", "test") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["captions"], found["of_other_splits"], found["version"]) == ({"test": 1}, 1, 1)


def test_help_says_how_to_load_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser("earshot export")
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    text = capsys.readouterr().out
    assert all(form in text.split("forms:")[1] for form in FORMS)


def test_the_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, beam_pipeline.export.command; "
        "print([name for name in ('pyarrow', 'numpy', 'av', 'apache_beam', 'datasets') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
