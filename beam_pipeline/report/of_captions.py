"""Sections about captions: their words, what checks and similarity made of them, and the questions about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from beam_pipeline.report import published
from beam_pipeline.report.figures import DISSIMILAR, Figures
from beam_pipeline.report.parts import Plot, Section, Table
from beam_pipeline.report.plots import Line, Meter, Part, cloud, histogram, meters
from beam_pipeline.report.tallies import Histogram
from beam_pipeline.report.wording import clips, counts, label, number, percent, words

OURS = "this dataset"
PERCENTILES = (5, 25, 50, 75, 95, 99)
MOST_BARS = 40
DRAWN = 200  # parts of [-1, 1] that similarities are drawn in, at most
CLOUD = 110  # words that a phone's width still holds in legible sizes


def captions(figures: Figures) -> Section | None:
    """How long they are and of how many words, beside what others published; and which words."""
    found = figures.words
    if not found.count:
        return None
    said = f"{clips(found.count, 'caption')} of {found.mean:.1f} words on average, with "
    said += f"{clips(len(figures.vocabulary), 'distinct word')}."
    parts: list[Plot | Table] = [_lengths(figures), _mean_words(figures), _vocabulary(figures)]
    if top := figures.content_words(CLOUD):
        parts.append(_cloud(top))
    if rows := list(_forms(figures)):
        head = ("form", "language", "texts", "of captions", "missing")
        note = "Missing: captions that were published without it, as it never passed its checks."
        parts.append(Table(head, tuple(rows), "In other forms and languages", note))
    parts.append(counts("writer", figures.writers.most_common(), figures.writers.others, "captions", "Who wrote them"))
    if any(figures.prompts.counts):
        prompts = figures.prompts
        parts.append(counts("prompt", prompts.most_common(), prompts.others, "captions", "From which prompt"))
    return Section("captions", "The captions", said, tuple(parts))


def _forms(figures: Figures) -> Iterator[tuple[str, ...]]:
    """Texts in each form and language, and how many captions lack one that never passed its checks."""
    manifest, total = figures.manifest, figures.words.count
    missing = dict((manifest.get("versions") or {}).get("missing") or {})
    for (form, language), count in sorted(figures.forms.items(), key=lambda one: (-one[1], one[0])):
        lacking = missing.pop(form or language, 0)
        yield form, language, number(count), percent(count, total), number(lacking)
    for name, lacking in missing.items():  # of which there is no text at all
        which = ("", name) if name in (manifest.get("languages") or ()) else (name, "")
        yield *which, "0", percent(0, total), number(lacking)


def _lengths(figures: Figures) -> Plot:
    found = figures.words
    least, high = min(found.counts), max(found.percentile(99.5), min(found.counts) + 4)
    width = max(1, -(-(high - least + 1) // MOST_BARS))
    number_of = -(-(high - least + 1) // width)
    bars = [0] * number_of
    for length, count in found.counts.items():
        bars[min((length - least) // width, number_of - 1)] += count
    edges = [least - 0.5 + at * width for at in range(number_of + 1)]
    said = f"Captions have {found.mean:.1f} words on average; half have {found.percentile(50)} or fewer, "
    said += f"and the longest has {number(found.longest)}."
    if found.longest > edges[-1]:
        said += " The last bar holds all that are longer."
    svg = histogram("caption-length", said, edges, [(Part("one"), bars)], "words of a caption", whole=True)
    rows = (
        *((f"{p} % have at most", number(found.percentile(p))) for p in PERCENTILES),
        ("longest", number(found.longest)),
    )
    table = Table(("captions", "words"), (("mean", f"{found.mean:.2f}"), ("shortest", number(least)), *rows))
    return Plot("caption-length", "Length of captions", said, svg, table)


def _mean_words(figures: Figures) -> Plot:
    mine, others = figures.words.mean, sorted(published.DATASETS, key=lambda one: one.words)
    near = min(others, key=lambda one: abs(one.words - mine))
    said = f"At {mine:.1f} words a caption this dataset is nearest to {near.name} ({near.words:g})."
    rows = [(OURS, mine, f"{mine:.1f}"), *((one.name, one.words, f"{one.words:g}") for one in others)]
    sources = (
        (one.name, number(one.captions), f"{one.words:g}", number(one.vocabulary), one.source)
        for one in published.DATASETS
    )
    ours = (OURS, number(figures.words.count), f"{mine:.2f}", number(len(figures.vocabulary)), "counted here")
    head = ("dataset", "captions", "words a caption", "distinct words", "source")
    note = "Words are counted in lower case; papers count in ways of their own, so compare roughly."
    table = Table(head, (ours, *sources), note=note)
    return Plot(
        "published-length",
        "Words a caption, beside published datasets",
        said,
        _beside("published-length", said, rows),
        table,
    )


def _vocabulary(figures: Figures) -> Plot:
    mine = len(figures.vocabulary)
    others = sorted(
        ((one.name, one.vocabulary) for one in published.DATASETS if one.vocabulary), key=lambda one: one[1]
    )
    once = sum(1 for count in figures.vocabulary.values() if count == 1)
    said = f"{clips(mine, 'distinct word')}, of which {number(once)} occur once. "
    said += "A vocabulary grows with the number of captions: compare it with datasets of like size."
    rows = [(OURS, mine, number(mine)), *((name, size, number(size)) for name, size in others)]
    return Plot(
        "published-vocabulary",
        "Distinct words, beside published datasets",
        said,
        _beside("published-vocabulary", said, rows),
    )


def _beside(name: str, said: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """One's own number, and those of others in a quieter colour."""
    shown = [Meter(who, text, (value, 0) if who == OURS else (0, value)) for who, value, text in rows]
    return meters(name, said, shown, (Part("one", OURS), Part("soft", "as published")))


