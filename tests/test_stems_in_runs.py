"""Cues of stems through whole runs: a clip is taken apart once, where it is decoded, and there it stays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.metrics.monitoring_infos import extract_distribution
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline import models
from beam_pipeline.cli import main
from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.pipeline import Run, build
from beam_pipeline.presets import fit, load_preset
from beam_pipeline.run import Result, run
from model_handlers.base import AudioCue, Example, Item, Items
from model_handlers.separation import Separator, StemCue
from model_handlers.views import StemsView, View
from tests.datasets import clips, records
from tests.media_files import write_clip
from tests.test_separation import RATE, make_separator
from transforms.ingest import ClipSource
from transforms.records import Caption, Failure

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = 4_000  # bytes of an element, at most, that leaves a stage; the stems of a clip of 2 s take 256,000
PROFILE = """
description = "cues of stems"
[cues]
whole = {{ handler = "tests.test_stems_in_runs:Level" }}
vocals = {{ handler = "tests.test_stems_in_runs:Level", stem = "vocals" }}
rest = {{ handler = "tests.test_stems_in_runs:Level", stem = "rest", batch_size = 2 }}
{separation}
[caption]
handler = "template_writer:TemplateWriter"
tags = "whole"
scene = ""
"""
SEPARATION = '[separation]\nmodel = "{folder}"\nrate = {rate}\nbatch_size = 4'


@dataclass(kw_only=True)
class Level(StemCue, AudioCue[None]):
    """How loud what it hears is: one item with a half and the mean square as its score."""

    rate: int = 16_000

    described = "how loud it is"

    @property
    def view(self) -> View:
        return self.sound(self.rate)

    @property
    def without_effect(self) -> frozenset[str]:
        return super().without_effect | {"rate"}  # the view says it

    def load(self) -> None:
        return None

    def predict(self, batch: Sequence[Example], model: None) -> list[Items]:
        sounds = [self.heard(example.view) for example in batch]
        return [(Item("sound", score=0.5 + float(np.square(sound, dtype=np.float64).mean())),) for sound in sounds]


@dataclass(kw_only=True)
class Counting(Separator):
    """Counts the clips that it takes apart."""

    taken: ClassVar[list[int]] = []

    def separate_at(
        self, mixtures: Sequence[np.ndarray], model: Any, rates: Sequence[int]
    ) -> list[dict[int, StemsView]]:
        self.taken.extend(len(mixture) for mixture in mixtures)
        return super().separate_at(mixtures, model, rates)


@dataclass(kw_only=True)
class Picky(Separator):
    """Cannot take short clips apart."""

    def separate_at(
        self, mixtures: Sequence[np.ndarray], model: Any, rates: Sequence[int]
    ) -> list[dict[int, StemsView]]:
        if any(len(mixture) < 1.2 * RATE for mixture in mixtures):
            raise ValueError("too short for me")
        return super().separate_at(mixtures, model, rates)


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_separator(tmp_path_factory.mktemp("separator"))


def profile(folder: Path, separation: str) -> Profile:
    path = folder / "stems.toml"
    path.write_text(PROFILE.format(separation=separation))
    return load_profile(str(path))


@pytest.fixture(scope="module")
def stems(separator: Path, tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return profile(tmp_path_factory.mktemp("profile"), SEPARATION.format(folder=separator, rate=RATE))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ClipSource:
    """Six good clips of three lengths, one without sound and one that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        write_clip(folder / f"good{number}.mp4", seconds=1.0 + number % 3 / 2, size=(64, 48))
    write_clip(folder / "soundless.mp4", audio="", size=(64, 48))
    (folder / "text.mp4").write_text("no video" * 1000)
    lines = [json.dumps({"clip_id": path.stem, "uri": str(path)}) for path in sorted(folder.glob("*.mp4"))]
    (folder / "list.jsonl").write_text("\n".join(lines))
    return ClipSource(str(folder / "list.jsonl"))


