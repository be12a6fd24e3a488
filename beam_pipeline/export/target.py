"""What every format has in common: rows go in one by one, files come out."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from beam_pipeline.export.records import Row, place_of
from beam_pipeline.export.sounds import AudioFormat, Place, Sound

BETWEEN_LINES = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}  # some readers end lines there


@dataclass(frozen=True)
class Wanted:
    """What is to be written, beside the rows themselves.

    Attributes:
        audio: which form the sounds have; ``None`` for none.
        rate: of the sounds, in Hz.
        shard_bytes: after how many bytes a shard is full.
        language: of the captions, ISO 639-1.
    """

    audio: AudioFormat | None = None
    rate: int = 48_000
    shard_bytes: int = 500_000_000
    language: str = "en"


class Target(ABC):
    """A format that is being written to a folder.

    Attributes:
        refers: whether it says where the media lie, if it is not to write the sounds out.
        tells_paths: whether its rows hold `uri` and `origin`.
        head: lines for the head of the card (YAML) that only this format needs.
    """

    refers: ClassVar[bool] = False
    tells_paths: ClassVar[bool] = True

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self.folder, self.wanted = folder, wanted

    @abstractmethod
    def add(self, row: Row, sound: Sound | Place | None) -> None:
        """Writes a caption's row, and the sound where there is one."""

    @abstractmethod
    def finish(self) -> None:
        """Ends all files."""

    @property
    def head(self) -> tuple[str, ...]:
        return ()

    @classmethod
    @abstractmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        """Python that loads it, for the card.

        Args:
            audio: the form of the sounds; ``None`` for none.
            split: one that was written.
            asked: a split that has questions; empty for none.
        """

    def beside(self, row: Row, sound: Sound | Place | None) -> dict[str, str]:
        """Writes the sound to a file of its own; the column that says which, where sounds are written at all."""
        if not isinstance(sound, Sound) or self.wanted.audio is None:
            return {}
        path = place_of(row["clip_id"], self.wanted.audio)
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(sound.content)
        return {"audio": path}


class WithQuestions(Target):
    """A format that has a place for questions."""

    @abstractmethod
    def ask(self, row: Row) -> None:
        """Writes a question's row."""


class Files:
    """Files that are opened when something is first written to them, and closed together."""

    def __init__(self, folder: Path, opened: Callable[[Path], IO[str]]) -> None:
        self._folder, self._opened = folder, opened
        self._files: dict[str, IO[str]] = {}

    def __call__(self, name: str, first: str = "") -> IO[str]:
        """The file of that name; `first` is written to a new one."""
        if name not in self._files:
            self._files[name] = self._opened(self._folder / name)
            self._files[name].write(first)
        return self._files[name]

    def close(self, last: str = "") -> None:
        """Closes them, `last` being written to each."""
        for file in self._files.values():
            file.write(last)
            file.close()


def text_file(path: Path) -> IO[str]:
    """A new file of UTF-8 in which newlines are what is written."""
    return path.open("w", encoding="utf-8", newline="")


def line_of(value: Any) -> str:
    """JSON in one line, whatever a reader takes for the end of one; numbers that JSON has not are null."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)
    for character, escaped in BETWEEN_LINES.items():
        if character in text:
            text = text.replace(character, escaped)
    return text


def _finite(value: Any) -> Any:
    """The value with ``None`` for numbers that are none, or infinite."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
