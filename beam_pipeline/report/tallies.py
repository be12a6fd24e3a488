"""What is counted as rows stream by. However many come, each tally stays small."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from model_handlers.base import Item
from model_handlers.synchronisation import near_truth, parse_evaluation
from transforms.caption import WITHOUT
from transforms.evidence import said

Row = Mapping[str, Any]  # a record as Avro holds it
FINE = 1000  # parts of a score's 0 to 1, so that medians are right to three digits
MOST_LEVELS = 8  # things that a cue measures on a scale of its own and that are told apart
HEADER = "MediaFacts"  # who reads the length of a clip off its file


class Bounded:
    """How often each text occurred, of no more than `at_most` texts; what else occurs is counted together.

    A list of labels may be hostile, or an id a row: memory stays flat all the same. The texts that came first are kept.
    """

    def __init__(self, at_most: int = 20_000):
        self.at_most = at_most
        self.counts: Counter[str] = Counter()
        self.others = 0

    def add(self, text: str) -> None:
        """Counts one."""
        if text in self.counts or len(self.counts) < self.at_most:
            self.counts[text] += 1
        else:
            self.others += 1

    def most_common(self, number: int | None = None) -> list[tuple[str, int]]:
        """The commonest first; of those that are equally common, in order of the alphabet."""
        return sorted(self.counts.items(), key=lambda one: (-one[1], one[0]))[:number]

    @property
    def total(self) -> int:
        """All that was counted."""
        return self.counts.total() + self.others


class Histogram:
    """How many values fall into each of `bins` equal parts of [low, high].

    A value beyond either end is counted in the part at that end; `least` and `greatest` tell. What is no number is left
    out.
    """

    def __init__(self, low: float, high: float, bins: int):
        self.low, self.high = low, high
        self.bins = [0] * bins
        self.count = 0
        self.sum = 0.0
        self.least, self.greatest = math.inf, -math.inf

    def add(self, value: float) -> None:
        """Counts one."""
        if not -math.inf < value < math.inf:
            return
        at = int((value - self.low) / (self.high - self.low) * len(self.bins))
        self.bins[0 if at < 0 else at if at < len(self.bins) else -1] += 1
        self.count += 1
        self.sum += value
        if value < self.least:
            self.least = value
        if value > self.greatest:
            self.greatest = value

    def merged(self, bins: int) -> list[int]:
        """The counts of so many parts, which have to divide those there are: as many as can be drawn."""
        width = len(self.bins) // bins
        return [sum(self.bins[at : at + width]) for at in range(0, len(self.bins), width)]

    @property
    def mean(self) -> float:
        """Of all values; not a number where there is none."""
        return self.sum / self.count if self.count else math.nan

    def quantile(self, share: float) -> float:
        """Below which value that share lies, to half the width of a part; not a number where there is none."""
        wanted, before = share * self.count, 0
        for at, number in enumerate(self.bins):
            before += number
            if number and before >= wanted:
                middle = self.low + (at + 0.5) * (self.high - self.low) / len(self.bins)
                return min(max(middle, self.least), self.greatest)
        return math.nan


class Distinct:
    """How many distinct texts there are, by linear counting (Whang et al., 1990); it takes 2 MB, however many come.

    Exact, but for a clash of hashes, as long as they are few, and to 0.2 % for two millions.
    """

    _BITS = 1 << 24

    def __init__(self) -> None:
        self._seen = bytearray()
        self._marked = 0

    def add(self, text: str) -> None:
        """Counts one that has not come before."""
        self._seen = self._seen or bytearray(self._BITS // 8)
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        byte, bit = divmod(int.from_bytes(digest, "big") % self._BITS, 8)
        if not self._seen[byte] >> bit & 1:
            self._seen[byte] |= 1 << bit
            self._marked += 1

    @property
    def count(self) -> int:
        """Of texts, corrected for those whose hashes are alike."""
        return round(-self._BITS * math.log1p(-min(self._marked, self._BITS - 1) / self._BITS))


class Lengths:
    """Whole numbers, each distinct one counted, so that every percentile is exact."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.sum = 0

    def add(self, value: int) -> None:
        """Counts one."""
        self.counts[value] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many were counted."""
        return self.counts.total()

    @property
    def mean(self) -> float:
        """Not a number where there is none."""
        return self.sum / self.count if self.counts else math.nan

    @property
    def longest(self) -> int:
        """0 where there is none."""
        return max(self.counts, default=0)

    def percentile(self, percent: float) -> int:
        """The smallest value that at least so many per cent do not exceed (nearest rank); 0 where there is none."""
        wanted, before = max(1, math.ceil(percent / 100 * self.count)), 0
        for value, number in sorted(self.counts.items()):
            before += number
            if before >= wanted:
                return value
        return 0


@dataclass
class CueTally:
    """What became of one cue.

    Attributes:
        with_items: clips of which it says something.
        empty: clips of which it was asked and says nothing.
        skipped: clips to which it does not apply, by the reason.
        models: clips by the model that was asked.
        items: all that it says.
        scored: those of them that have a score.
        first: scores of what it says first of a clip, which is the likeliest where it ranks; for scores from 0 to 1.
        all: scores of all that it says; likewise.
        beyond: scores of another scale, like levels in dB: of these the range is kept.
        levels: the same by what they are of, such as peak and rms; no more than one beyond `MOST_LEVELS`.
        texts: what it says first, by how often.
    """

    with_items: int = 0
    empty: int = 0
    skipped: Bounded = field(default_factory=lambda: Bounded(200))
    models: Bounded = field(default_factory=lambda: Bounded(20))
    items: int = 0
    scored: int = 0
    first: Histogram = field(default_factory=lambda: Histogram(0, 1, FINE))
    all: Histogram = field(default_factory=lambda: Histogram(0, 1, FINE))
    beyond: Histogram = field(default_factory=lambda: Histogram(-200, 200, 1))
    levels: dict[str, Histogram] = field(default_factory=dict)
    texts: Bounded = field(default_factory=Bounded)

    @property
    def seen(self) -> int:
        """The clips that have the cue on record."""
        return self.with_items + self.empty + self.skipped.total

    def add(self, cue: Row) -> None:
        """Counts a clip's cue."""
        self.models.add(cue["model"])
        if cue["skipped"]:
            self.skipped.add(cue["skipped"])
            return
        items = _told(cue["items"])
        if not items:
            self.empty += 1
            return
        self.with_items += 1
        self.items += len(items)
        if len(items[0]["text"]) <= 80:  # longer ones are sentences or embeddings, of which no two are alike
            self.texts.add(items[0]["text"])
        for place, item in enumerate(items):
            if (score := item["score"]) is None:
                continue
            self.scored += 1
            if not 0 <= score <= 1:
                self.beyond.add(score)
                if item["text"] in self.levels or len(self.levels) <= MOST_LEVELS:
                    self.levels.setdefault(item["text"], Histogram(-200, 200, 1)).add(score)
                continue
            self.all.add(score)
            if place == 0:
                self.first.add(score)


