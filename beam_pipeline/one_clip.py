"""``earshot show``: one clip in the terminal, with all that its record holds; `earshot caption` prints the same."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from rich.padding import Padding
from rich.progress import track
from rich.table import Table

from beam_pipeline.config import ConfigError
from beam_pipeline.dataset import Dataset
from beam_pipeline.show import console, errors, plain
from model_handlers.audio_embedding import embedding_of
from model_handlers.synchronisation import heard_as
from transforms.avro import from_record
from transforms.publish import OUTCOMES, QA
from transforms.records import Caption, Cue, Failure, Item, Pair, Rejection

Outcome = Caption | Rejection | Failure
LEAST = "least"  # of the similarity that a profile asks for
NEAR = 5  # ids that are named where none is right


@dataclass(frozen=True)
class Found:
    """What a version says of one clip.

    Attributes:
        outcomes: how it ended; more than one where a source lists its id twice.
        pairs: the questions about it.
        manifest: the version's.
    """

    outcomes: tuple[Outcome, ...]
    pairs: tuple[Pair, ...]
    manifest: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For machines: the records, by how the clip ended."""
        ends = {Caption: "captions", Rejection: "rejected", Failure: "failed"}
        shown = [{"end": ends[type(outcome)], **asdict(outcome)} for outcome in self.outcomes]
        return {"outcomes": shown, "questions": [asdict(pair) for pair in self.pairs]}


def find(dataset: Dataset, clip_id: str) -> Found:
    """Looks a clip up in a version, from its first record on.

    Raises:
        ConfigError: the version has no such clip; the message names ids that are nearly it.
    """
    failures: list[Outcome] = []  # several, where the source lists it again and again
    outcomes: list[Outcome] = []
    near: list[str] = []
    for name in ("failed", "rejected", "captions"):  # the smallest files first
        for row in () if outcomes else _shown(dataset, name):
            known = row["clip"]["clip_id"]
            if known == clip_id:
                (failures if name == "failed" else outcomes).append(from_record(OUTCOMES[name], row))
                if outcomes:
                    break  # a clip ends once, but for its failures
            elif len(near) < 1000 and _is_near(known, clip_id):
                near.append(known)
    outcomes += failures
    if not outcomes:
        raise ConfigError(f"{dataset.root}, version {dataset.version}: no clip {clip_id!r}{_advice(clip_id, near)}")
    pairs = (row for row in _shown(dataset, QA) if row["clip_id"] == clip_id)
    return Found(tuple(outcomes), tuple(from_record(Pair, row) for row in pairs), dataset.manifest)


def _shown(dataset: Dataset, name: str) -> Iterator[dict[str, Any]]:
    rows, hidden = dataset.rows(name), not errors.is_terminal
    what = f"looking through {name}"
    return iter(track(rows, what, dataset.count(name), console=errors, transient=True, disable=hidden))


def _is_near(known: str, wanted: str) -> bool:
    return bool(wanted) and (wanted.lower() in known.lower() or known[:3] == wanted[:3])


def _advice(wanted: str, near: list[str]) -> str:
    within = [known for known in near if wanted.lower() in known.lower()]
    named = [*within, *get_close_matches(wanted, near, NEAR)]
    chosen = list(dict.fromkeys(named))[:NEAR]
    return f"; there is {', '.join(map(repr, chosen))}" if chosen else ""


def one_clip(outcome: Outcome, pairs: Iterable[Pair] = (), manifest: dict[str, Any] | None = None) -> None:
    """Prints what became of one clip, the cues it rests on, and the questions about it."""
    clip = outcome.clip
    console.rule(plain(clip.uri or clip.origin), align="left")
    match outcome:
        case Caption():
            _caption_shown(outcome)
        case Rejection():
            console.print(f"[bold yellow]rejected:[/] {plain(outcome.reason)} ({plain(outcome.evidence)})")
            if outcome.caption:
                console.print(f"  [dim]the caption was:[/] {plain(outcome.caption)}", highlight=False)
        case Failure():
            again = "; a run takes it up again" if outcome.retryable else ""
            console.print(f"[bold red]failed[/] in {plain(outcome.step)}: {plain(outcome.error)}{again}")
    if not isinstance(outcome, Failure):
        console.print(_cues_table(outcome.cues))
        _attempts_shown(outcome)
    for pair in pairs:
        options = f" [dim]({plain('; '.join(pair.choices))})[/]" if pair.choices else ""
        console.print(f"  {plain(pair.question)}{options} [green]{plain(pair.answer)}[/]", highlight=False)
    if manifest is not None:
        console.print(_facts_table(outcome, manifest))


