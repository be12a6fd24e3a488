"""The picture in ARCHITECTURE.md, as code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import apache_beam as beam

from beam_pipeline.config import Profile
from model_handlers.base import CueHandler
from model_handlers.separation import StemCue
from model_handlers.views import View
from model_handlers.writers import CaptionWriter
from transforms.caption import WriteCaptions
from transforms.conditions import Condition, Conditions, Judge
from transforms.copies import DropCopies
from transforms.cues import ComputeCues, CueInfo, cost, made_of, shared_view, view_label
from transforms.filters import Filter, drop_labels, drop_no_audio, drop_out_of_sync, drop_silent
from transforms.ingest import ClipSource, ReadClips
from transforms.join import JoinCues, MakeSheets
from transforms.media import Limits
from transforms.progress import Tick
from transforms.publish import Publish
from transforms.questions import AskQuestions
from transforms.recall import Recall, Wanted
from transforms.records import Caption, Failure, Rejection, Work
from transforms.similarity import NAME as SIMILARITY
from transforms.similarity import ScoreCaptions
from transforms.splits import AssignSplits
from transforms.store import Store


@dataclass(frozen=True)
class Run:
    """One run: a profile applied to a source of clips, published as a version of a dataset.

    Attributes:
        profile: which cues, filters and writer.
        source: which clips.
        root: the dataset's folder.
        version: this run's number, claimed for it.
        facts: what the manifest says of the run.
        retry_failed: computes what failed in earlier runs again, even where no retry may help.
        limits: of decoding.
        shards: files per dataset; 0 leaves it to the runner.
        progress: a local folder for ticks, for runs whose workers share this machine's disk; empty elsewhere.
        budget_dollars: what each worker process may spend on captions; ``None`` for whatever it takes.
        gpu_hints: Beam's resource hints for the stages whose models want a GPU; equal ones share their workers.
    """

    profile: Profile
    source: ClipSource
    root: str
    version: int
    facts: dict[str, Any]
    retry_failed: bool = False
    limits: Limits = field(default_factory=Limits)
    shards: int = 1
    progress: str = ""
    budget_dollars: float | None = None
    gpu_hints: Mapping[str, str] = field(default_factory=dict)

    def hints(self, *memory: float | None) -> Mapping[str, str]:
        """The hints for a stage whose models take so much of a GPU's memory: none where that is nothing."""
        return self.gpu_hints if any(gb is None or gb > 0 for gb in memory) else {}


