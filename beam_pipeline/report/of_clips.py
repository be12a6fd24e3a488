"""Sections about clips: what became of them, what is in them, what it took, and what changed."""

from __future__ import annotations

from collections.abc import Iterator

from beam_pipeline.compare import KINDS, Comparison, Example, Side
from beam_pipeline.report.figures import Figures
from beam_pipeline.report.parts import Plot, Section, Table
from beam_pipeline.report.plots import Meter, Part, meters
from beam_pipeline.report.tallies import Bounded
from beam_pipeline.report.wording import (
    NONE,
    clips,
    counts,
    dollars,
    label,
    lasting,
    listed,
    number,
    percent,
    slug,
    words,
)

NEW = "What is new in this version"
MOST_STEPS = 15  # that a plot has
_ENDS = (Part("captioned", "go on"), Part("rejected", "rejected here"), Part("failed", "failed here"))


def overview(figures: Figures) -> Section:
    """What went in and came out, as a funnel with reasons."""
    into, out = figures.clips_in, figures.counts
    said = f"Of {clips(into)}, {number(out['captions'])} ({percent(out['captions'], into)}) "
    said += f"{'was' if out['captions'] == 1 else 'were'} captioned, "
    said += f"{number(out['rejected'])} rejected and {number(out['failed'])} failed."
    parts: list[Plot | Table] = [_funnel(figures)] if into else []
    if figures.seconds:
        all_known = figures.lasting == out["captions"]
        said += f" The captioned clips last {'' if all_known else 'at least '}{lasting(figures.seconds)} in all"
        said += (
            "." if all_known else f"; the length of {number(figures.lasting) if figures.lasting else 'none'} is known."
        )
    if figures.splits:
        splits = sorted(figures.splits.items(), key=lambda one: (-one[1], one[0]))
        parts.append(counts("split", splits, of="captions", title="Splits"))
    if figures.benchmarks:
        lists = sorted(figures.benchmarks.items())
        parts.append(Table(("list", "clips"), tuple((n, number(c)) for n, c in lists), "On lists of benchmark clips"))
    return Section("overview", "What went in, what came out", said, tuple(parts))


def _funnel(figures: Figures) -> Plot:
    left, lost = figures.clips_in, figures.lost()
    said = "No clip was lost on the way."
    if lost:
        by_stage = {stage: sum(ends.values()) for stage, ends in lost.items()}
        most = max(by_stage.values())
        where = [stage.lower() for stage, count in by_stage.items() if count == most]
        said = f"Most were lost here: {', '.join(where)}, {clips(most)}{' each' if len(where) > 1 else ''}."
    rows = [Meter("Listed", number(left), (left, 0, 0))]
    lines = []
    for stage, ends in lost.items():
        rejected = sum(count for (end, _), count in ends.items() if end == "rejected")
        failed = sum(ends.values()) - rejected
        left -= rejected + failed
        reasons = listed((reason, count) for (_, reason), count in ends.items())
        rows.append(Meter(stage, number(left), (left, rejected, failed), reasons))
        for (end, reason), count in ends.items():
            lines.append((f"{stage}: {reason}", end, number(count), percent(count, figures.clips_in)))
    rows.append(Meter("Captioned", number(left), (left, 0, 0)))
    table = Table(("where and why", "end", "clips", "of all"), tuple(lines)) if lines else None
    svg = meters("funnel", said, rows, _ENDS, figures.clips_in)
    return Plot("funnel", "From clips to captions", said, svg, table)


def contents(figures: Figures) -> Section | None:
    """Sources, labels, and what cues name first, like places and tags."""
    found: list[tuple[str, str, str, Bounded]] = []
    if any(figures.sources.counts):
        found.append(("sources", "Sources", "source", figures.sources))
    if figures.labels.total:
        found.append(("labels", "Labels of the source", "label", figures.labels))
    for name, tally in figures.cues.items():
        repeats = not tally.scored and tally.texts.counts.keys() <= figures.labels.counts.keys()
        if _names_things(tally.texts) and not repeats:
            found.append((f"cue-{slug(name)}", f"What {words(name)} says first", name, tally.texts))
    parts = [_commonest(*one) for one in found]
    if not parts:
        return None
    said = "Where the clips come from, and what the cues that name things name first."
    return Section("contents", "Sources, places and tags", said, tuple(parts))


def _names_things(texts: Bounded) -> bool:
    """Whether a cue's texts are names that recur, and no sentences."""
    lengths = sum(len(text.split()) * count for text, count in texts.counts.items())
    recur = texts.counts.total() >= 1.5 * len(texts.counts)
    return len(texts.counts) > 1 and recur and lengths <= 3 * texts.counts.total()


def _commonest(name: str, title: str, what: str, found: Bounded, most: int = 12) -> Plot:
    top, total = found.most_common(most), found.total
    rows = [Meter(text, f"{number(count)} · {percent(count, total)}", (count,)) for text, count in top]
    distinct = f"{number(len(found.counts))}{' or more' if found.others else ''}"
    name_of_it, times = label(top[0][0], 60) if top[0][0] else "(none)", number(top[0][1])
    said = (
        f"There is only {name_of_it}."
        if top[0][1] == total
        else (f"The commonest of {distinct} is {name_of_it}: {times} of {number(total)}.")
    )
    table = counts(what, found.most_common(40), total - sum(count for _, count in found.most_common(40)), "times")
    return Plot(name, title, said, meters(name, said, rows, (Part("one"),)), table)


