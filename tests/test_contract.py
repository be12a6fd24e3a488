"""What every cue row of every profile promises, whatever its model. The demo's rows run their trained models."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_pipeline.config import load_profile
from beam_pipeline.models import seen
from beam_pipeline.shipped import shipped
from demo.world import make_scene, write_clip
from model_handlers.audio_embedding import AudioEmbedding, embedding_of
from model_handlers.base import CueHandler, Example, Item
from model_handlers.synchronisation import Synchronisation, hits
from model_handlers.views import Audio, Listed, Listing, MiddleFrame
from model_handlers.weights import ModelError
from transforms.cues import CueInfo, view_label

DEMO = load_profile("demo").handlers()
ROWS = [pytest.param(h, id=f"{name}-{h.name}") for name in shipped("profiles") for h in load_profile(name).handlers()]
FILES = [pytest.param(h, id=h.name) for h in load_profile("auto_acd").handlers() if "://" in h.model]
FUSION = [h for h in load_profile("fusion_audio_demo").handlers() if h not in DEMO]
RUNNABLE = [pytest.param(h, id=h.name) for h in DEMO] + [pytest.param(h, id=f"fusion-{h.name}") for h in FUSION]
ARRAYS = [pytest.param(h, id=h.name) for h in DEMO if isinstance(h.view, MiddleFrame | Audio)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    """Two clips of different lengths, ids and contents."""
    folder = tmp_path_factory.mktemp("clips")
    made = []
    for index, duration_s in enumerate((10.0, 7.5)):
        scene = make_scene(4322, index, duration_s=duration_s)
        write_clip(scene, folder / f"{index}.mp4")
        made.append((scene.clip_id, folder / f"{index}.mp4"))
    return made


def examples(handler: CueHandler, clips: list[tuple[str, Path]]) -> list[Example]:
    if isinstance(handler.view, Listing):
        return [Example(clip_id, Listed(("Dog", "Bark"))) for clip_id, _ in clips]
    return [Example(clip_id, seen(handler, lambda view, path=path: path)) for clip_id, path in clips]


def close(handler: CueHandler, one: tuple[Item, ...], other: tuple[Item, ...]) -> bool:
    def numbers(items: tuple[Item, ...]) -> Any:
        return [value for i in items for value in (i.score, i.start_s, i.end_s) if value is not None]

    if isinstance(handler, AudioEmbedding):
        return bool(embedding_of(one) @ embedding_of(other) > 0.999)
    return len(one) == len(other) and np.allclose(numbers(one), numbers(other), atol=1e-3)


@pytest.mark.parametrize("handler", ROWS)
def test_a_row_travels_to_workers_and_has_a_view_that_can_be_grouped(handler: CueHandler) -> None:
    again = pickle.loads(pickle.dumps(handler))
    assert again == handler
    assert hash(again.view) == hash(handler.view)
    assert view_label(handler.view)
    assert handler.batch_elements_kwargs()["min_batch_size"] == handler.batch_elements_kwargs()["max_batch_size"]


@pytest.mark.parametrize("handler", FILES)
def test_a_published_model_that_is_not_there_is_named(handler: CueHandler, tmp_path: Path) -> None:
    handler = replace(handler, mirror=str(tmp_path / "nothing"))
    with pytest.raises(ModelError, match=f"{handler.name}: .*nothing"):
        handler.locate()


@pytest.mark.parametrize("handler", RUNNABLE)
def test_a_cue_answers_once_a_clip_in_order_and_alike_alone_and_in_a_batch(
    handler: CueHandler, clips: list[tuple[str, Path]]
) -> None:
    model = handler.load_model()
    batch = examples(handler, clips)
    answers = handler.run_inference(batch, model)
    assert [answer.clip_id for answer in answers] == [clip_id for clip_id, _ in clips]
    assert all(answer.error is None and answer.items for answer in answers)
    for example, answer in zip(batch, answers, strict=True):
        (alone,) = handler.run_inference([example], model)
        assert close(handler, alone.items, answer.items)
        assert all(isinstance(item, Item) and item.text for item in answer.items)
        assert all(item.score is None or isinstance(item.score, float) for item in answer.items)


@pytest.mark.parametrize("handler", ARRAYS)
def test_a_view_that_no_model_can_digest_fails_its_own_clip_only(
    handler: CueHandler, clips: list[tuple[str, Path]]
) -> None:
    good, other = examples(handler, clips)
    assert isinstance(good.view, np.ndarray)
    bad = Example("bad", good.view[:0])
    answers = handler.run_inference([good, bad, other], handler.load_model())
    assert [answer.error is None for answer in answers] == [True, False, True]


@pytest.mark.parametrize("handler", RUNNABLE)
def test_a_fingerprint_is_the_same_every_time_and_knows_nothing_of_speed(handler: CueHandler) -> None:
    info = CueInfo.of(handler)
    again = pickle.loads(pickle.dumps(handler))
    again.batch_size += 1
    again.device = "cpu"
    assert CueInfo.of(again).fingerprint == info.fingerprint
    again.version = handler.version + 1  # type: ignore[misc]
    assert CueInfo.of(again).fingerprint != info.fingerprint


@pytest.mark.parametrize("handler", [pytest.param(h, id=h.name) for h in DEMO if h.model])
def test_half_precision_gives_the_same_first_answer(handler: CueHandler, clips: list[tuple[str, Path]]) -> None:
    # bfloat16 on the CPU stands for half precision on a GPU: the same code, with fewer digits than float16.
    half = replace(handler, precision="bf16")
    batch = examples(handler, clips)
    exact, rounded = (h.run_inference(batch, h.load_model()) for h in (handler, half))
    for one, other in zip(exact, rounded, strict=True):
        assert other.error is None
        if isinstance(handler, AudioEmbedding):
            assert embedding_of(one.items) @ embedding_of(other.items) > 0.99
        else:
            assert first_answer(handler, other.items) == first_answer(handler, one.items)


def first_answer(handler: CueHandler, items: tuple[Item, ...]) -> Any:
    return hits(items) if isinstance(handler, Synchronisation) else items[0].text
