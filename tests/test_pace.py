"""How requests are paced and repeated, on a clock that nobody has to wait for."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import pytest

from model_handlers.pace import (
    POLICY,
    Budget,
    Limits,
    NoAnswer,
    Pace,
    Then,
    backoff_s,
    persist,
    shared,
    wait_asked_for,
    what_then,
)


class FakeTime:
    """A clock that moves on when everybody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future]] = []
        self._count = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, future))
        await future

    def run(self, work: Coroutine) -> Any:
        async def drive() -> Any:
            task = asyncio.ensure_future(work)
            while not task.done():
                for _ in range(200):
                    await asyncio.sleep(0)
                if not task.done():
                    assert self._sleepers, "everybody waits for nothing"
                    due, _, future = heapq.heappop(self._sleepers)
                    self.now = max(self.now, due)
                    future.set_result(None)
            return task.result()

        return asyncio.run(drive())


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def paced(time: FakeTime, **limits: float) -> Pace:
    return Pace(Limits(**limits), time.clock, time.sleep)  # type: ignore[arg-type]


def starts(time: FakeTime, pace: Pace, count: int, tokens: int = 1, takes_s: float = 0.0) -> list[float]:
    """When each of `count` requests, all wanted at once, begins."""
    begun: list[float] = []

    async def one() -> None:
        async with pace.turn(tokens):
            begun.append(time.now)
            if takes_s:
                await time.sleep(takes_s)

    async def everyone() -> None:
        await asyncio.gather(*(one() for _ in range(count)))

    time.run(everyone())
    return [at - 1000.0 for at in begun]


def most_in(window: float, begun: list[float]) -> int:
    return max(sum(start <= at < start + window for at in begun) for start in begun)


def test_without_limits_all_begin_at_once(time: FakeTime) -> None:
    assert set(starts(time, paced(time, in_flight=50), 50)) == {0.0}


def test_no_more_requests_are_under_way_than_allowed(time: FakeTime) -> None:
    begun = starts(time, paced(time, in_flight=4), 12, takes_s=10)
    assert begun == [0.0] * 4 + [10.0] * 4 + [20.0] * 4


def test_requests_per_minute_hold_in_every_minute_and_are_used_up(time: FakeTime) -> None:
    begun = starts(time, paced(time, requests_per_minute=30), 90)
    assert most_in(59.9, begun) <= 30
    assert begun[-1] == pytest.approx(89 * 2, abs=0.2)


def test_tokens_per_minute_hold_in_every_minute(time: FakeTime) -> None:
    begun = starts(time, paced(time, tokens_per_minute=6000), 30, tokens=500)
    assert most_in(59.9, begun) * 500 <= 6000
    assert begun[-1] == pytest.approx(29 * 5, abs=0.2)


def test_time_in_which_nobody_asked_is_not_saved_up(time: FakeTime) -> None:
    pace = paced(time, requests_per_minute=60)
    starts(time, pace, 1)
    time.now += 3600
    begun = starts(time, pace, 10)
    assert begun[-1] - begun[0] >= 8.9


def test_a_pause_holds_for_everybody(time: FakeTime) -> None:
    pace = paced(time)
    pace.pause(7)
    assert starts(time, pace, 5) == [7.0] * 5


def test_a_pause_is_no_longer_than_anybody_s_patience(time: FakeTime) -> None:
    pace = paced(time, patience_s=20)
    pace.pause(86_400)
    assert starts(time, pace, 1) == [20.0]


def failing(error: NoAnswer, times: int, asked: list[float], time: FakeTime) -> Callable[[float], Any]:
    async def ask(left_s: float) -> str:
        asked.append(time.now - 1000.0)
        if len(asked) <= times:
            raise error
        return "answer"

    return ask


def test_a_request_is_repeated_with_growing_pauses_until_it_is_answered(time: FakeTime) -> None:
    asked: list[float] = []
    ask = failing(NoAnswer("no"), 4, asked, time)
    assert time.run(persist(ask, paced(time), 1, drawn=lambda: 1.0)) == "answer"
    assert asked == [0.0, 0.5, 1.5, 3.5, 7.5]


def test_what_the_provider_asks_for_goes_before_our_own_pauses(time: FakeTime) -> None:
    asked: list[float] = []
    time.run(persist(failing(NoAnswer("no", wait_s=11), 2, asked, time), paced(time), 1))
    assert asked == [0.0, 11.0, 22.0]


def test_too_many_requests_pause_everybody(time: FakeTime) -> None:
    pace, asked = paced(time, in_flight=1), []
    limited = failing(NoAnswer("429", Then.PAUSE, wait_s=9), 1, asked, time)
    others: list[float] = []

    async def both() -> None:
        await asyncio.gather(persist(limited, pace, 1), persist(failing(NoAnswer(""), 0, others, time), pace, 1))

    time.run(both())
    assert others == [9.0]