def _caption_shown(caption: Caption) -> None:
    console.print(f"[bold green]{plain(caption.caption)}[/]")
    for event in caption.events:
        console.print(f"  {plain(event.text)} [dim]({plain(', '.join(event.cues))})[/]", highlight=False)
    for version in caption.versions:
        which = " ".join(filter(None, (version.language, version.form)))
        console.print(f"  [dim]{plain(which)}:[/] {plain(version.text)}", highlight=False)
    if caption.ambiguities:
        console.print(f"  [dim]open: {plain('; '.join(caption.ambiguities))}[/]", highlight=False)


def _attempts_shown(outcome: Caption | Rejection) -> None:
    for number, attempt in enumerate(outcome.attempts, 1):
        console.print(f"  [dim]answer {number}:[/] {plain(attempt.answer)}", highlight=False)
        console.print(
            Padding(f"[yellow]{plain(attempt.check)}[/]: {plain(attempt.complaint)}", (0, 0, 0, 4)), highlight=False
        )


def _cues_table(cues: Iterable[Cue]) -> Table:
    table = _table()
    for cue in cues:
        table.add_row(f"[cyan]{plain(cue.name)}[/]", _cue_text(cue), f"[dim]{plain(cue.model)}[/]")
    return table


def _table() -> Table:
    """A table that shows all that is in it, however narrow the terminal."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(overflow="fold")
    return table


def _cue_text(cue: Cue) -> str:
    if cue.skipped:
        return f"[dim]not applicable: {plain(cue.skipped)}[/]"
    if _is_embedding(cue):
        return "[dim]an embedding[/]"
    return "\n".join(_item_text(item) for item in cue.items)


def _is_embedding(cue: Cue) -> bool:
    try:
        return bool(cue.items) and bool(embedding_of(cue.items).size)
    except ValueError:
        return False


def _item_text(item: Item) -> str:
    text = plain(heard_as(item) or item.text)
    score = "" if item.score is None else f" ({item.score:.2f})"
    return text + score + (f" [dim]{item.start_s:.1f}–{item.end_s:.1f} s[/]" if _has_times(item) else "")


def _has_times(item: Item) -> bool:
    return item.start_s is not None and item.end_s is not None


def _facts_table(outcome: Outcome, manifest: dict[str, Any]) -> Table:
    clip = outcome.clip
    until = "the end" if clip.end_s is None else f"{clip.end_s:g} s"
    rows = {
        "clip": clip.clip_id,
        "of": f"{clip.video_id or 'a file of its own'}, {clip.start_s:g} s to {until}",
        "source": clip.source,
        "listed in": clip.origin,
        "labels": ", ".join(clip.labels),
    }
    if isinstance(outcome, Caption):
        benchmarks = f" ({', '.join(outcome.benchmarks)})" if outcome.benchmarks else ""
        rows["split"] = outcome.split + benchmarks
        rows["written by"] = ", ".join(filter(None, (outcome.model or outcome.writer, outcome.prompt)))
    if not isinstance(outcome, Failure):
        rows["similarity"] = _similarity(outcome.similarity, manifest)
        rows["cost"] = _cost(outcome)
    table = _table()
    for name, value in rows.items():
        if value:
            table.add_row(f"[dim]{name}[/]", plain(value))
    return table


def _similarity(value: float | None, manifest: dict[str, Any]) -> str:
    if value is None:
        return ""
    least = (manifest.get("similarity") or {}).get(LEAST)
    return f"{value:.3f} of caption and sound" + ("" if least is None else f", required {least:g}")


def _cost(outcome: Caption | Rejection) -> str:
    tokens = outcome.tokens_in + outcome.tokens_out
    spent = f"{outcome.tokens_in:,} tokens in, {outcome.tokens_out:,} out" if tokens else ""
    return spent + (f", {outcome.dollars:.5f} dollars" if outcome.dollars else "")


def main(options: argparse.Namespace) -> int:
    """Runs the command with its options (`beam_pipeline.arguments`); returns its exit status. Raises `ConfigError`."""
    found = find(Dataset.open(options.dataset, options.version), options.clip_id)
    if options.json:
        print(json.dumps(found.as_json(), indent=2))
        return 0
    for outcome in found.outcomes:
        one_clip(outcome, found.pairs, found.manifest)
    return 0
