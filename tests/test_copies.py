"""Of captions with one wording so many stay, always the same ones."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from model_handlers.writers import SoundEvent, Version
from transforms.copies import DropCopies, place
from transforms.records import Caption, Clip, Rejection


def captions(text: str, count: int, prefix: str) -> list[Caption]:
    return [Caption(Clip(f"{prefix}{number}", "u"), text, "writer", ()) for number in range(count)]


def test_a_caption_that_is_dropped_keeps_all_that_was_written() -> None:
    told = SoundEvent("a dog barks", ("sound",))
    whole = replace(
        captions("A dog barks.", 1, "a")[0],
        events=(told,),
        versions=(Version("short", "", "A bark."),),
        ambiguities=("a fox?",),
        model="m",
        prompt="p-1",
        similarity=0.05,
        tokens_in=7,
    )
    dropped = whole.rejected("dissimilar", "too low")
    assert (dropped.reason, dropped.evidence) == ("dissimilar", "too low")
    shared = {field.name for field in fields(Rejection)} - {"reason", "evidence"}
    assert {name: getattr(dropped, name) for name in shared} == {name: getattr(whole, name) for name in shared}
    assert shared >= {"writer", "events", "versions", "ambiguities", "model", "prompt", "similarity", "tokens_in"}


DOGS = [*captions("A dog barks in a park.", 6, "a"), *captions("The dogs bark in the park", 6, "b")]
OTHERS = [*captions("A cat meows.", 3, "c"), *captions("Rain falls on a roof.", 1, "d")]


def ended(at_most: int, some: list[Caption], folder: Path) -> tuple[set[str], set[str]]:
    """The ids of the clips that are kept, and of those that are dropped."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        out = pipeline | beam.Create(some) | DropCopies(at_most)
        for name in ("kept", "rejected"):
            ids = out[name] | f"{name} ids" >> beam.Map(lambda outcome: outcome.clip.clip_id)
            _ = ids | f"write {name}" >> beam.io.WriteToText(str(folder / name), shard_name_template="")
    kept, dropped = ((folder / name).read_text().split() for name in ("kept", "rejected"))
    assert len(kept) + len(dropped) == len(some)
    return set(kept), set(dropped)


@pytest.mark.parametrize("seed", [1, 2])
def test_so_many_of_a_wording_stay_and_which_does_not_hang_on_their_order(seed: int, tmp_path: Path) -> None:
    some = [*DOGS, *OTHERS]
    random.Random(seed).shuffle(some)
    first = sorted(DOGS, key=place)[:3]
    kept, dropped = ended(3, some, tmp_path)
    assert kept == {caption.clip.clip_id for caption in [*first, *OTHERS]}
    assert len(dropped) == len(DOGS) - 3


def test_as_many_as_may_be_are_no_copies(tmp_path: Path) -> None:
    assert ended(12, [*DOGS, *OTHERS], tmp_path)[1] == set()


def test_without_a_limit_all_stay(tmp_path: Path) -> None:
    assert ended(0, [*DOGS, *OTHERS], tmp_path)[1] == set()


def test_a_rejected_copy_keeps_its_caption_and_says_how_many_stay(tmp_path: Path) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        out = pipeline | beam.Create(OTHERS) | DropCopies(2)
        said = out.rejected | beam.Map(lambda r: f"{r.reason}|{r.caption}|{r.evidence}")
        _ = said | beam.io.WriteToText(str(tmp_path / "said"), shard_name_template="")
    assert (tmp_path / "said").read_text().strip() == "near_copy|A cat meows.|more than 2 captions read like this one"
