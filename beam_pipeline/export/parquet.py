"""One flat table in a Parquet file, as pandas, Polars, DuckDB and Spark read it; what is nested stays nested."""

from __future__ import annotations

from pathlib import Path

from beam_pipeline.export.arrow import ParquetFile, arrow_schema, with_sound
from beam_pipeline.export.records import Row, caption_columns, key_of, pair_columns
from beam_pipeline.export.sounds import AudioFormat, Place, Sound
from beam_pipeline.export.target import Wanted, WithQuestions


class Parquet(WithQuestions):
    """``captions.parquet`` and ``qa.parquet``, all splits in one table."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        super().__init__(folder, wanted)
        rate = wanted.rate if wanted.audio else None
        self._captions = ParquetFile(folder / "captions.parquet", arrow_schema(caption_columns(), rate))
        self._pairs: ParquetFile | None = None

    def add(self, row: Row, sound: Sound | Place | None) -> None:
        self._captions.add(*with_sound(row, sound, f"{key_of(row['clip_id'])}.{self.wanted.audio}"))

    def ask(self, row: Row) -> None:
        if self._pairs is None:
            self._pairs = ParquetFile(self.folder / "qa.parquet", arrow_schema(pair_columns()))
        self._pairs.add(row)

    def finish(self) -> None:
        self._captions.close()
        if self._pairs is not None:
            self._pairs.close()

    @classmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        lines = ["import pandas", "", 'captions = pandas.read_parquet("PATH/captions.parquet")']
        if asked:
            lines.append('questions = pandas.read_parquet("PATH/qa.parquet")')
        if audio:
            lines += ["", 'sound = captions["audio"][0]["bytes"]  # a whole sound file; soundfile reads it']
        return "\n".join(lines)
