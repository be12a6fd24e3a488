"""`earshot diff`: what differs between two versions, and why; on real runs, and on records made to be awkward."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import pytest

from beam_pipeline.cli import main
from beam_pipeline.compare import Side, compare
from beam_pipeline.config import ConfigError
from beam_pipeline.run import run
from demo.world import make_scene, write_scenes
from model_handlers.base import Item
from tests.datasets import CLIPS, profile
from transforms import versions
from transforms.avro import avro_schema, read_avro, to_record
from transforms.ingest import ClipSource
from transforms.publish import OUTCOMES, manifest
from transforms.records import Caption, Clip, Cue, Failure, Rejection, Version

Outcome = Caption | Rejection | Failure


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    write_scenes([make_scene(4322, index) for index in range(CLIPS)], folder)
    return folder


@pytest.fixture(scope="module")
def data(media: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of three versions: the first, one of fewer tags, and that one with a strict filter and a clip less."""
    folder = tmp_path_factory.mktemp("versions")
    for changes, limit in (({}, None), ({"tags": 1}, None), ({"tags": 1, "silence": 0.0}, CLIPS - 1)):
        source = ClipSource(str(media / "clips.csv"), limit=limit)
        run(profile(folder, **changes), source, str(folder / "data"), quiet=True)
    return str(folder / "data")


def test_a_changed_cue_is_the_reason_of_what_changed_with_it(data: str) -> None:
    found = compare(data, 1, 2)
    before, now = ({it.clip.clip_id: it.caption for it in read(data, number, "captions")} for number in (1, 2))
    rewritten = {clip_id for clip_id in before if before[clip_id] != now[clip_id]}
    assert 0 < len(rewritten) < CLIPS  # else this shows less than it should
    assert found.counts == counts(rewritten=len(rewritten), details=CLIPS - len(rewritten))
    why = "audio_tags: another model or parameters"
    assert found.reasons == {"rewritten": {why: len(rewritten)}, "details": {why: CLIPS - len(rewritten)}}
    assert {shown.clip_id for shown in found.examples["rewritten"]} == rewritten
    for shown in found.examples["rewritten"]:
        assert shown.old == Side("captioned", before[shown.clip_id])
        assert shown.new == Side("captioned", now[shown.clip_id])


def test_a_new_threshold_is_the_reason_of_what_it_rejects(data: str) -> None:
    found = compare(data)
    assert (found.old, found.new) == (2, 3)
    assert found.counts == counts(ended_otherwise=CLIPS - 1, removed=1)
    why = ("captioned → rejected: silent", "filters: other rules")
    assert found.reasons["ended_otherwise"] == dict.fromkeys(why, CLIPS - 1)
    (shown, *_) = found.examples["ended_otherwise"]
    assert shown.new is not None
    assert "dBFS" in shown.new.text


def test_a_clip_that_is_no_longer_listed_is_removed_and_comes_back_as_added(data: str) -> None:
    fewer, more = compare(data, 1), compare(data, 3, 1)
    assert (fewer.old, fewer.new) == (1, 3)
    assert fewer.counts == counts(ended_otherwise=CLIPS - 1, removed=1)
    assert fewer.reasons["removed"] == {"captioned": 1}
    assert more.counts == counts(ended_otherwise=CLIPS - 1, added=1)
    ((gone,), (come,)) = fewer.examples["removed"], more.examples["added"]
    assert (gone.clip_id, gone.old, gone.new) == (come.clip_id, come.new, come.old)