_AMOUNTS = (
    ("gpu_seconds", "on a GPU", lasting),
    ("tokens_in", "tokens in", number),
    ("tokens_out", "tokens out", number),
    ("dollars", "dollars", dollars),
)


def cost(figures: Figures) -> Section | None:
    """Clips, seconds, tokens and money by step, as the version's run took them."""
    costs = figures.manifest.get("costs") or {}
    if not costs:
        return None
    order = sorted(costs, key=lambda step: (-costs[step]["seconds"], step))
    shown = [one for one in _AMOUNTS if any(one[0] in spent for spent in costs.values())]
    lines = []
    for step in order:
        spent = costs[step]
        each = spent["seconds"] / spent["clips"] if spent["clips"] else 0.0
        rest = (show(spent[key]) if spent.get(key) else NONE for key, _, show in shown)
        lines.append((step, number(spent["clips"]), lasting(spent["seconds"]), lasting(each), *rest))
    total = sum(spent["seconds"] for spent in costs.values())
    sums = (show(sum(spent.get(key, 0) for spent in costs.values())) for key, _, show in shown)
    lines.append(("together", NONE, lasting(total), NONE, *sums))
    head = ("step", "clips", "time", "a clip", *(title for _, title, _ in shown))
    note = "Time of workers, added up. What earlier runs had found was not computed again."
    said = f"The run that made this version worked for {lasting(total)}."
    if not total:
        said = "No time is on record of the run that made this version."
    if figures.tokens_in:
        said += f" Its captions and rejected answers rest on {number(figures.tokens_in + figures.tokens_out)} tokens"
        said += f" and {dollars(figures.dollars)} dollars, whichever run paid." if figures.dollars else "."
    longest = costs[order[0]]["seconds"]
    seen = f"The longest step is {words(order[0])}: {lasting(longest)}, {percent(longest, total)} of the time."
    if len(order) > MOST_STEPS:
        seen += f" The plot has the {MOST_STEPS} longest of {len(order)} steps."
    table = Table(head, tuple(lines), note=note)
    if not total:
        return Section("cost", "What it took", said, (table,))
    plot = Plot("cost", "Time by step", seen, _times(order, costs, seen), table)
    return Section("cost", "What it took", said, (plot,))


def _times(order: list[str], costs: dict[str, dict[str, float]], said: str) -> str:
    rows = []
    for step in order[:MOST_STEPS]:
        seconds, gpu = costs[step]["seconds"], min(costs[step].get("gpu_seconds", 0.0), costs[step]["seconds"])
        rows.append(Meter(step, lasting(seconds), (seconds - gpu, gpu)))
    any_gpu = any("gpu_seconds" in spent for spent in costs.values())
    parts = (Part("one", "elsewhere" if any_gpu else ""), Part("three", "on a GPU" if any_gpu else ""))
    return meters("cost", said, rows, parts)


def differences(found: Comparison | str | None) -> Section | None:
    """What the version before said otherwise, and why; or why that cannot be told."""
    if found is None:
        return None
    if isinstance(found, str):
        return Section("differences", NEW, f"The version before cannot be compared with this one: {found}", ())
    total, same = sum(found.counts.values()), found.counts.get("unchanged", 0)
    said = (
        f"Of {clips(total)} in version {found.old} or {found.new}, {number(same)} ended with the same record in both."
    )
    rows, lines = [], []
    for kind, text in KINDS.items():
        count = found.counts.get(kind, 0)
        reasons = found.reasons.get(kind, {})
        rows.append(Meter(text, number(count), (count,), listed(reasons.items(), 2) if count else ""))
        lines.append((text, "", number(count)))
        lines += [("", reason, number(times)) for reason, times in reasons.items()]
    changed = max((kind for kind in KINDS if kind != "unchanged"), key=lambda kind: found.counts.get(kind, 0))
    seen = "Nothing differs."
    if found.counts.get(changed):
        seen = f"The commonest difference: {KINDS[changed]}, {clips(found.counts[changed])}."
    svg = meters("differences", seen, rows, (Part("one"),), total)
    table = Table(("clips that are", "why", "clips"), tuple(lines), note="A clip may have several reasons.")
    title = f"From version {found.old} to version {found.new}"
    plot = Plot("differences", title, seen, svg, table)
    return Section("differences", NEW, said, (plot, *_examples(found)))


def _examples(found: Comparison) -> Iterator[Table]:
    for kind, examples in found.examples.items():
        title = f"{KINDS[kind].capitalize()}: {len(examples)} of {number(found.counts[kind])}"
        yield Table(("clip", "before", "now", "why"), tuple(map(_example, examples)), title)


def _example(example: Example) -> tuple[str, ...]:
    return example.clip_id or example.origin, _side(example.old), _side(example.new), "; ".join(example.reasons)


def _side(side: Side | None) -> str:
    if side is None:
        return NONE
    return side.text if side.end == "captioned" else f"{side.end}: {side.text}"