def test_a_clip_is_taken_apart_once_for_all_cues_that_hear_its_stems(
    separator: Path, source: ClipSource, tmp_path: Path
) -> None:
    counting = SEPARATION.format(folder=separator, rate=RATE) + '\nhandler = "tests.test_stems_in_runs:Counting"'
    stems, taken = profile(tmp_path, counting), Counting.taken
    taken.clear()
    result = run(stems, source, str(tmp_path / "out"), quiet=True)
    assert len(taken) == 6
    assert clips(result)["separation"] == 6
    assert clips(result)["decode stems 16000 Hz of audio 8000 Hz"] == 8
    assert result.manifest["separation"]["model"] == stems.separation["model"]
    again = run(stems, source, str(tmp_path / "out"), quiet=True)
    assert len(taken) == 6  # what is known is not taken apart again
    assert again.manifest["digest"] == result.manifest["digest"]
    ends = {record.clip.clip_id: record for record in records(result).values()}
    for name, end in ends.items():
        if name.startswith("good"):
            assert isinstance(end, Caption)
            whole, vocals, rest = (cue.items[0].score for cue in end.cues)
            assert vocals != rest != whole  # they have different parts of it
        elif name == "text":
            assert isinstance(end, Failure)
    [soundless] = [end for name, end in ends.items() if name == "soundless"]
    assert {cue.skipped for cue in soundless.cues} == {"no audio track"}  # type: ignore[union-attr]


def test_stems_at_two_rates_are_taken_apart_once_and_are_what_each_is_alone(
    separator: Path, source: ClipSource, tmp_path: Path
) -> None:
    alone = profile(tmp_path, SEPARATION.format(folder=separator, rate=RATE))
    apart = run(alone, source, str(tmp_path / "alone"), quiet=True)
    counting = SEPARATION.format(folder=separator, rate=RATE) + '\nhandler = "tests.test_stems_in_runs:Counting"'
    both = profile(tmp_path, counting)
    both = replace(both, cues={**both.cues, "high": {**both.cues["rest"], "rate": 22_050}})
    Counting.taken.clear()
    together = run(both, source, str(tmp_path / "both"), quiet=True)
    assert len(Counting.taken) == 6
    worked = clips(together)
    assert (worked["separation"], worked["decode stems of audio 8000 Hz"], worked["high"]) == (6, 8, 6)
    assert items_of(together) == items_of(apart)  # of the cues that both runs have


def items_of(result: Result) -> dict[tuple[str, str], tuple[Item, ...]]:
    """What each cue but ``high`` says of each clip that has cues."""
    ended = [end for end in records(result).values() if not isinstance(end, Failure)]
    return {(end.clip.clip_id, cue.name): cue.items for end in ended for cue in end.cues if cue.name != "high"}


def test_cues_of_stems_share_a_separation_even_where_one_has_to_wait_for_others(
    stems: Profile, source: ClipSource, tmp_path: Path
) -> None:
    waits = {**stems.cues["rest"], "when": {"cue": "whole"}}
    waiting = replace(stems, cues={**stems.cues, "rest": waits})
    assert waiting.levels() == (("whole",), ("vocals", "rest"))
    assert stems.levels() == (("whole", "vocals", "rest"),)
    result = run(waiting, source, str(tmp_path / "out"), quiet=True)
    assert clips(result)["separation"] == 6
    awaited = replace(stems, cues={**stems.cues, "rest": {**waits, "when": {"cue": "vocals"}}})
    assert awaited.levels() == (("whole", "vocals"), ("rest",))


def test_what_cannot_be_taken_apart_fails_with_the_step_that_failed(
    separator: Path, source: ClipSource, tmp_path: Path
) -> None:
    picky = SEPARATION.format(folder=separator, rate=RATE) + '\nhandler = "tests.test_stems_in_runs:Picky"'
    result = run(profile(tmp_path, picky), source, str(tmp_path / "out"), quiet=True)
    ends = {record.clip.clip_id: record for record in records(result).values()}
    failed = {name: end for name, end in ends.items() if isinstance(end, Failure)}
    assert failed.keys() == {"good0", "good3", "text"}
    assert "separation: ValueError: too short for me" in failed["good0"].error
    assert isinstance(ends["good1"], Caption)


def test_stems_stay_in_the_stage_that_decodes_and_shows_them(stems: Profile, source: ClipSource) -> None:
    for hints in ({}, {"accelerator": "type:nvidia-l4;count:1", "min_ram": "32GB"}):
        pipeline = beam.Pipeline(runner=FnApiRunner())
        build(pipeline, Run(stems, source, "", 1, {}, gpu_hints=hints))
        _, stages = FnApiRunner().create_stages(pipeline.to_runner_api())
        [stage] = [
            names
            for names in ({step.unique_name for step in stage.transforms} for stage in stages)
            if any("stems 16000 Hz" in name and "/decode/" in name for name in names)
        ]
        for wanted in ("separate sound", "/vocals/", "/rest/", "vocals finding", "rest finding", "vocals done"):
            assert any(wanted in name for name in stage), wanted


