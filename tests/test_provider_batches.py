"""Batch mode, against a real server that speaks the protocol of files and batches."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from model_handlers import pace, provider_batches
from model_handlers.api_writer import ApiWriter
from model_handlers.base import Item
from model_handlers.provider_batches import PendingBatches, parts, question_id
from model_handlers.weights import ModelError
from model_handlers.writers import Brief, Draft
from tests.llm_server import LlmServer, llm_server

HEADINGS = {"audio_tags": "what is heard"}


def brief(n: int) -> Brief:
    return Brief(f"clip {n}", {"audio_tags": (Item(f"dog {n}", 0.9),)})


def briefs(count: int, start: int = 0) -> list[Brief]:
    return [brief(n) for n in range(start, start + count)]


def captions(count: int, start: int = 0) -> list[str]:
    return [f"The sound of dog {n} can be heard." for n in range(start, start + count)]


def writer(server: LlmServer, folder: Path | None = None, **fields: Any) -> ApiWriter:
    row = {"model": "any", "base_url": server.url, "key_env": "", "headings": HEADINGS, "mode": "batch", "poll_s": 0.02}
    told = ApiWriter(**{**row, **fields})
    if folder:
        told.pending = PendingBatches(str(folder))
    return told


def written(told: ApiWriter, asked: list[Brief]) -> list[Draft]:
    return told.write(asked, told.load())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "BACKOFF_S", 0.02)


def test_a_batch_is_answered_in_order_at_half_the_price() -> None:
    rows: list[str] = []
    with llm_server(polls=3) as server:
        told = writer(server, price_in=2.0, price_out=4.0)
        told.answered = lambda answers: rows.extend(brief.clip_id for brief, _ in answers)  # type: ignore[assignment]
        drafts = written(told, briefs(20))
        assert len(server.batches) == 1
        assert server.batches["batch_0"]["polls"] == 4
    assert [draft.caption for draft in drafts] == captions(20)
    for draft in drafts:
        assert draft.dollars == pytest.approx((draft.tokens_in * 2 + draft.tokens_out * 4) / 1e6 / 2)
    assert sorted(rows) == sorted(f"clip {n}" for n in range(20))


def test_questions_and_fingerprint_are_those_of_single_requests() -> None:
    with llm_server() as server:
        told = writer(server)
        single = writer(server, mode="requests")
        written(told, briefs(1))
        written(single, briefs(1))
        assert server.bodies[0] == server.bodies[1]
    assert told.fingerprint() == single.fingerprint()


def test_a_run_that_was_interrupted_pays_for_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    with llm_server() as server:
        with monkeypatch.context() as patched:
            patched.setattr(provider_batches.time, "sleep", killed)
            with pytest.raises(KeyboardInterrupt):
                written(writer(server, tmp_path), briefs(10))
        assert len(server.batches) == 1
        assert server.answered == 0
        told = writer(server, tmp_path)
        assert [draft.caption for draft in written(told, briefs(15))] == captions(15)
        assert server.answered == 15, "the ten were taken from the first batch"
        assert len(server.batches) == 2
        assert not PendingBatches(str(tmp_path)).open()


def test_a_batch_may_be_collected_in_parts_by_those_who_ask_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with llm_server(polls=0) as server:
        told = writer(server, tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(provider_batches._Batches, "_look", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                written(told, briefs(10))
        assert [draft.caption for draft in written(told, briefs(4))] == captions(4)
        assert [len(left) for left in told.pending.open().values()] == [6]  # type: ignore[union-attr]
        assert [draft.caption for draft in written(told, briefs(6, 4))] == captions(6, 4)
        assert len(server.batches) == 1
        assert not told.pending.open()  # type: ignore[union-attr]


@pytest.mark.parametrize(("end", "paid"), [("expired", 20), ("cancelled", 20), ("failed", 20)])
def test_what_a_batch_left_unanswered_is_asked_anew(end: str, paid: int, tmp_path: Path) -> None:
    with llm_server(batch_ends=[end]) as server:
        drafts = written(writer(server, tmp_path), briefs(20))
        assert [draft.caption for draft in drafts] == captions(20)
        assert len(server.batches) == 2
        assert server.answered == paid, "and only that"


def test_what_comes_to_nothing_twice_may_be_asked_next_time(tmp_path: Path) -> None:
    with llm_server(batch_ends=["failed", "expired"]) as server:
        drafts = written(writer(server, tmp_path), briefs(20))
        assert Counter(bool(draft.caption) for draft in drafts) == {True: 10, False: 10}
        assert all(draft.retryable and "twice" in draft.error for draft in drafts if not draft.caption)
        assert not PendingBatches(str(tmp_path)).open()


def test_what_a_provider_says_of_a_batch_that_failed_is_told() -> None:
    with llm_server(batch_ends=["failed", "failed"]) as server:
        drafts = written(writer(server), briefs(3))
    assert [draft.error for draft in drafts] == ["its batch came to nothing, twice: Too many."] * 3


def test_who_changes_the_mode_waits_for_the_batch_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(seconds: float) -> None:
        raise KeyboardInterrupt

    with llm_server() as server:
        with monkeypatch.context() as patched:
            patched.setattr(provider_batches.time, "sleep", killed)
            with pytest.raises(KeyboardInterrupt):
                written(writer(server, tmp_path), briefs(10, 5))
        drafts = written(writer(server, tmp_path, mode="requests", price_in=1.0, price_out=1.0), briefs(20))
        assert [draft.caption for draft in drafts] == captions(20)
        assert server.answered == 20, "ten in the batch, ten by single requests"
        assert len(server.batches) == 1
        prices = [draft.dollars / (draft.tokens_in + draft.tokens_out) * 1e6 for draft in drafts]
        assert prices == pytest.approx([1.0] * 5 + [0.5] * 10 + [1.0] * 5)


def test_a_damaged_note_of_a_batch_stops_the_run_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "0.json").write_text('{"batch": "batch_1", "quest')
    with (
        llm_server() as server,
        pytest.raises(ModelError, match=r"0\.json, the note .* delete it to ask, and pay"),
    ):
        written(writer(server, tmp_path), briefs(1))


def test_in_batch_mode_more_briefs_go_together() -> None:
    assert ApiWriter(model="any").batch_size == 256
    assert ApiWriter(model="any", mode="batch").batch_size == 10_000
    assert ApiWriter(model="any", mode="batch", batch_size=500).batch_size == 500


def test_errors_of_single_questions_in_a_batch() -> None:
    with llm_server(script=["", "400", "429", "500", "reset", "garbage", "content_filter", "length"]) as server:
        drafts = written(writer(server), briefs(10))
    errors = [draft.error for draft in drafts if draft.error]
    assert sorted(error[:8] for error in errors) == ["HTTP 400", "the prov"]
    assert not any(draft.retryable for draft in drafts)
    assert sum(bool(draft.unreadable) for draft in drafts) == 1
    assert sum(bool(draft.caption) for draft in drafts) == 7, "what passes was asked anew"


def test_a_server_without_schemas_is_asked_anew_without() -> None:
    with llm_server(accepts=("",)) as server:
        assert [draft.caption for draft in written(writer(server), briefs(6))] == captions(6)
        assert server.answered == 6
        assert len(server.batches) == 3


def test_what_would_go_wrong_for_all_stops_the_run_when_the_rest_is_read(tmp_path: Path) -> None:
    rows: list[str] = []
    with llm_server(script=["", "", "404"]) as server:
        told = writer(server, tmp_path)
        told.answered = lambda answers: rows.extend(brief.clip_id for brief, _ in answers)  # type: ignore[assignment]
        with pytest.raises(ModelError, match="does not exist; check model"):
            written(told, briefs(10))
        assert len(rows) == server.answered == 9


def test_a_question_that_the_server_never_takes_is_no_clip_s_fault() -> None:
    with llm_server(faults={"400": 1.0}) as server, pytest.raises(ModelError, match="all of the first 10 questions"):
        written(writer(server), briefs(10))


def test_nothing_is_uploaded_beyond_the_budget() -> None:
    with llm_server() as server:
        drafts = written(writer(server, price_in=10.0, price_out=10.0, budget_dollars=0.05), briefs(50))
        asked = sum(bool(draft.caption) for draft in drafts)
        assert 5 < asked < 50
        assert server.answered == asked
        assert sum(draft.dollars for draft in drafts) <= 0.05
    assert all(draft.retryable and "budget" in draft.error for draft in drafts if not draft.caption)


def test_a_server_that_is_away_may_be_asked_next_time(tmp_path: Path) -> None:
    with llm_server() as server:
        pass
    drafts = written(writer(server, tmp_path, patience_s=0.5), briefs(3))
    assert all(draft.retryable and "no answer from a batch" in draft.error for draft in drafts)


def test_a_batch_whose_beginning_went_unanswered_is_not_begun_twice() -> None:
    with llm_server(lost_batches=1) as server:
        assert [draft.caption for draft in written(writer(server), briefs(5))] == captions(5)
        assert len(server.batches) == 1
        assert server.answered == 5


def test_long_lists_of_questions_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {str(n): b"x" * 10 for n in range(25)}
    assert [len(part) for part in parts(lines)] == [25]
    monkeypatch.setattr(provider_batches, "MOST_REQUESTS", 10)
    assert [len(part) for part in parts(lines)] == [10, 10, 5]
    monkeypatch.setattr(provider_batches, "MOST_BYTES", 45)
    split = list(parts(lines))
    assert [len(part) for part in split] == [4] * 6 + [1]
    assert {name: line for part in split for name, line in part.items()} == lines
    with llm_server() as server:
        assert [draft.caption for draft in written(writer(server), briefs(3))] == captions(3)
        assert len(server.batches) == 3, "a question beyond the limit goes alone"


def test_pending_batches_are_noted_whole_and_forgotten(tmp_path: Path) -> None:
    pending = PendingBatches(str(tmp_path / "new" / "folder"))
    assert pending.open() == {}
    pending.add("batch_1", ["a", "b"])
    pending.add("../../odd/name", {"c"})
    pending.add("batch_1", ["b"])
    assert pending.open() == {"batch_1": {"b"}, "../../odd/name": {"c"}}
    assert pickle.loads(pickle.dumps(pending)).open() == pending.open()
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.suffix for path in files] == [".json", ".json"]
    assert all(json.loads(path.read_text()) for path in files)
    pending.close("batch_1")
    pending.close("batch_1")
    assert pending.open() == {"../../odd/name": {"c"}}


def test_a_question_s_name_follows_all_that_is_asked() -> None:
    told = ApiWriter(model="any", headings=HEADINGS)
    names = [question_id(brief(1), told), question_id(brief(2), told)]
    names.append(question_id(brief(1), ApiWriter(model="any", headings=HEADINGS, temperature=1.0)))
    names.append(question_id(Brief("clip 9", brief(1).cues), told))
    assert len(set(names)) == 4
    assert question_id(brief(1), ApiWriter(model="any", headings=HEADINGS, in_flight=1)) == names[0]
