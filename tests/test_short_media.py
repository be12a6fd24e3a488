"""Speech and video cues of files at the edge: sound alone, a frame a second, one frame, a fraction of a second."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest

from beam_pipeline.config import load_profile
from beam_pipeline.run import run
from tests.datasets import records
from tests.media_files import write_clip
from tests.test_chat_video import make_qwen2_5
from transforms.ingest import ClipSource
from transforms.records import Caption, Rejection

pytestmark = pytest.mark.usefixtures("one_thread")

PROFILE = """
description = "speech and video"
[cues]
speech = {{ handler = "speech:Speech", model = "pkg://demo/models/speech", stem = "vocals" }}
whole = {{ handler = "speech:Speech", model = "pkg://demo/models/speech" }}
video = {{ handler = "chat:Chat", sees = "video", model = "{folder}", question = "what?", max_new_tokens = 4 }}
[separation]
model = "pkg://demo/models/separation"
rate = 16000
[caption]
handler = "template_writer:TemplateWriter"
tags = "whole"
scene = ""
"""


def test_media_at_the_edge_give_each_cue_what_there_is_and_fail_only_where_there_is_nothing(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for seconds in (0.25, 0.02, 0.001, 1.0):
        write_clip(media / f"sound{seconds:g}.wav", seconds=seconds)
    size = (64, 48)
    write_clip(media / "frame_a_second.mp4", seconds=3.0, fps=1, size=size)
    write_clip(media / "one_frame.mp4", seconds=2.0, frame_times=[0.0], size=size)
    write_clip(media / "one_frame_alone.mp4", seconds=1.0, frame_times=[0.0], audio="", size=size)
    write_clip(media / "short.mp4", seconds=0.2, size=size)
    with wave.open(str(media / "nothing.wav"), "wb") as empty:
        empty.setparams((1, 2, 16_000, 0, "NONE", ""))
        empty.writeframes(b"")
    lines = [{"clip_id": path.stem, "uri": str(path)} for path in sorted(media.iterdir())]
    long = str(media / "frame_a_second.mp4")
    lines += [{"clip_id": "between frames", "uri": long, "start_s": 1.3, "end_s": 1.4}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "mine.toml").write_text(PROFILE.format(folder=make_qwen2_5(tmp_path / "model")))
    source = ClipSource(str(tmp_path / "list.jsonl"))
    result = run(load_profile(str(tmp_path / "mine.toml")), source, str(tmp_path / "out"), quiet=True)
    ended = {end.clip.clip_id: end for end in records(result).values()}
    assert {name for name, end in ended.items() if not isinstance(end, Caption | Rejection)} == {"nothing"}
    assert "\n" not in ended.pop("nothing").error
    for name, end in ended.items():
        cues = {cue.name: cue for cue in end.cues}
        for heard in ("speech", "whole"):
            assert (cues[heard].skipped or cues[heard].items[0].text) == (
                "no audio track" if name == "one_frame_alone" else "no speech"
            )
        assert cues["video"].skipped == ("no video track" if name.startswith("sound") else "")
        assert len(cues["video"].items) == (0 if name.startswith("sound") else 1)
