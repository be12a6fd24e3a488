"""The same dataset by a plain loop, without Beam or a child process: what the pipeline is held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from beam_pipeline.config import Profile
from beam_pipeline.pipeline import by_view, label_checks, sheet_checks
from model_handlers.base import CueHandler, Example
from model_handlers.similarity import Pair
from model_handlers.views import Decoded, Listed, Listing, View
from model_handlers.writers import Brief
from transforms.answers import written
from transforms.caption import Terms, settle
from transforms.checks import wording
from transforms.copies import place, single
from transforms.cues import CueInfo, subject
from transforms.filters import first_verdict
from transforms.ingest import ClipSource, read_clips
from transforms.join import join_cues
from transforms.media import Limits, MediaError, NoTrack, decode
from transforms.records import Caption, Clip, CueSheet, Failure, Finding, Rejection
from transforms.similarity import to_finding, weighed
from transforms.splits import Benchmarks, in_split


def plain_run(profile: Profile, source: ClipSource) -> list[Caption | Rejection | Failure]:
    """Returns what became of every clip of `source`, computed one view after the other in this thread."""
    ended: list[Caption | Rejection | Failure] = []
    clips, bad_rows = read_clips(source)
    ended += bad_rows
    wanted: list[Clip] = []
    for clip in clips:
        verdict = first_verdict(clip, label_checks(profile))
        wanted.append(clip) if verdict is None else ended.append(Rejection(clip, *verdict))

    handlers = profile.handlers()
    findings: dict[str, list[Finding]] = {clip.clip_id: [] for clip in wanted}
    for group in by_view(handlers).values():
        for finding in _view_findings(group, wanted):
            findings[finding.clip_id].append(finding)

    writing, benchmarks = _Writing(profile), Benchmarks.read(profile.splits.benchmarks)
    captions: list[Caption] = []
    for clip in wanted:
        sheet = join_cues(clip, findings[clip.clip_id], tuple(handler.name for handler in handlers))
        if isinstance(sheet, Failure):
            ended.append(sheet)
        elif verdict := first_verdict(sheet, sheet_checks(profile)):
            ended.append(Rejection(sheet.clip, *verdict, cues=sheet.cues))
        else:
            outcome = writing.outcome(sheet)
            captions.append(outcome) if isinstance(outcome, Caption) else ended.append(outcome)
    for kept in _without_copies(captions, profile.checks.copies):
        ended.append(in_split(kept, profile.splits, benchmarks) if isinstance(kept, Caption) else kept)
    return ended


class _Writing:
    """The caption writer, its checks, and what compares captions with sounds, each loaded once."""

    def __init__(self, profile: Profile):
        self.writer, self.scorer = profile.writer(), profile.scorer()
        self.terms, self.model = Terms.of(self.writer, profile.checks), self.writer.load()
        self.clap = self.scorer and self.scorer.model.load_model()

    def outcome(self, sheet: CueSheet) -> Caption | Rejection | Failure:
        """Asks until the answer is a caption or will not become one."""
        while isinstance(settled := settle(sheet, self.terms), Brief):
            (draft,) = self.writer.write([settled], self.model)
            sheet = replace(sheet, written=(*sheet.written, written(settled, draft, self.terms.writer)))
        if not isinstance(settled, Caption) or self.scorer is None or not sheet.items(self.scorer.cue):
            return settled
        (found,) = self.scorer.model.run_inference([Pair(settled.caption, sheet.items(self.scorer.cue))], self.clap)
        return weighed(settled, to_finding(settled, found, self.scorer), self.scorer.least)


def _without_copies(captions: list[Caption], at_most: int) -> Iterator[Caption | Rejection]:
    places: dict[str, list[int]] = {}
    for caption in captions:
        places.setdefault(wording(caption.caption), []).append(place(caption))
    last = {text: sorted(found)[at_most - 1] for text, found in places.items() if 0 < at_most < len(found)}
    for caption in captions:
        yield single(caption, last, at_most)


def _view_findings(handlers: tuple[CueHandler, ...], clips: list[Clip]) -> Iterator[Finding]:
    """Decodes one view of every clip and asks its handlers, in batches of the largest handler's size."""
    infos = {handler.name: CueInfo.of(handler) for handler in handlers}
    models = {handler.name: handler.load() for handler in handlers}
    limits, view = Limits(), handlers[0].view
    size = max(handler.batch_size for handler in handlers)
    remaining = iter(clips)
    while some := list(islice(remaining, size)):
        batch = []
        for clip in some:
            of = subject(clip, view)
            try:
                batch.append(Example(clip.clip_id, _decoded(clip, view, limits), of))
            except NoTrack as missing:
                yield from (info.finding(clip.clip_id, of, skipped=str(missing)) for info in infos.values())
            except MediaError as error:
                for info in infos.values():
                    yield info.finding(clip.clip_id, of, error=str(error), retryable=error.retryable)
        for handler in handlers:
            for start in range(0, len(batch), handler.batch_size):
                part = batch[start : start + handler.batch_size]
                for example, items in zip(part, handler.predict(part, models[handler.name]), strict=True):
                    yield infos[handler.name].finding(example.clip_id, example.subject, items=tuple(items))


def _decoded(clip: Clip, view: View, limits: Limits) -> Decoded:
    if isinstance(view, Listing):
        return Listed(clip.labels)
    return decode(clip.uri, clip.media_start_s, None if clip.end_s is None else clip.end_s - clip.start_s, view, limits)
