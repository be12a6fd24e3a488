"""Captions → questions with their answers: asked of a writer, checked one by one, and kept with what they rest on.

A clip whose request finds no answer, though a later one may, ends as a `Failure` of the step ``questions``, and its
caption waits with it: the caption is in the store, so the run that mends the request publishes both and pays for
neither twice. A clip that is good for no question, or that the provider will not answer about, keeps its caption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from model_handlers.base import Items
from model_handlers.llm import MOST_ITEMS
from model_handlers.questions import Question, Questions
from model_handlers.writers import Attempt, Brief, CaptionWriter
from transforms import telemetry
from transforms.answers import written_key
from transforms.bans import FAINT, quoted
from transforms.caption import NOT_THE_FORM, UNREADABLE, told
from transforms.checks import Checks
from transforms.evidence import denies, said, shares, unsaid
from transforms.pair_checks import Posed, complaint, for_pairs, same_questions
from transforms.progress import Tick
from transforms.recall import answers_of, stored_rows
from transforms.records import Caption, Evidence, Failure, Pair, Written
from transforms.rounds import in_rounds
from transforms.store import Store
from transforms.words import stems

NAME = "questions"
TRIES = 2  # one more answer is asked for where too few pairs of the first pass
MOST_COMPLAINTS = 5  # that one answer is given back with
DUPLICATE, SURPLUS, TOO_FEW, NO_QUESTION, REFUSED = "duplicate", "surplus", "too_few", "no_question", "refused"


@dataclass(frozen=True)
class Captioned:
    """A caption, and what the writer of questions has answered about it."""

    caption: Caption
    written: tuple[Written, ...] = ()


@dataclass(frozen=True)
class Terms:
    """On what terms a writer's answers become pairs.

    Attributes:
        writer: its fingerprint.
        needs: the cues that it is told of.
        wanted: which questions.
        checks: of captions, as they go for pairs.
        model: the language model that writes, if any.
        prompt: the name of its prompt.
    """

    writer: str
    needs: tuple[str, ...]
    wanted: Questions
    checks: Checks
    model: str = ""
    prompt: str = ""

    @classmethod
    def of(cls, writer: CaptionWriter, checks: Checks) -> Terms:
        """Those of a profile's writer of questions, and of its checks."""
        return cls(writer.fingerprint(), writer.needs, writer.questions, for_pairs(checks), *writer.told_by)


@dataclass(frozen=True)
class Questioned:
    """What became of a caption.

    Attributes:
        caption: as it was.
        pairs: that passed, at most so many as are wanted.
        dropped: why others were not taken, a reason each.
    """

    caption: Caption
    pairs: tuple[Pair, ...]
    dropped: tuple[str, ...]


