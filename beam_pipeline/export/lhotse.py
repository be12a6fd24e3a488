"""Manifests for lhotse: recordings, supervisions (the captions) and cuts that hold both."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, Any, ClassVar

from beam_pipeline.export.records import Row
from beam_pipeline.export.sounds import AudioFormat, Place, Sound
from beam_pipeline.export.target import Files, Wanted, WithQuestions, line_of

_NOT_TOLD = ("caption", "cues", "attempts")  # of a row, to a supervision's `custom`: cues hold long embeddings


class Lhotse(WithQuestions):
    """``recordings.jsonl.gz``, ``supervisions.jsonl.gz`` and ``cuts.jsonl.gz``.

    Each clip is a recording, a supervision whose text is the caption, and a cut; the three have the clip's id, and the
    supervision's `custom` what else the row holds but for cues. Where the sounds are written, a recording is the clip's
    own file, named relative to the folder, which may so be moved. Else it is the source's media file, and the cut is
    the clip's stretch of it.
    """

    refers: ClassVar[bool] = True

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        super().__init__(folder, wanted)
        self._files = Files(folder, _zipped)
        for name in ("recordings", "supervisions", "cuts"):
            self._files(f"{name}.jsonl.gz")  # empty ones as well, or there is nothing to load

    def add(self, row: Row, sound: Sound | Place | None) -> None:
        assert sound is not None  # what has neither a file nor a place was left out before
        recording, start_s, seconds = self._recording(row, sound)
        channels = recording["channel_ids"]
        custom = {name: value for name, value in row.items() if name not in _NOT_TOLD}
        channel: int | list[int] = channels[0] if len(channels) == 1 else channels
        supervision = {
            "id": row["clip_id"],
            "recording_id": row["clip_id"],
            "start": start_s,
            "duration": seconds,
            "channel": channel,
            "text": row["caption"],
            "language": self.wanted.language,
            "custom": custom,
        }
        cut = {
            "id": row["clip_id"],
            "start": start_s,
            "duration": seconds,
            "channel": channel,
            "supervisions": [{**supervision, "start": 0.0}],  # from the cut's own start
            "recording": recording,
            "custom": {"split": row["split"]},
            "type": "MonoCut" if len(channels) == 1 else "MultiCut",
        }
        for name, value in (("recordings", recording), ("supervisions", supervision), ("cuts", cut)):
            self._files(f"{name}.jsonl.gz").write(line_of(value) + "\n")

    def ask(self, row: Row) -> None:
        self._files("qa.jsonl.gz").write(line_of(row) + "\n")

    def finish(self) -> None:
        self._files.close()

    def _recording(self, row: Row, sound: Sound | Place) -> tuple[dict[str, Any], float, float]:
        """The recording, and where in it the clip begins and how long it lasts, in seconds."""
        if isinstance(sound, Sound):
            source = {"type": "file", "channels": [0], "source": self.beside(row, sound)["audio"]}
            rate, seconds, start_s = sound.rate, sound.samples / sound.rate, 0.0
            samples, length = sound.samples, seconds
        else:
            source = {"type": sound.kind, "channels": list(range(sound.channels)), "source": sound.source}
            rate, seconds, start_s = sound.rate, sound.duration_s, sound.start_s
            samples, length = round(sound.duration_s * sound.rate), sound.end_s - sound.start_s
        recording = {
            "id": row["clip_id"],
            "sources": [source],
            "sampling_rate": rate,
            "num_samples": samples,
            "duration": seconds,
            "channel_ids": source["channels"],
        }
        return recording, start_s, length

    @classmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        lines = ["from lhotse import CutSet", ""]
        prefix = '.with_recording_path_prefix("PATH")' if audio else ""
        lines.append(f'cuts = CutSet.from_file("PATH/cuts.jsonl.gz"){prefix}')
        # Not `cut.split`, which is a method of cuts.
        lines.append(f'{split} = cuts.filter(lambda cut: cut.custom["split"] == "{split}")')
        return "\n".join(lines)


def _zipped(path: Path) -> IO[str]:
    """A new file of UTF-8, compressed; with no time in it, the same rows make the same bytes."""
    return io.TextIOWrapper(gzip.GzipFile(path, "wb", 6, mtime=0), encoding="utf-8", newline="")
