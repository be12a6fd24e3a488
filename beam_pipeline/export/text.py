"""Text files by split: CSV for people, JSON lines for programs."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from beam_pipeline.export.records import Row, caption_columns, pair_columns
from beam_pipeline.export.sounds import AudioFormat, Place, Sound
from beam_pipeline.export.target import Files, Wanted, WithQuestions, line_of, text_file

# Of the columns of captions, what a table leaves to the other formats: cues hold embeddings of thousands of characters.
_NO_COLUMNS = ("cues", "attempts")


class Csv(WithQuestions):
    """``<split>.csv`` and ``qa_<split>.csv``: texts and numbers as columns; lists as JSON; no cues.

    Every text is in quotes and is written as it is, so that it comes back as it was. So a text that begins with ``=``
    is a formula to a spreadsheet: import such files as text.
    """

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        super().__init__(folder, wanted)
        self._files = Files(folder, text_file)
        self._columns = [name for name in caption_columns() if name not in _NO_COLUMNS]
        if wanted.audio:
            self._columns.append("audio")

    def add(self, row: Row, sound: Sound | Place | None) -> None:
        self._write(f"{row['split']}.csv", {**row, **self.beside(row, sound)}, self._columns)

    def ask(self, row: Row) -> None:
        self._write(f"qa_{row['split']}.csv", row, list(pair_columns()))

    def finish(self) -> None:
        self._files.close()

    def _write(self, name: str, row: Row, columns: list[str]) -> None:
        values = (row[column] for column in columns)
        cells = [line_of(value) if isinstance(value, list | dict) else _cell(value) for value in values]
        head = ",".join(f'"{column}"' for column in columns) + "\n"
        csv.writer(self._files(name, head), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerow(cells)

    @classmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        numbers = '{"end_s": [""], "similarity": [""]}'  # which may be missing
        return "\n".join(
            [
                "import json",
                "",
                "import pandas",
                "",
                f'EXACT = {{"keep_default_na": False, "na_values": {numbers}}}  # else the text "NA" is missing',
                '# Before pandas 3 also "float_precision": "round_trip", or numbers differ in the last place.',
                f'captions = pandas.read_csv("PATH/{split}.csv", **EXACT)',
                'labels = captions["labels"].map(json.loads)',
                *([f'questions = pandas.read_csv("PATH/qa_{asked}.csv", **EXACT)'] if asked else []),
            ]
        )


def _cell(value: object) -> object:
    """A similarity that is no number is as good as none."""
    return None if isinstance(value, float) and math.isnan(value) else value


class JsonLines(WithQuestions):
    """``<split>.jsonl`` and ``qa_<split>.jsonl``: a row a line, whole."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        super().__init__(folder, wanted)
        self._files = Files(folder, text_file)

    def add(self, row: Row, sound: Sound | Place | None) -> None:
        self._files(f"{row['split']}.jsonl").write(line_of({**row, **self.beside(row, sound)}) + "\n")

    def ask(self, row: Row) -> None:
        self._files(f"qa_{row['split']}.jsonl").write(line_of(row) + "\n")

    def finish(self) -> None:
        self._files.close()

    @classmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        lines = ["import json", "", f'with open("PATH/{split}.jsonl", encoding="utf-8") as file:']
        lines.append("    captions = [json.loads(line) for line in file]")
        if asked:
            lines.append(f'with open("PATH/qa_{asked}.jsonl", encoding="utf-8") as file:')
            lines.append("    questions = [json.loads(line) for line in file]")
        return "\n".join(lines)
