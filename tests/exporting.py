"""Datasets that tests export, with the worst texts and ids that clips may have, and what is to come out of them."""

from __future__ import annotations

import argparse
import json
import wave
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from beam_pipeline.dataset import Dataset
from beam_pipeline.export.command import add_arguments, main
from model_handlers.base import Item
from model_handlers.writers import Attempt, SoundEvent
from transforms import versions
from transforms.avro import avro_schema, to_record
from transforms.publish import DATASETS, OUTCOMES, QA, manifest
from transforms.records import Caption, Clip, Cue, Evidence, Pair, Version

RATE = 16_000
TEXTS = (
    "A dog barks.",
    "=HYPERLINK('http://evil','click')",
    "+1",
    "-2.50",
    "@SUM(A1)",
    'she said "well, well"; twice',
    "a line\nand another",
    "a carriage\rreturn, and\r\nboth",
    " spaces at both ends\t",
    "NA",
    "null",
    "True",
    "1e5",
    "a guide dog 🐕‍🦺 yelps, é, e\u0301, 日本語",
    "\u202eright to left\u202c نباح كلب",
    "separators \u2028 and \u2029 and \x85 and \x0b",
    "control \x1b[31mred\x07",
    "half of a pair \ud83d here",
    "<script>alert(1)</script><img src=x onerror=alert(1)> &amp;",
    "| a | [link](http://evil) ![x](http://evil/x.png) `code` **bold** http://evil.example",
    "long " * 1000,
    "back\\slash \\n \\u0041",
    "a NUL \0 within",
    '{"clip_id": "forged"}',
)
IDS = (
    "plain",
    "a/b",
    "../../etc/passwd",
    "a.b.flac",
    "a_b",
    "a%2Fb",
    "a%2Eb",
    ".",
    "..",
    "-dash",
    "__key__",
    "=1+1",
    "with space",
    "日本/語",
    "x" * 300,
    "x" * 301,
    "é" * 300,
    "new\nline",
    "CON",
    "PLAIN",
    "~",
    "'\"",
    "a b\u2028c",
    "nul\0id",
)


def clip(clip_id: str, **more: Any) -> Clip:
    return Clip(clip_id, f"/nowhere/{len(clip_id)}.mp4", **{"origin": f"list:{clip_id}", "end_s": 10.0, **more})


def caption(of: Clip, text: str = "A dog barks.", split: str = "train", **more: Any) -> Caption:
    cues = (
        Cue(of.clip_id, "tags", "t1", "m", (Item("dog, or a fox?", 0.1 + 0.2), Item(text, None, 1.5, 2.25))),
        Cue(of.clip_id, "objects", "o1", "m", (Item("dog", 1e-9, box=(0.1, 0.2, 0.3, 1 / 3)),)),
        Cue(of.clip_id, "place", "p1", "m", skipped="no picture"),
    )
    facts = {
        "events": (SoundEvent(text, ("tags",)),),
        "versions": (Version("short", "en", text),),
        "ambiguities": ("a dog or a fox",),
        "attempts": (Attempt("A brown dog.", "sight", "it tells a colour"),),
        "similarity": 1 / 3,
        "dollars": 0.1 + 0.7,
    }
    return Caption(of, text, "writer:1", cues, split, **{**facts, **more})


def hostile() -> list[Caption]:
    """Each text under an id, and each id; in two splits, with and without what may be missing."""
    rows = []
    for place, text in enumerate(TEXTS):
        of = clip(IDS[place], labels=(text, "Dog"), video_id=text[:11], source="audioset", start_s=1 / 7, split="eval")
        rows.append(caption(of, text, "test" if place % 5 == 0 else "train"))
    bare = Clip("bare", "bare.wav", end_s=None, origin="list:bare")
    rows.append(Caption(bare, "A cat.", "writer:1", (), "train"))
    return rows


def pairs_of(captions: Iterable[Caption]) -> list[Pair]:
    made = []
    for it in captions:
        of = it.clip
        shared = (of.clip_id, of.video_id, of.source, of.start_s, of.end_s, it.split, it.benchmarks)
        evidence = (Evidence("tags", (Item("dog", 0.5),)),)
        made.append(Pair(*shared, "sounds", "open", f"What is heard? {it.caption}", it.caption, (), evidence, "w:1"))
        choices = ("a cat", it.caption, "a car")
        made.append(Pair(*shared, "sounds", "choice", "Which?", it.caption, choices, evidence, "w:1", "m", "q-1"))
    return made


def publish(root: Path, number: int, outcomes: Iterable[Any], pairs: Sequence[Pair] | None = None, **facts: Any) -> str:
    """Writes a version as a run leaves it."""
    folder = Path(versions.folder(str(root), number))
    folder.mkdir(parents=True)
    outcomes, counts = list(outcomes), {}
    files = {name: [outcome for outcome in outcomes if isinstance(outcome, cls)] for name, cls in OUTCOMES.items()}
    counts = {name: len(some) for name, some in files.items()}
    content = {**files, **({QA: list(pairs)} if pairs is not None else {})}
    for name, some in content.items():
        with (folder / f"{name}.avro").open("wb") as file:
            fastavro.writer(file, avro_schema(DATASETS[name]), map(to_record, some), codec="deflate")
    told = {"cues": {}, "filters": {}, "writer": "writer:1", "profile": "mine", **facts}
    made = manifest(told, counts, [], {name: [f"{name}.avro"] for name in content}, digest=f"{number:032x}")
    (folder / "manifest.json").write_text(json.dumps(made))
    versions.advance(str(root), number)
    return str(root)


def expected(root: str, **changed: Any) -> list[dict[str, Any]]:
    """The rows that are to come out, from the records themselves."""
    rows = []
    for it in Dataset.open(root).read("captions"):
        row = plain(asdict(it))
        of = row.pop("clip")
        of["source_split"] = of.pop("split")
        rows.append(row | of | {"reviewed": False, "original_caption": "", **changed})
    return rows


def expected_pairs(root: str) -> list[dict[str, Any]]:
    return [plain(asdict(it)) for it in Dataset.open(root).read(QA)]


def plain(value: Any) -> Any:
    """With lists for tuples and for whatever arrays a library makes, and numbers as Python has them."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def by_id(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {row["clip_id"]: row for row in rows}
    return dict(sorted(found.items()))


def run(root: str, form: str, out: Path, *more: str) -> int:
    """Runs the command in this process."""
    parser = argparse.ArgumentParser("earshot export")
    add_arguments(parser)
    return main(parser.parse_args([root, "--to", form, "--output", str(out), *more]))


def tone(path: Path, seconds: float = 1.0, pitch: float = 440.0, channels: int = 1) -> Path:
    """A WAV file of 16 kHz in which every second sounds different."""
    at = np.arange(round(seconds * RATE)) / RATE
    wave_ = 0.5 * np.sin(2 * np.pi * (pitch + 100 * np.floor(at)) * at)
    samples = np.repeat((wave_ * 32_767).astype("<i2"), channels)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path
