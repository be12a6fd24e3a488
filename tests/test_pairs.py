"""Whole runs that ask questions: what is published, what is never asked twice, and what happens when asking fails."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.collect import collect
from beam_pipeline.collect import plan as to_collect
from beam_pipeline.compare import compare
from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.models import check
from beam_pipeline.needed import need
from beam_pipeline.pipeline import recipe
from beam_pipeline.run import Result, foresee, run
from beam_pipeline.show import pairs_line
from demo.scenes import SOURCES
from demo.world import make_scene, read_truth, write_scenes
from tests.clauses import CLAUSES
from tests.llm_server import LlmServer, llm_server
from transforms.ingest import ClipSource
from transforms.records import Failure, Pair

SOUNDS = ("Dog", "Rain", "Church bell", "Train", "Violin", "Crowd", "Engine", "Frog", "Thunder", "Door")
WRITER = """
handler = "api_writer:ApiWriter"
model = "any"
base_url = "{url}"
key_env = ""
in_flight = {in_flight}
patience_s = {patience_s}
price_in = 1000.0
price_out = 2000.0
"""
PROFILE = """
description = "labels alone"
[cues]
labels = {{ handler = "dataset_labels:DatasetLabels" }}
[caption]
{writer}
[questions]
{writer}
prompt = "questions-1"
max_tokens = 800
{row}
"""


def profile(folder: Path, url: str, row: str = "", in_flight: int = 8, patience_s: float = 20) -> Profile:
    path = folder / "mine.toml"
    writer = WRITER.format(url=url, in_flight=in_flight, patience_s=patience_s)
    path.write_text(PROFILE.format(writer=writer, row=row))
    return load_profile(str(path))


def clips(folder: Path, count: int, **labels: list[str]) -> ClipSource:
    """Clips with nothing but labels; those of some may be given, by clip id."""
    given = {f"c{n:04}": [SOUNDS[n % 10], SOUNDS[(n // 10 + n % 3 + 1) % 10]] for n in range(count)} | labels
    lines = [
        {"clip_id": name, "uri": f"/none/{name}.mp4", "end_s": 10, "labels": heard} for name, heard in given.items()
    ]
    (folder / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ClipSource(str(folder / "clips.jsonl"))


def kinds(result: Result) -> dict[str, int]:
    counts = result.manifest["counts"]
    return {name: counts[name] for name in ("captions", "rejected", "failed")}


def pairs(result: Result) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = {}
    for pair in result.read("qa"):
        found.setdefault(pair.clip_id, []).append(pair)
    return found


def asks(server: LlmServer) -> int:
    """How many answers about questions the server was paid for."""
    return sum(count for told, count in server.answered_of.items() if "<caption>" in told)


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with llm_server() as running:
        yield running


def test_pairs_are_published_beside_the_captions_with_what_they_rest_on(server: LlmServer, tmp_path: Path) -> None:
    result = run(profile(tmp_path, server.url), clips(tmp_path, 20), str(tmp_path / "data"), quiet=True)
    assert kinds(result) == {"captions": 20, "rejected": 0, "failed": 0}
    assert result.manifest["files"]["qa"] == ["qa.avro"]
    assert (Path(result.folder) / "qa.avro").is_file()
    captions = {caption.clip.clip_id: caption for caption in result.read("captions")}
    found = pairs(result)
    assert found.keys() == captions.keys()
    for clip_id, some in found.items():
        assert {pair.form for pair in some} == {"open", "choice"}
        for pair in some:
            (labels,) = pair.evidence
            caption = captions[clip_id]
            assert labels.cue == "labels"
            assert {item.text for item in labels.items} <= {item.text for item in caption.cues[0].items}
            assert (pair.split, pair.model, pair.prompt) == (caption.split, "any", "questions-1")
            assert pair.form == "open" or (pair.answer in pair.choices and len(pair.choices) == 4)
    counted = result.manifest["pairs"]
    assert counted["published"] == 40
    assert (counted["kinds"], counted["forms"]) == ({"sound": 40}, {"choice": 20, "open": 20})
    assert counted["dropped"] == {"inaudible": 20} or counted["dropped"] == {"cue_speak": 20}
    assert (server.answered, asks(server)) == (40, 20)
    spent = result.manifest["costs"]["questions"]
    assert spent["clips"] == 20
    assert spent["dollars"] > 0
    assert pairs_line(result.manifest).startswith("questions: 40 (20 choice, 20 open; 40 sound); not taken: 20 ")


def test_a_rerun_asks_nothing_and_a_changed_caption_asks_about_its_clip_alone(
    server: LlmServer, tmp_path: Path
) -> None:
    mine, data = profile(tmp_path, server.url), str(tmp_path / "data")
    first = run(mine, clips(tmp_path, 12), data, quiet=True)
    again = run(mine, clips(tmp_path, 12), data, quiet=True)
    assert (again.unchanged, again.costs, server.answered) == (True, {}, 24)
    changed = run(mine, clips(tmp_path, 12, c0003=["Kettle"]), data, quiet=True)
    assert changed.costs["questions"]["clips"] == 1
    assert (server.answered, asks(server)) == (26, 13)
    before, after = pairs(first), pairs(changed)
    assert [name for name in after if after[name] != before[name]] == ["c0003"]
    stricter = run(profile(tmp_path, server.url, "[checks]\nleast_words = 4"), clips(tmp_path, 12), data, quiet=True)
    assert stricter.costs == {}  # checks judge what is stored


def test_without_the_section_nothing_is_asked_and_all_is_as_it_was(server: LlmServer, tmp_path: Path) -> None:
    mine = profile(tmp_path, server.url)
    text = (tmp_path / "mine.toml").read_text()
    (tmp_path / "none.toml").write_text(text[: text.index("[questions]")])
    none = load_profile(str(tmp_path / "none.toml"))
    result = run(none, clips(tmp_path, 5), str(tmp_path / "data"), quiet=True)
    assert server.answered == 5
    assert not {"pairs", "questions"} & result.manifest.keys()
    assert "qa" not in result.manifest["files"]
    assert sorted(path.name for path in Path(result.folder).glob("*.avro")) == [
        "captions.avro",
        "failed.avro",
        "rejected.avro",
    ]
    assert pairs_line(result.manifest) == ""
    assert {**recipe(mine), "questions": 0, "profile": 0} == {**recipe(none), "questions": 0, "profile": 0}
    wanted = run(mine, clips(tmp_path, 5), str(tmp_path / "data"), quiet=True)
    assert (server.answered, wanted.version) == (10, 2)  # no caption was written again


def test_the_plan_says_how_much_is_to_be_asked_and_what_it_takes(server: LlmServer, tmp_path: Path) -> None:
    mine, data = profile(tmp_path, server.url), str(tmp_path / "data")
    before = foresee(mine, clips(tmp_path, 10), data).as_json()
    assert [(step["name"], step["to_do"]) for step in before["steps"]][-2:] == [("caption", 10), ("questions", 10)]
    spent = run(mine, clips(tmp_path, 10), data, quiet=True).manifest["costs"]["questions"]
    after = foresee(mine, clips(tmp_path, 15), data).as_json()
    step = after["steps"][-1]
    assert (step["name"], step["known"], step["to_do"]) == ("questions", 10, 5)
    assert step["dollars"] == pytest.approx(spent["dollars"] / 2)
    assert foresee(mine, clips(tmp_path, 10), data).nothing_to_do
    more = profile(tmp_path, server.url, "per_clip = 6")
    steps = {step["name"]: step["to_do"] for step in foresee(more, clips(tmp_path, 10), data).as_json()["steps"]}
    assert (steps["caption"], steps["questions"]) == (0, 10)


def refusing(server: LlmServer, fault: str, told: str) -> None:
    """Lets a server meet a fault where it is asked for questions about clips of which something is told."""
    server.fault = lambda clip: fault if "<caption>" in clip and told in clip else ""  # type: ignore[method-assign]


def test_a_clip_whose_questions_fail_fails_and_its_caption_is_published_when_they_are_mended(
    server: LlmServer, tmp_path: Path
) -> None:
    mine, data = profile(tmp_path, server.url, patience_s=2), str(tmp_path / "data")
    refusing(server, "500", "Violin")
    first = run(mine, clips(tmp_path, 20), data, quiet=True)
    failed = list(first.read("failed"))
    assert failed
    assert all((failure.step, failure.retryable) == ("questions", True) for failure in failed)
    assert kinds(first) == {"captions": 20 - len(failed), "rejected": 0, "failed": len(failed)}
    assert first.manifest["reasons"] == {"failed/questions": len(failed)}
    waiting = {failure.clip.clip_id for failure in failed}
    captioned = {caption.clip.clip_id for caption in first.read("captions")}
    assert not waiting & captioned
    assert pairs(first).keys() == captioned

    refusing(server, "", "")
    answered = server.answered
    mended = run(mine, clips(tmp_path, 20), data, quiet=True)
    assert kinds(mended) == {"captions": 20, "rejected": 0, "failed": 0}
    assert server.answered == answered + len(failed)  # no caption was paid for again
    assert len(pairs(mended)) == 20
    found = compare(data)
    assert found.counts["ended_otherwise"] == len(failed)
    assert found.reasons["ended_otherwise"] == {"failed: questions → captioned": len(failed)}


def test_a_clip_that_the_provider_will_not_answer_about_keeps_its_caption(server: LlmServer, tmp_path: Path) -> None:
    mine, data = profile(tmp_path, server.url), str(tmp_path / "data")
    refusing(server, "content_filter", "Violin")
    first = run(mine, clips(tmp_path, 20), data, quiet=True)
    assert kinds(first) == {"captions": 20, "rejected": 0, "failed": 0}
    refused = first.manifest["pairs"]["dropped"]["refused"]
    assert 0 < refused == 20 - len(pairs(first))
    refusing(server, "", "")
    assert run(mine, clips(tmp_path, 20), data, quiet=True).unchanged  # nothing says that it would help
    mended = run(mine, clips(tmp_path, 20), data, retry_failed=True, quiet=True)
    assert (kinds(mended)["captions"], len(pairs(mended))) == (20, 20)


def test_questions_that_are_all_refused_stop_the_run_though_captions_were_answered(
    server: LlmServer, tmp_path: Path
) -> None:
    mine, data = profile(tmp_path, server.url), str(tmp_path / "data")
    refusing(server, "400", "")
    with pytest.raises(RuntimeError, match=r"all of the first \d+ questions were refused"):
        run(mine, clips(tmp_path, 20), data, quiet=True)
    refusing(server, "", "")
    captioned = server.answered
    assert kinds(run(mine, clips(tmp_path, 20), data, quiet=True))["captions"] == 20
    assert server.answered == captioned + 20  # of which none is a caption


def test_when_the_budget_ends_before_the_questions_the_next_run_asks_the_rest(
    server: LlmServer, tmp_path: Path
) -> None:
    mine, data = profile(tmp_path, server.url), str(tmp_path / "data")
    part = run(mine, clips(tmp_path, 20), data, budget_dollars=30.0, quiet=True)
    spent = sum(step.get("dollars", 0.0) for step in part.costs.values())
    assert spent <= 30.0
    left = list(part.read("failed"))
    assert left
    assert all(isinstance(one, Failure) and one.retryable and "budget of $30" in one.error for one in left)
    assert need(mine, clips(tmp_path, 20), data).needed
    whole = run(mine, clips(tmp_path, 20), data, quiet=True)
    assert kinds(whole)["captions"] == len(pairs(whole)) == 20
    assert server.answered == 40
    unpriced = replace(mine, questions={key: value for key, value in mine.questions.items() if key != "price_in"})
    with pytest.raises(ConfigError, match=r"\[questions\]"):
        run(unpriced, clips(tmp_path, 20), data, budget_dollars=1.0)


def test_questions_are_asked_in_batches_as_captions_are(server: LlmServer, tmp_path: Path) -> None:
    mine, data = profile(tmp_path, server.url, 'mode = "batch"\npoll_s = 0.05'), str(tmp_path / "data")
    result = run(mine, clips(tmp_path, 10), data, quiet=True)
    assert (kinds(result)["captions"], len(pairs(result)), server.answered) == (10, 10, 20)
    assert len(server.batches) >= 1
    again = run(mine, clips(tmp_path, 10), data, quiet=True)
    assert (again.unchanged, server.answered) == (True, 20)


def test_a_profiles_check_asks_both_writers(server: LlmServer, tmp_path: Path) -> None:
    *_, caption, questions = check(profile(tmp_path, server.url), lambda view: tmp_path)
    assert (caption.name, caption.state, questions.name, questions.state) == ("caption", "ok", "questions", "ok")
    assert questions.said.startswith("What can be heard?")


def test_other_questions_are_a_difference_and_the_store_of_those_before_goes_with_their_versions(
    server: LlmServer, tmp_path: Path
) -> None:
    data = str(tmp_path / "data")
    run(profile(tmp_path, server.url), clips(tmp_path, 8), data, quiet=True)
    run(profile(tmp_path, server.url, "per_clip = 1\nshare_choice = 0"), clips(tmp_path, 8), data, quiet=True)
    found = compare(data)
    assert (found.counts["details"], found.counts["unchanged"]) == (8, 0)
    assert found.reasons["details"] == {"questions: others": 8}
    written = tmp_path / "data" / "store" / "written"
    assert len(list(written.iterdir())) == 3
    collect(to_collect(data, keep=1, older_than_days=0))
    assert len(list(written.iterdir())) == 2
    again = run(profile(tmp_path, server.url, "per_clip = 1\nshare_choice = 0"), clips(tmp_path, 8), data, quiet=True)
    assert (again.costs, again.unchanged) == ({}, True)


def test_a_killed_run_pays_for_no_question_twice(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with llm_server(latency_s=0.05) as server:
        profile(tmp_path, server.url, in_flight=4)
        clips(tmp_path, 60)
        command = [sys.executable, "-m", "beam_pipeline.cli", "run", "--profile", str(tmp_path / "mine.toml")]
        command += ["--clips", str(tmp_path / "clips.jsonl"), "--output", str(data)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while asks(server) < 15 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert 15 <= asks(server) < 60
        result = run(load_profile(str(tmp_path / "mine.toml")), clips(tmp_path, 60), str(data), quiet=True)
        assert kinds(result)["captions"] == len(pairs(result)) == 60
        # Only what was under way when the process died, at most 4 requests, had to be asked again.
        assert 120 <= server.answered <= 124


RULES = """
description = "the demo's tagger, and questions by rule"
[cues]
labels = {{ handler = "dataset_labels:DatasetLabels" }}
place = {{ handler = "place:Place", model = "pkg://demo/models/place" }}
audio_tags = {{ handler = "audio_tags:AudioTags", model = "pkg://demo/models/audio_tags", top = 3 }}
sound = {{ handler = "tests.clauses:Clauses", model = "pkg://demo/models/audio_tags", top = 3 }}
[caption]
handler = "template_writer:TemplateWriter"
scene = ""
at_most = {at_most}
[questions]
handler = "template_questions:TemplateQuestions"
music = ""
speech = ""
place = ""
sounds = {sounds}
sources = {sources}
labels = {labels}
per_clip = {per_clip}
"""


def by_rule(folder: Path, per_clip: int = 4, at_most: int = 3) -> Profile:
    given: dict[str, Any] = {
        "sounds": json.dumps([CLAUSES[source.label] for source in SOURCES.values()]),
        "sources": json.dumps([source.phrase for source in SOURCES.values()]),
        "labels": json.dumps([source.label for source in SOURCES.values()]),
    }
    (folder / "rules.toml").write_text(RULES.format(per_clip=per_clip, at_most=at_most, **given))
    return load_profile(str(folder / "rules.toml"))


def test_questions_by_rule_about_real_clips_are_true_of_the_world_and_asked_once(tmp_path: Path) -> None:
    write_scenes([make_scene(4321, index) for index in range(6)], tmp_path / "media")
    source, data = ClipSource(str(tmp_path / "media" / "clips.csv")), str(tmp_path / "data")
    result = run(by_rule(tmp_path), source, data, quiet=True)
    found = pairs(result)
    truths = {truth["clip_id"]: truth for truth in read_truth(tmp_path / "media")}
    assert len(found) >= 5  # of the clips of whose sounds the tagger is sure
    for clip_id, some in found.items():
        things = [SOURCES[name] for name in truths[clip_id]["sources"]]
        heard = [CLAUSES[thing.label] for thing in things]
        answers = {pair.question: pair.answer.strip(".").lower() for pair in some}
        for question, answer in answers.items():
            if question == "What can be heard?":
                assert sorted(answer.split(" and ")) == sorted(heard)
            elif question == "Which of these sounds can be heard?":
                assert answer in heard
            elif question == "How many different sounds can be heard?":
                assert answer == ("one", "two")[len(heard) - 1]
            else:
                assert answer in [thing.phrase for thing in things if f"What {thing.verb}?" == question]
        for pair in some:
            assert not {*pair.choices} - {pair.answer} & {*heard, *(thing.phrase for thing in things)}
    assert Counter(len(some) for some in found.values()).keys() <= {3, 4}

    again = run(by_rule(tmp_path), source, data, quiet=True)
    assert (again.costs, again.unchanged) == ({}, True)
    fewer = run(by_rule(tmp_path, per_clip=1), source, data, quiet=True)
    assert fewer.costs.keys() == {"questions"}
    assert {len(some) for some in pairs(fewer).values()} == {1}
    captions = {caption.clip.clip_id: caption.caption for caption in fewer.read("captions")}
    rewritten = run(by_rule(tmp_path, per_clip=1, at_most=1), source, data, quiet=True)
    others = {c.clip.clip_id for c in rewritten.read("captions") if c.caption != captions[c.clip.clip_id]}
    assert 0 < len(others) < 6  # the clips of two sounds
    assert rewritten.costs["questions"]["clips"] == len(others)
