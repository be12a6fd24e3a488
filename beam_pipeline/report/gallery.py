"""A report's gallery: which clips are on it, and what is shown of each."""

from __future__ import annotations

import base64
import hashlib
import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from rich.progress import track

from beam_pipeline.excerpts import Excerpts, MediaError, NotFetched, encoded
from beam_pipeline.report.phrases import Phrase, ShownCue, linked, shortened, shown_cues
from beam_pipeline.show import errors
from transforms.avro import from_record
from transforms.caption import missing
from transforms.publish import OUTCOMES, QA
from transforms.records import Attempt, Caption, Clip, Failure, Pair, Rejection, SoundEvent, Version

Row = dict[str, Any]
Outcome = Caption | Rejection | Failure
# Of all clips of the gallery; the failed ones get the rest.
SHARES = {"captions": 2 / 3, "rejected": 1 / 4}
STRATA = 24  # reasons, or steps, that are told apart as clips are drawn
PAIRS = 12  # questions of one clip that are shown
SECONDS = 30.0  # of one clip that are played
RATE, BIT_RATE = 32_000, 48_000
PICTURES, HEIGHT = 5, 90  # of a strip
_AT_ONCE = 32  # clips between two looks at whether there is room for more
_ENDS = {Caption: "captioned", Rejection: "rejected", Failure: "failed"}


class Sample:
    """Clips of every end, drawn while a version's records pass once; memory does not grow with them.

    A clip's rank is a hash of the seed and its id, and the lowest ranks are drawn: so the draw depends neither on the
    order of records nor on their number, and what one version's report shows is in the next one's as well, as far as
    it ends in the same way.

    Args:
        clips: how many, at most.
        seed: of the draw.
    """

    def __init__(self, clips: int = 60, seed: int = 0) -> None:
        self.clips, self._key = clips, str(seed).encode()[:64]
        self._kept: dict[tuple[str, str], _Lowest] = {}
        self._asked: dict[str, list[Row]] | None = None

    def add(self, name: str, row: Row) -> None:
        """Takes a record of ``captions``, ``rejected``, ``failed`` or ``qa``; the questions have to come last."""
        if name == QA:
            self._add_pair(row)
            return
        stratum = name, "" if name == "captions" else row["reason" if name == "rejected" else "step"]
        if stratum not in self._kept and len(self._kept) >= STRATA:
            stratum = name, ""
        lowest = self._kept.setdefault(stratum, _Lowest(self.clips))
        lowest.add(self._rank(row["clip"]), row)

    def _rank(self, clip: Row) -> int:
        name = (clip["clip_id"] or clip["origin"]).encode("utf-8", "replace")
        return int.from_bytes(hashlib.blake2b(name, digest_size=8, key=self._key).digest(), "big")

    def _add_pair(self, row: Row) -> None:
        if self._asked is None:
            captions = (lowest for (name, _), lowest in self._kept.items() if name == "captions")
            self._asked = {kept["clip"]["clip_id"]: [] for lowest in captions for kept in lowest.rows()}
        pairs = self._asked.get(row["clip_id"])
        if pairs is not None and len(pairs) < PAIRS:
            pairs.append(row)

    def drawn(self) -> list[tuple[Outcome, tuple[Pair, ...]]]:
        """The clips with their questions: the captioned, the rejected by reason, the failed by step."""
        strata: dict[str, list[list[Row]]] = {name: [] for name in OUTCOMES}
        for (name, _), lowest in sorted(self._kept.items(), key=lambda kept: kept[0]):
            strata[name].append(lowest.rows())
        there = {name: sum(map(len, rows)) for name, rows in strata.items()}
        found: list[tuple[Outcome, tuple[Pair, ...]]] = []
        for name, number in _quotas(there, self.clips).items():
            for row in _spread(strata[name], number):
                pairs = (self._asked or {}).get(row["clip"]["clip_id"], []) if name == "captions" else []
                found.append((from_record(OUTCOMES[name], row), tuple(from_record(Pair, pair) for pair in pairs)))
        return found


