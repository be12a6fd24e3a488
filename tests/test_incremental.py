"""Reruns compute what changed and nothing else. What a run worked on is read off its costs, never off a clock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fastavro
import pytest

from beam_pipeline.config import ConfigError
from beam_pipeline.run import Result, RunError, run
from demo.world import make_scene, write_scenes
from tests.datasets import CLIPS, clips, listed, profile, records, rows
from transforms.avro import avro_schema
from transforms.ingest import ClipSource
from transforms.records import Finding


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("incremental")
    write_scenes([make_scene(4321, index) for index in range(CLIPS)], folder)
    return folder


@pytest.fixture(scope="module")
def first(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset's folder after one run over all clips."""
    folder = tmp_path_factory.mktemp("first")
    done = run(profile(folder), ClipSource(str(media / "clips.csv")), str(folder / "data"), quiet=True)
    assert set(done.costs) == {
        *("labels", "media", "place", "loudness", "audio_tags", "caption"),
        *("decode listing", "decode header", "decode frame", "decode audio 32000 Hz"),
    }
    return folder / "data"


@pytest.fixture
def data(first: Path, tmp_path: Path) -> Path:
    """A copy of that dataset, for one test."""
    return Path(shutil.copytree(first, tmp_path / "data"))


def rerun(data: Path, media: Path, tmp_path: Path, **changes: Any) -> Result:
    return run(profile(tmp_path, **changes), ClipSource(str(media / "clips.csv")), str(data), quiet=True)


def test_an_unchanged_rerun_decodes_nothing_asks_no_model_and_publishes_nothing(
    data: Path, media: Path, tmp_path: Path
) -> None:
    again = rerun(data, media, tmp_path)
    assert again.costs == {}
    assert again.unchanged
    assert (again.version, sorted(os.listdir(data / "versions"))) == (1, ["1"])
    assert len(records(again)) == CLIPS


def test_one_changed_cue_costs_that_cue_and_the_captions_that_rest_on_it(
    data: Path, media: Path, tmp_path: Path
) -> None:
    changed = rerun(data, media, tmp_path, tags=2)
    assert clips(changed) == {"decode audio 32000 Hz": CLIPS, "audio_tags": CLIPS, "caption": CLIPS}
    assert changed.version == 2
    back = rerun(data, media, tmp_path)  # what the first run knows is still there
    assert back.costs == {}
    assert (back.version, back.unchanged) == (3, False)
    assert records(back) == records(Result(str(data), 1, back.manifest, {}, 0.0))


def test_a_changed_cue_that_no_caption_rests_on_rewrites_none(data: Path, media: Path, tmp_path: Path) -> None:
    changed = rerun(data, media, tmp_path, top=1)
    assert clips(changed) == {"decode frame": CLIPS, "place": CLIPS}
    assert changed.version == 2


def test_a_changed_writer_rewrites_captions_from_what_is_known(data: Path, media: Path, tmp_path: Path) -> None:
    assert clips(rerun(data, media, tmp_path, at_most=1)) == {"caption": CLIPS}


def test_a_new_threshold_costs_nothing(data: Path, media: Path, tmp_path: Path) -> None:
    strict = rerun(data, media, tmp_path, silence=0.0)
    assert strict.costs == {}
    assert strict.manifest["counts"]["rejected"] == CLIPS
    assert strict.version == 2


def test_two_new_clips_cost_two_clips_and_one_that_is_no_longer_listed_is_gone(
    data: Path, media: Path, tmp_path: Path
) -> None:
    write_scenes([make_scene(4321, index) for index in range(CLIPS + 2)], tmp_path / "more")
    more = run(profile(tmp_path), ClipSource(str(tmp_path / "more" / "clips.csv")), str(data), quiet=True)
    assert set(clips(more).values()) == {2}
    assert more.manifest["counts"]["clips_in"] == CLIPS + 2
    fewer = run(profile(tmp_path), ClipSource(str(media / "clips.csv"), limit=3), str(data), quiet=True)
    assert fewer.costs == {}
    assert fewer.manifest["counts"]["clips_in"] == 3


def test_a_clip_with_other_labels_or_another_stretch_of_its_file_is_another_to_the_cues_that_rest_on_these(
    media: Path, tmp_path: Path
) -> None:
    (a, b, *_), data = rows(media), str(tmp_path / "data")
    run(profile(tmp_path), listed(tmp_path, media, a, b), data, quiet=True)
    labelled = run(profile(tmp_path), listed(tmp_path, media, {**a, "labels": ["Dog"]}, b), data, quiet=True)
    assert clips(labelled) == {"decode listing": 1, "labels": 1}
    moved = run(profile(tmp_path), listed(tmp_path, media, {**a, "start_s": 2}, b), data, quiet=True)
    assert clips(moved).keys() >= {"decode header", "place", "audio_tags", "loudness", "media"}
    assert set(clips(moved).values()) == {1}


