"""What a run would have to do, before it does it: cue by cue, from what the store knows and what earlier runs took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter

from beam_pipeline.pipeline import Run, by_view, conditions_of, recalled_works, sheet_checks
from model_handlers.writers import CaptionWriter
from transforms import versions
from transforms.caption import brief, written_key
from transforms.conditions import judged
from transforms.cues import view_label
from transforms.filters import first_verdict
from transforms.join import join_cues
from transforms.records import CueSheet, Work

NAMESPACE = "earshot.plan"


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        name: a cue, ``decode <view>``, or ``caption``.
        wanted: how many clips it is wanted for; of captions, at most.
        known: for how many the store has it.
        to_do: for how many it is left to do; of captions, at most: filters may drop clips whose cues are yet to come.
        seconds_each: what it took a clip when it was last done for this dataset; ``None`` where it never was.
        model: whether a model works here; else it is decoding.
    """

    name: str
    wanted: int
    known: int
    to_do: int
    seconds_each: float | None
    model: bool = True

    @property
    def seconds(self) -> float | None:
        """What is left to do will take, in seconds of one worker."""
        if not self.to_do:
            return 0.0
        return None if self.seconds_each is None else self.to_do * self.seconds_each


@dataclass(frozen=True)
class Plan:
    """All steps of a run, in the order of the profile."""

    clips: int
    steps: tuple[Step, ...]

    @property
    def nothing_to_do(self) -> bool:
        """Whether the store has everything."""
        return not any(step.to_do for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """For machines: the steps, and hours of models and of decoding where every step's cost is known."""
        hours = {}
        for kind, model in (("model_hours", True), ("decode_hours", False)):
            seconds = [step.seconds for step in self.steps if step.model == model]
            known = [s for s in seconds if s is not None]
            hours[kind] = sum(known) / 3600 if len(known) == len(seconds) else None
        steps = [{**asdict(step), "seconds": step.seconds} for step in self.steps]
        return {"clips": self.clips, "nothing_to_do": self.nothing_to_do, **hours, "steps": steps}


class _Foresee(beam.DoFn):
    """Counts what a work knows and lacks, as metrics."""

    def __init__(self, run: Run):
        handlers = run.profile.handlers()
        self.views = {view_label(view): tuple(h.name for h in group) for view, group in by_view(handlers).items()}
        self.names = tuple(handler.name for handler in handlers)
        self.levels = [conditions_of(run.profile, level) for level in run.profile.levels()]
        self.writer: CaptionWriter = run.profile.writer()
        self.checks: tuple[Callable, ...] = sheet_checks(run.profile)

    def process(self, work: Work) -> None:
        _count("clips")
        for conditions, infos in self.levels:
            known = {finding.name for finding in work.findings}
            decided = {name: when for name, when in conditions.items() if when.cue in known}
            work = judged(work, decided, infos)
        lacking = work.lacks(self.names)
        for name in self.names:
            _count(f"{'to_do' if name in lacking else 'known'}/{name}")
        for view, names in self.views.items():
            if set(names) & set(lacking):
                _count(f"to_do/decode {view}")
        if set(self.writer.needs or self.names) & set(lacking):
            _count("to_do/caption")
            return
        sheet = join_cues(work.clip, work.findings, tuple(name for name in self.names if name not in lacking))
        if isinstance(sheet, CueSheet) and (lacking or first_verdict(sheet, self.checks) is None):
            key = written_key(brief(sheet, self.writer.needs), self.writer.fingerprint())
            _count(f"{'known' if any(w.key == key for w in work.written) else 'to_do'}/caption")


def _count(what: str) -> None:
    Metrics.counter(NAMESPACE, what).inc()


def plan(run: Run, runner: Any, options: Any) -> Plan:
    """Finds out what `run` would do. It reads the source and the store, opens no media and loads no model."""
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = recalled_works(pipeline, run).works | "foresee" >> beam.ParDo(_Foresee(run))
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    counts = {found.key.metric.name: found.committed for found in counters}
    took = seconds_each(run.root)
    handlers = run.profile.handlers()
    views = [f"decode {view_label(view)}" for view in by_view(handlers)]
    clips = counts.get("clips", 0)

    def step(name: str, model: bool) -> Step:
        known, to_do = counts.get(f"known/{name}", 0), counts.get(f"to_do/{name}", 0)
        return Step(name, known + to_do if model else clips, known, to_do, took.get(name), model)

    models = [step(name, True) for name in (*(handler.name for handler in handlers), "caption")]
    return Plan(clips, (*(step(name, False) for name in views), *models))


def seconds_each(root: str) -> dict[str, float]:
    """By step, the seconds a clip that the latest version to have done it took."""
    took: dict[str, float] = {}
    for version in reversed(versions.numbers(root)):
        try:
            costs = versions.manifest(root, version).get("costs", {})
        except FileNotFoundError:
            continue  # a run under way, or one that was killed
        for name, spent in costs.items():
            if spent["clips"]:
                took.setdefault(name, spent["seconds"] / spent["clips"])
    return took
