"""The picture in ARCHITECTURE.md, as code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import apache_beam as beam

from beam_pipeline.config import Profile
from model_handlers.base import CueHandler
from model_handlers.views import View
from transforms.caption import WriteCaptions
from transforms.cues import ComputeCues, CueInfo, view_label
from transforms.filters import Filter, drop_labels, drop_no_audio, drop_out_of_sync, drop_silent
from transforms.ingest import ClipSource, ReadClips
from transforms.join import JoinCues
from transforms.media import Limits
from transforms.progress import Tick
from transforms.publish import Publish


@dataclass(frozen=True)
class Run:
    """One run: a profile applied to a source of clips, published in a folder of its own.

    `progress` is a local folder for ticks, for runs whose workers share this machine's disk; empty elsewhere.
    """

    profile: Profile
    source: ClipSource
    folder: str
    facts: dict[str, Any]
    limits: Limits = field(default_factory=Limits)
    shards: int = 1
    progress: str = ""


def build(pipeline: beam.Pipeline, run: Run) -> None:
    """Adds the whole job to `pipeline`; the caller owns the pipeline and runs it."""
    handlers = run.profile.handlers()
    names = tuple(handler.name for handler in handlers)

    # Which clips there are, and which of them their labels rule out before any media is opened.
    read = pipeline | "clips" >> ReadClips(run.source)
    labels = read.clips | "label filter" >> Filter(label_checks(run.profile))
    clips = labels.kept | "listed" >> Tick("clips", run.progress)

    # Cues: one composite per view, so that media never leaves the stage that decodes it.
    outcomes = [
        clips | f"{view_label(view)} cues" >> ComputeCues(group, run.limits, run.progress)
        for view, group in by_view(handlers).items()
    ] | "all cues" >> beam.Flatten()
    joined = (clips, outcomes) | "join" >> JoinCues(names)

    # What is left after the filters gets a caption.
    synced = joined.sheets | "sync filter" >> Filter(sheet_checks(run.profile))
    written = synced.kept | "caption" >> WriteCaptions(run.profile.writer(), run.progress)

    # Every listed row ends as exactly one of three.
    _ = {
        "listed": read.listed,
        "captions": written.captions,
        "rejected": [labels.rejected, synced.rejected, written.rejected] | "all rejected" >> beam.Flatten(),
        "failed": [read.failed, joined.failed] | "all failed" >> beam.Flatten(),
    } | "publish" >> Publish(run.folder, run.facts, run.shards)


def by_view(handlers: tuple[CueHandler, ...]) -> dict[View, tuple[CueHandler, ...]]:
    """Groups the handlers that share a decode, in the profile's order."""
    groups: dict[View, tuple[CueHandler, ...]] = {}
    for handler in handlers:
        groups[handler.view] = (*groups.get(handler.view, ()), handler)
    return groups


def label_checks(profile: Profile) -> tuple[Callable, ...]:
    """The filters that need nothing but the source's labels."""
    rule = profile.filters.labels
    return (partial(drop_labels, all_of=rule.all_of, sources=rule.sources),) if rule else ()


def sheet_checks(profile: Profile) -> tuple[Callable, ...]:
    """The filters that need cues, in the order in which their reasons take precedence."""
    checks: list[Callable] = []
    if rule := profile.filters.silence:
        checks.append(partial(drop_no_audio, cue=rule.cue))
        checks.append(partial(drop_silent, cue=rule.cue, below_dbfs=rule.below_dbfs))
    if sync := profile.filters.sync:
        checks.append(
            partial(
                drop_out_of_sync,
                cue=sync.cue,
                required_hits=sync.required_hits,
                tolerance=sync.tolerance,
                least_probability=sync.least_probability,
                sources=sync.sources,
            )
        )
    return tuple(checks)


def recipe(profile: Profile) -> dict[str, Any]:
    """What determines a profile's results, for the manifest: models, fingerprints, filters and the writer."""
    cues = {
        info.name: {"model": info.model, "fingerprint": info.fingerprint}
        for info in map(CueInfo.of, profile.handlers())
    }
    return {
        "profile": profile.name,
        "notice": profile.notices(),
        "cues": cues,
        "filters": asdict(profile.filters),
        "writer": profile.writer().fingerprint(),
    }
