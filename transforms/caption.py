"""Cue sheets → captions: the writer is told what is known of a clip, and asked again while its answer will not do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from model_handlers.base import Item, Items
from model_handlers.forms import Asked
from model_handlers.writers import Attempt, Brief, CaptionWriter, Draft
from transforms.answers import written_key
from transforms.checks import Checks, Subject, complaint
from transforms.progress import Tick
from transforms.records import Caption, CueSheet, Failure, Rejection, Version, Written
from transforms.rounds import in_rounds
from transforms.store import Store

UNREADABLE = "unreadable"
NOT_THE_FORM = "It is not the JSON object that was asked for."


@dataclass(frozen=True)
class Terms:
    """On what terms a writer's answers become captions.

    Attributes:
        writer: its fingerprint.
        needs: the cues that it is told of.
        checks: what a caption has to pass.
        names_events: whether the writer says what its captions rest on.
        model: the language model that writes, if any.
        prompt: the name of its prompt.
        asked: in which other forms and languages it writes each caption.
    """

    writer: str
    needs: tuple[str, ...]
    checks: Checks
    names_events: bool = False
    model: str = ""
    prompt: str = ""
    asked: Asked = field(default_factory=Asked)

    @classmethod
    def of(cls, writer: CaptionWriter, checks: Checks) -> Terms:
        """Those of a profile's writer and checks."""
        return cls(writer.fingerprint(), writer.needs, checks, writer.names_events, *writer.told_by, writer.asked)


def brief(sheet: CueSheet, needs: tuple[str, ...]) -> Brief:
    """What a writer is told of a clip."""
    return told(sheet.clip.clip_id, {cue.name: cue.items for cue in sheet.cues}, needs)


def told(clip_id: str, cues: Mapping[str, Items], needs: Collection[str]) -> Brief:
    """What a writer is told: of the cues that it needs, those that say something.

    Scores have two digits and times one, so that no answer is paid for again because another GPU rounds otherwise.
    """
    return Brief(clip_id, {name: tuple(map(_told, items)) for name, items in cues.items() if items and name in needs})


def _told(item: Item) -> Item:
    score, start_s, end_s = item.score, item.start_s, item.end_s
    return Item(
        item.text,
        None if score is None else round(score, 2),
        None if start_s is None else round(start_s, 1),
        None if end_s is None else round(end_s, 1),
    )


def settle(sheet: CueSheet, terms: Terms) -> Caption | Rejection | Failure | Brief:
    """What becomes of a clip by the answers that are known; or the brief that has to be answered first.

    Answers are judged as they are read from the store, so a changed check asks no writer about a caption that still
    passes it.
    """
    first, answers = brief(sheet, terms.needs), {answer.key: answer for answer in sheet.written}
    if terms.names_events and not first.cues:  # an answer would be paid for, and could rest on nothing
        return Rejection(sheet.clip, "no_caption", "no cue says anything of what can be heard", sheet.cues)
    attempts: tuple[Attempt, ...] = ()
    spent: tuple[Written, ...] = ()
    while True:
        asked = replace(first, attempts=attempts)
        answer = answers.get(written_key(asked, terms.writer))
        if answer is None:
            return asked
        spent = (*spent, answer)
        if answer.error:
            return Failure(sheet.clip, "caption", answer.error, answer.retryable)
        costs: dict[str, Any] = {
            "tokens_in": sum(one.tokens_in for one in spent),
            "tokens_out": sum(one.tokens_out for one in spent),
            "dollars": sum(one.dollars for one in spent),
        }
        if answer.abstained:
            return Rejection(sheet.clip, "no_caption", answer.abstained, sheet.cues, attempts=attempts, **costs)
        failed = judged(answer, first, terms)
        if failed is None:
            return Caption(
                sheet.clip,
                answer.caption,
                terms.writer,
                sheet.cues,
                events=answer.events,
                versions=_versions(answer, terms.checks.language),
                ambiguities=answer.ambiguities,
                attempts=attempts,
                model=terms.model,
                prompt=terms.prompt,
                **costs,
            )
        attempts = (*attempts, failed)
        if len(attempts) == terms.checks.tries:
            reason = f"caption_{failed.check}"
            return Rejection(sheet.clip, reason, failed.complaint, sheet.cues, failed.answer, attempts, **costs)


def judged(answer: Draft, asked: Brief, terms: Terms) -> Attempt | None:
    """Why an answer will not do, as the writer is told; ``None`` where caption and versions pass all checks.

    The attempt has the caption whichever text failed: so another complaint about the same answer is no reason to ask,
    and pay, again (`answers.written_key`).
    """
    if answer.unreadable:
        return Attempt(answer.unreadable, UNREADABLE, NOT_THE_FORM)
    for which, subject in subjects(answer, asked, terms):
        if found := complaint(subject, terms.checks):
            name, wrong = found
            return Attempt(answer.caption, name, f"{which}: {wrong}" if which else wrong)
    return None


def subjects(answer: Draft, asked: Brief, terms: Terms) -> Iterator[tuple[str, Subject]]:
    """What the checks look at: the caption, and then, with its name, each form and each translation of it."""
    caption = Subject(asked.clip_id, answer.caption, answer.events, asked.cues, terms.names_events)
    forms = {form.name: form for form in terms.asked.forms}
    yield "", caption
    for version in answer.versions:
        of = replace(caption, caption=version.text, grounded=False, form=forms.get(version.form))
        original = answer.caption if version.language else ""
        yield version.language or version.form, replace(of, language=version.language, original=original)


def _versions(answer: Draft, language: str) -> tuple[Version, ...]:
    """Those that say something, each with its language."""
    return tuple(replace(version, language=version.language or language) for version in answer.versions if version.text)


@dataclass
class WriteCaptions(beam.PTransform):
    """Cue sheets → ``captions``, as (sheet, caption), ``rejected``, ``failed``; and ``costs`` of what was asked.

    What was answered in an earlier run is not asked again.
    """

    writer: CaptionWriter
    checks: Checks
    store: Store
    run: str = ""
    progress: str = ""

    def expand(self, sheets: beam.PCollection[CueSheet]) -> dict[str, beam.PCollection]:
        terms = Terms.of(self.writer, self.checks)
        settled, costs = in_rounds(sheets, lambda: Settle(terms), self.writer, self.checks.tries, self.store, self.run)
        ended = {
            name: [some[name] | f"{name} {nth}" >> Tick("caption", self.progress) for nth, some in enumerate(settled)]
            | name >> beam.Flatten()
            for name in ("captions", "rejected", "failed")
        }
        return {**ended, "costs": costs | "all costs" >> beam.Flatten()}


@dataclass
class Settle(beam.PTransform):
    """Cue sheets → ``captions`` with their sheets, ``rejected``, ``failed``, and ``open``: sheets with their briefs."""

    terms: Terms

    def expand(self, sheets: beam.PCollection[CueSheet]) -> beam.pvalue.DoOutputsTuple:
        return sheets | beam.FlatMap(_settled, self.terms).with_outputs("open", "rejected", "failed", main="captions")


def _settled(sheet: CueSheet, terms: Terms) -> Iterator[Any]:
    match settle(sheet, terms):
        case Caption() as caption:
            yield sheet, caption
        case Brief() as asked:
            yield TaggedOutput("open", ((sheet, asked), asked))
        case Rejection() as rejection:
            yield TaggedOutput("rejected", rejection)
        case Failure() as failure:
            yield TaggedOutput("failed", failure)