def _cloud(top: list[tuple[str, int]]) -> Plot:
    (first, times), rest = (label(top[0][0]), top[0][1]), [label(word) for word, _ in top[1:4]]
    said = f"The commonest word is “{first}” ({number(times)} times)"
    said += f", then {', '.join(rest)}." if rest else "."
    table = Table(("word", "times"), tuple((word, number(count)) for word, count in top[:40]))
    note = " Stop words and numbers are left out; colours mean nothing."
    return Plot("word-cloud", "The commonest words", said + note, cloud("word-cloud", said, top), table)


def checks(figures: Figures) -> Section | None:
    """How often each check sent an answer back, and how many answers it took."""
    kept, lost = figures.checks["captions"], figures.checks["rejected"]
    total = figures.answers.count
    if not total and not lost:
        return None
    said = f"{percent(figures.first_try() * total, total)} of the captions passed all checks with the first answer. "
    said += f"{clips(fired.total(), 'answer')} did not pass." if (fired := kept + lost) else "No answer failed one."
    if figures.without:
        said += f" {clips(figures.without, 'caption')} {'was' if figures.without == 1 else 'were'} published without "
        said += "a form or language that never passed."
    parts: list[Plot | Table] = []
    if fired:
        order = sorted(fired, key=lambda check: (-fired[check], check))
        rows = [Meter(words(check), number(fired[check]), (kept[check], lost[check])) for check in order]
        caught = f"The check that fired most often is {words(order[0])}, on {clips(fired[order[0]], 'answer')}."
        legend = (Part("captioned", "captioned later"), Part("rejected", "clip rejected"))
        lines = ((check, number(fired[check]), number(kept[check]), number(lost[check])) for check in order)
        table = Table(("check", "answers", "of clips captioned later", "of clips rejected"), tuple(lines))
        parts.append(
            Plot("checks", "Answers that failed a check", caught, meters("checks", caught, rows, legend), table)
        )
    took = sorted(figures.answers.counts.items())
    if took:
        taken = tuple((clips(n, "answer"), number(count), percent(count, total)) for n, count in took)
        parts.append(Table(("it took", "captions", "share"), taken, "Answers that a caption took"))
    return Section("checks", "What the checks caught", said, tuple(parts))


