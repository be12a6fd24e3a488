"""Cue sheets → captions: the writer is told what is known of a clip, and asked again while its answer will not do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from model_handlers.base import Item, Items
from model_handlers.forms import Asked, Form
from model_handlers.llm import MOST_AMBIGUITIES
from model_handlers.writers import Attempt, Brief, CaptionWriter, Draft
from transforms import checks as of_captions
from transforms.answers import written_key
from transforms.checks import Checks, Subject, complaint
from transforms.parts import credited
from transforms.progress import Tick
from transforms.records import Caption, CueSheet, Failure, Rejection, Version, Written
from transforms.rounds import in_rounds
from transforms.store import Store

UNREADABLE = "unreadable"
NOT_THE_FORM = "It is not the JSON object that was asked for."
WITHOUT = "without "  # begins the complaint of an attempt that was published all the same, but for some of its versions
# What a remark on what is open is held to: a few plain words in the language of the captions.
_REMARK = Form("what is open", 1, 40)
_OF_REMARKS = ("length", "markup", "brackets", "numbers", "language", "assistant_speak")


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
    passes it. Where no more answers are to be had, a caption that passed is published without those of its versions
    that did not (`_best`): a form that a writer cannot get right costs a clip the form, and not its caption.
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
        if answer.error and answer.retryable:
            return Failure(sheet.clip, "caption", answer.error, True)
        ended = bool(answer.error or answer.abstained)
        failed = None if ended else judged(answer, first, terms)
        if not ended and failed is None:
            return _caption(sheet, answer, attempts, spent, terms)
        attempts = (*attempts, failed) if failed else attempts
        if ended or len(attempts) == terms.checks.tries:
            return _best(sheet, attempts, spent, terms) or _uncaptioned(sheet, attempts, spent)


def judged(answer: Draft, asked: Brief, terms: Terms) -> Attempt | None:
    """Why an answer will not do, as the writer is told; ``None`` where caption and versions pass all checks.

    It is told of the caption alone where that fails, else of all versions that do. The attempt has the caption
    whichever text failed: so another complaint about the same answer is no reason to ask, and pay, again
    (`answers.written_key`).
    """
    if answer.unreadable:
        return Attempt(answer.unreadable, UNREADABLE, NOT_THE_FORM)
    refused = _refused(answer, asked, terms)
    which, first = next(refused, ("", None))
    if first is None or not which:
        return first
    return replace(first, complaint=" ".join([first.complaint, *(attempt.complaint for _, attempt in refused)]))


def _refused(answer: Draft, asked: Brief, terms: Terms) -> Iterator[tuple[str, Attempt]]:
    """The texts of an answer that fail a check, by name, each with what its writer is told; "" is the caption."""
    for which, subject in subjects(answer, asked, terms):
        if found := complaint(subject, terms.checks):
            name, wrong = found
            yield which, Attempt(answer.caption, name, f"{which}: {wrong}" if which else wrong)


def _best(sheet: CueSheet, attempts: tuple[Attempt, ...], spent: tuple[Written, ...], terms: Terms) -> Caption | None:
    """The answer of most use, of several the latest, without its versions that failed; ``None`` if no caption passes.

    Its attempt says what is left out: the complaint begins with `WITHOUT`.
    """
    first = brief(sheet, terms.needs)
    refused = [{} if one.unreadable else dict(_refused(one, first, terms)) for one in spent[: len(attempts)]]
    passed = [number for number, found in enumerate(refused) if found and "" not in found]
    if not passed:
        return None
    best = min(reversed(passed), key=lambda number: len(refused[number]))
    left_out, answer = refused[best], spent[best]
    said = " ".join(attempt.complaint.removeprefix(f"{name}: ") for name, attempt in left_out.items())
    marked = replace(attempts[best], complaint=f"{WITHOUT}{', '.join(left_out)}: {said}")
    kept = tuple(one for one in answer.versions if (one.language or one.form) not in left_out)
    attempts = (*attempts[:best], marked, *attempts[best + 1 :])
    return _caption(sheet, replace(answer, versions=kept), attempts, spent, terms)


def missing(caption: Caption) -> tuple[str, ...]:
    """The forms and languages that a caption was published without, because they never passed their checks."""
    for attempt in caption.attempts:
        if attempt.answer == caption.caption and attempt.complaint.startswith(WITHOUT):
            return tuple(attempt.complaint.removeprefix(WITHOUT).partition(": ")[0].split(", "))
    return ()


def _caption(
    sheet: CueSheet, answer: Written, attempts: tuple[Attempt, ...], spent: tuple[Written, ...], terms: Terms
) -> Caption:
    told = brief(sheet, terms.needs).cues
    return Caption(
        sheet.clip,
        answer.caption,
        terms.writer,
        sheet.cues,
        events=tuple(credited(event, told, terms.checks) for event in answer.events),
        versions=_versions(answer, terms.checks.language),
        ambiguities=_open(answer, told, terms.checks),
        attempts=attempts,
        model=terms.model,
        prompt=terms.prompt,
        **_costs(spent),
    )


def _uncaptioned(sheet: CueSheet, attempts: tuple[Attempt, ...], spent: tuple[Written, ...]) -> Rejection | Failure:
    """What becomes of a clip of which no answer will do, by the last one."""
    last, costs = spent[-1], _costs(spent)
    if last.error:
        return Failure(sheet.clip, "caption", last.error, last.retryable)
    if last.abstained:
        return Rejection(sheet.clip, "no_caption", last.abstained, sheet.cues, attempts=attempts, **costs)
    failed = attempts[-1]
    return Rejection(
        sheet.clip, f"caption_{failed.check}", failed.complaint, sheet.cues, failed.answer, attempts=attempts, **costs
    )


def _costs(spent: tuple[Written, ...]) -> dict[str, Any]:
    return {
        "tokens_in": sum(one.tokens_in for one in spent),
        "tokens_out": sum(one.tokens_out for one in spent),
        "dollars": sum(one.dollars for one in spent),
    }


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


def _open(answer: Draft, cues: Mapping[str, Items], checks: Checks) -> tuple[str, ...]:
    """The remarks on what is open that may be on a record. One that may not is dropped, and no reason to ask again."""
    rules = [getattr(of_captions, name) for name in _OF_REMARKS if name not in checks.off]
    if checks.speech != "quote" and "quoted_speech" not in checks.off:
        rules.append(of_captions.transcribed)  # names of sounds may be quoted there
    remarks = {text: Subject("", text, (), cues, False, _REMARK) for text in answer.ambiguities}
    passed = (text for text, subject in remarks.items() if not any(check(subject, checks) for check in rules))
    return tuple(passed)[:MOST_AMBIGUITIES]


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
