"""Small datasets of a few of the demo's cues, made in seconds: what tests of reruns begin with."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from beam_pipeline.config import Profile, load_profile
from beam_pipeline.run import Result
from transforms.ingest import ClipSource
from transforms.publish import OUTCOMES

CLIPS = 4
PROFILE = """
description = "a few of the demo's cues"
[cues]
labels = {{ handler = "dataset_labels:DatasetLabels" }}
media = {{ handler = "media_info:MediaFacts" }}
place = {{ handler = "place:Place", model = "pkg://demo/models/place", top = {top} }}
loudness = {{ handler = "loudness:Loudness" }}
audio_tags = {{ handler = "audio_tags:AudioTags", model = "pkg://demo/models/audio_tags", top = {tags} }}
[filters.silence]
below_dbfs = {silence}
[caption]
handler = "template_writer:TemplateWriter"
scene = ""
at_most = {at_most}
"""


def profile(folder: Path, **changes: Any) -> Profile:
    path = folder / "mine.toml"
    path.write_text(PROFILE.format(**{"top": 3, "tags": 3, "silence": -60.0, "at_most": 3, **changes}))
    return load_profile(str(path))


def listed(folder: Path, media: Path, *rows: dict[str, Any]) -> ClipSource:
    """A list of clips of one's own."""
    lines = [{**row, "uri": str(media / row["uri"])} for row in rows]
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ClipSource(str(folder / "list.jsonl"))


def rows(media: Path) -> list[dict[str, Any]]:
    with (media / "clips.csv").open(newline="") as file:
        return [
            {"clip_id": row["clip_id"], "uri": row["uri"], "start_s": 0, "end_s": 10} for row in csv.DictReader(file)
        ]


def clips(result: Result) -> dict[str, int]:
    """How many clips each step worked on."""
    return {step: spent["clips"] for step, spent in result.costs.items()}


def records(result: Result) -> dict[str, Any]:
    return {record.clip.origin: record for name in OUTCOMES for record in result.read(name)}