@pytest.mark.parametrize("then", [Then.CLIP, Then.RUN])
def test_what_no_repetition_mends_is_not_repeated(time: FakeTime, then: Then) -> None:
    asked: list[float] = []
    with pytest.raises(NoAnswer):
        time.run(persist(failing(NoAnswer("no", then), 9, asked, time), paced(time), 1))
    assert len(asked) == 1


def test_patience_ends(time: FakeTime) -> None:
    asked: list[float] = []
    with pytest.raises(NoAnswer, match="no"):
        time.run(persist(failing(NoAnswer("no"), 10**6, asked, time), paced(time, patience_s=100), 1))
    assert asked[-1] < 100
    assert len(asked) < 60


def test_a_wait_beyond_patience_is_not_begun(time: FakeTime) -> None:
    asked: list[float] = []
    with pytest.raises(NoAnswer):
        time.run(persist(failing(NoAnswer("no", wait_s=101), 9, asked, time), paced(time, patience_s=100), 1))
    assert time.now == 1000.0


def test_waiting_for_ones_turn_costs_no_patience(time: FakeTime) -> None:
    pace = paced(time, requests_per_minute=1, patience_s=10)
    asked: list[float] = []

    async def everyone() -> list[str]:
        return await asyncio.gather(*(persist(failing(NoAnswer(""), 0, asked, time), pace, 1) for _ in range(5)))

    assert time.run(everyone()) == ["answer"] * 5
    assert asked == pytest.approx([0, 60, 120, 180, 240], abs=0.1)


def test_while_the_provider_is_down_only_one_asks_in_so_long(time: FakeTime) -> None:
    pace, asked = paced(time, in_flight=4, patience_s=100), []
    ask = failing(NoAnswer("no"), 10**6, asked, time)

    async def batch() -> list[BaseException]:
        return await asyncio.gather(*(persist(ask, pace, 1) for _ in range(50)), return_exceptions=True)

    for error in time.run(batch()):
        assert isinstance(error, NoAnswer)
    assert time.now - 1000 < 202, "a second time of patience, for those whose turn came late, is the most"
    time.now = 1100.0  # the last gave up when its next pause would have gone beyond this
    before, began = len(asked), time.now
    for _ in range(20):
        time.run(batch())
    assert time.now == began, "twenty more batches cost no time"
    assert len(asked) - before <= 1


def test_one_answer_ends_an_outage(time: FakeTime) -> None:
    pace, asked = paced(time, patience_s=100), []
    with pytest.raises(NoAnswer):
        time.run(persist(failing(NoAnswer("no"), 10**6, asked, time), pace, 1))
    time.now += 200
    assert pace.down
    assert time.run(persist(failing(NoAnswer(""), 0, [], time), pace, 1)) == "answer"
    assert not pace.down
    assert pace.may_try()


def test_the_policy_by_status() -> None:
    assert {status for status, then in POLICY.items() if then is Then.CLIP} == {400, 413, 422}
    for status in (500, 502, 503, 504, 529):
        assert what_then(status) is Then.AGAIN
    for status in (401, 402, 403, 404, 405, 301):
        assert what_then(status) is Then.RUN
    assert what_then(429, "rate_limit_exceeded") is Then.PAUSE
    assert what_then(429, "insufficient_quota") is Then.RUN


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "60"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "4"}, 4.0),
        ({"retry-after": formatdate(1_000_030, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(999_000, usegmt=True)}, 0.0),
        ({}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Mon, 99 Foo 2026"}, None),
    ],
)
def test_how_long_a_reply_asks_to_wait(headers: dict[str, str], wait: float | None) -> None:
    assert wait_asked_for(headers, now=1_000_000) == wait


def test_pauses_grow_to_a_limit_and_are_drawn_from_the_whole_range() -> None:
    assert [backoff_s(n, lambda: 1.0) for n in (1, 2, 3, 7, 50)] == [0.5, 1.0, 2.0, 30.0, 30.0]
    assert backoff_s(9, lambda: 0.0) == 0.0


def test_a_budget_counts_what_is_under_way() -> None:
    budget = Budget()
    assert budget.reserve(0.6, 1.0)
    assert not budget.reserve(0.6, 1.0)
    budget.settle(0.6, 0.1)
    assert budget.reserve(0.6, 1.0)
    budget.settle(0.6, 0.5)
    assert budget.spent == pytest.approx(0.6)
    assert not budget.reserve(0.6, 1.0)
    assert budget.reserve(0.6, None), "no budget, no limit"


def test_there_is_one_of_what_is_shared() -> None:
    assert shared(("a", 1), object) is shared(("a", 1), object)
    assert shared(("a", 1), object) is not shared(("a", 2), object)