class _Lowest:
    """The rows of the lowest ranks."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._heap: list[tuple[int, int, Row]] = []
        self._number = count()  # settles equal ranks: an id that is listed twice

    def add(self, rank: int, row: Row) -> None:
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (-rank, -next(self._number), row))
        elif self._heap and rank < -self._heap[0][0]:
            heapq.heapreplace(self._heap, (-rank, -next(self._number), row))

    def rows(self) -> list[Row]:
        return [row for *_, row in sorted(self._heap, key=lambda kept: kept[:2], reverse=True)]


def _quotas(there: dict[str, int], clips: int) -> dict[str, int]:
    """How many clips of each end: what one end lacks, the others get."""
    wanted = {name: round(share * clips) for name, share in SHARES.items()}
    wanted["failed"] = clips - sum(wanted.values())
    quotas = {name: min(wanted[name], there[name]) for name in there}
    for name, number in there.items():
        quotas[name] += min(number - quotas[name], clips - sum(quotas.values()))
    return quotas


def _spread(strata: Sequence[Sequence[Row]], number: int) -> list[Row]:
    """So many rows, by turns from each stratum; those of a stratum stay together."""
    taken = [0] * len(strata)
    turns = deque(place for place, rows in enumerate(strata) if rows)
    for _ in range(min(number, sum(map(len, strata)))):
        place = turns.popleft()
        taken[place] += 1
        if taken[place] < len(strata[place]):
            turns.append(place)
    return [row for rows, most in zip(strata, taken, strict=True) for row in rows[:most]]


@dataclass(frozen=True)
class Media:
    """What there is to see and to hear of a clip.

    Attributes:
        picture: a strip of frames as a data URI; empty where there is none.
        times: when each is shown, in seconds.
        sound: an MP3 as a data URI; empty where there is none.
        said: what is missing or left out, and why.
    """

    picture: str = ""
    times: tuple[float, ...] = ()
    sound: str = ""
    said: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Letters that it takes on a page."""
        return len(self.picture) + len(self.sound)

    def silent(self, why: str) -> Media:
        """The same without its sound."""
        return replace(self, sound="", said=(*self.said, why))

    def unseen(self, why: str) -> Media:
        """The same without its pictures."""
        return replace(self, picture="", times=(), said=(*self.said, why))


FULL = Media(said=("Pictures and sound are left out: the page would be too large.",))


@dataclass(frozen=True)
class Exhibit:
    """One clip of the gallery, as it is shown.

    Attributes:
        end: ``captioned``, ``rejected`` or ``failed``.
        clip_id: of the clip, or where it was listed if it has none.
        source: of the clip.
        facts: what else is known, in pairs of name and value.
        media: to see and to hear.
        reason: why it was rejected, or the step that failed.
        evidence: for that; or the error.
        split: of the caption.
        phrases: the caption.
        unplaced: what can be heard by the record, in words that the caption has not.
        cues: all that is known of the clip.
        versions: the caption in other forms and languages.
        ambiguities: what the cues left open.
        attempts: answers that were not accepted.
        without: forms and languages that the caption was published without, and why.
        pairs: questions.
    """

    end: str
    clip_id: str
    source: str
    facts: tuple[tuple[str, str], ...]
    media: Media
    reason: str = ""
    evidence: str = ""
    split: str = ""
    phrases: tuple[Phrase, ...] = ()
    unplaced: tuple[Phrase, ...] = ()
    cues: tuple[ShownCue, ...] = ()
    versions: tuple[Version, ...] = ()
    ambiguities: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    without: str = ""
    pairs: tuple[Pair, ...] = ()


def exhibits(
    sample: Sample, excerpts: Excerpts, most: int, least: float | None = None, quiet: bool = False
) -> list[Exhibit]:
    """What is shown of each clip that was drawn.

    Args:
        sample: that has seen the version.
        excerpts: opens media; what it cannot open, the exhibit says.
        most: letters that a page has for pictures and sound; once they are used up, no further clips are opened.
        least: similarity that captions had to have, where there was a threshold.
        quiet: no progress bar.
    """
    drawn = sample.drawn()
    media = _media_of([outcome for outcome, _ in drawn], excerpts, most)
    hidden = quiet or not errors.is_terminal
    shown = track(media, "opening clips", len(drawn), console=errors, transient=True, disable=hidden)
    return [_exhibit(outcome, pairs, least, found) for (outcome, pairs), found in zip(drawn, shown, strict=True)]


def _media_of(outcomes: Sequence[Outcome], excerpts: Excerpts, most: int) -> Iterator[Media]:
    """Of each clip in turn; those that come when there is no more room are not opened."""
    size = 0
    down: set[str] = set()  # places that could not be reached; no other clip there is tried
    with ThreadPoolExecutor(2, thread_name_prefix="gallery") as threads:
        for at in range(0, len(outcomes), _AT_ONCE):
            some = outcomes[at : at + _AT_ONCE]
            found = [FULL] * len(some) if size > most else threads.map(lambda one: _media(one, excerpts, down), some)
            for media in found:
                size += media.size
                yield media


def _exhibit(outcome: Outcome, pairs: Iterable[Pair], least: float | None, media: Media) -> Exhibit:
    clip = outcome.clip
    facts = tuple((name, shortened(value)) for name, value in _facts(outcome, least) if value)
    name = shortened(clip.clip_id or clip.origin or "a row without an id", 120)
    end = next(end for kind, end in _ENDS.items() if isinstance(outcome, kind))
    shown = Exhibit(end, name, shortened(clip.source, 80), facts, media)
    match outcome:
        case Failure():
            if f"It cannot be opened: {shortened(outcome.error)}" in media.said:  # twice is once too often
                shown = replace(shown, media=replace(media, said=("It cannot be opened.",)))
            again = " (a run takes it up again)" if outcome.retryable else ""
            return replace(shown, reason=shortened(outcome.step, 80), evidence=shortened(outcome.error) + again)
        case Rejection():
            shown = replace(shown, reason=shortened(outcome.reason, 80), evidence=shortened(outcome.evidence))
            return _with_cues(shown, outcome, ())
        case Caption():
            versions = tuple(replace(version, text=shortened(version.text)) for version in outcome.versions)
            open_ = tuple(map(shortened, outcome.ambiguities))
            marked = next((one for one in outcome.attempts if missing(replace(outcome, attempts=(one,)))), None)
            without = shortened(marked.complaint) if marked else ""
            shown = replace(shown, split=outcome.split, versions=versions, ambiguities=open_, without=without)
            outcome = replace(outcome, attempts=tuple(one for one in outcome.attempts if one is not marked))
            return replace(_with_cues(shown, outcome, outcome.events), pairs=tuple(map(_shown_pair, pairs)))


