"""Takes a version's rows one by one through placing, decoding and writing; memory stays flat, however many."""

from __future__ import annotations

import csv
import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.progress import track

from beam_pipeline.config import ConfigError
from beam_pipeline.dataset import Dataset
from beam_pipeline.export.card import card
from beam_pipeline.export.command import FORMS, MOST_RATE
from beam_pipeline.export.part import made_whole
from beam_pipeline.export.records import Row, caption_row, pair_row
from beam_pipeline.export.sounds import AudioFormat, Missing, Place, Places, Sound, Sounds, in_order, threads_here
from beam_pipeline.export.splits import SPLITS, Placed, Splits
from beam_pipeline.export.tally import Tally
from beam_pipeline.export.target import Target, Wanted, WithQuestions
from beam_pipeline.review.ratings import FOLDER, InVersion, Review, read_reviews
from beam_pipeline.show import console, errors, plain
from transforms.publish import QA

_CLASSES = dict(
    zip(
        FORMS,
        (
            "huggingface.HuggingFace",
            "webdataset.WebDataset",
            "parquet.Parquet",
            "text.Csv",
            "text.JsonLines",
            "lhotse.Lhotse",
            "papers.AutoAcd",
            "papers.FusionAudio",
        ),
        strict=True,
    )
)
LEFT_OUT = "left_out.csv"
NO_SOUND = "its sound cannot be had"
Item = tuple[Row, Placed]


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        folder: where it is.
        root: of the dataset.
        version: of it.
        form: as `--to` names it.
        empty: splits that were asked for and of which there is no caption.
        tally: of captions, questions and what was left out.
    """

    folder: str
    root: str
    version: int
    form: str
    empty: tuple[str, ...]
    tally: Tally

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        it = self.tally
        return {
            **{"folder": self.folder, "dataset": self.root, "version": self.version, "form": self.form},
            **{"captions": dict(it.captions), "questions": dict(it.pairs), "left_out": dict(it.left_out)},
            **{"questions_left_out": it.unchecked, "of_other_splits": it.other_splits},
        }


def export(
    root: str,
    form: str,
    out: str,
    *,
    version: int | None = None,
    audio: AudioFormat | None = None,
    rate: int = 48_000,
    splits: Sequence[str] = (),
    questions: bool = False,
    shard_mb: int = 500,
    reviews: bool = True,
) -> Export:
    """Writes a version of the dataset at `root` to the folder `out`, in one of `FORMS`.

    Args:
        root: the dataset's folder, on any file system that Beam knows.
        form: which form.
        out: a folder of this machine, new or empty; it appears when it is whole.
        version: which; ``None`` for the current one.
        audio: the form of the clips' sounds; ``None`` for none.
        rate: of the sounds, in Hz.
        splits: only these; none are all.
        questions: whether questions are exported as well.
        shard_mb: after how many million bytes a shard is full, where there are shards.
        reviews: whether what people reviewed becomes the test split (`beam_pipeline.export.splits`).

    Raises:
        ConfigError: there is no such dataset or version, it cannot be read, or `out` cannot be written; or what is
            asked for makes no sense.
    """
    kind = _class(form)
    _check(kind, form, rate, shard_mb, splits, questions)
    dataset = Dataset.open(root, version)
    if questions and QA not in dataset.manifest["files"]:
        raise ConfigError(f"--questions: version {dataset.version} has none; its profile has no [questions]")
    said = read_reviews(f"{root.rstrip('/')}/{FOLDER}") if reviews else []
    language = dataset.manifest.get("checks", {}).get("language", "en")
    with made_whole(out) as folder:
        target = kind(folder, Wanted(audio, rate, shard_mb * 1_000_000, language))
        work = _Work(dataset, target, said, frozenset(splits or SPLITS))
        work.captions()
        if questions and isinstance(target, WithQuestions):
            work.questions(target)
        work.finish(os.path.basename(os.path.abspath(root)) or root)
    empty = tuple(split for split in dict.fromkeys(splits) if not work.tally.captions[split])
    return Export(out, root, dataset.version, form, empty, work.tally)


class _Work:
    """One export under way."""

    def __init__(self, dataset: Dataset, target: Target, reviews: Sequence[Review], splits: frozenset[str]) -> None:
        self.dataset, self.target, self.wanted_splits = dataset, target, splits
        self.tally = Tally()
        self._splits, self._reviews = Splits(reviews), InVersion(reviews) if reviews else None
        self._left_out = _LeftOut(target.folder / LEFT_OUT)
        self._gone: set[str] = set()  # clips whose sound cannot be had: their questions go as well

    def captions(self) -> None:
        rows = self._bar("captions", self.dataset.rows("captions"))
        for (row, _), sound in self._with_sounds(self._placed(rows)):
            if isinstance(sound, Missing):
                self._gone.add(row["clip_id"])
                self.tally.without_media += 1
                self._leave_out(NO_SOUND, row, str(sound))
                continue
            self.target.add(row, sound)
            self.tally.add(row)

    def questions(self, target: WithQuestions) -> None:
        for record in self._bar(QA, self.dataset.rows(QA)):
            placed = self._splits.of_pair(record)
            if placed.split not in self.wanted_splits or placed.left_out or record["clip_id"] in self._gone:
                continue
            if placed.corrected:
                self.tally.unchecked += 1
                continue
            target.ask(pair_row(record, placed.split))
            self.tally.pairs[placed.split] += 1

    def finish(self, name: str) -> None:
        self.target.finish()
        self._left_out.close()
        if self._reviews is not None:
            self.tally.reviews = self._reviews.result()
        text = card(self.dataset.manifest, self.dataset.version, name, self.tally, self.target)
        (self.target.folder / "README.md").write_text(text, encoding="utf-8")

    def _placed(self, records: Iterable[Row]) -> Iterator[Item]:
        """The rows that are wanted, with where they go."""
        for record in records:
            if self._reviews is not None:
                self._reviews.add("captions", record)
            placed = self._splits.place(record)
            if placed.split not in self.wanted_splits:
                self.tally.other_splits += 1
                continue
            row = caption_row(record, placed.split, placed.caption or record["caption"], placed.reviewed)
            if placed.left_out:
                self._leave_out(placed.left_out, row)
                continue
            yield row, placed

    def _with_sounds(self, items: Iterable[Item]) -> Iterator[tuple[Item, Sound | Place | Missing | None]]:
        wanted, threads = self.target.wanted, threads_here()
        with ExitStack() as stack:
            if wanted.audio is not None:
                sounds = stack.enter_context(Sounds(wanted.audio, wanted.rate, threads))
                yield from in_order(items, lambda item: sounds.of(item[0]), threads)
            elif self.target.refers:
                places = stack.enter_context(Places(threads))
                yield from in_order(items, lambda item: places.of(item[0]), threads)
            else:
                yield from ((item, None) for item in items)

    def _leave_out(self, reason: str, row: Row, detail: str = "") -> None:
        self.tally.left_out[reason] += 1
        self._left_out.add(row, f"{reason}: {detail}" if detail else reason)

    def _bar(self, name: str, rows: Iterable[Row]) -> Iterable[Row]:
        total = self.dataset.count(name)
        return track(rows, f"exporting {name}", total, console=errors, transient=True, disable=not errors.is_terminal)


class _LeftOut:
    """The list of what was left out; there is no file where nothing was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def add(self, row: Row, reason: str) -> None:
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8", newline="")
            self._file.write("clip_id,video_id,split,uri,reason\n")
        values = [row["clip_id"], row["video_id"], row["split"], row["uri"], reason.encode("utf-8", "replace").decode()]
        csv.writer(self._file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(values)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def exported_shown(found: Export) -> None:
    """Prints what was exported, what was not, and where it is."""
    it = found.tally
    parts = [f"{number:,} {split}" for split, number in it.captions.items()]
    lines = [f"captions: {', '.join(parts) or 'none'} (version {found.version})"]
    if it.pairs:
        lines.append(f"questions: {it.pairs.total():,}")
    if it.unchecked:
        lines.append(f"questions left out, because the caption of their clip was corrected: {it.unchecked:,}")
    lines += [f"left out, {why}: {number:,}" for why, number in it.left_out.most_common()]
    if it.other_splits:
        lines.append(f"of other splits: {it.other_splits:,}")
    lines.append(f"{found.form}: {found.folder}")
    for line in lines:
        console.print(plain(line), highlight=False, soft_wrap=True)


def empty_shown(found: Export) -> None:
    """Says which of the splits that were asked for have no caption."""
    for split in found.empty:
        line = f"earshot: --split {split}: version {found.version} has no caption to export in it"
        errors.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _class(form: str) -> type[Target]:
    module, _, name = _CLASSES[form].partition(".")
    return getattr(importlib.import_module(f"beam_pipeline.export.{module}"), name)


def _check(kind: type[Target], form: str, rate: int, shard_mb: int, splits: Sequence[str], questions: bool) -> None:
    """Raises `ConfigError` where what is asked for makes no sense."""
    if not 1_000 <= rate <= MOST_RATE:
        raise ConfigError(f"--rate {rate}: give Hz, 1000 to {MOST_RATE}")
    if shard_mb < 1:
        raise ConfigError(f"--shard-mb {shard_mb}: it has to be at least 1")
    if unknown := [split for split in splits if split not in SPLITS]:
        raise ConfigError(f"--split {unknown[0]}: there are {', '.join(SPLITS)}; give --split once for each")
    if questions and not issubclass(kind, WithQuestions):
        raise ConfigError(f"--questions: {form} has no place for them; export them with --to csv, say")
