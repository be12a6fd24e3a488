"""Captions are compared with their sounds once, and a new threshold compares none. With the demo's trained CLAP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beam_pipeline.config import ConfigError, Profile, load_profile
from beam_pipeline.run import Result, foresee, run
from demo.world import make_scene, write_scenes
from tests.datasets import clips, records
from transforms.ingest import ClipSource
from transforms.records import Caption, Rejection

CLIPS = 4
PROFILE = """
description = "tags and CLAP"
[cues]
loudness = {{ handler = "loudness:Loudness" }}
audio_tags = {{ handler = "audio_tags:AudioTags", model = "pkg://demo/models/audio_tags" }}
clap = {{ handler = "audio_embedding:AudioEmbedding", model = "pkg://demo/models/clap" }}
[caption]
handler = "template_writer:TemplateWriter"
scene = ""
min_score = {min_score}
[similarity]
cue = "{cue}"
least = {least}
"""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    write_scenes([make_scene(4321, index) for index in range(CLIPS)], folder)
    return folder


def profile(folder: Path, **changes: Any) -> Profile:
    path = folder / "mine.toml"
    path.write_text(PROFILE.format(**{"min_score": 0.3, "cue": "clap", "least": -1.0, **changes}))
    return load_profile(str(path))


def test_scores_are_on_records_and_nothing_is_compared_twice(media: Path, tmp_path: Path) -> None:
    source, data = ClipSource(str(media / "clips.csv")), str(tmp_path / "data")

    def again(**changes: Any) -> Result:
        return run(profile(tmp_path, **changes), source, data, quiet=True)

    first = again()
    found = [record for record in records(first).values() if isinstance(record, Caption)]
    assert len(found) == clips(first)["similarity"] > 1
    scores = sorted(record.similarity for record in found if record.similarity is not None)
    assert len(scores) == len(found)
    assert all(-1 <= score <= 1 for score in scores)

    same = again()
    assert (same.costs, same.unchanged) == ({}, True)

    between = (scores[0] + scores[-1]) / 2
    strict = again(least=between)
    assert strict.costs == {}
    dropped = [record for record in records(strict).values() if isinstance(record, Rejection)]
    assert {record.reason for record in dropped if record.caption} == {"dissimilar"}
    assert len([r for r in dropped if r.reason == "dissimilar"]) == sum(score < between for score in scores)
    for record in dropped:
        if record.reason == "dissimilar":
            assert record.similarity is not None
            assert record.similarity < between
            assert f"required {between:g}" in record.evidence

    plan = foresee(profile(tmp_path, min_score=0.05), source, data)
    rewritten = again(min_score=0.05)  # other captions of the same sounds
    assert set(clips(rewritten)) <= {"caption", "similarity"}  # nothing is decoded for them
    assert next(step for step in plan.steps if step.name == "caption").to_do == clips(rewritten)["caption"]


def test_a_similarity_that_rests_on_no_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the cue 'nothing'"):
        profile(tmp_path, cue="nothing")
    with pytest.raises(ConfigError, match="'loudness' is no AudioEmbedding"):
        profile(tmp_path, cue="loudness")