def build(pipeline: beam.Pipeline, run: Run) -> None:
    """Adds the whole job to `pipeline`; the caller owns the pipeline and runs it."""
    handlers, writer, store = run.profile.handlers(), run.profile.writer(run.budget_dollars), Store.at(run.root)
    scorer = run.profile.scorer()
    names = tuple(handler.name for handler in handlers)

    # Which clips there are, and what earlier runs know of them.
    listed = recalled_works(pipeline, run)
    works = listed.works

    # The cues that are missing: one composite per view, so that media never leaves the stage that decodes it; and
    # level by level, because a cue may be wanted only where another one says so.
    spent, dropped = [], [listed.rejected]
    for number, level in enumerate(run.profile.levels()):
        later = f" {number + 1}" if number else ""
        works = works | f"conditions{later}" >> Judge(*conditions_of(run.profile, level))
        computed = [
            works | f"{view_label(view)} cues{later}" >> ComputeCues(group, run.limits, store, run.progress, hints)
            for view, group in by_view(tuple(handler for handler in handlers if handler.name in level)).items()
            for hints in [run.hints(*(handler.gpu_memory for handler in shown_to(group)))]
        ]
        findings = [view["findings"] for view in computed] | f"all cues{later}" >> beam.Flatten()
        works = (works, findings) | f"join{later}" >> JoinCues(level)
        if run.profile.filters.first and set(run.profile.filters.cues()) & set(level):
            early = works | f"filter first{later}" >> Filter(
                sheet_checks(run.profile, level), names_up_to(run.profile, number)
            )
            works, dropped = early.kept, [*dropped, early.rejected]
        spent += [findings | f"cue costs{later}" >> beam.FlatMap(cost), *(view["costs"] for view in computed)]

    # What is left after the filters gets a caption: written, checked, compared with the sound and with other captions.
    # What stays is asked about.
    joined = works | "sheets" >> MakeSheets(names)
    synced = joined.sheets | "sync filter" >> Filter(sheet_checks(run.profile))
    write = WriteCaptions(writer, run.profile.checks, store, run.facts.get("run", ""), run.progress)
    score = ScoreCaptions(scorer, store)
    written = synced.kept | "caption" >> write.with_resource_hints(**run.hints(writer.gpu_memory))
    scored = written["captions"] | "similarity" >> score.with_resource_hints(
        **run.hints(scorer.model.gpu_memory if scorer else 0.0)
    )
    single = scored["captions"] | "near copies" >> DropCopies(run.profile.checks.copies)
    captions = single.kept | "split" >> AssignSplits(run.profile.splits)
    asked = asked_about(captions, run)

    # Every listed row ends as exactly one of three.
    dropped += [synced.rejected, written["rejected"], scored["rejected"], single.rejected]
    broken = [listed.failed, joined.failed, written["failed"], scored["failed"]]
    spent += [written["costs"], scored["costs"]]
    if asked:
        broken, spent = [*broken, asked["failed"]], [*spent, asked["costs"]]
    _ = {
        **({"qa": asked["pairs"], "dropped pairs": asked["dropped"]} if asked else {}),
        "listed": listed.origins,
        "captions": asked["captions"] if asked else captions,
        "rejected": dropped | "all rejected" >> beam.Flatten(),
        "failed": broken | "all failed" >> beam.Flatten(),
        "costs": spent | "all costs" >> beam.Flatten(),
    } | "publish" >> Publish(run.root, run.version, run.facts, run.shards)


@dataclass(frozen=True)
class Listed:
    """What a source lists.

    Attributes:
        works: the clips, with what the store knows of them.
        rejected: clips that their labels rule out, before any media is opened.
        failed: rows that name no clip, and duplicates.
        origins: of every row.
    """

    works: beam.PCollection[Work]
    rejected: beam.PCollection[Rejection]
    failed: beam.PCollection[Failure]
    origins: beam.PCollection[str]


def asked_about(captions: beam.PCollection[Caption], run: Run) -> dict[str, beam.PCollection]:
    """What `AskQuestions` makes of captions; nothing where the profile wants no questions."""
    writer = run.profile.questioner(run.budget_dollars)
    if writer is None:
        return {}
    store, name = Store.at(run.root), run.facts.get("run", "")
    ask = AskQuestions(writer, run.profile.checks, store, run.retry_failed, name, run.progress)
    return captions | "questions" >> ask.with_resource_hints(**run.hints(writer.gpu_memory))


def recalled_works(pipeline: beam.Pipeline, run: Run, writers: tuple[str, ...] = ()) -> Listed:
    """Reads the source and the store: all that a run does before it has anything to compute.

    Args:
        pipeline: the job.
        run: whose.
        writers: fingerprints of further writers whose answers are wanted beside those of the caption writer.
    """
    read = pipeline | "clips" >> ReadClips(run.source)
    labels = read.clips | "label filter" >> Filter(label_checks(run.profile))
    clips = labels.kept | "listed" >> Tick("clips", run.progress)
    wanted = tuple(map(Wanted.of, run.profile.handlers()))
    if scorer := run.profile.scorer():
        wanted += (Wanted(SIMILARITY, scorer.fingerprint, None),)
    answers = (run.profile.writer().fingerprint(), *writers)
    works = clips | "recall" >> Recall(Store.at(run.root), wanted, answers, run.retry_failed, run.progress)
    return Listed(works, labels.rejected, read.failed, read.listed)


