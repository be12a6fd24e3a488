"""WebDataset: tar shards by split, in which the files of one clip follow each other and share a key."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from beam_pipeline.export.records import Row, key_of
from beam_pipeline.export.sounds import AudioFormat, Place, Sound
from beam_pipeline.export.target import Files, Wanted, WithQuestions, line_of, text_file


class _Shard:
    """A tar file under way."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115 (closed by `close`)

    @property
    def size(self) -> int:
        return self._file.tell()

    def add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)  # of nobody, at no time: the same rows make the same bytes
        member.size = len(content)
        self._tar.addfile(member, io.BytesIO(content))

    def close(self) -> None:
        self._tar.close()
        self._file.close()


class WebDataset(WithQuestions):
    """``<split>-000000.tar`` …: of each clip ``<key>.flac`` (or ``.wav``), ``<key>.json``, the row, and ``<key>.txt``.

    A key is the clip's id, percent-encoded with its dots: `urllib.parse.unquote` turns it back. Long ones end in a
    hash. The row in the JSON has the id itself. Questions are in ``qa_<split>.jsonl``.
    """

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        super().__init__(folder, wanted)
        self._open: dict[str, _Shard] = {}
        self._numbers: dict[str, int] = {}
        self._pairs = Files(folder, text_file)

    def add(self, row: Row, sound: Sound | Place | None) -> None:
        split, key = row["split"], key_of(row["clip_id"])
        shard = self._shard(split)
        if isinstance(sound, Sound):
            shard.add(f"{key}.{self.wanted.audio}", sound.content)
        shard.add(f"{key}.json", line_of(row).encode())
        shard.add(f"{key}.txt", row["caption"].encode())
        if shard.size >= self.wanted.shard_bytes:
            shard.close()
            del self._open[split]

    def ask(self, row: Row) -> None:
        self._pairs(f"qa_{row['split']}.jsonl").write(line_of(row) + "\n")

    def finish(self) -> None:
        for shard in self._open.values():
            shard.close()
        self._pairs.close()

    def _shard(self, split: str) -> _Shard:
        if split not in self._open:
            number = self._numbers.get(split, 0)
            self._open[split] = _Shard(self.folder / f"{split}-{number:06d}.tar")
            self._numbers[split] = number + 1
        return self._open[split]

    @classmethod
    def loading(cls, audio: AudioFormat | None, split: str, asked: str) -> str:
        parts = [audio] if audio else []
        names = ", ".join([*(["sound"] if audio else []), "row", "caption"])
        wanted = ", ".join(f'"{part}"' for part in [*parts, "json", "txt"])
        lines = ["import glob", "", "import webdataset", ""]
        lines.append(f'shards = sorted(glob.glob("PATH/{split}-*.tar"))')
        lines.append(f"for {names} in webdataset.WebDataset(shards, shardshuffle=False).decode().to_tuple({wanted}):")
        lines.append('    print(row["clip_id"], caption)' + ("  # sound: a whole file's bytes" if audio else ""))
        return "\n".join(lines)
