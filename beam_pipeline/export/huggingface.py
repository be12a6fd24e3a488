"""For `datasets.load_dataset`: Parquet shards by split, with the features in their schemas and the card's configs."""

from __future__ import annotations

import os
from pathlib import Path

from beam_pipeline.export.arrow import ParquetFile, arrow_schema, with_sound
from beam_pipeline.export.records import Row, caption_columns, key_of, pair_columns
from beam_pipeline.export.sounds import AudioFormat, Place, Sound
from beam_pipeline.export.target import Wanted, WithQuestions
from transforms.splits import TRAIN

CONFIGS = {"captions": "data", "qa": "qa"}  # and the folders that they lie in


class Shards:
    """The shards of one config; they get their names when it is known how many there are."""

    def __init__(self, folder: Path, schema: object, shard_bytes: int) -> None:
        self._folder, self._schema, self._shard_bytes = folder, schema, shard_bytes
        self._open: dict[str, ParquetFile] = {}
        self.paths: dict[str, list[Path]] = {}

    def add(self, row: Row, sound_bytes: int = 0) -> None:
        """Writes a row to the shard of its split."""
        split = row["split"]
        file = self._open.get(split) or self.start(split)
        file.add(row, sound_bytes)
        if file.size >= self._shard_bytes:
            file.close()
            del self._open[split]

    def start(self, split: str) -> ParquetFile:
        """Begins a shard of a split."""
        self._folder.mkdir(exist_ok=True)
        paths = self.paths.setdefault(split, [])
        paths.append(self._folder / f"{split}-{len(paths):05d}.parquet")
        self._open[split] = ParquetFile(paths[-1], self._schema)
        return self._open[split]

    def finish(self) -> None:
        """Ends them."""
        for file in self._open.values():
            file.close()
        for split, paths in self.paths.items():
            for number, path in enumerate(paths):
                os.replace(path, path.with_name(f"{split}-{number:05d}-of-{len(paths):05d}.parquet"))


class HuggingFace(WithQuestions):
    """A folder that `datasets` loads, and that can be uploaded to the Hub as it is."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        super().__init__(folder, wanted)
        rate = wanted.rate if wanted.audio else None
        self._captions = Shards(
            folder / CONFIGS["captions"], arrow_schema(caption_columns(), rate, features=True), wanted.shard_bytes
        )
        self._pairs = Shards(folder / CONFIGS["qa"], arrow_schema(pair_columns(), features=True), wanted.shard_bytes)

    def add(self, row: Row, sound: Sound | Place | None) -> None:
        self._captions.add(*with_sound(row, sound, f"{key_of(row['clip_id'])}.{self.wanted.audio}"))

    def ask(self, row: Row) -> None:
        self._pairs.add(row)

    def finish(self) -> None:
        if not self._captions.paths:
            self._captions.start(TRAIN)  # else there is nothing to load, not even no rows
        self._captions.finish()
        self._pairs.finish()

    @property
    def head(self) -> tuple[str, ...]:
        lines = ["configs:"]
        for name, shards in (("captions", self._captions), ("qa", self._pairs)):
            if not shards.paths:
                continue
            lines += [f"- config_name: {name}", *(["  default: true"] if name == "captions" else []), "  data_files:"]
            for split in shards.paths:
                lines += [f"  - split: {split}", f"    path: {CONFIGS[name]}/{split}-*.parquet"]
        return tuple(lines)

    @classmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        lines = ["from datasets import load_dataset", "", f'captions = load_dataset("PATH")  # captions["{split}"] …']
        if asked:
            lines.append('questions = load_dataset("PATH", "qa")')
        if audio:
            lines += [
                f'# captions["{split}"][0]["audio"] decodes with torchcodec; without it, take the file\'s bytes:',
                "from datasets import Audio",
                "",
                'captions = captions.cast_column("audio", Audio(decode=False))',
            ]
        return "\n".join(lines)
