"""What is counted as rows go by, for the card and for the terminal."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, field

from beam_pipeline.export.records import Row
from beam_pipeline.review.ratings import Counted

EXAMPLES = 5
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass
class Tally:
    """Counts of what was exported, and of what was not.

    Attributes:
        captions: by split.
        words: by split, of all captions.
        vocabulary: different words, in lower case.
        pairs: questions, by split.
        left_out: clips that were wanted and are not there, by reason.
        unchecked: questions that are not there because the caption of their clip was corrected.
        without_media: those of them whose sound was asked for and could not be had.
        other_splits: clips of splits that were not asked for.
        examples: some captions' rows, drawn with equal chances.
        reviews: of the captions of this version.
    """

    captions: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    vocabulary: set[str] = field(default_factory=set)
    pairs: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    unchecked: int = 0
    without_media: int = 0
    other_splits: int = 0
    examples: list[Row] = field(default_factory=list)
    reviews: Counted | None = None
    _random: random.Random = field(default_factory=lambda: random.Random(0))

    def add(self, row: Row) -> None:
        """Counts a caption's row."""
        self.captions[row["split"]] += 1
        words = _WORD.findall(row["caption"].lower())
        self.words[row["split"]] += len(words)
        self.vocabulary.update(words)
        seen = self.captions.total()
        if len(self.examples) < EXAMPLES:
            self.examples.append(row)
        elif (place := self._random.randrange(seen)) < EXAMPLES:
            self.examples[place] = row

    def mean_words(self, split: str) -> float:
        """Words of a caption, on average."""
        return self.words[split] / self.captions[split] if self.captions[split] else 0.0
