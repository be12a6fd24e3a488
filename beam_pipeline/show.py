"""What a person sees in the terminal: progress while a run works, and tables when it is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from transforms.records import Caption, Spent

if TYPE_CHECKING:
    from beam_pipeline.plan import Plan
    from beam_pipeline.run import Launched, Result

console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)


def plain(text: str) -> str:
    """Text from outside, harmless to a terminal: control characters spelt out, rich's markup taken literally."""
    spelt = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return escape(spelt)


class _Rate(ProgressColumn):
    """Clips per second since the step began."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.1f} clips/s")


@contextmanager
def progress_bars(steps: list[str]) -> Iterator[Callable[[dict[str, int]], None]]:
    """Shows a bar per step; yields the function that takes how many clips each has done.

    Where the output is no terminal, one line every ten seconds takes the bars' place.
    """
    if not errors.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors) as progress:
        tasks = {step: progress.add_task(step, total=None, start=False) for step in steps}

        def update(done: dict[str, int]) -> None:
            for step, task in tasks.items():
                if done.get(step) and not progress.tasks[task].started:
                    progress.start_task(task)
                progress.update(task, completed=done.get(step, 0), total=done.get("clips"))

        yield update
        for step in {"caption", "questions"} & tasks.keys():  # what was rejected or failed never gets that far
            progress.update(tasks[step], total=progress.tasks[tasks[step]].completed)


@contextmanager
def every(seconds: float, do: Callable[[], None]) -> Iterator[None]:
    """Does something every so many seconds while the block runs, in a thread that has ended when the block has."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            do()

    thread = threading.Thread(target=repeat, name="every", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def said(text: str) -> None:
    """A line about a job elsewhere, where no bars can be shown."""
    errors.print(plain(text), highlight=False, soft_wrap=True)


def _lines() -> Callable[[dict[str, int]], None]:
    begun = said_at = time.monotonic()

    def update(done: dict[str, int]) -> None:
        nonlocal said_at
        now = time.monotonic()
        if now - said_at < 10:
            return
        said_at = now
        total = done.get("clips", 0)
        parts = [f"{step} {count}/{total}" for step, count in sorted(done.items()) if step != "clips"]
        said = ", ".join(parts) or (f"{total} clips listed, models loading" if total else "starting")
        errors.print(f"{now - begun:.0f} s: {said}", highlight=False, soft_wrap=True)

    return update


def captions_table(captions: Iterable[Caption], title: str, truths: dict[str, str] | None = None) -> Table:
    """Clip ids beside their captions; beside those, what is really to be heard, where that is known."""
    table = Table(title=title, title_justify="left", show_lines=False)
    table.add_column("clip", overflow="fold", max_width=40)
    table.add_column("caption", overflow="fold")
    if truths is not None:
        table.add_column("what was put in", overflow="fold", style="dim")
    for caption in captions:
        clip_id = caption.clip.clip_id
        row = [plain(clip_id), plain(caption.caption)]
        table.add_row(*row, *([plain(truths.get(clip_id, ""))] if truths is not None else []))
    return table


def summary(result: Result) -> None:
    """Prints counts with reasons, the time taken, and where the files are."""
    counts = result.manifest["counts"]
    console.print(outcomes_table(result.manifest))
    for said in (splits_line(result.manifest), versions_line(result.manifest), pairs_line(result.manifest)):
        if said:
            console.print(said, highlight=False)
    console.print(costs_table(result.costs, counts["clips_in"]))
    rate = counts["clips_in"] / result.seconds if result.seconds else 0.0
    console.print(f"{result.seconds:.1f} s, {rate:.2f} clips/s", highlight=False)
    stands = "every record is as it was, so nothing is published" if result.unchanged else "published"
    console.print(f"  version: {result.version} ({stands})", highlight=False)
    for name, files in result.manifest["files"].items():
        for file in files:
            console.print(f"{name:>9}: {plain(result.folder)}/{plain(file)}", highlight=False, soft_wrap=True)
    console.print(f" manifest: {plain(result.folder)}/manifest.json", highlight=False, soft_wrap=True)
    notice(result.manifest["notice"])


def outcomes_table(manifest: dict[str, Any]) -> Table:
    """How many clips ended how, and for which reasons."""
    counts, reasons = manifest["counts"], manifest["reasons"]
    table = Table(title="What came out", title_justify="left", show_header=False)
    table.add_column(justify="right")
    table.add_column()
    table.add_row(str(counts["clips_in"]), "clips in")
    for name in ("captions", "rejected", "failed"):
        table.add_row(f"[bold]{counts[name]}[/]", f"[bold]{name}[/]")
        for reason, number in _reasons(reasons, name):
            table.add_row(f"[dim]{number}[/]", f"[dim]  {plain(reason)}[/]")
    return table


def handed_over(launched: Launched) -> None:
    """Prints what was handed over to whom, and what comes of it."""
    what = f"job {launched.job}" if launched.job else "the template's job"
    folder = plain(f"{launched.root}/versions/{launched.version}")
    line = f"run {launched.run}: {plain(what)} goes on by itself and publishes {folder}"
    console.print(line, highlight=False, soft_wrap=True)


def splits_line(manifest: dict[str, Any]) -> str:
    """How many captions are for what, and how many clips are on each list of benchmark clips."""
    parts = [f"{number} {name}" for name, number in manifest.get("splits", {}).items()]
    lists = [f"{number} on {name}" for name, number in manifest.get("benchmarks", {}).items()]
    return plain(f"captions: {', '.join(parts)}" + (f" ({', '.join(lists)})" if lists else "")) if parts else ""


def pairs_line(manifest: dict[str, Any]) -> str:
    """How many questions there are, of which kinds, and how many were not taken, for which reasons."""
    if (pairs := manifest.get("pairs")) is None:
        return ""
    groups = (
        ", ".join(f"{number} {name}" for name, number in sorted(pairs[group].items(), key=lambda one: -one[1]))
        for group in ("forms", "kinds", "dropped")
    )
    forms, kinds, dropped = groups
    about = f" ({forms}; {kinds})" if pairs["published"] else ""
    return plain(f"questions: {pairs['published']}{about}" + (f"; not taken: {dropped}" if dropped else ""))


def versions_line(manifest: dict[str, Any]) -> str:
    """How many captions were published without a form or language that never passed its checks."""
    missing = manifest.get("versions", {}).get("missing", {})
    counted = ", ".join(f"{number} {name}" for name, number in missing.items())
    return plain(f"captions without a form that never passed: {counted}") if counted else ""


def plan_table(found: Plan) -> Table:
    """A plan for people; columns of GPU time, tokens and money where there is any."""
    table = Table(title=f"To do for {found.clips} clips", title_justify="left")
    table.add_column("step", overflow="fold")
    for column in ("known", "to do", "s per clip", "takes"):
        table.add_column(column, justify="right")
    total = found.total() or sum((step.takes for step in found.steps if step.takes), Spent(0))
    more = [(name, show) for name, show in AMOUNTS.items() if getattr(total, name)]
    for name, _ in more:
        table.add_column(_TITLES[name], justify="right")
    for step in found.steps:
        each = "?" if step.each is None else f"{step.each.seconds:.3f}"
        known = str(step.known) if step.model else ""
        takes = "?" if step.takes is None else _duration(step.takes.seconds)
        rest = ["?" if step.takes is None else show(getattr(step.takes, name)) for name, show in more]
        table.add_row(plain(step.name), known, str(step.to_do), each, takes, *rest)
    return table


def _duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds else ""


# What a step may take beside time, and how to say how much.
AMOUNTS: dict[str, Callable[[float], str]] = {
    "gpu_seconds": _duration,
    "tokens_in": lambda number: f"{number:,.0f}" if number else "",
    "tokens_out": lambda number: f"{number:,.0f}" if number else "",
    "dollars": lambda number: f"{number:,.4f}" if number else "",
}
_TITLES = {"gpu_seconds": "on a GPU", "tokens_in": "tokens in", "tokens_out": "tokens out", "dollars": "dollars"}


def costs_table(costs: dict[str, dict[str, float]], clips: int) -> Table:
    """What a run had to do, step by step; a step that it lacks found everything done."""
    table = Table(title="What it took", title_justify="left")
    table.add_column("step", overflow="fold")
    for column in ("clips", "seconds", "s per clip"):
        table.add_column(column, justify="right")
    more = [(name, show) for name, show in AMOUNTS.items() if any(name in spent for spent in costs.values())]
    for name, _ in more:
        table.add_column(_TITLES[name], justify="right")
    for step, spent in costs.items():
        each = spent["seconds"] / spent["clips"] if spent["clips"] else 0.0
        rest = [show(spent.get(name, 0)) for name, show in more]
        table.add_row(plain(step), f"{spent['clips']:.0f}", f"{spent['seconds']:.1f}", f"{each:.3f}", *rest)
    table.caption = f"of {clips} clips; what earlier runs know is not computed again"
    return table


def notice(text: str) -> None:
    """Prints what a profile wants its readers to know, if anything."""
    if text:
        console.print(f"[yellow]Note:[/] {plain(text)}")


def _reasons(reasons: dict[str, int], name: str) -> list[tuple[str, int]]:
    found = [(key.removeprefix(f"{name}/"), count) for key, count in reasons.items() if key.startswith(f"{name}/")]
    return sorted(found, key=lambda pair: -pair[1])