def _with_cues(shown: Exhibit, outcome: Caption | Rejection, events: Sequence[SoundEvent]) -> Exhibit:
    phrases, unplaced = linked(outcome.caption, events, outcome.cues)
    return replace(
        shown,
        phrases=tuple(phrases),
        unplaced=tuple(unplaced),
        cues=shown_cues(outcome.cues, (*phrases, *unplaced)),
        attempts=tuple(map(_shown_attempt, outcome.attempts)),
    )


def _shown_attempt(attempt: Attempt) -> Attempt:
    return Attempt(shortened(attempt.answer), attempt.check, shortened(attempt.complaint))


def _shown_pair(pair: Pair) -> Pair:
    choices = tuple(shortened(choice) for choice in pair.choices)
    return replace(pair, question=shortened(pair.question), answer=shortened(pair.answer), choices=choices)


def _facts(outcome: Outcome, least: float | None) -> Iterable[tuple[str, str]]:
    clip = outcome.clip
    yield "video", clip.video_id if clip.video_id != clip.clip_id else ""
    yield "time", f"{clip.start_s:g} s to {'the end' if clip.end_s is None else f'{clip.end_s:g} s'}"
    yield "source", clip.source
    if isinstance(outcome, Failure):
        yield "labels", ", ".join(clip.labels)
        yield "listed in", clip.origin
        return
    if isinstance(outcome, Caption):
        yield "split", ", ".join((outcome.split, *outcome.benchmarks))
        yield "written by", ", ".join(filter(None, (outcome.model, outcome.prompt)))
    if outcome.similarity is not None:
        yield "similarity", f"{outcome.similarity:.3f}" + ("" if least is None else f" (at least {least:g} required)")
    if outcome.tokens_in or outcome.tokens_out:
        yield "tokens", f"{outcome.tokens_in:,} in, {outcome.tokens_out:,} out"
    yield "cost", f"{outcome.dollars:.5f} dollars" if outcome.dollars else ""


def _place(uri: str) -> str:
    """The server or bucket of a file far away; empty for one that is here."""
    scheme, far, rest = uri.partition("://")
    return f"{scheme}://{rest.split('/')[0]}" if far and scheme != "file" else ""


def _media(outcome: Outcome, excerpts: Excerpts, down: set[str]) -> Media:
    clip = outcome.clip
    if not clip.uri:
        return Media(said=("There is nothing to see or hear: the row names no file.",))
    if (place := _place(clip.uri)) in down:
        return Media(said=(f"It was not opened: {shortened(place)} could not be reached for another clip.",))
    # A second more than is played, to know whether there is more; a clip without an end may last for hours.
    end = clip.start_s + SECONDS + 1
    clip = replace(clip, end_s=end if clip.end_s is None else min(end, clip.end_s))
    said: list[str] = []
    wrong: list[str] = []
    picture, sound = "", ""
    times: tuple[float, ...] = ()
    try:
        picture, times = _picture(clip, excerpts, said)
    except NotFetched as error:  # nor would it come for its sound
        if error.unreachable:
            down.add(place)
        return Media(said=(f"It cannot be opened: {shortened(str(error))}",))
    except MediaError as error:
        wrong.append(str(error))
    try:
        sound = _sound(clip, excerpts, said)
    except MediaError as error:
        wrong.append(str(error))
    said += [f"It cannot be opened: {shortened(error)}" for error in dict.fromkeys(wrong)]
    return Media(picture, times, sound, tuple(said))


def _picture(clip: Clip, excerpts: Excerpts, said: list[str]) -> tuple[str, tuple[float, ...]]:
    found = excerpts.strip(clip, PICTURES, HEIGHT)
    if found is None:
        said.append("There is no picture.")
        return "", ()
    times, picture = found
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}", tuple(times)


def _sound(clip: Clip, excerpts: Excerpts, said: list[str]) -> str:
    samples = excerpts.sound(clip, RATE)
    if samples is None or not len(samples):
        said.append("There is no sound.")
        return ""
    most = round(SECONDS * RATE)
    if len(samples) > most:
        said.append(f"The player has the first {SECONDS:.0f} s.")
    heard = samples[:most]
    return f"data:audio/mpeg;base64,{base64.b64encode(encoded(heard, RATE, 'mp3', BIT_RATE)).decode()}"