def test_what_leaves_a_stage_is_small(stems: Profile, source: ClipSource, tmp_path: Path) -> None:
    pipeline = beam.Pipeline(runner=FnApiRunner())
    build(pipeline, Run(stems, source, str(tmp_path / "out"), 1, {}))
    proto = pipeline.to_runner_api()
    _, stages = FnApiRunner().create_stages(proto)
    homes: dict[str, set[int]] = {}
    for number, stage in enumerate(stages):
        for step in stage.transforms:
            for pcollection in (*step.inputs.values(), *step.outputs.values()):
                homes.setdefault(pcollection, set()).add(number)
    result = FnApiRunner().run_pipeline(pipeline, pipeline.options)
    result.wait_until_finish()
    sizes = {
        info.labels["PCOLLECTION"]: extract_distribution(info)[3]
        for info in result.monitoring_infos()  # type: ignore[attr-defined]
        if info.urn == "beam:metric:sampled_byte_size:v1"
    }
    leaving = {name: size for name, size in sizes.items() if len(homes.get(name, ())) > 1}
    assert leaving
    assert max(leaving.values()) < SMALL
    assert max(sizes.values()) > 10 * SMALL  # the samples, which stay: the measure sees them


def test_a_stem_without_a_separator_is_a_mistake_that_says_what_to_add(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"vocals: stem = 'vocals' needs .* \[separation\] with model = "):
        profile(tmp_path, "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate", "rat", "separation: Separator has no parameter 'rat'; did you mean 'rate'"),
        ("batch_size = 4", "batch_size = 0", "separation: batch_size is 0"),
        ("batch_size = 4", 'handler = "loudness:Loudness"', "is not a Separator"),
    ],
)
def test_a_mistake_in_the_section_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        profile(tmp_path, SEPARATION.format(folder="x", rate=RATE).replace(old, new))


@pytest.mark.parametrize("row", ['stem = "drums"', 'separator = "x"'])
def test_a_row_names_a_part_that_there_is_and_no_separator_of_its_own(tmp_path: Path, row: str) -> None:
    path = tmp_path / "stems.toml"
    path.write_text(PROFILE.format(separation="").replace('stem = "vocals"', row))
    with pytest.raises(ConfigError, match="vocals: "):
        load_profile(str(path))


def test_the_separator_counts_among_the_models_of_a_gpu(stems: Profile) -> None:
    assert stems.gpu_memory()["separation"] == pytest.approx(Separator.footprint.gb(4, "fp32"))  # type: ignore[union-attr]
    assert "separation" in fit(load_preset("l4"), stems).rows


def test_another_separator_computes_the_stems_anew_and_nothing_else(
    stems: Profile, source: ClipSource, tmp_path: Path
) -> None:
    run(stems, source, str(tmp_path / "out"), quiet=True)
    other = make_separator(tmp_path / "other", channels=8)
    changed = profile(tmp_path, SEPARATION.format(folder=other, rate=RATE))
    result: Result = run(changed, source, str(tmp_path / "out"), quiet=True)
    worked = clips(result)
    assert (worked["vocals"], worked["rest"], worked["separation"]) == (6, 6, 6)
    assert "whole" not in worked


def test_models_are_fetched_and_checked_with_the_separator(
    stems: Profile, separator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (str(separator), "", Separator.patterns) in models.wanted(stems)
    clip = write_clip(tmp_path / "c.mp4", size=(64, 48))
    checked = {one.name: one for one in models.check(stems, lambda view: clip)}
    assert [name for name, one in checked.items() if not one.ok] == []
    assert checked["separation"].said.startswith("vocals -")
    assert checked["vocals"].said == "sound"
    path = tmp_path / "broken.toml"
    path.write_text(PROFILE.format(separation=SEPARATION.format(folder=separator, rate=44_100)))
    assert main(["models", "check", "--profile", str(path)]) == 2
    assert "separation: " in (said := " ".join(capsys.readouterr().err.split()))
    assert "set rate = 8000" in said
