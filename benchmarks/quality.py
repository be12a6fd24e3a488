"""How right the demo profile is, against known truth, on worlds that training never saw.

Good, shifted and foreign clips of held-out seeds go through the whole pipeline; every figure is read off its records.
"""

from __future__ import annotations

import argparse
import itertools
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from beam_pipeline.config import load_profile
from beam_pipeline.run import run
from demo.world import SOURCES, make_scenes, read_truth, write_scenes
from model_handlers.synchronisation import hits
from transforms.ingest import ClipSource
from transforms.records import Caption, Cue, Rejection

Outcome = Caption | Rejection


def names(source: str) -> set[str]:
    """What a thing that sounds may be called: its own name, or any of its label's."""
    return {source, *(name.strip().lower() for name in SOURCES[source].label.split(","))}


def mentions(text: str, source: str) -> bool:
    """Whether `text` names the thing."""
    return any(re.search(rf"\b{re.escape(name)}\b", text.lower()) for name in names(source))


def items(outcome: Outcome, name: str) -> tuple:
    """The items of one cue of a record."""
    cues: Iterable[Cue] = outcome.cues
    return next((cue.items for cue in cues if cue.name == name), ())


def cues_right(truth: dict[str, Any], outcome: Outcome) -> dict[str, bool]:
    """Of a good clip, which cues are right: what each says first, or all that it says where it is a list."""

    def first(cue: str) -> str:
        return next((item.text for item in items(outcome, cue)), "")

    heard, found = first("audio_caption"), {item.text for item in items(outcome, "objects")}
    return {
        "image_caption": first("image_caption") == truth["image_caption"],
        "objects": found == set(truth["sources"]),
        "image_label": first("image_label") in truth["sources"],
        "place": first("place") == truth["place"],
        "audio_tags": _any(truth, first("audio_tags")),
        "audio_caption": _any(truth, heard) and _none_else(truth, heard),
    }


def figures(
    truths: dict[str, dict[str, Any]], ended: list[Outcome], kind: dict[str, str]
) -> list[tuple[str, int, int]]:
    """Rows of (what, right, of how many)."""
    by_kind: dict[str, list[Outcome]] = {"good": [], "shifted": [], "foreign": []}
    for outcome in ended:
        by_kind[kind[outcome.clip.clip_id]].append(outcome)
    good = [(truths[outcome.clip.clip_id], outcome) for outcome in by_kind["good"]]

    def share(what: str, verdicts: Iterable[bool]) -> tuple[str, int, int]:
        listed = list(verdicts)
        return what, sum(listed), len(listed)

    captioned = [(truth, outcome.caption) for truth, outcome in good if isinstance(outcome, Caption)]
    right = [cues_right(truth, outcome) for truth, outcome in good]
    seen = [(source, {item.text for item in items(o, "objects")}) for truth, o in good for source in truth["sources"]]
    rows = [
        share("audio tags: the first is something that sounds", (cues["audio_tags"] for cues in right)),
        share("audio caption: names something that sounds, nothing else", (cues["audio_caption"] for cues in right)),
        share("image caption: place and everything there is, right", (cues["image_caption"] for cues in right)),
        share("objects: things in the picture that are found", (source in found for source, found in seen)),
        share("objects: everything there is, and nothing else", (cues["objects"] for cues in right)),
        share("image label: the first is in the picture", (cues["image_label"] for cues in right)),
        share("place: the first is right", (cues["place"] for cues in right)),
        share("at least four of these six cues right", (sum(cues.values()) >= 4 for cues in right)),
        share("caption: names something that sounds", (_any(truth, text) for truth, text in captioned)),
        share("caption: names everything that sounds", (_all(truth, text) for truth, text in captioned)),
        share("caption: names nothing that does not sound", (_none_else(truth, text) for truth, text in captioned)),
        share("caption: names the place", (truth["place"] in text.lower() for truth, text in captioned)),
        share("sync filter: good clips kept", (not _out_of_sync(o) for o in by_kind["good"])),
        share("sync filter: shifted clips (0.8 to 2 s) dropped", map(_out_of_sync, by_kind["shifted"])),
        share("sync filter: clips with a foreign soundtrack dropped", map(_out_of_sync, by_kind["foreign"])),
    ]
    for required, sure in itertools.product(range(1, 6), (0.0, 0.5)):
        kept = [
            share("", (hits(items(o, "synchronisation"), 3, sure) >= required for o in by_kind[k])) for k in by_kind
        ]
        text = ", ".join(f"{k} {right / max(of, 1):.1%}" for k, (_, right, of) in zip(by_kind, kept, strict=True))
        rows.append((f"kept when {required} of 5 are right with at least {sure:g}: {text}", 0, 0))
    return rows


def _any(truth: dict[str, Any], text: str) -> bool:
    return any(mentions(text, source) for source in truth["sources"])


def _all(truth: dict[str, Any], text: str) -> bool:
    return all(mentions(text, source) for source in truth["sources"])


def _none_else(truth: dict[str, Any], text: str) -> bool:
    return not any(mentions(text, source) for source in SOURCES if source not in truth["sources"])


def _out_of_sync(outcome: Outcome) -> bool:
    return isinstance(outcome, Rejection) and outcome.reason == "out_of_sync"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--seed", type=int, default=150, help="a held-out seed, 100 to 199 (default: 150)")
    parser.add_argument("--good", type=int, default=160, help="good clips (default: 160)")
    parser.add_argument("--faulty", type=int, default=80, help="shifted, and as many foreign, clips (default: 80)")
    options = parser.parse_args(arguments)
    console = Console()
    wanted = {"good": options.good, "shifted": options.faulty, "foreign": options.faulty}
    with tempfile.TemporaryDirectory(prefix="earshot-quality-") as folder:
        kind, scenes = {}, []
        for number, (name, count) in enumerate(wanted.items()):
            some = make_scenes(options.seed + number, count, name)
            kind |= {scene.clip_id: name for scene in some}
            scenes += some
        with console.status(f"making {len(scenes)} clips"):
            write_scenes(scenes, Path(folder), processes=2)
        result = run(load_profile("demo"), ClipSource(f"{folder}/clips.csv"), folder)
        ended = [*result.read("captions"), *result.read("rejected")]
        truths = {truth["clip_id"]: truth for truth in read_truth(Path(folder))}
    table = Table(
        title=f"The demo profile on held-out seeds {options.seed} to {options.seed + 2}", title_justify="left"
    )
    table.add_column("what")
    table.add_column("right", justify="right")
    table.add_column("share", justify="right")
    for what, right, of in figures(truths, ended, kind):
        table.add_row(what, *((f"{right} of {of}", f"{right / of:.1%}") if of else ("", "")))
    console.print(table)
    console.print(f"failed: {result.manifest['counts']['failed']}", highlight=False)


if __name__ == "__main__":
    main()
