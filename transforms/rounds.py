"""A writer is asked in rounds: answers are judged, and what will not do is asked for again.

The rounds are unrolled in the graph, so that each is a `RunInference` like others, and every answer is kept alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.pvalue import DoOutputsTuple

from model_handlers.writers import Brief, CaptionWriter, Draft, Task
from transforms import telemetry
from transforms.answers import Answers, written
from transforms.records import Spent
from transforms.store import Store


def in_rounds(
    elements: beam.PCollection,
    settle: Callable[[], beam.PTransform],
    writer: CaptionWriter,
    tries: int,
    store: Store,
    run: str,
) -> tuple[list[DoOutputsTuple], list[beam.PCollection]]:
    """Asks a writer about elements until each is settled; for use within a transform's `expand`.

    Args:
        elements: dataclasses whose field ``written`` holds what the writer has answered.
        settle: makes the transform that judges them: its output ``open`` holds those to be asked about, as
            ``((element, brief), brief)``. The last round leaves none.
        writer: who is asked.
        tries: how often, at most.
        store: keeps the answers.
        run: the run's name.

    Returns:
        What `settle` gave in each round, and what each round's answers cost, as (task, `Spent`).
    """
    fingerprint = writer.fingerprint()
    asking = writer.for_run(run, Answers(store, fingerprint), store.asked_folder(fingerprint))
    settled, costs = [elements | "settle" >> settle()], []
    for again in range(1, tries + 1):
        nth = f" {again}" if again > 1 else ""
        answered = (
            settled[-1].open
            | f"write{nth}" >> RunInference(KeyedModelHandler(asking))
            | f"answered{nth}" >> beam.Map(_answered, fingerprint, writer.task)
            | f"checkpoint{nth}" >> beam.Reshuffle()  # a bundle that is tried again asks for one round only
        )
        costs.append(answered | f"costs{nth}" >> beam.Map(_cost, again == 1, writer.task))
        settled.append(answered | f"check{nth}" >> settle())
    return settled, costs


def _answered(element: tuple[tuple[Any, Brief], Draft], writer: str, task: Task) -> Any:
    (about, asked), draft = element
    spent = Spent(1, draft.seconds, 0.0, draft.tokens_in, draft.tokens_out, draft.dollars)
    telemetry.answered(asked.clip_id, spent, draft.error, draft.retryable, task)
    telemetry.count(task, "asked_again", bool(asked.attempts))
    return replace(about, written=(*about.written, written(asked, draft, writer)))


def _cost(element: Any, first: bool, task: Task) -> tuple[str, Spent]:
    """Of the element's last answer. A clip counts once, however often it was asked about."""
    last = element.written[-1]
    answered = not last.retryable  # else it cost nothing, and says nothing of what an answer costs
    return task, Spent(int(first and answered), last.seconds, 0.0, last.tokens_in, last.tokens_out, last.dollars)
