"""What a run would have to do, before it does it: cue by cue, from what the store knows and what earlier runs took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter

from beam_pipeline.pipeline import Run, by_view, conditions_of, recalled_works, sheet_checks
from model_handlers.writers import Brief
from transforms import questions, versions
from transforms.caption import Terms, settle
from transforms.conditions import cues_of, judged
from transforms.cues import view_label
from transforms.filters import first_verdict
from transforms.join import join_cues
from transforms.records import Caption, CueSheet, Spent, Work
from transforms.similarity import NAME as SIMILARITY
from transforms.similarity import known_score

NAMESPACE = "earshot.plan"
AMOUNTS = ("seconds", "gpu_seconds", "tokens_in", "tokens_out", "dollars")


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        name: a cue, ``decode <view>``, ``caption``, ``similarity`` or ``questions``.
        wanted: how many clips it is wanted for; of captions and questions, at most.
        known: for how many the store has it.
        to_do: for how many it is left to do; of captions, at most: filters may drop clips whose cues are yet to come.
        each: what it took a clip when it was last done for this dataset; ``None`` where it never was.
        model: whether a model works here; else it is decoding.
    """

    name: str
    wanted: int
    known: int
    to_do: int
    each: Spent | None
    model: bool = True

    @property
    def takes(self) -> Spent | None:
        """What is left to do will take; seconds are those of one worker."""
        if not self.to_do:
            return Spent(0)
        return self.each and self.each.times(self.to_do)

    def as_json(self) -> dict[str, Any]:
        """For machines; ``seconds`` and what else it takes, ``None`` where that is not known."""
        takes = None if self.takes is None else asdict(self.takes)
        each = {"seconds_each": self.each and self.each.seconds}
        amounts = {name: takes and takes[name] for name in AMOUNTS}
        counts = {"wanted": self.wanted, "known": self.known, "to_do": self.to_do, "model": self.model}
        return {"name": self.name, **counts, **each, **amounts}


@dataclass(frozen=True)
class Plan:
    """All steps of a run, in the order of the profile."""

    clips: int
    steps: tuple[Step, ...]

    @property
    def nothing_to_do(self) -> bool:
        """Whether the store has everything."""
        return not any(step.to_do for step in self.steps)

    def total(self, model: bool | None = None) -> Spent | None:
        """What all steps take, those of models or of decoding alone, or all; ``None`` where one of them is unknown."""
        takes = [step.takes for step in self.steps if model is None or step.model == model]
        known = [spent for spent in takes if spent is not None]
        return sum(known, Spent(0)) if len(known) == len(takes) else None

    def as_json(self) -> dict[str, Any]:
        """For machines: the steps, and what they take together where every step's cost is known."""
        models, decoding, all_steps = self.total(True), self.total(False), self.total()
        return {
            "clips": self.clips,
            "nothing_to_do": self.nothing_to_do,
            "model_hours": models and models.seconds / 3600,
            "decode_hours": decoding and decoding.seconds / 3600,
            "gpu_hours": all_steps and all_steps.gpu_seconds / 3600,
            "tokens_in": all_steps and round(all_steps.tokens_in),
            "tokens_out": all_steps and round(all_steps.tokens_out),
            "dollars": all_steps and all_steps.dollars,
            "steps": [step.as_json() for step in self.steps],
        }


