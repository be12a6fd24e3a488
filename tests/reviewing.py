"""A rater's session on a small sample, for the tests of `earshot review`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from beam_pipeline.review.sample import Drawn, pack
from beam_pipeline.review.session import Judgement, Sample, Session
from transforms.avro import to_record
from transforms.records import Caption, Clip, Cue, Item

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


def drawn(index: int, caption: str = "") -> Drawn:
    clip_id, caption = f"clip{index}", caption or f"A red dog barks {index} times."
    clip = Clip(clip_id, f"/media/{index}.mp4", video_id=f"v{index}", end_s=10.0)
    cues = (
        Cue(clip_id, "tags", "f", "m", (Item("Dog", 0.91, 1.0, 2.0),)),
        Cue(clip_id, "place", "f", "m", (Item("park"),)),
    )
    return Drawn(clip_id, caption, pack("captions", to_record(Caption(clip, caption, "w", cues))))


def session(folder: Path, rater: str = "ann", clips: int = 5) -> Session:
    return Session(Sample("/data", 3, 0, tuple(map(drawn, range(clips)))), rater, folder)


def judgement(at: int, of: Session, **more: Any) -> Judgement:
    shown = of.clip(at)
    return Judgement(**{"clip_id": shown["clip_id"], "corresponds": True, "corrected": shown["caption"], **more})