def similarity(figures: Figures) -> Section | None:
    """How like captions and their sound are, by CLAP, with the threshold."""
    mine = figures.similarity
    total = sum(one.count for one in mine.values())
    if not total:
        return None
    kept, lost, other = mine["captions"], mine[DISSIMILAR], mine["other"]
    least = (figures.manifest.get("similarity") or {}).get("least")
    said = f"{number(kept.count)} captions were kept"
    said += f", with a median similarity of {kept.quantile(0.5):.2f}; " if kept.count else "; "
    if least is None:
        said += "no threshold was set."
    else:
        said += f"{number(lost.count)} of {number(total)} ({percent(lost.count, total)}) fell below {least:g}."
    series = [(Part("captioned", "captions"), kept), (Part("rejected", "rejected for it"), lost)]
    if other.count:
        series.append((Part("three", "rejected later"), other))
    edges, bars = _trimmed([one for _, one in series], least)
    lines = [] if least is None else [Line(least, f"threshold {least:g}")]
    drawn = [(part, counted) for (part, _), counted in zip(series, bars, strict=True)]
    seen = f"Captions score {_range(kept)}" if kept.count else "No caption was kept"
    seen += f"; what was rejected for it scores {_range(lost)}." if lost.count else "."
    svg = histogram("similarity", seen, edges, drawn, "cosine of the embeddings of caption and sound", lines)
    rows = tuple(
        (part.name, number(one.count), *(number(x, 3) for x in (one.mean, one.quantile(0.5), one.least, one.greatest)))
        for part, one in series
        if one.count
    )
    table = Table(("clips", "count", "mean", "median", "least", "greatest"), rows)
    plot = Plot("similarity", "Similarity of caption and sound", seen, svg, table)
    return Section("similarity", "How well captions fit their sound", said, (plot,))


def _range(found: Histogram) -> str:
    least, greatest = number(found.least, 2), number(found.greatest, 2)
    return least if least == greatest else f"from {least} to {greatest}"


def _trimmed(found: list[Histogram], least: float | None) -> tuple[list[float], list[list[int]]]:
    """Edges and counts of where there are any, or the threshold; parts put together until a phone can show them."""
    counted = [one.merged(DRAWN) for one in found]
    size = (found[0].high - found[0].low) / DRAWN
    used = [at for bins in counted for at, count in enumerate(bins) if count]
    if least is not None:
        used.append(min(max(math.floor((least - found[0].low) / size + 1e-6), 0), DRAWN - 1))
    width = next(w for w in (1, 2, 4, 5, 10) if (max(used) - min(used)) / w < MOST_BARS or w == 10)
    first = max(min(used) // width - 1, 0) * width
    starts = range(first, min(max(max(used) + 1 + width, first + 6 * width), DRAWN), width)
    edges = [found[0].low + at * size for at in (*starts, starts[-1] + width)]
    return edges, [[sum(bins[at : at + width]) for at in starts] for bins in counted]


def questions(figures: Figures) -> Section | None:
    """What the questions are about, and why others were not taken."""
    total = figures.questions.total()
    told = figures.manifest.get("pairs") or {}
    reasons: list[Plot | Table] = []
    if dropped := sorted((told.get("dropped") or {}).items(), key=lambda one: (-one[1], one[0])):
        reasons.append(counts("why", dropped, of="questions", title="Questions that were not taken"))
    if not total:
        said = "No question that was written was taken."
        return Section("questions", "Questions and answers", said, tuple(reasons)) if reasons else None
    captioned, about = figures.counts["captions"], min(figures.asked_about.count, figures.counts["captions"])
    asked, answered = figures.question_words, figures.answer_words
    said = f"{clips(total, 'question')} about {number(about)} of {clips(captioned, 'captioned clip')}: "
    said += f"{total / max(about, 1):.1f} a clip. "
    said += f"A question has {asked.mean:.1f} words on average and an answer {answered.mean:.1f} "
    said += f"(FusionAudio: {published.QUESTION_WORDS:g} and {published.ANSWER_WORDS:g})."
    kinds: dict[str, int] = {}
    for (kind, _), count in figures.questions.items():
        kinds[kind] = kinds.get(kind, 0) + count
    order = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    forms = sorted({form for _, form in figures.questions})
    colours = ("one", "two", "three", "four")
    legend = [Part(colours[at % 4], form) for at, form in enumerate(forms)]
    rows = [Meter(kind, number(kinds[kind]), tuple(figures.questions[kind, form] for form in forms)) for kind in order]
    lines = tuple((k, number(kinds[k]), *(number(figures.questions[k, form]) for form in forms)) for k in order)
    seen = f"Most questions, {number(kinds[order[0]])}, are about: {order[0]}."
    table = Table(("about", "questions", *forms), lines)
    plot = Plot("questions", "What they ask about", seen, meters("questions", seen, rows, legend), table)
    return Section("questions", "Questions and answers", said, (plot, *reasons))