class _Foresee(beam.DoFn):
    """Counts what a work knows and lacks, as metrics."""

    def __init__(self, run: Run):
        handlers = run.profile.handlers()
        self.views = {view_label(view): tuple(h.name for h in group) for view, group in by_view(handlers).items()}
        self.names = tuple(handler.name for handler in handlers)
        profile = run.profile
        self.levels = [
            (level, *conditions_of(profile, level), sheet_checks(profile, level) if profile.filters.first else ())
            for level in profile.levels()
        ]
        self.terms = Terms.of(profile.writer(), profile.checks)
        self.checks: tuple[Callable, ...] = sheet_checks(profile)
        self.scorer = profile.scorer()
        asker = profile.questioner()
        self.asked = asker and questions.Terms.of(asker, profile.checks)

    def process(self, work: Work) -> None:
        _count("clips")
        lacking: tuple[str, ...] = ()
        for level, conditions, infos, checks in self.levels:
            known = {finding.name for finding in work.findings}
            decided = {name: when for name, when in conditions.items() if cues_of(when) <= known}
            work = judged(work, decided, infos)
            missing = work.lacks(level)
            for name in level:
                _count(f"{'to_do' if name in missing else 'known'}/{name}")
            lacking += missing
            if checks and not missing and first_verdict(work.sheet(self.names), checks):
                break  # a filter drops the clip, and what comes later is not wanted of it
        else:
            self._caption(work, lacking)
        for view, names in self.views.items():
            if set(names) & set(lacking):
                _count(f"to_do/decode {view}")

    def _unwritten(self) -> None:
        _count("to_do/caption")
        if self.scorer:
            _count(f"to_do/{SIMILARITY}")
        if self.asked:
            _count(f"to_do/{questions.NAME}")

    def _caption(self, work: Work, lacking: tuple[str, ...]) -> None:
        if set(self.terms.needs) & set(lacking):
            self._unwritten()
            return
        sheet = join_cues(work.clip, work.findings, tuple(name for name in self.names if name not in lacking))
        if not isinstance(sheet, CueSheet) or (not lacking and first_verdict(sheet, self.checks)):
            return
        settled = settle(replace(sheet, written=work.written, scored=work.scored), self.terms)
        if isinstance(settled, Brief):
            self._unwritten()
            return
        _count("known/caption")
        if self.scorer and isinstance(settled, Caption) and sheet.items(self.scorer.cue):
            score = known_score(work.scored, settled, self.scorer)
            _count(f"{'known' if score else 'to_do'}/{SIMILARITY}")
        if self.asked and isinstance(settled, Caption):
            found = questions.settle(questions.Captioned(settled, work.written), self.asked)
            _count(f"{'to_do' if isinstance(found, Brief) else 'known'}/{questions.NAME}")


def _count(what: str) -> None:
    Metrics.counter(NAMESPACE, what).inc()


def plan(run: Run, runner: Any, options: Any) -> Plan:
    """Finds out what `run` would do. It reads the source and the store, opens no media and loads no model."""
    pipeline = beam.Pipeline(runner=runner, options=options)
    asker = run.profile.questioner()
    writers = (asker.fingerprint(),) if asker else ()
    _ = recalled_works(pipeline, run, writers).works | "foresee" >> beam.ParDo(_Foresee(run))
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    counts = {found.key.metric.name: found.committed for found in counters}
    took = last_spent(run.root)
    handlers = run.profile.handlers()
    views = [f"decode {view_label(view)}" for view in by_view(handlers)]
    clips = counts.get("clips", 0)

    def step(name: str, model: bool) -> Step:
        known, to_do = counts.get(f"known/{name}", 0), counts.get(f"to_do/{name}", 0)
        return Step(name, known + to_do if model else clips, known, to_do, took.get(name), model)

    last = ["caption", *([SIMILARITY] if run.profile.similarity else []), *([questions.NAME] if asker else [])]
    models = [step(name, True) for name in (*(handler.name for handler in handlers), *last)]
    return Plan(clips, (*(step(name, False) for name in views), *models))


def last_spent(root: str) -> dict[str, Spent]:
    """By step, what a clip took in the latest version to have done it."""
    took: dict[str, Spent] = {}
    for version in reversed(versions.numbers(root)):
        try:
            costs = versions.manifest(root, version).get("costs", {})
        except FileNotFoundError:
            continue  # a run under way, or one that was killed
        for name, amounts in costs.items():
            if amounts["clips"]:
                took.setdefault(name, Spent(**amounts).times(1 / amounts["clips"]))
    return took
