"""Sections about what models said: coverage and confidence by cue, and synchronisation."""

from __future__ import annotations

from collections.abc import Iterator

from beam_pipeline.report.figures import Figures
from beam_pipeline.report.parts import Plot, Section, Table
from beam_pipeline.report.plots import Line, Meter, Part, histogram, meters, strips
from beam_pipeline.report.tallies import MOST_LEVELS, CueTally, SyncTally
from beam_pipeline.report.wording import NONE, clips, listed, number, percent, slug, words
from model_handlers.synchronisation import CLASS_FRAMES, CLASSES, FPS

STEP_S = CLASS_FRAMES / FPS  # from one class of offset to the next, in seconds
_DRAWN = 50  # bars of a histogram of scores
_COVERAGE = (Part("one", "says something"), Part("three", "says nothing"), Part("two", "does not apply"))


def cues(figures: Figures) -> Section | None:
    """How many clips each cue covers, and how sure it is."""
    if not figures.cues or not figures.clips_in:
        return None
    parts: list[Plot | Table] = [_coverage(figures)]
    sure = {name: tally for name, tally in figures.cues.items() if tally.first.count}
    if sure:
        parts.append(_confidence(sure))
    if rows := [row for name, tally in figures.cues.items() for row in _beyond(name, tally)]:
        parts.append(Table(("cue", "of", "least", "mean", "greatest"), tuple(rows), "Scores on another scale"))
    said = f"{clips(len(figures.cues), 'cue')}; {len(sure)} of them give their answers a score from 0 to 1."
    if plain := [words(name) for name, tally in figures.cues.items() if tally.items and not tally.scored]:
        said += f" Without any score: {', '.join(plain)}."
    return Section("cues", "What the cues say", said, tuple(parts))


def _beyond(name: str, tally: CueTally) -> Iterator[tuple[str, ...]]:
    """A row for each thing that is measured; where those are many, one for all."""
    if not tally.beyond.count:
        return
    few = sorted(tally.levels.items()) if len(tally.levels) <= MOST_LEVELS else [("all", tally.beyond)]
    for what, found in few:
        yield name, what, *(number(x, 1) for x in (found.least, found.mean, found.greatest))


def _coverage(figures: Figures) -> Plot:
    total = figures.clips_in
    rows, lines = [], []
    for name, tally in figures.cues.items():
        skipped, missing = tally.skipped.total, total - tally.seen
        note = listed(tally.skipped.most_common(), 2) if skipped else ""
        values = (tally.with_items, tally.empty, skipped)
        rows.append(Meter(name, percent(tally.with_items, total), values, note))
        amounts = map(number, (*values, missing))
        lines.append((name, *amounts, listed(tally.skipped.most_common(), 10) or NONE, listed_models(tally)))
    covered = [tally.with_items for tally in figures.cues.values()]
    least = [words(name) for name, tally in figures.cues.items() if tally.with_items == min(covered)]
    said = "Every cue says something of "
    if min(covered) < max(covered):
        said = "The cues that say" if len(least) > 1 else "The cue that says"
        said += f" something least often: {', '.join(least)}, of "
    said += f"{percent(min(covered), total)} of all clips."
    head = (
        "cue",
        "says something",
        "says nothing",
        "does not apply",
        "not on record",
        "why it does not apply",
        "model",
    )
    note = "A cue is not on record where the clip was dropped before it, or failed."
    svg = meters("coverage", said, rows, _COVERAGE, total)
    return Plot("coverage", "Clips that each cue covers", said, svg, Table(head, tuple(lines), note=note))


def listed_models(tally: CueTally) -> str:
    """The models that said it; more than one where a version mixes them."""
    return ", ".join(model for model, _ in tally.models.most_common()) or NONE


def _confidence(sure: dict[str, CueTally]) -> Plot:
    medians = {name: f"{tally.first.quantile(0.5):.2f}" for name, tally in sure.items()}
    rows = [(name, f"median {medians[name]}", tally.first.merged(_DRAWN)) for name, tally in sure.items()]
    highest = max(medians.values())
    best = [words(name) for name, median in medians.items() if median == highest]
    said = "The highest medians are those of" if len(best) > 1 else "The highest median is that of"
    said += f" {', '.join(best)}: {highest}. Scores of different models do not compare."
    lines = (
        (
            name,
            number(tally.first.count),
            *(f"{value:.2f}" for value in (tally.first.mean, *(tally.first.quantile(q) for q in (0.1, 0.5, 0.9)))),
            number(tally.items / tally.with_items, 1),
            f"{tally.all.mean:.2f}",
        )
        for name, tally in sure.items()
    )
    head = ("cue", "clips", "mean", "10 %", "median", "90 %", "answers a clip", "mean of all answers")
    svg = strips("confidence", said, rows, "score of what the cue says first of a clip")
    return Plot("confidence", "How sure each cue is", said, svg, Table(head, tuple(lines)))


