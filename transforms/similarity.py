"""How well each caption fits its sound: the cosine of their CLAP embeddings, and what is too far off is dropped.

FusionAudio (arXiv:2506.01111) drops captions below 0.08. That number belongs to its checkpoint; `earshot calibrate`
finds one for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.pvalue import TaggedOutput

from model_handlers.similarity import Pair, Similarity, SimilarityModel
from model_handlers.views import View
from transforms import telemetry
from transforms.cues import CueInfo, cost, subject
from transforms.records import Caption, CueSheet, Failure, Finding, Item, Rejection
from transforms.store import Keep, Store

NAME = "similarity"


@dataclass(frozen=True)
class Scorer:
    """What measures similarity.

    Attributes:
        cue: the cue that holds the sound's embedding.
        view: the sound that it was made of.
        named: the CLAP, as records name it.
        fingerprint: of what determines a score.
        model: what embeds captions and compares.
        least: a caption that scores below is dropped.
    """

    cue: str
    view: View
    named: str
    fingerprint: str
    model: SimilarityModel
    least: float


def about(caption: Caption, view: View) -> str:
    """The subject of a score: of which stretch of the file, and which sentence."""
    return f"{subject(caption.clip, view)}|{hashlib.sha256(caption.caption.encode()).hexdigest()[:16]}"


def known_score(scored: tuple[Finding, ...], caption: Caption, scorer: Scorer) -> Finding | None:
    """The caption's score among those of its clip, if it is there."""
    key = scorer.fingerprint, about(caption, scorer.view)
    return next((finding for finding in scored if (finding.fingerprint, finding.subject) == key), None)


def to_finding(caption: Caption, found: Similarity, scorer: Scorer) -> Finding:
    """A caption's score, as the store keeps it."""
    info = CueInfo(NAME, scorer.fingerprint, scorer.named)
    items = () if found.error else (Item(NAME, round(found.score, 4)),)  # what follows hangs on the batch
    what = {"items": items, "error": found.error, "retryable": found.retryable, "seconds": found.seconds}
    return info.finding(caption.clip.clip_id, about(caption, scorer.view), **what)


def weighed(caption: Caption, finding: Finding | None, least: float) -> Caption | Rejection | Failure:
    """The caption with its score; its rejection where that is below `least`, its failure where there is none.

    Without a finding (there is no embedding of the sound) the caption stays: nothing speaks against it.
    """
    if finding is None:
        return caption
    if finding.error:
        return Failure(caption.clip, NAME, finding.error, finding.retryable)
    score = finding.items[0].score
    assert score is not None
    scored = replace(caption, similarity=score)
    if score >= least:
        return scored
    return scored.rejected("dissimilar", f"similarity of caption and sound {score:.3f}, required {least:g}")


@dataclass
class ScoreCaptions(beam.PTransform):
    """(sheet, caption) → ``captions`` with their scores, ``rejected``, ``failed``; and ``costs``.

    A score that is known is not measured again. Without a scorer all captions pass.
    """

    scorer: Scorer | None
    store: Store

    def expand(self, captions: beam.PCollection[tuple[CueSheet, Caption]]) -> Any:
        if self.scorer is None:
            unscored = beam.Map(lambda element: element[1])
            return captions | "unscored" >> unscored.with_outputs("rejected", "failed", "costs", main="captions")
        model = self.scorer.model
        asked = captions | "recall" >> beam.FlatMap(_recalled, self.scorer).with_outputs("known", main="unknown")
        fresh = (
            asked.unknown
            | "compare" >> RunInference(KeyedModelHandler(model))
            | "scored" >> beam.Map(_scored, self.scorer)
        )
        costs = (
            fresh
            | "scores" >> beam.Map(_finding)
            | "keep" >> Keep(self.store, model.batch_size)
            | "costs" >> beam.FlatMap(cost)
        )
        weighed = (
            [asked.known, fresh]
            | "all" >> beam.Flatten()
            | "weigh" >> beam.FlatMap(_weighed, self.scorer.least).with_outputs("rejected", "failed", main="captions")
        )
        return {
            "captions": weighed.captions,
            "rejected": weighed.rejected,
            "failed": weighed.failed,
            "costs": costs,
        }


def _recalled(element: tuple[CueSheet, Caption], scorer: Scorer) -> Iterator[Any]:
    sheet, caption = element
    sound = sheet.items(scorer.cue)
    known = known_score(sheet.scored, caption, scorer)
    if known or not sound:
        yield TaggedOutput("known", (caption, known))
    else:
        yield caption, Pair(caption.caption, sound)


def _scored(element: tuple[Caption, Similarity], scorer: Scorer) -> tuple[Caption, Finding]:
    caption, found = element
    return caption, telemetry.found(to_finding(caption, found, scorer))


def _finding(element: tuple[Caption, Finding]) -> Finding:
    return element[1]


def _weighed(element: tuple[Caption, Finding | None], least: float) -> Iterator[Any]:
    outcome = weighed(*element, least)
    match outcome:
        case Rejection():
            yield TaggedOutput("rejected", outcome)
        case Failure():
            yield TaggedOutput("failed", outcome)
        case _:
            yield outcome