def test_the_command_says_the_same_to_people_and_to_machines(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(data)
    assert main(["diff", data, "--json", "--examples", "1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["old"], said["new"], said["counts"], said["reasons"]) == (2, 3, found.counts, found.reasons)
    assert [len(shown) for shown in said["examples"].values()] == [1] * len(said["examples"])
    assert main(["diff", data, "2"]) == 0
    shown = capsys.readouterr().out
    assert "From version 2 to version 3" in shown
    assert "captioned → rejected: silent" in shown


# --- records made for the purpose -----------------------------------------------------------------------------------

CUES = {"tags": {"model": "m", "fingerprint": "t1"}, "place": {"model": "m", "fingerprint": "p1"}}


def counts(**some: int) -> dict[str, int]:
    kinds = ("added", "removed", "rewritten", "ended_otherwise", "details", "unchanged")
    return dict.fromkeys(kinds, 0) | some


def clip(name: str, **more: Any) -> Clip:
    return Clip(name, f"{name}.mp4", **{"origin": f"list:{name}", "labels": ("Dog",), "end_s": 10.0, **more})


def caption(of: Clip, text: str = "A dog barks.", tag: str = "dog", fingerprint: str = "t1") -> Caption:
    cues = (Cue(of.clip_id, "tags", fingerprint, "m", (Item(tag, 0.5),)), Cue(of.clip_id, "place", "p1", "m"))
    return Caption(of, text, "writer:1", cues)


def publish(root: Path, number: int, outcomes: Iterable[Outcome], **facts: Any) -> None:
    """Writes a version as a run leaves it."""
    folder = Path(versions.folder(str(root), number))
    folder.mkdir(parents=True)
    outcomes, reasons = list(outcomes), {}
    for name, cls in OUTCOMES.items():
        some = [outcome for outcome in outcomes if isinstance(outcome, cls)]
        reasons[name] = len(some)
        with (folder / f"{name}.avro").open("wb") as file:
            fastavro.writer(file, avro_schema(cls), map(to_record, some), codec="deflate")
    facts = {"cues": CUES, "filters": {}, "writer": "writer:1", **facts}
    content = manifest(facts, reasons, [], {name: [f"{name}.avro"] for name in OUTCOMES})
    (folder / "manifest.json").write_text(json.dumps(content))
    versions.advance(str(root), number)


def read(root: str, number: int, name: str) -> list[Any]:
    return list(read_avro(f"{versions.folder(root, number)}/{name}.avro", OUTCOMES[name]))


def difference(tmp_path: Path, old: Outcome, new: Outcome, **facts: Any) -> tuple[str, set[str]]:
    """The kind of one clip's difference, and its reasons."""
    publish(tmp_path, 1, [old])
    publish(tmp_path, 2, [new], **facts)
    found = compare(str(tmp_path))
    (kind,) = (kind for kind, number in found.counts.items() if number)
    return kind, set(found.reasons.get(kind, {}))


A = clip("a")
SILENT = Rejection(A, "silent", "-70 dBFS", caption(A).cues)
BROKEN = Failure(A, "tags", "no sound")
SHORT, OTHER_VERSIONS = Version("short", "en", "A dog."), "versions: others (forms, languages or ambiguities)"


@pytest.mark.parametrize(
    ("old", "new", "kind", "reasons"),
    [
        (caption(A), caption(A), "unchanged", set()),
        (caption(A), caption(A, "A cat."), "rewritten", {"same cues and writer: the model's answer varies"}),
        (caption(A), caption(A, "A cat.", "cat"), "rewritten", {"tags: other items"}),
        (caption(A), caption(A, tag="cat", fingerprint="t2"), "details", {"tags: another model or parameters"}),
        (
            caption(A),
            caption(A, "A cat.", fingerprint="t2"),
            "rewritten",
            {"tags: another model or parameters, same items"},
        ),
        (caption(A), replace(caption(A), cues=caption(A).cues[:1]), "details", {"place: cue removed"}),
        (replace(caption(A), cues=caption(A).cues[1:]), caption(A), "details", {"tags: cue added"}),
        (caption(A), replace(caption(A), writer="writer:2"), "details", {"writer: another model or parameters"}),
        (caption(A), replace(caption(A), versions=(SHORT,)), "details", {OTHER_VERSIONS}),
        (replace(caption(A), versions=(SHORT,)), replace(caption(A), versions=(SHORT,)), "unchanged", set()),
        (caption(A), replace(caption(A), ambiguities=("a dog or a fox",)), "details", {OTHER_VERSIONS}),
        (caption(A), caption(clip("a", labels=("Cat",))), "details", {"clip: other labels"}),
        (caption(A), caption(clip("a", start_s=1.0)), "details", {"clip: another stretch of its file"}),
        (
            caption(A),
            caption(clip("a", origin="elsewhere:1")),
            "details",
            {"clip: listed otherwise (its file, source, split or line)"},
        ),
        (caption(A), SILENT, "ended_otherwise", {"captioned → rejected: silent"}),
        (SILENT, replace(SILENT, reason="loud"), "ended_otherwise", {"rejected: silent → rejected: loud"}),
        (SILENT, replace(SILENT, evidence="-80 dBFS"), "details", {"other evidence"}),
        (caption(A), BROKEN, "ended_otherwise", {"captioned → failed: tags"}),
        (BROKEN, caption(A), "ended_otherwise", {"failed: tags → captioned"}),
        (BROKEN, replace(BROKEN, error="too long"), "details", {"another error"}),
    ],
)
def test_each_difference_has_its_kind_and_its_reasons(
    tmp_path: Path, old: Outcome, new: Outcome, kind: str, reasons: set[str]
) -> None:
    assert difference(tmp_path, old, new) == (kind, reasons)


def test_a_cue_that_fails_since_it_changed_is_named_though_a_failure_has_no_cues(tmp_path: Path) -> None:
    cues = {**CUES, "tags": {"model": "m", "fingerprint": "t2"}}
    assert difference(tmp_path, caption(A), BROKEN, cues=cues) == (
        "ended_otherwise",
        {"captioned → failed: tags", "tags: another model or parameters"},
    )


def test_a_duplicate_is_not_mistaken_for_the_clip_whose_id_it_has(tmp_path: Path) -> None:
    """Its failure may come before the clip's own in the file, and the clip may be the one that failed."""
    duplicate = Failure(clip("a", origin="list:9"), "ingest", "list:9: another row has the id a")
    publish(tmp_path, 1, [duplicate, BROKEN])
    publish(tmp_path, 2, [replace(BROKEN, error="still none"), duplicate])
    found = compare(str(tmp_path))
    assert found.counts == counts(details=1, unchanged=1)
    assert found.reasons == {"details": {"another error": 1}}
    publish(tmp_path, 3, [caption(A)])
    found = compare(str(tmp_path))
    assert found.counts == counts(ended_otherwise=1, removed=1)
    assert [shown.origin for shown in found.examples["removed"]] == ["list:9"]


def test_a_row_that_names_no_clip_is_known_by_its_line(tmp_path: Path) -> None:
    bad = [Failure(Clip("", "", origin=f"list:{line}"), "ingest", "no uri") for line in range(3)]
    publish(tmp_path, 1, bad[:2])
    publish(tmp_path, 2, [bad[0], bad[2]])
    assert compare(str(tmp_path)).counts == counts(added=1, removed=1, unchanged=1)


def test_a_row_that_was_put_right_is_the_same_clip(tmp_path: Path) -> None:
    assert difference(tmp_path, Failure(A, "ingest", "end before start"), caption(A)) == (
        "ended_otherwise",
        {"failed: ingest → captioned"},
    )


def test_examples_do_not_depend_on_the_order_of_records(tmp_path: Path) -> None:
    old = [caption(clip(f"c{number}")) for number in range(60)]
    new = [caption(it.clip, "Another.") for it in old[:40]] + [caption(clip(f"new{number}")) for number in range(20)]
    found = []
    for seed in range(3):
        for records_ in (old, new):
            random.Random(seed).shuffle(records_)
        root = tmp_path / str(seed)
        publish(root, 1, old)
        publish(root, 2, new)
        found.append(replace(compare(str(root), examples=4), root=""))
    assert found[0] == found[1] == found[2]
    assert found[0].counts == counts(rewritten=40, removed=20, added=20)
    for kind, side in (("rewritten", "Another."), ("added", "A dog barks.")):
        shown = found[0].examples[kind]
        assert len(shown) == 4
        assert {it.new.text for it in shown if it.new} == {side}
    assert all(it.old == Side("captioned", "A dog barks.") for it in found[0].examples["removed"])


def test_what_stands_in_records_cannot_harm_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path, 1, [caption(clip("[bold]a\x1b[2J"))])
    publish(tmp_path, 2, [caption(clip("[bold]a\x1b[2J"), "[red]\x1b]0;mine\x07")])
    assert main(["diff", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "\x1b]0" not in shown
    assert "\x1b[2J" not in shown
    assert "[bold]a" in shown
    assert "[red]" in shown


def test_a_version_that_is_the_same_as_another_or_not_published_is_none(tmp_path: Path) -> None:
    publish(tmp_path, 1, [caption(A)])
    publish(tmp_path, 2, [caption(A)], same_as=1)
    versions.claim(str(tmp_path), "a run under way")
    publish(tmp_path, 4, [caption(A, "Other.")])
    found = compare(str(tmp_path))
    assert (found.old, found.new) == (1, 4)
    for wrong in ((2, None), (3, None), (1, 5), (0, 1)):
        with pytest.raises(ConfigError, match=r"there is no version \d; there is 1, 4"):
            compare(str(tmp_path), *wrong)


def test_what_cannot_be_compared_is_said_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", str(tmp_path)]) == 2
    assert "no dataset of Earshot; name the folder" in capsys.readouterr().err
    publish(tmp_path, 1, [caption(A)])
    assert main(["diff", str(tmp_path)]) == 2
    assert "nothing was published before version 1" in capsys.readouterr().err
    publish(tmp_path, 2, [caption(A)])
    file = tmp_path / "versions" / "2" / "captions.avro"
    file.write_bytes(file.read_bytes()[:-20])
    assert main(["diff", str(tmp_path)]) == 2
    assert "captions.avro: not a whole Avro file" in capsys.readouterr().err
    (tmp_path / "versions" / "2" / "manifest.json").write_text("[1]")
    assert main(["diff", str(tmp_path)]) == 2
    assert "manifest.json is not one that Earshot wrote" in capsys.readouterr().err


def test_records_are_not_kept_in_memory(tmp_path: Path) -> None:
    number, long = 2000, "word " * 1000
    for version in (1, 2):
        publish(tmp_path, version, (caption(clip(f"c{index}"), f"{long}{index}") for index in range(number)))
    tracemalloc.start()
    try:
        found = compare(str(tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.counts == counts(unchanged=number)
    assert peak < number * 1500  # of 5000 characters each, and twice that many
