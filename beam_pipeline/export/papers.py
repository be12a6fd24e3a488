"""The two papers' datasets in the shapes in which they were released, so that what reads them reads these."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, ClassVar

from beam_pipeline.export.records import Row, place_of
from beam_pipeline.export.sounds import AudioFormat, Place, Sound
from beam_pipeline.export.target import Files, Target, Wanted, WithQuestions, line_of, text_file
from transforms.splits import VALIDATION

ASKED = "Please describe this audio in detail."  # in the quick start of FusionAudio's repository
_TASKS = {"open": "Open-ended questions", "choice": "Multiple-choice questions"}


class AutoAcd(Target):
    """``train.csv``, ``val.csv``, ``test.csv`` … with the columns ``youtube_id`` and ``caption``, and three more.

    What is known of the release (huggingface.co/datasets/Loie/Auto-ACD): public code reads those two columns of its
    ``train.csv``; of its ids, its authors say (LoieSun/Auto-ACD, issue 1) that VGGSound's have the clip's start in
    seconds (``oPRC3zComfA_000117``), and AudioSet's are the bare YouTube id, with no start at all, which users missed.
    So `start_s`, `end_s` and `clip_id` follow here. That the other files are called ``val.csv`` and ``test.csv`` is
    from memory.
    """

    tells_paths: ClassVar[bool] = False

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        super().__init__(folder, wanted)
        self._files = Files(folder, text_file)

    def add(self, row: Row, sound: Sound | Place | None) -> None:
        values = {
            "youtube_id": _youtube_id(row),
            "caption": row["caption"],
            "start_s": row["start_s"],
            "end_s": row["end_s"],
            "clip_id": row["clip_id"],
            **self.beside(row, sound),
        }
        writer = csv.writer(
            self._files(_file(row["split"]), ",".join(values) + "\n"), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n"
        )
        writer.writerow(values.values())

    def finish(self) -> None:
        self._files.close()

    @classmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        numbers = 'na_values={"end_s": [""]}'  # else those of a table in which one has no end are texts
        return f'import pandas\n\ncaptions = pandas.read_csv("PATH/{_file(split)}", keep_default_na=False, {numbers})'


class FusionAudio(WithQuestions):
    """``<split>.json`` and ``qa_<split>.json``: lists of instructions, as FusionAudio has them.

    The keys ``audio_id``, ``instruction``, ``input``, ``dataset``, ``task`` and ``output`` are those of the data format
    in the README of the authors' repository (FreedomIntelligence/FusionAudio), and ``Open-ended questions`` is the task
    in its example (data/example/train_data_example.json). The files on the Hub (SatsukiVie/FusionAudio) could not be
    looked at: their names, and the other tasks' names, are ours. ``audio_id`` is the path of a sound file there; here
    that is so where the sounds are written, else it is the clip's id. The keys after ``output`` are ours: they say
    which stretch of which video a row is about, which users missed.
    """

    tells_paths: ClassVar[bool] = False

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        super().__init__(folder, wanted)
        self._files = Files(folder, text_file)
        self._written: set[str] = set()

    def add(self, row: Row, sound: Sound | Place | None) -> None:
        path = self.beside(row, sound).get("audio")
        self._write(row["split"], _instruction(row, path or row["clip_id"], ASKED, "Audio captioning", row["caption"]))

    def ask(self, row: Row) -> None:
        path = place_of(row["clip_id"], self.wanted.audio) if self.wanted.audio else row["clip_id"]
        options = [f"({chr(ord('a') + place)}) {choice}" for place, choice in enumerate(row["choices"])]
        question = "\n".join([row["question"], *options])
        self._write(f"qa_{row['split']}", _instruction(row, path, question, _TASKS[row["form"]], row["answer"]))

    def finish(self) -> None:
        self._files.close("\n]\n")

    def _write(self, name: str, value: dict[str, Any]) -> None:
        file = self._files(f"{name}.json", "[")
        file.write(",\n" if name in self._written else "\n")
        self._written.add(name)
        file.write(line_of(value))

    @classmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        lines = ["import json", ""]
        for variable, name in (("captions", split), *([("questions", f"qa_{asked}")] if asked else [])):
            lines += [f'with open("PATH/{name}.json", encoding="utf-8") as file:', f"    {variable} = json.load(file)"]
        return "\n".join(lines)


def _instruction(row: Row, audio_id: str, instruction: str, task: str, output: str) -> dict[str, Any]:
    paper = {
        "audio_id": audio_id,
        "instruction": instruction,
        "input": "",
        "dataset": row["source"],
        "task": task,
        "output": output,
    }
    return paper | {name: row[name] for name in ("clip_id", "video_id", "start_s", "end_s")}


def _file(split: str) -> str:
    return "val.csv" if split == VALIDATION else f"{split}.csv"


def _youtube_id(row: Row) -> str:
    """The id as Auto-ACD has it: VGGSound's with the start in seconds. Of clips of other sources the clip's."""
    if row["source"] == "vggsound":
        return f"{row['video_id']}_{int(row['start_s']):06d}"
    return row["video_id"] if row["source"] == "audioset" else row["clip_id"]
