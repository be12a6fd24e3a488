"""The words and tables of deploy/COST.md; the figures are `benchmarks.cost`'s."""

from __future__ import annotations

import math
import textwrap
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.cost import ENDS, MEASURED, PRESETS, PRICES, Inputs

HEAD = """\
`python -m benchmarks.cost` wrote this file: {clips:,.0f} clips (AudioSet and VGGSound) with the profile `{profile}`, on
Dataflow. **No GPU has been measured, and nothing here has been billed.** Decoding was measured ({machine}). The models'
arithmetic was counted at full size (`python -m benchmarks.flops`); what a GPU makes of it is an assumption. Prices are
list prices, and some could not be read where this was written ([prices.toml](prices.toml) says which): check them
before you rely on a sum. Every figure is computed with all assumptions at their favourable and at their unfavourable
end; no digit after the second means anything."""
BOUND = """\
Hours in all are with as many GPU workers as the preset has at most, and captions after the cues. GPU and decoding work
at the same time, so a worker waits for the slower of them. Where captions take most of the hours, the provider's limit
on requests bounds the run, and fewer GPU workers cost it nothing."""
UNFIT = "As it is the profile does not fit every GPU; the figures are what it would take there if it did."
KEPT = """\
Keeping the clips' files costs {media} dollars a month, the dataset with its store {records}. Traffic within a region
costs nothing."""
CHECK = """\
With the preset l4. "Nothing" is the check that the scheduler starts: it compares the manifest with the recipe and the
lists, and starts no job. Where a cue changes, captions are asked for again only where they rest on another value of it:
the figure is for all of them."""
BETTER = """\
A thousand clips say more than this page: `earshot run --limit 1000` measures every step, and `earshot plan` on the
whole list then computes with what was measured."""


def text(found: dict[str, Any], ends: tuple[Inputs, Inputs], profile: str) -> str:
    """The document."""
    machine = tomllib.loads(MEASURED.read_text(encoding="utf-8"))["machine"]["name"]
    head = HEAD.format(clips=ends[0].assume["clips"], profile=profile, machine=machine)
    (media, records), (more_media, more_records) = found["kept"]
    kept = KEPT.format(media=between(media, more_media), records=between(records, more_records))
    parts = [
        "# What two million clips take, on paper",
        _wrapped(head),
        "## Each preset",
        _presets(found["presets"]),
        _wrapped(BOUND),
        *(_wrapped(f"{UNFIT} {misfit}") for misfit in _misfits(found["presets"])),
        "## Where the money goes",
        _dollars(found["presets"]),
        _wrapped(kept),
        "## Each cue on a GPU",
        _cues(found["cues"], ends[0]),
        "## Reruns",
        _wrapped(CHECK),
        _table(
            ("what has changed", "dollars"), [(what, between(*dollars)) for what, dollars in found["reruns"].items()]
        ),
        "## What went in",
        _assumptions(ends),
        _sources(),
        _wrapped(BETTER),
    ]
    return "\n\n".join(parts) + "\n"


def between(one: float, other: float) -> str:
    """A range with two digits: figures that rest on assumptions have no more."""
    low, high = (two_digits(end) for end in sorted((one, other)))
    return low if low == high else f"{low} to {high}"


def two_digits(value: float) -> str:
    """A figure rounded to two digits, written out: ``0.074``, ``2.4``, ``1,900``."""
    if not value:
        return "0"
    rounded = round(value, 1 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.{max(0, 1 - math.floor(math.log10(abs(rounded))))}f}"


def _presets(presets: dict[str, Any]) -> str:
    head = ("preset", "GPU, s a clip", "decoding, core s a clip", "a GPU worker waits for", "GPU worker hours")
    more = ("hours in all", "of which captions", "dollars")
    rows = []
    for name in PRESETS:
        low, high = (presets[name][end] for end in ENDS)
        keys = ("gpu_s", "decode_s", "worker_hours", "hours", "caption_hours", "total")
        figures = [between(low[key], high[key]) for key in keys]
        bound = low["bound"] if low["bound"] == high["bound"] else f"{low['bound']}, or {high['bound']}"
        rows.append((name, *figures[:2], bound, *figures[2:]))
    return _table((*head, *more), rows)


def _misfits(presets: dict[str, Any]) -> list[str]:
    return [presets[name]["misfit"] for name in PRESETS if presets[name]["misfit"]]


def _dollars(presets: dict[str, Any]) -> str:
    rows = []
    for name in presets[PRESETS[0]][ENDS[0]]["dollars"]:
        rows.append((name, *(between(*(presets[at][end]["dollars"][name] for end in ENDS)) for at in PRESETS)))
    return _table(("dollars for", *PRESETS), rows)


def _cues(cues: dict[str, Any], inputs: Inputs) -> str:
    rows = []
    for name, times in cues.items():
        load = inputs.flops[name]
        milliseconds = [between(*(1000 * end for end in times[preset])) for preset in PRESETS]
        rows.append((name, f"{load['parameters_m']:,.0f}", two_digits(load["gflop"]), *milliseconds))
    return _table(("cue", "parameters, M", "GFLOP a clip", *(f"{preset}, ms a clip" for preset in PRESETS)), rows)


def _assumptions(ends: tuple[Inputs, Inputs]) -> str:
    rows = [(f"`{name}`", _plain(value), _plain(ends[1].assume[name])) for name, value in ends[0].assume.items()]
    return _table(("assumption", "favourable", "unfavourable"), rows)


def _sources() -> str:
    prices = tomllib.loads(PRICES.read_text(encoding="utf-8"))["prices"]
    rows = [(name, "yes" if of["read"] else "**no**", of["date"], of["source"]) for name, of in prices.items()]
    return _table(("prices of", "page was read", "date", "where they are from"), rows)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _wrapped(said: str) -> str:
    return textwrap.fill(" ".join(said.split()), 120, break_long_words=False, break_on_hyphens=False)
