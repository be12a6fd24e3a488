from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from transforms import versions
from transforms.avro import read_avro
from transforms.publish import OUTCOMES, AccountingError, Publish, manifest
from transforms.records import Caption, Clip, Cue, Failure, Item, Rejection, Spent


def clip(number: int) -> Clip:
    return Clip(f"c{number}", f"{number}.mp4", 0.0, 10.0, origin=f"list.csv:{number}", labels=("Dog", "Bücher 犬"))


CUES = (Cue("c1", "tags", "f" * 16, "model", (Item("Dog", 0.5, 0.0, 10.0, (0.0, 0.0, 1.0, 1.0)),)),)
CAPTIONS = [
    Caption(clip(1), 'A dog "barks",\nloudly.', "writer", CUES),
    Caption(clip(2), "A bell rings.", "writer", ()),
]
REJECTED = [Rejection(clip(3), "silent", "peak -90 dBFS", CUES)]
FAILED = [
    Failure(clip(4), "media", "no such file", True),
    Failure(Clip("", "", origin="list.csv:5"), "ingest", "bad row"),
]


def publish(folder: Path, listed: list[str], captions: list[Caption], shards: int = 1, version: int = 0) -> None:
    claimed = version or versions.claim(str(folder), "test")
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        inputs = {"captions": captions, "rejected": REJECTED, "failed": FAILED}
        collections = {name: pipeline | name >> beam.Create(values) for name, values in inputs.items()}
        collections["listed"] = pipeline | "listed" >> beam.Create(listed)
        collections["costs"] = pipeline | "costs" >> beam.Create(
            [("tags", Spent(1, 0.5)), ("tags", Spent(1, 1.0, 1.0, 20))]
        )
        _ = collections | Publish(str(folder), claimed, {"run": "test"}, shards)


@pytest.mark.parametrize("shards", [1, 3])
def test_what_goes_in_is_read_back_through_the_manifest(tmp_path: Path, shards: int) -> None:
    publish(tmp_path, [f"list.csv:{n}" for n in range(1, 6)], CAPTIONS, shards)
    found = versions.manifest(str(tmp_path), 1)
    assert versions.current(str(tmp_path)) == 1
    assert found["counts"] == {"clips_in": 5, "captions": 2, "rejected": 1, "failed": 2}
    assert found["costs"] == {"tags": {"clips": 2, "seconds": 1.5, "gpu_seconds": 1.0, "tokens_in": 20}}
    assert found["reasons"] == {"failed/ingest": 1, "failed/media": 1, "rejected/silent": 1}
    for name, expected in {"captions": CAPTIONS, "rejected": REJECTED, "failed": FAILED}.items():
        assert len(found["files"][name]) == shards
        records = list(
            read_avro([str(tmp_path / "versions" / "1" / file) for file in found["files"][name]], OUTCOMES[name])
        )
        assert sorted(records, key=lambda r: r.clip.origin) == expected


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (range(1, 7), "list.csv:6: listed 1 times, ended 0 times"),  # one lost
        (range(1, 5), "list.csv:5: listed 0 times, ended 1 times"),  # one invented
        ([1, 2, 3, 4, 5, 5], "list.csv:5: listed 2 times, ended 1 times"),
    ],
)
def test_a_lost_or_invented_clip_fails_the_run_and_no_manifest_is_written(
    tmp_path: Path, listed: range, message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        publish(tmp_path, [f"list.csv:{n}" for n in listed], CAPTIONS)
    assert not list(tmp_path.rglob("manifest.json"))
    assert versions.current(str(tmp_path)) is None


def test_one_lost_and_one_doubled_do_not_cancel_out(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not accounted for"):
        publish(tmp_path, [f"list.csv:{n}" for n in range(1, 6)], [CAPTIONS[0], CAPTIONS[0]])


def test_the_same_records_in_another_order_and_other_files_are_the_same_dataset(tmp_path: Path) -> None:
    listed = [f"list.csv:{n}" for n in range(1, 6)]
    publish(tmp_path, listed, CAPTIONS)
    publish(tmp_path, listed, CAPTIONS[::-1], shards=2)
    publish(tmp_path, listed, [CAPTIONS[0], replace(CAPTIONS[1], caption="A bell rang.")])
    first, second, third = (versions.manifest(str(tmp_path), n) for n in (1, 2, 3))
    assert second["digest"] == first["digest"] != third["digest"]
    assert (second["same_as"], "same_as" in third) == (1, False)
    assert versions.current(str(tmp_path)) == 3


def test_the_manifest_refuses_problems() -> None:
    with pytest.raises(AccountingError, match="1 clips"):
        manifest({}, {}, ["a: listed 1 times, ended 0 times"], {})


def test_an_empty_source_publishes_an_empty_dataset(tmp_path: Path) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        empty = {name: pipeline | name >> beam.Create([]) for name in (*OUTCOMES, "listed", "costs")}
        _ = empty | Publish(str(tmp_path), versions.claim(str(tmp_path), "test"), {})
    found = versions.manifest(str(tmp_path), 1)
    assert found["counts"] == {"clips_in": 0, "captions": 0, "rejected": 0, "failed": 0}


def test_a_job_whose_number_was_given_to_another_run_publishes_nothing(tmp_path: Path) -> None:
    claim = versions.claim(str(tmp_path), "another")
    with pytest.raises(Exception, match="another run's"):
        publish(tmp_path, [f"list.csv:{n}" for n in range(1, 6)], CAPTIONS, version=claim)
    assert versions.current(str(tmp_path)) is None
    assert not versions.published(str(tmp_path), claim)