def settle(captioned: Captioned, terms: Terms) -> Questioned | Failure | Brief:
    """What becomes of a caption by the answers that are known; or the brief that has to be answered first.

    Pairs are judged as they are read from the store, so a changed check asks nothing again where enough of them pass.
    What passes in the first answer stays, whatever the second one says.
    """
    caption, answers = captioned.caption, {answer.key: answer for answer in captioned.written}
    cues = {cue.name: cue.items for cue in caption.cues}
    brief = replace(told(caption.clip.clip_id, cues, terms.needs), caption=caption.caption)
    kept: tuple[Question, ...] = ()
    dropped: tuple[str, ...] = ()
    while len(brief.attempts) < TRIES:
        answer = answers.get(written_key(brief, terms.writer))
        if answer is None:
            return brief
        if answer.retryable:
            return Failure(caption.clip, NAME, answer.error, True)
        if answer.error or answer.abstained:
            dropped = (*dropped, REFUSED if answer.error else NO_QUESTION)
            break
        kept, refused = taken(answer, brief, terms, kept)
        dropped = (*dropped, *(attempt.check for attempt in refused))
        if len(kept) >= max(1, terms.wanted.per_clip // 2):
            break
        brief = replace(brief, attempts=(*brief.attempts, _returned(answer, refused)))
    return Questioned(caption, tuple(to_pair(one, caption, brief, terms) for one in kept), dropped)


def taken(
    answer: Written, brief: Brief, terms: Terms, before: tuple[Question, ...] = ()
) -> tuple[tuple[Question, ...], tuple[Attempt, ...]]:
    """The pairs of an answer that will do, after those that were taken `before`; and what is wrong with the others."""
    if answer.unreadable:
        return before, (Attempt(answer.unreadable, UNREADABLE, NOT_THE_FORM),)
    kept, refused = list(before), []
    earlier = {key for pair in before for key in same_questions(pair)}
    asked = set(earlier)
    for pair in answer.pairs:
        same = same_questions(pair)
        if same & earlier:
            continue  # it is told again what was taken already
        if same & asked:
            found: tuple[str, str] | None = DUPLICATE, "Another question asks the same; ask each only once."
        elif len(kept) == terms.wanted.per_clip:
            found = SURPLUS, f"Only {terms.wanted.per_clip} questions are wanted."
        else:
            found = complaint(Posed(pair, brief.clip_id, brief.caption, brief.cues, terms.wanted, terms.checks))
        if found is None:
            kept.append(pair)
            asked |= same
        else:
            refused.append(Attempt(pair.question, *found))
    return tuple(kept), tuple(refused)


def to_pair(pair: Question, caption: Caption, brief: Brief, terms: Terms) -> Pair:
    """The record of a pair. Where its right option stands hangs on the clip's id, so it is any place equally often."""
    clip = caption.clip
    # By a hash of its own: whoever wrote the question may have drawn its options by one of the same texts.
    shuffled = sorted(pair.choices, key=lambda choice: _drawn("order of options", clip.clip_id, pair.question, choice))
    return Pair(
        clip.clip_id,
        clip.video_id,
        clip.source,
        clip.start_s,
        clip.end_s,
        caption.split,
        caption.benchmarks,
        pair.kind,
        "choice" if pair.choices else "open",
        pair.question,
        pair.answer,
        tuple(shuffled),
        tuple(
            Evidence(name, _speaking(brief.cues[name], pair, name in terms.checks.transcripts))
            for name in dict.fromkeys(pair.cues)
            if name in brief.cues
        ),
        terms.writer,
        terms.model,
        terms.prompt,
    )


def _speaking(items: Items, pair: Question, transcript: bool) -> Items:
    """The items of a cue that speak of a pair, all of them where none does by its words; what is faint does not.

    Of a transcript that is what is said; where nothing is, or the answer denies it, how sure it is that nobody speaks.
    """
    if transcript:
        return ((unsaid(items) if denies(pair.answer) else said(items)) or items)[:MOST_ITEMS]
    items = tuple(item for item in items if item.score is None or item.score >= FAINT) or items
    about = stems(f"{pair.question} {pair.answer}")
    found = tuple(item for item in items if shares(stems(item.text), about))
    return (found or items)[:MOST_ITEMS]


def _returned(answer: Written, refused: tuple[Attempt, ...]) -> Attempt:
    """An answer that holds too few pairs, as its writer is told."""
    shown = refused[:MOST_COMPLAINTS]
    told = [f'"{quoted(one.answer)}": {one.complaint}' if one.check != UNREADABLE else one.complaint for one in shown]
    text = answer.unreadable or " ".join(pair.question for pair in answer.pairs)
    return Attempt(text, refused[0].check if refused else TOO_FEW, " ".join(told) or "More questions are wanted.")


def _drawn(*texts: str) -> bytes:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogatepass")).digest()


@dataclass
class AskQuestions(beam.PTransform):
    """Captions → ``captions`` that stay, their ``pairs``, ``failed``; ``dropped``, a reason each; and ``costs``.

    What was answered in an earlier run is not asked again.

    Attributes:
        writer: of the questions.
        checks: of captions.
        store: of the dataset; one without a root knows nothing.
        retry_failed: whether what failed is asked again.
        run: its name.
        progress: where ticks go.
    """

    writer: CaptionWriter
    checks: Checks
    store: Store
    retry_failed: bool = False
    run: str = ""
    progress: str = ""

    def expand(self, captions: beam.PCollection[Caption]) -> dict[str, beam.PCollection]:
        terms = Terms.of(self.writer, self.checks)
        known = captions | "recall" >> RecallAnswers(self.store, terms.writer, self.retry_failed)
        settled, costs = in_rounds(known, lambda: Settle(terms), self.writer, TRIES, self.store, self.run)
        ended = {
            name: [some[name] for some in settled] | name >> beam.Flatten()
            for name in ("captions", "pairs", "failed", "dropped")
        }
        done = {name: ended[name] | f"{name} done" >> Tick(NAME, self.progress) for name in ("captions", "failed")}
        return {**ended, **done, "costs": costs | "all costs" >> beam.Flatten()}


@dataclass
class RecallAnswers(beam.PTransform):
    """Captions → `Captioned`s: each with what the store has of one writer's answers about its clip."""

    store: Store
    writer: str
    retry_failed: bool = False

    def expand(self, captions: beam.PCollection[Caption]) -> beam.PCollection[Captioned]:
        if not self.store.root:
            return captions | "nothing known" >> beam.Map(Captioned)
        rows = stored_rows(captions.pipeline, [(self.store.written_files(self.writer), Written)])
        by_id = captions | "by id" >> beam.Map(lambda caption: (caption.clip.clip_id, caption))
        met = {"captions": by_id, "rows": rows} | "meet" >> beam.CoGroupByKey()
        return met | "captioned" >> beam.FlatMap(_captioned, self.retry_failed)


@dataclass
class Settle(beam.PTransform):
    """`Captioned`s → ``captions``, ``pairs``, ``failed``, ``dropped``, and ``open``: with their briefs."""

    terms: Terms

    def expand(self, captioned: beam.PCollection[Captioned]) -> beam.pvalue.DoOutputsTuple:
        outputs = ("open", "pairs", "failed", "dropped")
        return captioned | beam.FlatMap(_settled, self.terms).with_outputs(*outputs, main="captions")


def _captioned(group: tuple[str, dict], retry_failed: bool) -> Iterator[Captioned]:
    _, grouped = group
    for caption in grouped["captions"]:  # none where another run's clips are not listed any more, or dropped
        yield Captioned(caption, answers_of(grouped["rows"], retry_failed))


def _settled(captioned: Captioned, terms: Terms) -> Iterator[Any]:
    match settle(captioned, terms):
        case Brief() as asked:
            yield TaggedOutput("open", ((captioned, asked), asked))
        case Failure() as failure:
            yield TaggedOutput("failed", failure)
        case Questioned() as done:
            yield done.caption
            telemetry.count(NAME, "pairs", len(done.pairs))
            yield from (TaggedOutput("pairs", pair) for pair in done.pairs)
            for reason in done.dropped:
                telemetry.count(NAME, f"dropped_{reason}")
                yield TaggedOutput("dropped", reason)
