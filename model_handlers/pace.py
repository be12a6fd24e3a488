"""How often, how fast and for how much a provider is asked; what is done when no answer comes.

Everything here is asked for by one event loop, except `Budget` and `shared`, which any thread may use.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import Enum
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

BACKOFF_S, BACKOFF_MOST_S = 0.5, 30.0
_SLACK_S = 0.05  # how much of a turn that came late is made up for: a sleep's inaccuracy, and no more


class Then(Enum):
    """What is done about a request that got no answer."""

    AGAIN = "it is asked again, after a while"
    PAUSE = "it is asked again, after a while in which nothing else is asked either"
    CLIP = "the clip fails: it would go wrong again"
    RUN = "the run stops: all others would go wrong as well"


# The whole policy. What is no status (a time limit, a lost connection, half a body, no completion) is AGAIN.
POLICY: Mapping[int, Then] = {
    400: Then.CLIP,  # bad request
    408: Then.AGAIN,  # request timeout
    409: Then.AGAIN,  # conflict
    413: Then.CLIP,  # too large
    422: Then.CLIP,  # unprocessable
    425: Then.AGAIN,  # too early
    429: Then.PAUSE,  # too many requests
}
_SERVER_ERRORS, _OTHERS = Then.AGAIN, Then.RUN  # 5xx; 401, 402, 403, 404 and whatever else
_ABOUT_ONE = frozenset({403, 451})  # some gateways refuse a question so: where others are answered, it is the clip
_NO_MONEY = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})  # they come as 429


class NoAnswer(Exception):
    """A request that got no answer.

    Attributes:
        then: what is done about it.
        wait_s: how long the provider wants to be left alone; ``None`` where it did not say.
        status: of the reply; 0 where there was none.
    """

    def __init__(self, message: str, then: Then = Then.AGAIN, wait_s: float | None = None, status: int = 0):
        super().__init__(message)
        self.then, self.wait_s, self.status = then, wait_s, status


def what_then(status: int, code: str = "") -> Then:
    """What is done about a reply with an error's status and OpenAI's code for it."""
    if code in _NO_MONEY:
        return Then.RUN
    return POLICY.get(status, _SERVER_ERRORS if status >= 500 else _OTHERS)


def wait_asked_for(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that a reply's headers ask to wait: ``retry-after-ms``, ``Retry-After`` in seconds or as a date.

    Args:
        headers: of the reply; the mapping must not mind capitals.
        now: seconds since 1970; the clock's where it is ``None``.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if 0 <= wait < float("inf"):
            return wait
    try:
        until = parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, until - (time.time() if now is None else now))


def backoff_s(attempt: int, drawn: Callable[[], float] = random.random) -> float:
    """Seconds to wait after attempt `attempt` (from 1): anything up to twice as many as last time ("full jitter")."""
    return drawn() * min(BACKOFF_MOST_S, BACKOFF_S * 2 ** min(attempt - 1, 20))


@dataclass(frozen=True)
class Limits:
    """How hard a provider may be asked; 0: no limit.

    Attributes:
        in_flight: requests at once.
        requests_per_minute: evenly spread, as providers count over parts of a minute as well.
        tokens_per_minute: likewise, of prompts and of what answers may have, which is how they are counted.
        patience_s: without any answer to anybody, after which the provider counts as down.
    """

    in_flight: int = 32
    requests_per_minute: float = 0
    tokens_per_minute: float = 0
    patience_s: float = 300


class Pace:
    """Turns at a provider, shared by all that ask it."""

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ):
        self.limits, self.clock, self.sleep = limits, clock, sleep
        self.answers = self.repeated = self._told = 0
        self._places, self._turn = asyncio.Semaphore(limits.in_flight), asyncio.Lock()
        self._paused_until = self._next_request = self._next_tokens = float("-inf")
        self._failing_since: float | None = None
        self._probed_at = float("-inf")

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[None]:
        """Waits until one more request of `tokens` may be made, and counts it as under way within."""
        async with self._places:
            async with self._turn:
                while (wait := max(self._paused_until, self._next_request, self._next_tokens) - self.clock()) > 0:
                    await self.sleep(wait)
                self._next_request = self._after(self._next_request, 1, self.limits.requests_per_minute)
                self._next_tokens = self._after(self._next_tokens, tokens, self.limits.tokens_per_minute)
            yield

    def _after(self, due: float, count: float, per_minute: float) -> float:
        return max(due, self.clock() - _SLACK_S) + count * 60 / per_minute if per_minute else due

    def pause(self, seconds: float) -> None:
        """Nobody is given a turn for so long, at most `patience_s`."""
        self._paused_until = max(self._paused_until, self.clock() + min(seconds, self.limits.patience_s))

    def newly_repeated(self) -> int:
        """How many requests have been made again since this was last asked, by whichever thread."""
        with _lock:
            found, self._told = self.repeated - self._told, self.repeated
        return found

    def answered(self) -> None:
        """Notes that somebody got an answer."""
        self.answers += 1
        self._failing_since = None

    def failed(self) -> None:
        """Notes that somebody got none, through nobody's fault but the provider's."""
        if self._failing_since is None:
            self._failing_since = self.clock()

    @property
    def down(self) -> bool:
        """Whether nobody has got an answer for `patience_s`, though somebody asked."""
        return self._failing_since is not None and self.clock() - self._failing_since >= self.limits.patience_s

    def may_try(self) -> bool:
        """Whether there is any use in asking: while the provider is down, once in `patience_s`."""
        if not self.down:
            return True
        if self.clock() - self._probed_at < self.limits.patience_s:
            return False
        self._probed_at = self.clock()
        return True


async def persist(
    ask: Callable[[float], Awaitable[T]], pace: Pace, tokens: int, drawn: Callable[[], float] = random.random
) -> T:
    """Asks until there is an answer, following `POLICY`, for `patience_s` from the first request on.

    Args:
        ask: makes one request, within so many seconds; raises `NoAnswer`.
        pace: the provider's.
        tokens: of one request.
        drawn: a number from 0 to 1, for the jitter.

    Raises:
        NoAnswer: the last, where another attempt is of no use (`Then.CLIP`, `Then.RUN`), or the time is up.
    """
    deadline = last = None
    for attempt in count(1):
        async with pace.turn(tokens):
            if deadline is None:
                deadline = pace.clock() + pace.limits.patience_s
                if not pace.may_try():
                    raise NoAnswer(f"the provider has answered nobody for {pace.limits.patience_s:g} s")
            elif last and pace.clock() >= deadline:
                raise last
            try:
                answer = await ask(deadline - pace.clock())
                pace.answered()
                return answer
            except NoAnswer as error:
                last = error
                if last.then is Then.RUN and last.status in _ABOUT_ONE and pace.answers:
                    last.then = Then.CLIP
                if last.then in (Then.CLIP, Then.RUN):
                    raise
                pace.failed()
                wait = backoff_s(attempt, drawn) if last.wait_s is None else last.wait_s
                if last.then is Then.PAUSE:
                    pace.pause(wait)
                if pace.down or pace.clock() + wait >= deadline:
                    raise
        pace.repeated += 1
        await pace.sleep(wait)
    raise AssertionError("there is always another number")


class Budget:
    """What may be spent, what has been, and what answers under way may cost. In dollars."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._reserved = 0.0
        self._lock = threading.Lock()

    def reserve(self, dollars: float, most: float | None) -> bool:
        """Sets `dollars` aside, if what is spent and set aside stays within `most`; says whether it did."""
        with self._lock:
            fits = most is None or self.spent + self._reserved + dollars <= most
            if fits:
                self._reserved += dollars
            return fits

    def settle(self, reserved: float, spent: float) -> None:
        """Gives back what was set aside, and counts what it really was."""
        with self._lock:
            self._reserved = max(0.0, self._reserved - reserved)
            self.spent += spent


@dataclass
class Dialect:
    """What a server turned out to understand, so that it is found out once in a process."""

    form: str
    token_limit: str = "max_tokens"


@dataclass
class Provider:
    """What those who ask the same provider in one process share; the budget is a run's.

    Attributes:
        pace: how often it is asked.
        dialect: in what form.
        budget: for what money.
        answered: the tasks of writers that it has answered: one may be refused where the other is not.
    """

    pace: Pace
    dialect: Dialect
    budget: Budget
    answered: set[str] = field(default_factory=set)


_shared: dict[Hashable, Any] = {}
_lock = threading.Lock()


def shared(key: Hashable, make: Callable[[], T]) -> T:
    """This process's only object for `key`, made when it is first asked for."""
    with _lock:
        if key not in _shared:
            _shared[key] = make()
        return _shared[key]


def event_loop() -> asyncio.AbstractEventLoop:
    """This process's event loop for requests, in a thread of its own."""

    def begin() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="requests", daemon=True).start()
        return loop

    return shared("event loop", begin)