def by_view(handlers: tuple[CueHandler, ...]) -> dict[View, tuple[CueHandler, ...]]:
    """Groups the handlers that share a decode, in the profile's order; stems at any rate share their separation."""
    groups: dict[View, tuple[CueHandler, ...]] = {}
    for handler in handlers:
        groups[made_of(handler.view)] = (*groups.get(made_of(handler.view), ()), handler)
    return {shared_view(handler.view for handler in group): group for group in groups.values()}


def shown_to(handlers: tuple[CueHandler, ...]) -> tuple[CueHandler, ...]:
    """The models that handlers of one view need: their own, and what takes sound apart before they hear it."""
    separators = [h.separator for h in handlers if isinstance(h, StemCue) and h.stem and h.separator]
    return (*handlers, *separators[:1])


def conditions_of(profile: Profile, level: tuple[str, ...]) -> tuple[Conditions, dict[str, CueInfo]]:
    """The conditions of some cues, and what their findings carry."""
    conditions = {name: some for name, some in profile.conditions().items() if name in level}
    return conditions, {
        handler.name: CueInfo.of(handler) for handler in profile.handlers() if handler.name in conditions
    }


def _as_told(conditions: tuple[Condition, ...]) -> dict[str, Any] | list[dict[str, Any]]:
    """Conditions as a profile's row and a manifest have them: one by itself, several as a list."""
    told = [asdict(condition) for condition in conditions]
    return told[0] if len(told) == 1 else told


def names_up_to(profile: Profile, number: int) -> tuple[str, ...]:
    """The cues of a level and of those before it, in the profile's order."""
    known = {name for level in profile.levels()[: number + 1] for name in level}
    return tuple(name for name in profile.cues if name in known)


def label_checks(profile: Profile) -> tuple[Callable, ...]:
    """The filters that need nothing but the source's labels."""
    rule = profile.filters.labels
    return (partial(drop_labels, all_of=rule.all_of, sources=rule.sources),) if rule else ()


def sheet_checks(profile: Profile, known: Collection[str] | None = None) -> tuple[Callable, ...]:
    """The filters of cues (those of `known` ones, or all), in the order in which their reasons take precedence."""
    checks: list[Callable] = []
    if (rule := profile.filters.silence) and (known is None or rule.cue in known):
        checks.append(partial(drop_no_audio, cue=rule.cue))
        checks.append(partial(drop_silent, cue=rule.cue, below_dbfs=rule.below_dbfs))
    if (sync := profile.filters.sync) and (known is None or sync.cue in known):
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
    """What determines the results, for the manifest: models, fingerprints, filters, writer, checks and splits."""
    writer, scorer = profile.writer(), profile.scorer()
    used = {
        info.name: {"model": info.model, "fingerprint": info.fingerprint}
        for info in map(CueInfo.of, profile.models_used())
    }
    cues = {name: used[name] for name in profile.cues}
    return {
        "profile": profile.name,
        "notice": profile.notices(),
        "cues": cues,
        **({"separation": used["separation"]} if "separation" in used else {}),
        "order": list(cues),
        "conditions": {name: _as_told(some) for name, some in profile.conditions().items()},
        "filters": asdict(profile.filters),
        "writer": writer.fingerprint(),
        "model": writer.told_by[0],
        "prompt": writer.told_by[1],
        "forms": [form.name for form in writer.asked.forms],
        "languages": list(writer.asked.languages),
        "checks": asdict(profile.checks),
        "similarity": scorer and {"cue": scorer.cue, "least": scorer.least, "fingerprint": scorer.fingerprint},
        "split_rule": asdict(profile.splits),
        **({"questions": questions_recipe(questioner)} if (questioner := profile.questioner()) else {}),
    }


def questions_recipe(writer: CaptionWriter) -> dict[str, Any]:
    """What determines the questions: their writer, and which are wanted."""
    model, prompt = writer.told_by
    return {"writer": writer.fingerprint(), "model": model, "prompt": prompt, **asdict(writer.questions)}