_SYNC = (Part("captioned", "clips kept"), Part("rejected", "clips rejected for it"))


def synchronisation(figures: Figures) -> Section | None:
    """How far the guesses are off, and how many of a clip's are right."""
    parts: list[Plot | Table] = []
    said = ""
    for name, tally in figures.synchronisation.items():
        if tally.others:
            said += f"{clips(tally.others)} of other sources than {', '.join(tally.rule.sources)} "
            said += f"{'was' if tally.others == 1 else 'were'} not judged. "
        if not tally.clips:
            continue
        lost, rule = tally.hits[False].total(), tally.rule
        wanted = "" if rule.required_hits is None else f", by fewer than {rule.required_hits} right guesses"
        said += f"{clips(tally.clips)} {'was' if tally.clips == 1 else 'were'} judged; "
        said += f"{number(lost)} ({percent(lost, tally.clips)}) {'was' if lost == 1 else 'were'} rejected "
        said += f"as out of sync{wanted}. "
        prefix = "sync" if len(figures.synchronisation) == 1 else f"sync-{slug(name)}"
        parts += [_offsets(prefix, tally), _hits(prefix, tally)]
    return Section("synchronisation", "Sound and picture together", said.strip(), tuple(parts)) if said else None


def _offsets(prefix: str, tally: SyncTally) -> Plot:
    reach, within = CLASSES - 1, tally.rule.tolerance
    edges = [(off - 0.5) * STEP_S for off in range(-reach, reach + 2)]
    series = [
        (part, [tally.off[kept][off] for off in range(-reach, reach + 1)])
        for part, kept in zip(_SYNC, (True, False), strict=True)
    ]
    band = (-(within + 0.5) * STEP_S, (within + 0.5) * STEP_S)
    kinds = tally.kinds[True] + tally.kinds[False]
    total = kinds.total()
    near = total - kinds["error"]
    said = f"{percent(kinds['exact'], total)} of {number(total)} guesses are exact, and {percent(near, total)} within "
    said += f"{within * STEP_S:.1f} s of the truth (the band)."
    across = "guess minus drawn offset, in seconds"
    svg = histogram(f"{prefix}-offsets", said, edges, series, across, band=band, ticks=(-4, -2, -1, 0, 1, 2, 4))
    names = ["exact", "tolerable", *(["unsure"] if kinds["unsure"] else []), "error"]
    lines = tuple(
        (kind, *(number(tally.kinds[kept][kind]) for kept in (True, False)), percent(kinds[kind], total))
        for kind in names
    )
    note = f"Exact: the drawn offset. Tolerable: at most {within * STEP_S:.1f} s off. Error: more (Auto-ACD, 3.3.2)."
    if kinds["unsure"]:
        least = tally.rule.least_probability
        note += f" Unsure: as near, but with a probability below {least:g} of being so near; it is not right."
    table = Table(("guess", "clips kept", "clips rejected for it", "of all"), lines, note=note)
    return Plot(f"{prefix}-offsets", "How far the guesses are off", said, svg, table)


def _hits(prefix: str, tally: SyncTally) -> Plot:
    most = tally.evaluations
    values = range(most + 1)
    series = [(part, [tally.hits[kept][n] for n in values]) for part, kept in zip(_SYNC, (True, False), strict=True)]
    every = (tally.hits[True] + tally.hits[False])[most]
    said = f"Of {percent(every, tally.clips)} of the clips all {most} guesses are right."
    need = tally.rule.required_hits
    lines = [] if need is None else [Line(need - 0.5, f"kept from {need} on")]
    edges = [n - 0.5 for n in range(most + 2)]
    svg = histogram(
        f"{prefix}-hits", said, edges, series, "right guesses of a clip", lines, ticks=list(values), height=180
    )
    rows = tuple((str(n), *(number(tally.hits[kept][n]) for kept in (True, False))) for n in values)
    table = Table(("right guesses", "clips kept", "clips rejected for it"), rows)
    return Plot(f"{prefix}-hits", "Right guesses a clip", said, svg, table)
