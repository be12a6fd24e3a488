"""How a report puts numbers into words, and counts into tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from beam_pipeline.report.parts import Table

NONE = "–"


def label(text: str, most: int = 44) -> str:
    """Text from outside as it may be shown: one line, nothing that does not print, cut where it is too long."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "(empty)"
    return shown if len(shown) <= most else f"{shown[: most - 1].rstrip()}…"


def number(value: float | None, decimals: int = 0) -> str:
    """``57,188``; a dash where there is none."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{decimals}f}".replace("-", "−")


def clips(count: int, one: str = "clip", many: str = "") -> str:
    """``1 clip``, ``2 clips``."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def percent(part: float, whole: float) -> str:
    """``12.5 %``, ``100 %``; a dash of nothing."""
    if not whole:
        return NONE
    value = 100 * part / whole
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.0f} %" if value in (0, 100) else f"{value:.1f} %"


def lasting(seconds: float) -> str:
    """``1.5 h``, ``12.0 min``, ``3.2 s``, ``4.0 ms``; what rounds to ``60.0`` of a unit is 1.0 of the next."""
    if seconds and round(1000 * seconds, 1) < 100:
        return "< 0.1 ms" if 1000 * seconds < 0.1 else f"{1000 * seconds:.1f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if round(minutes, 1) < 60 else f"{number(minutes / 60, 1)} h"


def dollars(amount: float) -> str:
    """``12.35``; with four decimals below 1, and ``< 0.0001`` where those would not show it."""
    if 0 < amount < 0.0001:
        return "< 0.0001"
    return number(amount, 2 if amount >= 1 else 4)


def words(name: str) -> str:
    """A name in snake_case as words."""
    return name.replace("_", " ")


def listed(found: Iterable[tuple[str, int]], most: int = 3) -> str:
    """``silent (2), no audio (1)``; how many more there are where there are more."""
    shown = [f"{words(name)} ({number(count)})" for name, count in found]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def counts(head: str, found: Sequence[tuple[str, int]], others: int = 0, of: str = "clips", title: str = "") -> Table:
    """A table of names with how often they occur, and their shares.

    Args:
        head: what the names are.
        found: in order.
        others: what was counted together.
        of: what is counted.
        title: of the table.
    """
    total = sum(count for _, count in found) + others
    rows = [(name or "(none)", number(count), percent(count, total)) for name, count in found]
    if others:
        rows.append(("others", number(others), percent(others, total)))
    return Table((head, of, "share"), tuple(rows), title)


def slug(name: str) -> str:
    """A name in kebab-case, of letters and digits alone."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