def test_a_failure_is_retried_where_that_may_help_or_where_it_is_asked_for(media: Path, tmp_path: Path) -> None:
    (a, *_), data = rows(media), str(tmp_path / "data")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    source = listed(tmp_path, media, a, {**a, "clip_id": "b", "uri": str(tmp_path / "broken.mp4")})
    broken = run(profile(tmp_path), source, data, quiet=True)
    (failure,) = broken.read("failed")
    assert not failure.retryable
    assert run(profile(tmp_path), source, data, quiet=True).costs == {}
    again = run(profile(tmp_path), source, data, retry_failed=True, quiet=True)
    assert clips(again) == {"decode header": 1, "decode frame": 1, "decode audio 32000 Hz": 1}

    shutil.copy(media / a["uri"], tmp_path / "broken.mp4")
    assert run(profile(tmp_path), source, data, quiet=True).manifest["counts"]["failed"] == 1  # not asked for
    mended = run(profile(tmp_path), source, data, retry_failed=True, quiet=True)
    assert mended.manifest["counts"]["failed"] == 0
    assert run(profile(tmp_path), source, data, quiet=True).unchanged

    missing = listed(tmp_path, media, a, {**a, "clip_id": "c", "uri": str(tmp_path / "later.mp4")})
    (failure,) = run(profile(tmp_path), missing, data, quiet=True).read("failed")
    assert failure.retryable
    shutil.copy(media / a["uri"], tmp_path / "later.mp4")
    found = run(profile(tmp_path), missing, data, quiet=True)
    assert found.manifest["counts"]["failed"] == 0
    assert found.costs["place"]["clips"] == 1


def store_files(data: Path, cue: str) -> list[Path]:
    return sorted((data / "store" / "cues" / cue).rglob("*.avro"))


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "garbage"])
def test_a_damaged_store_file_costs_what_was_in_it_and_nothing_else(
    data: Path, media: Path, tmp_path: Path, damage: str
) -> None:
    (file,) = store_files(data, "place")
    content = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(content[:-40])
        case "empty":
            file.write_bytes(b"")
        case "garbage":
            file.write_bytes(b"garbage" * 100)
        case "gone":
            file.unlink()
    mended = rerun(data, media, tmp_path)
    assert clips(mended) == {"decode frame": CLIPS, "place": CLIPS}
    assert mended.unchanged
    assert rerun(data, media, tmp_path).costs == {}


def test_a_store_from_before_a_field_existed_is_still_read(data: Path, media: Path, tmp_path: Path) -> None:
    schema = avro_schema(Finding)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "seconds"]
    for file in store_files(data, "place"):
        with file.open("rb") as stream:
            found: list[Any] = list(fastavro.reader(stream))
        with file.open("wb") as stream:
            fastavro.writer(stream, schema, found)
    assert rerun(data, media, tmp_path).costs == {}


def test_what_is_stored_twice_counts_once(data: Path, media: Path, tmp_path: Path) -> None:
    for file in (data / "store").rglob("*.avro"):
        shutil.copy(file, file.with_name(f"again-{file.name}"))
    again = rerun(data, media, tmp_path)
    assert again.costs == {}
    assert again.unchanged


def test_a_file_that_is_still_being_written_is_not_seen(data: Path, media: Path, tmp_path: Path) -> None:
    (file,) = store_files(data, "place")
    file.with_name(f"{file.name}.part").write_bytes(file.read_bytes()[:100])
    assert rerun(data, media, tmp_path).costs == {}


def test_two_runs_at_once_both_publish_what_one_alone_would(media: Path, tmp_path: Path) -> None:
    results: list[Result] = []
    chosen, source = profile(tmp_path), ClipSource(str(media / "clips.csv"))
    runs = [
        threading.Thread(target=lambda: results.append(run(chosen, source, str(tmp_path / "data"), quiet=True)))
        for _ in range(2)
    ]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert len(results) == 2
    one, other = results
    assert records(one) == records(other)
    assert json.loads((tmp_path / "data" / "current").read_text())["version"] in (1, 2)
    assert rerun(tmp_path / "data", media, tmp_path).unchanged


def test_a_disk_that_is_full_fails_the_run_with_a_reason_and_loses_nothing(
    data: Path, media: Path, tmp_path: Path
) -> None:
    # No file of the process may grow beyond 600 bytes: the kernel refuses, as it does on a full disk.
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600));"
        "from beam_pipeline.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    profile(tmp_path, top=2)
    command = [sys.executable, "-c", code, "run", "--profile", str(tmp_path / "mine.toml")]
    command += ["--clips", str(media / "clips.csv"), "--output", str(data)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(data / "versions") == ["1"]
    assert clips(rerun(data, media, tmp_path, top=2))["place"] == CLIPS


def test_a_run_that_is_stopped_after_it_has_published_leaves_what_it_published(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("transforms.versions.manifest", stop)  # what a run reads when the job has ended
        with pytest.raises(KeyboardInterrupt):
            rerun(tmp_path / "data", media, tmp_path)
    assert json.loads((tmp_path / "data" / "current").read_text()) == {"version": 1}
    assert len(records(rerun(tmp_path / "data", media, tmp_path))) == CLIPS


def test_a_run_that_fails_keeps_what_it_found(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the writer is out")

    with monkeypatch.context() as patch:
        patch.setattr("model_handlers.template_writer.TemplateWriter.write", fail)
        with pytest.raises(RunError, match="the writer is out"):
            rerun(tmp_path / "data", media, tmp_path)
    assert not os.listdir(tmp_path / "data" / "versions")
    assert clips(rerun(tmp_path / "data", media, tmp_path)) == {"caption": CLIPS}


def test_an_output_that_cannot_be_written_to_is_named_before_any_work(media: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store").write_text("somebody's own")
    outputs = {
        "/proc/earshot": "cannot be written to",  # read-only, whoever asks
        str(tmp_path / "file"): "is a file",
        str(tmp_path / "data"): "store is a file",
        f"file://{tmp_path}/new": "give its plain path",
    }
    for output, said in outputs.items():
        with pytest.raises(ConfigError, match=said):
            run(profile(tmp_path), ClipSource(str(media / "clips.csv")), output, quiet=True)
    assert os.listdir(tmp_path / "data") == ["store"]
