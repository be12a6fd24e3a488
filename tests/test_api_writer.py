"""The writer that asks over HTTP, against a real server that does whatever providers do."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from model_handlers import pace
from model_handlers.api_writer import ApiWriter, prompt_tokens
from model_handlers.llm import read_answer, shown_cues
from model_handlers.weights import ModelError
from model_handlers.writers import Attempt, Brief, Draft
from tests.asking import HEADINGS, Kept, asked, brief, writer
from tests.llm_server import llm_server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "BACKOFF_S", 0.02)


# What is asked, and how an answer is read.


def test_a_clip_gets_a_caption_with_its_events_tokens_and_price() -> None:
    with llm_server(latency_s=0.05) as server:
        (draft,) = asked(server, price_in=2.0, price_out=10.0)
    assert draft.caption == "The sound of dog 0 can be heard."
    assert draft.events[0].cues == ("audio_tags",)
    assert draft.tokens_in > 100
    assert draft.dollars == pytest.approx((draft.tokens_in * 2 + draft.tokens_out * 10) / 1e6)
    assert 0.05 <= draft.seconds < 5


def test_the_request_holds_what_the_row_says() -> None:
    with llm_server() as server:
        asked(server, temperature=0.5, seed=3, max_tokens=77, extra_body={"reasoning_effort": "low"})
        (body,) = server.bodies
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == ("any", 0.5, 3, 77)
    assert body["reasoning_effort"] == "low"
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    form = body["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["additionalProperties"] is False
    assert set(form["schema"]["required"]) == {"caption", "events", "abstained"}
    assert "maxLength" not in json.dumps(form), "OpenAI's strict mode knows no such limits"


def test_a_clip_that_is_asked_again_is_told_why() -> None:
    with llm_server() as server:
        told = writer(server)
        told.write([brief(attempts=(Attempt("A red car.", "visual", "It names colours."),))], told.load())
        messages = server.bodies[0]["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert "It names colours." in messages[-1]["content"]


def test_drafts_come_in_the_order_of_their_briefs_whichever_is_answered_first() -> None:
    with llm_server(faults={"500": 0.5}, faulty=2) as server:
        drafts = asked(server, 40)
    assert [draft.caption for draft in drafts] == [f"The sound of dog {n} can be heard." for n in range(40)]


@pytest.mark.parametrize(
    ("fault", "field", "said"),
    [
        ("wrong_schema", "unreadable", "A dog barks"),
        ("length", "unreadable", "cut off after 300 tokens"),
        ("refusal", "abstained", "the model refused: I cannot help with that."),
        ("abstains", "abstained", "Nothing is certain."),
        ("content_filter", "error", "content filter"),
    ],
)
def test_what_is_no_caption_is_told_apart_and_paid_and_kept_but_not_repeated(fault: str, field: str, said: str) -> None:
    kept = Kept()
    with llm_server(script=[fault]) as server:
        told = writer(server, price_in=1.0)
        told.answered = kept
        (draft,) = told.write([brief()], told.load())
        assert server.requests == 1
    assert said in getattr(draft, field)
    assert len(getattr(draft, field)) <= 500
    assert "\n" not in getattr(draft, field)
    assert not draft.caption
    assert not draft.retryable
    assert draft.dollars > 0
    assert kept.rows == [("clip dog", draft)]


def test_a_caption_that_fails_checks_is_handed_on_as_it_is() -> None:
    with llm_server(script=["bad_caption"]) as server:
        assert asked(server)[0].caption == "The image shows a red car."


def test_halves_of_characters_do_no_harm() -> None:
    with llm_server(script=["odd"]) as server:
        assert asked(server)[0].caption == "A dog ? barks."


@pytest.mark.parametrize("fault", ["no_usage", "boasts"])
def test_tokens_are_estimated_where_the_server_counts_none(fault: str) -> None:
    with llm_server(script=[fault]) as server:
        (draft,) = asked(server, price_in=1.0, price_out=1.0)
        assert draft.tokens_in == prompt_tokens(server.bodies[0]["messages"])
    assert draft.tokens_out > 0
    assert draft.dollars > 0


def test_tokens_in_the_provider_s_cache_have_a_price_of_their_own() -> None:
    with llm_server(script=["cached"]) as server:
        (draft,) = asked(server, price_in=2.0, price_cached_in=0.5)
    cached = draft.tokens_in // 2
    assert draft.dollars == pytest.approx(((draft.tokens_in - cached) * 2 + cached * 0.5) / 1e6)


# Servers that know less.


@pytest.mark.parametrize(("accepts", "form"), [(("json_object", ""), "json_object"), (("",), "")])
def test_a_server_without_schemas_is_asked_for_less_and_only_finds_out_once(accepts: tuple, form: str) -> None:
    with llm_server(accepts=accepts, latency_s=0.01) as server:
        told = writer(server, in_flight=4)
        connection = told.load()
        assert all(draft.caption for draft in told.write([brief(n) for n in range(12)], connection))
        refused = server.requests - 12
        assert refused <= 4 * 2
        told.write([brief("later")], pickle.loads(pickle.dumps(told)).load())
        assert server.requests == 13 + refused
        assert server.bodies[-1].get("response_format", {}).get("type", "") == form


def test_a_form_that_the_row_demands_is_not_given_up() -> None:
    with llm_server(accepts=("",)) as server:
        (draft,) = asked(server, structured="schema")
    assert "response_format" in draft.error
    assert not draft.retryable


def test_the_limit_of_tokens_is_called_what_the_server_calls_it() -> None:
    with llm_server(token_limit="max_completion_tokens") as server:
        assert all(draft.caption for draft in asked(server, 3))
        assert server.bodies[-1]["max_completion_tokens"] == 300


# What goes wrong.

MENDED = ["408", "409", "429", "429_seconds", "429_ms", "429_date", "500", "503", "html"]
MENDED += ["reset", "half", "not_http", "garbage", "nested", "no_choices", "null_choices", "list"]
MENDED += ["endless", "endless_error"]


@pytest.mark.parametrize("fault", MENDED)
def test_what_passes_is_asked_again(fault: str) -> None:
    with llm_server(script=[fault, fault, ""]) as server:
        (draft,) = asked(server)
        assert server.requests == 3
    assert draft.caption


@pytest.mark.parametrize("fault", ["slow", "hang"])
def test_an_answer_that_does_not_come_is_cut_off(fault: str) -> None:
    with llm_server(script=[fault, ""]) as server:
        began = time.monotonic()
        (draft,) = asked(server, timeout_s=0.4)
    assert draft.caption
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("fault", ["429_seconds", "429_ms", "429_date"])
def test_the_server_s_wish_for_a_pause_is_everybody_s(fault: str) -> None:
    with llm_server(script=[fault], retry_after_s=2.0) as server:
        told = writer(server, in_flight=1)
        began = time.monotonic()
        drafts = told.write([brief(n) for n in range(3)], told.load())
        assert server.requests == 4
    assert all(draft.caption for draft in drafts)
    assert time.monotonic() - began > (0.9 if fault == "429_date" else 1.9)  # a date has whole seconds
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_a_clip_s_own_fault_is_its_alone_and_not_repeated(status: str) -> None:
    kept = Kept()
    with llm_server(script=["", status, ""]) as server:
        told = writer(server, in_flight=1)
        told.answered = kept
        drafts = told.write([brief(n) for n in range(3)], told.load())
        assert server.requests == 3
    (bad,) = [draft for draft in drafts if draft.error]
    assert f"HTTP {status}" in bad.error
    assert not bad.retryable
    assert len(kept.rows) == 3


@pytest.mark.parametrize(
    ("fault", "advice"),
    [("401", "check the key"), ("404", "check model"), ("quota", "exceeded your current quota")],
)
def test_what_would_go_wrong_for_all_stops_the_run_and_keeps_what_was_paid(fault: str, advice: str) -> None:
    kept = Kept()
    with llm_server(script=["", "", fault], latency_s=0.05) as server:
        told = writer(server, in_flight=2)
        told.answered = kept
        with pytest.raises(ModelError, match=advice):
            told.write([brief(n) for n in range(50)], told.load())
        assert server.requests <= 5
        assert len(kept.rows) == server.answered >= 2


def test_a_question_that_alone_is_forbidden_fails_its_clip_and_stops_nobody() -> None:
    with llm_server(script=["", "403"]) as server:
        drafts = (told := writer(server, in_flight=1)).write([brief(n) for n in range(6)], told.load())
    assert [bool(draft.caption) for draft in drafts] == [True, False, True, True, True, True]
    assert "403" in drafts[1].error
    assert not drafts[1].retryable


def test_an_answer_of_a_megabyte_of_nothing_is_read_at_once() -> None:
    for hostile in ("```" + "\n" * 1_000_000, "<think>" * 100_000, "{" * 1_000_000, "a" + "\u0301" * 500_000):
        started = time.monotonic()
        assert read_answer(hostile).unreadable
        assert time.monotonic() - started < 5


def test_requests_under_way_when_the_run_stops_are_still_read_and_kept() -> None:
    kept = Kept()
    with llm_server(script=["401"], latency_s=0.2) as server:
        told = writer(server, in_flight=8)
        told.answered = kept
        with pytest.raises(ModelError):
            told.write([brief(n) for n in range(50)], told.load())
        assert server.requests == 8
        assert len(kept.rows) == server.answered == 7


def test_a_question_that_the_server_never_takes_is_no_clip_s_fault() -> None:
    kept = Kept()
    with llm_server(faults={"400": 1.0}) as server:
        told = writer(server)
        told.answered = kept
        with pytest.raises(ModelError, match=r"all of the first 20 questions were refused.*image is not valid"):
            told.write([brief(n) for n in range(20)], told.load())
    assert not kept.rows


def test_an_answer_that_cannot_be_kept_stops_the_run() -> None:
    def full(answers: Sequence[tuple[Brief, Draft]]) -> None:
        raise OSError("no space left on device")

    with llm_server() as server:
        told = writer(server)
        told.answered = full  # type: ignore[assignment]
        with pytest.raises(OSError, match="no space"):
            told.write([brief(n) for n in range(5)], told.load())


def test_patience_ends_for_all_together_and_they_may_be_asked_next_time() -> None:
    kept = Kept()
    with llm_server(faults={"503": 1.0}) as server:
        told = writer(server, patience_s=1.0, in_flight=4)
        told.answered = kept
        began = time.monotonic()
        connection = told.load()
        for _ in range(5):
            drafts = told.write([brief(n) for n in range(40)], connection)
            assert all(draft.retryable and draft.error for draft in drafts)
        assert time.monotonic() - began < 5, "five batches wait no longer than one"
        assert "HTTP 503" in " ".join(draft.error for draft in drafts) or "answered nobody" in drafts[0].error
        assert not kept.rows
        server.faults = {}
        time.sleep(1.1)
        assert told.write([brief("later")], connection)[0].caption, "one that gets through ends it"
        assert all(draft.caption for draft in told.write([brief(n) for n in range(5)], connection))


def test_a_server_that_is_not_there_is_a_matter_of_patience() -> None:
    with llm_server() as server:
        pass
    (draft,) = asked(server, patience_s=0.5)
    assert draft.retryable
    assert "no answer within 0.5 s" in draft.error


def test_with_a_third_of_all_answers_gone_wrong_every_clip_still_ends_once() -> None:
    names = ["429_ms", "429", "500", "503", "reset", "half", "garbage", "endless", "no_choices", "slow"]
    faults = {name: 0.03 for name in names}
    kept = Kept()
    with llm_server(faults=faults, seed=7, latency_s=0.02) as server:
        told = writer(server, timeout_s=1.0, in_flight=32)
        told.answered = kept
        began = time.monotonic()
        drafts = told.write([brief(n) for n in range(300)], told.load())
        took = time.monotonic() - began
        assert server.requests > 380, "or the faults were none"
        assert server.peak <= 32
        assert server.answered == 300, "none was paid for twice"
        assert server.asked_of.keys() == {shown_cues(brief(n), HEADINGS) for n in range(300)}
    assert [draft.caption for draft in drafts] == [f"The sound of dog {n} can be heard." for n in range(300)]
    assert Counter(clip for clip, _ in kept.rows) == Counter(f"clip {n}" for n in range(300))
    assert threading.get_ident() not in kept.threads
    assert took < 60


# Limits and money.


def test_copies_in_several_threads_share_the_limit_of_requests() -> None:
    with llm_server(latency_s=0.05) as server:
        copies = [pickle.loads(pickle.dumps(writer(server, in_flight=5))) for _ in range(4)]
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda copy: copy.write([brief(n) for n in range(20)], copy.load()), copies))
        assert server.requests == 80
        assert server.peak == 5


def test_requests_per_minute_are_kept() -> None:
    with llm_server() as server:
        began = time.monotonic()
        asked(server, 11, requests_per_minute=600)
        assert 0.9 < time.monotonic() - began < 4


def test_nothing_is_asked_beyond_the_budget_and_the_rest_may_be_asked_next_time() -> None:
    kept = Kept()
    with llm_server() as server:
        told = writer(server, price_in=10.0, price_out=10.0, in_flight=2, budget_dollars=0.1)
        told.answered = kept
        connection = told.load()
        drafts = told.write([brief(n) for n in range(100)], connection)
        spent = sum(draft.dollars for draft in drafts)
        assert 0.08 < spent <= 0.1
        rest = [draft for draft in drafts if not draft.caption]
        assert {draft.error for draft in rest} == {"the budget of $0.1 is used up; the next run asks for the rest"}
        assert all(draft.retryable for draft in rest)
        assert server.requests == len(kept.rows) == 100 - len(rest)
        again = pickle.loads(pickle.dumps(told))
        later = again.write([brief(f"later {n}") for n in range(20)], again.load())
        assert spent + sum(draft.dollars for draft in later) <= 0.1, "a copy has no budget of its own"


# The row.


def test_the_fingerprint_follows_what_changes_the_answer_and_nothing_else() -> None:
    plain = ApiWriter(model="any").fingerprint()
    speed = {"base_url": "http://a/v1", "key_env": "B", "key_secret": "c", "in_flight": 3, "requests_per_minute": 5}
    speed |= {"tokens_per_minute": 9, "patience_s": 1, "timeout_s": 2, "price_in": 3, "price_out": 4, "mode": "batch"}
    speed |= {"price_cached_in": 1, "batch_size": 7, "budget_dollars": 1, "batch_discount": 0.1, "poll_s": 1}
    for name, value in speed.items():
        assert ApiWriter(model="any", **{name: value}).fingerprint() == plain, name
    for name, value in {"model": "b", "temperature": 1.0, "max_tokens": 9, "seed": 1, "structured": "none"}.items():
        assert ApiWriter(**{"model": "any", name: value}).fingerprint() != plain, name
    assert ApiWriter(model="any", extra_body={"top_p": 0.5}).fingerprint() != plain


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"base_url": "https://me:secret@host/v1"}, "more than an address"),
        ({"base_url": "ftp://host"}, "no http"),
        ({"in_flight": 0}, "in_flight"),
        ({"price_in": -1}, "price_in"),
        ({"price_in": float("nan")}, "price_in"),
        ({"patience_s": float("inf")}, "patience_s"),
        ({"batch_discount": 1.0}, "batch_discount"),
        ({"extra_body": {"stream": True}}, "stream"),
    ],
)
def test_a_row_that_cannot_work_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        ApiWriter(model="any", **fields)
    assert "secret" not in str(caught.value)


def test_where_answers_are_kept_goes_along_when_the_writer_is_sent_to_a_worker() -> None:
    told = ApiWriter(model="any")
    told.answered = Kept.__call__  # type: ignore[assignment]
    assert pickle.loads(pickle.dumps(told)).answered is Kept.__call__
