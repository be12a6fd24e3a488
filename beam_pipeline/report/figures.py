"""All numbers of a report, from one pass over a version's rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from beam_pipeline.report.tallies import (
    FINE,
    Bounded,
    CueTally,
    Distinct,
    Histogram,
    Lengths,
    Row,
    SyncRule,
    SyncTally,
    as_published,
    duration,
)
from transforms.publish import QA
from transforms.words import STOP_WORDS, tokens

OUT_OF_SYNC = "out_of_sync"
BEFORE_SYNC = ("no_audio", "silent")  # what the sync filter never judges, though there may be evaluations
DISSIMILAR = "dissimilar"

# What a clip goes through, in order, and which ends belong there: a rejection's reason or a failure's step, or how it
# begins. Failures of any other step are those of a cue.
STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Listing": ((), ("ingest",)),
    "Label filter": (("labelled_",), ()),
    "Media and cues": ((), ("media",)),
    "Silence filter": (BEFORE_SYNC, ()),
    "Sync filter": ((OUT_OF_SYNC,), ()),
    "Writing": (("no_caption",), ("caption",)),
    "Checks": (("caption_",), ()),
    "Similarity": ((DISSIMILAR,), ("similarity",)),
    "Copies": (("near_copy",), ()),
    "Questions": ((), ("questions",)),
    "Other": ((), ()),
}


def stage(outcome: str, reason: str) -> str:
    """Where a clip was dropped: one of `STAGES`, by ``rejected`` and its reason or ``failed`` and its step."""
    which = 0 if outcome == "rejected" else 1
    for name, ends in STAGES.items():
        if any(reason == end or (end.endswith("_") and reason.startswith(end)) for end in ends[which]):
            return name
    return "Other" if outcome == "rejected" else "Media and cues"


class Figures:
    """The numbers of a version. Memory does not grow with its clips, but for the captions' distinct words.

    Attributes:
        manifest: the version's.
        counts: rows by ``captions``, ``rejected`` and ``failed``.
        reasons: of those two ends, by (end, reason or step).
        words: captions' lengths in words.
        vocabulary: captions' words in lower case, as often as they occur.
        forms: texts in other forms and languages that are not empty, by (form, language).
        cues: by name.
        synchronisation: by name of the cue; empty where there is none.
        similarity: of captions, and of clips rejected for it (`DISSIMILAR`) or for something later (``other``).
        checks: answers that failed each check; those of captions and of rejected clips.
        answers: captions by how many answers they took.
        at_once: captions whose first answer passed all checks.
        without: captions that were published without a form or language that never passed.
        sources: clips by where they were listed; so are `labels`, of which a clip may have several.
        splits: captions; likewise `benchmarks`.
        prompts: captions by prompt; likewise `writers`, by the language model, or else by who wrote.
        questions: by (kind, form).
        question_words: and `answer_words`, lengths of questions and of answers in words.
        asked_about: clips that have a question.
        seconds: lengths of captioned clips, at least; those of `lasting` of them are known.
        tokens_in: of captions and rejections; likewise `tokens_out` and `dollars`. Whichever run paid for them.
    """

    def __init__(self, manifest: Mapping[str, Any]):
        self.manifest = manifest
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.words = Lengths()
        self.vocabulary: Counter[str] = Counter()
        self.forms: Counter[tuple[str, str]] = Counter()
        self.cues: dict[str, CueTally] = {name: CueTally() for name in manifest["cues"]}
        self.synchronisation: dict[str, SyncTally] = {}
        self.similarity = {name: Histogram(-1, 1, 2 * FINE) for name in ("captions", DISSIMILAR, "other")}
        self.checks: dict[str, Counter[str]] = {"captions": Counter(), "rejected": Counter()}
        self.answers = Lengths()
        self.at_once = self.without = 0
        self.sources, self.labels = Bounded(), Bounded()
        self.splits: Counter[str] = Counter()
        self.benchmarks: Counter[str] = Counter()
        self.prompts, self.writers = Bounded(200), Bounded(200)
        self.questions: Counter[tuple[str, str]] = Counter()
        self.question_words, self.answer_words = Lengths(), Lengths()
        self.asked_about = Distinct()
        self.seconds, self.lasting = 0.0, 0
        self.tokens_in = self.tokens_out = 0
        self.dollars = 0.0
        self._rule = SyncRule.of(manifest["filters"])
        self._sync = (manifest["filters"].get("sync") or {}).get("cue", "")

    @property
    def clips_in(self) -> int:
        """All rows of the source."""
        return self.counts.total()

    def add(self, name: str, row: Row) -> None:
        """Counts a row.

        Args:
            name: ``captions``, ``rejected``, ``failed`` or ``qa``.
            row: as Avro holds it.
        """
        if name == QA:
            self.questions[row["kind"], row["form"]] += 1
            self.asked_about.add(row["clip_id"])
            self.question_words.add(len(tokens(row["question"])))
            self.answer_words.add(len(tokens(row["answer"])))
            return
        self.counts[name] += 1
        self.sources.add(row["clip"]["source"])
        for label in row["clip"]["labels"]:
            self.labels.add(label)
        if name == "failed":
            self.reasons[name, row["step"]] += 1
            return
        if name == "rejected":
            self.reasons[name, row["reason"]] += 1
        else:
            self._caption(row)
        self._either(name, row)

    def _caption(self, row: Row) -> None:
        found = tokens(row["caption"])
        self.words.add(len(found))
        self.vocabulary.update(found)
        marked = as_published(row)
        self.answers.add(len(row["attempts"]) + (marked is None))
        self.at_once += not row["attempts"]
        self.without += marked is not None
        self.splits[row["split"]] += 1
        self.benchmarks.update(row["benchmarks"])
        self.prompts.add(row["prompt"])
        self.writers.add(row["model"] or row["writer"].split(":", 1)[0])
        self.forms.update((version["form"], version["language"]) for version in row["versions"] if version["text"])
        length, known = duration(row["clip"], row["cues"])
        self.seconds += length
        self.lasting += known

    def _either(self, name: str, row: Row) -> None:
        """What captions and rejections have alike."""
        reason = row.get("reason", "")
        marked = as_published(row) if name == "captions" else None
        self.checks[name].update(attempt["check"] for attempt in row["attempts"] if attempt is not marked)
        if row["similarity"] is not None:
            kind = "captions" if name == "captions" else DISSIMILAR if reason == DISSIMILAR else "other"
            self.similarity[kind].add(row["similarity"])
        self.tokens_in += row["tokens_in"]
        self.tokens_out += row["tokens_out"]
        self.dollars += row["dollars"]
        for cue in row["cues"]:
            if (tally := self.cues.get(cue["name"])) is None:
                tally = self.cues[cue["name"]] = CueTally()
            tally.add(cue)
            if reason not in BEFORE_SYNC:
                self._synchronisation(cue, row["clip"]["source"], reason != OUT_OF_SYNC)

    def _synchronisation(self, cue: Row, source: str, kept: bool) -> None:
        items, name = cue["items"], cue["name"]
        if not items or (self._sync and name != self._sync) or not items[0]["text"].startswith("true="):
            return
        tally = self.synchronisation.get(name) or SyncTally(self._rule)
        try:
            if self._rule.judges(source):
                tally.add(items, kept)
            else:
                tally.others += 1
        except ValueError:  # something else that begins alike
            return
        self.synchronisation[name] = tally

    def lost(self) -> dict[str, dict[tuple[str, str], int]]:
        """What was dropped where, by stage in order; within it by (end, reason), the commonest first."""
        found: dict[str, dict[tuple[str, str], int]] = {name: {} for name in STAGES}
        for (end, reason), number in sorted(self.reasons.items(), key=lambda one: (-one[1], one[0])):
            found[stage(end, reason)][end, reason] = number
        return {name: ends for name, ends in found.items() if ends}

    def content_words(self, number: int) -> list[tuple[str, int]]:
        """The commonest words of captions, without stop words, numbers and single letters."""
        kept = (
            (word, count)
            for word, count in self.vocabulary.items()
            if word not in STOP_WORDS and not word.isdigit() and (len(word) > 1 or not word.isascii())
        )
        return sorted(kept, key=lambda one: (-one[1], one[0]))[:number]

    def first_try(self) -> float:
        """The share of captions whose first answer passed all checks; 0 where there are none."""
        return self.at_once / self.answers.count if self.answers.count else 0.0