def _told(items: Sequence[Row]) -> Sequence[Row]:
    """What a cue says; of a transcript what was said, and not how sure it is that nobody speaks."""
    if not items or not items[0]["text"].startswith("no speech"):
        return items
    return [item for item in items if said((Item(item["text"]),))]


def as_published(row: Row) -> Row | None:
    """The attempt of a caption that was published all the same, but for a form or language; ``None`` if there is none.

    It is marked as `transforms.caption.missing` has it.
    """
    marked = (
        one for one in row["attempts"] if one["answer"] == row["caption"] and one["complaint"].startswith(WITHOUT)
    )
    return next(marked, None)


@dataclass(frozen=True)
class SyncRule:
    """When an evaluation of synchronisation counts as right, how many a clip needs, and which clips are judged.

    The fields are those of a manifest's ``filters.sync``; without a filter, the paper's tolerance.
    """

    tolerance: int = 3
    least_probability: float = 0.0
    required_hits: int | None = None
    sources: tuple[str, ...] = ()

    @classmethod
    def of(cls, filters: Mapping[str, Any]) -> SyncRule:
        """Reads it off a manifest's ``filters``."""
        found = filters.get("sync") or {}
        wanted = found.get("required_hits")
        sources = tuple(found.get("sources") or ())
        return cls(found.get("tolerance", 3), found.get("least_probability", 0.0), wanted, sources)

    def judges(self, source: str) -> bool:
        """Whether clips of that source are judged."""
        return not self.sources or source in self.sources


class SyncTally:
    """Evaluations of synchronisation: how far each guess was off, and how many a clip got right.

    Auto-ACD (section 3.3.2): a guess that is the drawn offset is *exact*, one at most 0.6 s off *tolerable*, any other
    an *error*. Where the profile also asks that the model be sure, a guess near enough that is not sure is *unsure*.

    Attributes:
        off: guesses by kept (`True`) or rejected, and by how many classes of 0.2 s they are off.
        kinds: guesses, by kept or rejected, and by what they are.
        hits: clips, by kept or rejected, and by how many guesses were right.
        evaluations: guesses a clip, at most.
        others: clips with evaluations that the filter does not judge, because of their source.
    """

    def __init__(self, rule: SyncRule):
        self.rule = rule
        self.off: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
        self.kinds: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        self.hits: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
        self.evaluations = 0
        self.others = 0

    def add(self, items: Sequence[Row], kept: bool) -> None:
        """Counts a clip's. What is no evaluation raises ValueError, and nothing is counted."""
        guesses = [parse_evaluation(Item(item["text"])) for item in items]
        right = 0
        for guess in guesses:
            off = guess.predicted_class - guess.true_class
            near = abs(off) <= self.rule.tolerance
            sure = near_truth(guess, self.rule.tolerance) >= self.rule.least_probability
            right += near and sure
            self.off[kept][off] += 1
            self.kinds[kept][_kind(off, near, sure)] += 1
        self.hits[kept][right] += 1
        self.evaluations = max(self.evaluations, len(guesses))

    @property
    def clips(self) -> int:
        """How many were evaluated."""
        return sum(one.total() for one in self.hits.values())


def _kind(off: int, near: bool, sure: bool) -> str:
    if not near:
        return "error"
    if not sure:
        return "unsure"
    return "exact" if off == 0 else "tolerable"


def duration(clip: Row, cues: Iterable[Row]) -> tuple[float, bool]:
    """How long a clip is at least, in seconds, and whether that is its length.

    It is, where its source names an end or a cue has read the file's header. Elsewhere it is the last moment that a cue
    tells of.
    """
    if clip["end_s"] is not None:
        return clip["end_s"] - clip["start_s"], True
    least = 0.0
    for cue in cues:
        end = max((item["end_s"] for item in cue["items"] if item["end_s"] is not None), default=0.0)
        if end and cue["model"] == HEADER:
            return end, True
        least = max(least, end)
    return least, False
