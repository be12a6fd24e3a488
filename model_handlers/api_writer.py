"""The caption writer that asks a language model over HTTP, by OpenAI's protocol, which most providers speak."""

from __future__ import annotations

import asyncio
import copy
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from apache_beam.metrics import Metrics
from pydantic import BaseModel

from model_handlers.llm import LanguageWriter, harmless
from model_handlers.pace import Budget, Dialect, Limits, NoAnswer, Pace, Provider, Then, persist, shared
from model_handlers.provider import Connection, Secret, read_key
from model_handlers.weights import ModelError
from model_handlers.writers import Brief, Draft, Kept

if TYPE_CHECKING:
    from model_handlers.provider_batches import Pending

_ALL_REFUSED = 5  # so many refusals, and no answer to anybody: the question is to blame, not the clips
_OWN_FIELDS = {
    *("messages", "model", "n", "stream", "max_tokens", "max_completion_tokens", "response_format"),
    *("temperature", "seed"),
}
_FORMS = ("schema", "json", "none")
_ABOUT_THE_FORM = re.compile(r"response_format|json_schema|json_object|structured", re.IGNORECASE)


@dataclass(kw_only=True)
class ApiWriter(LanguageWriter):
    """Asks a language model that is reached by OpenAI's protocol: a provider's, or one of vLLM, Ollama and their like.

    Attributes:
        base_url: where the protocol begins, usually at ``/v1``.
        key_env: the environment variable that holds the key on the machines that ask; empty where none is needed.
        key_secret: the key in Google's Secret Manager, ``projects/…/secrets/…/versions/…``; goes before `key_env`.
        batch_size: briefs at once; 0 for 256, or for 10,000 in batch mode, where they become one file.
        in_flight: requests at once, in a worker process.
        requests_per_minute: at most, in a worker process; 0 for no limit. With several processes, give each its share.
        tokens_per_minute: likewise.
        patience_s: for one answer, with all repetitions.
        timeout_s: for one request.
        price_in: dollars for a million tokens of prompt.
        price_out: dollars for a million tokens of answer.
        price_cached_in: dollars for a million tokens of prompt that the provider had in its cache; `price_in` where
            not given.
        mode: ``requests``, or ``batch`` for the protocol of files that are answered within a day at a lower price.
        batch_discount: what is taken off the price in batches, as a share.
        poll_s: between the first two looks at a batch; later ones are up to 12 times as far apart.
        structured: how an answer's form is demanded: ``schema``, ``json``, ``none``, or ``auto`` for the first of them
            that the server takes.
        seed: for servers that know one.
        extra_body: further fields of each request, such as ``reasoning_effort``.
    """

    batch_size: int = 0
    base_url: str = "https://api.openai.com/v1"
    key_env: str = "OPENAI_API_KEY"
    key_secret: str = ""
    in_flight: int = 32
    requests_per_minute: float = 0
    tokens_per_minute: float = 0
    patience_s: float = 300
    timeout_s: float = 60
    price_in: float = 0
    price_out: float = 0
    price_cached_in: float | None = None
    mode: Literal["requests", "batch"] = "requests"
    batch_discount: float = 0.5
    poll_s: float = 10
    structured: Literal["auto", "schema", "json", "none"] = "auto"
    seed: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    keeps_itself = True
    _speed_only = LanguageWriter._speed_only | {
        *("base_url", "key_env", "key_secret", "in_flight", "requests_per_minute", "tokens_per_minute", "patience_s"),
        *("timeout_s", "price_in", "price_out", "price_cached_in", "mode", "batch_discount", "poll_s"),
    }

    def __post_init__(self) -> None:
        self.batch_size = self.batch_size or (10_000 if self.mode == "batch" else 256)
        super().__post_init__()
        self.pending: Pending | None = None  # a run's: which batches are not collected yet
        place = urlsplit(self.base_url)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise ValueError("base_url is no http or https address")
        if place.username or place.password or place.query:
            raise ValueError("base_url holds more than an address; keys go into an environment variable (key_env)")
        for name in ("in_flight", "patience_s", "timeout_s", "poll_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be above 0")
        for name in ("requests_per_minute", "tokens_per_minute", "price_in", "price_out", "price_cached_in"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it has to be a number from 0 up")
        if not 0 <= self.batch_discount < 1:
            raise ValueError(f"batch_discount is {self.batch_discount}; it has to be from 0 to below 1")
        if taken := _OWN_FIELDS & self.extra_body.keys():
            raise ValueError(f"extra_body cannot set {', '.join(sorted(taken))}")

    def for_run(self, run: str, answered: Kept, folder: str) -> Self:
        from model_handlers.provider_batches import PendingBatches

        writer = super().for_run(run, answered, folder)
        writer.pending = PendingBatches(folder) if folder else None
        return writer

    @property
    def priced(self) -> bool:
        return self.price_in > 0 and self.price_out > 0

    def load(self) -> Connection:
        """Reads the key and gets ready to ask. Raises `weights.ModelError` where there is no key."""
        limits = Limits(self.in_flight, self.requests_per_minute, self.tokens_per_minute, self.patience_s)
        form = "schema" if self.structured == "auto" else self.structured
        same = (self.run, self.base_url, self.model, limits, self.structured)
        pace, dialect, answered = shared(same, lambda: (Pace(limits), Dialect(form), set[str]()))
        provider = Provider(pace, dialect, shared(("budget", self.run, self.base_url), Budget), answered)
        try:
            return Connection(self.base_url, read_key(self.key_env, self.key_secret), provider)
        except ModelError as error:
            raise ModelError(f"model {self.model!r} at {self.base_url}: {error}") from None

    def write(self, briefs: Sequence[Brief], model: Connection) -> list[Draft]:
        """Asks for all of them at once, and returns when each has been answered or given up.

        Raises:
            weights.ModelError: what went wrong would go wrong for all clips. What was answered has been kept.
        """
        from model_handlers.provider_batches import under_way, write_in_batches

        if self.mode == "batch":
            return write_in_batches(self, briefs, model)
        if not (paid := under_way(self, briefs)):
            return self._asked(briefs, model)
        as_batch = copy.copy(self)  # an earlier run asked these by a batch, which is waited for and not paid for twice
        as_batch.mode = "batch"
        collected = dict(zip(paid, write_in_batches(as_batch, [briefs[n] for n in paid], model), strict=True))
        others = [n for n in range(len(briefs)) if n not in collected]
        asked = self._asked([briefs[n] for n in others], model)
        return [draft for _, draft in sorted({**collected, **dict(zip(others, asked, strict=True))}.items())]

    def _asked(self, briefs: Sequence[Brief], model: Connection) -> list[Draft]:
        try:
            return model.wait_for(_Asking(self, model).all(briefs))
        finally:  # counted here, because Beam knows nothing of the thread that asks
            again = model.provider.pace.newly_repeated()
            Metrics.counter(self.get_metrics_namespace(), "requests_repeated").inc(again)

    def question(self, brief: Brief, dialect: Dialect) -> dict[str, Any]:
        """The body of the request that asks for a clip's caption."""
        return self.body(self.conversation(brief), dialect)

    def body(self, messages: Sequence[Mapping[str, str]], dialect: Dialect) -> dict[str, Any]:
        """The body of the request that sends `messages`."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
            dialect.token_limit: self.max_tokens,
            **self.extra_body,
        }
        if self.seed is not None:
            body["seed"] = self.seed
        if dialect.form != "none":
            body["response_format"] = _response_format(self.form, dialect.form)
        return body

    def adapts(self, dialect: Dialect, asked: Mapping[str, Any], error: NoAnswer) -> bool:
        """Whether a refused question is worth asking again in another form, because the server does not know this one.

        What is found out is noted in `dialect`, for all that follow.
        """
        if error.status not in (400, 422):
            return False
        if "max_completion_tokens" in str(error) and "max_tokens" in asked:
            dialect.token_limit = "max_completion_tokens"
            return True
        if self.structured != "auto" or not _ABOUT_THE_FORM.search(str(error)) or "response_format" not in asked:
            return False
        refused = "schema" if asked["response_format"]["type"] == "json_schema" else "json"
        if dialect.form == refused:  # else another request has found out meanwhile
            dialect.form = _FORMS[_FORMS.index(refused) + 1]
        return True

    def read(self, answer: Any, asked: Mapping[str, Any], secret: Secret) -> Draft:
        """Reads a chat completion. Raises `NoAnswer` where it is none."""
        try:
            choice = answer["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason")
            content, refusal = (_text(message.get(name)) for name in ("content", "refusal"))
            usage = answer.get("usage") or {}
        except (TypeError, LookupError, AttributeError):
            raise NoAnswer("the server's answer is no chat completion") from None
        draft = self._priced(usage, asked, content)
        if refusal:
            return replace(draft, abstained=f"the model refused: {harmless(secret.hidden_in(refusal))}"[:500])
        if finish == "content_filter":
            return replace(draft, error="the provider's content filter held the answer back")
        if finish == "length":
            cut = harmless(secret.hidden_in(content))
            return replace(draft, unreadable=f"(cut off after {self.max_tokens} tokens) {cut}"[:500])
        found = self.read_text(secret.hidden_in(content))
        return replace(found, tokens_in=draft.tokens_in, tokens_out=draft.tokens_out, dollars=draft.dollars)

    def _priced(self, usage: Any, asked: Mapping[str, Any], content: str) -> Draft:
        tokens_in, tokens_out = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        cached = _count(usage.get("prompt_tokens_details"), "cached_tokens") if isinstance(usage, dict) else None
        tokens_in = prompt_tokens(asked["messages"]) if tokens_in is None else tokens_in
        tokens_out = len(content) // 3 if tokens_out is None else tokens_out
        dollars = self.dollars(tokens_in, min(cached or 0, tokens_in), tokens_out)
        return Draft(tokens_in=tokens_in, tokens_out=tokens_out, dollars=dollars)

    def dollars(self, tokens_in: int, cached: int, tokens_out: int) -> float:
        """What an answer costs, of whose prompt so many tokens were in the provider's cache."""
        for_cached = self.price_in if self.price_cached_in is None else self.price_cached_in
        price = (tokens_in - cached) * self.price_in + cached * for_cached + tokens_out * self.price_out
        return price / 1e6 * (1 - self.batch_discount if self.mode == "batch" else 1)

    def over_budget(self) -> Draft:
        """What becomes of a brief for which there is no money left."""
        said = f"the budget of ${self.budget_dollars:g} is used up; the next run asks for the rest"
        return Draft(error=said, retryable=True)

    def cannot_go_on(self, error: NoAnswer) -> ModelError:
        """The error that stops a run, with what to do."""
        advice = {
            401: f"check the key in {self.key_secret or self.key_env or 'key_env'}",
            403: "check what the key is allowed to do",
            404: "check model and base_url",
        }.get(error.status, "check the row, and the account at the provider")
        return ModelError(f"model {self.model!r} at {self.base_url}: {error}; {advice}")


class _OverBudget(Exception):
    """There is no money left."""


class _Asking:
    """One call of `ApiWriter.write`."""

    def __init__(self, writer: ApiWriter, connection: Connection):
        self.writer, self.connection, self.provider = writer, connection, connection.provider
        self.stopped: Exception | None = None
        self.refused: list[tuple[Brief, Draft]] = []
        self.unkept: list[tuple[Brief, Draft]] = []
        self.keeping = asyncio.Lock()

    async def all(self, briefs: Sequence[Brief]) -> list[Draft]:
        drafts: dict[int, Draft] = {}
        left = iter(enumerate(briefs))

        async def one_after_the_other() -> None:
            for number, brief in left:
                drafts[number] = await self._one(brief)

        at_once = 2 * self.writer.in_flight  # more than have places: some wait to be asked again
        await asyncio.gather(*(one_after_the_other() for _ in range(min(at_once, len(briefs)))))
        check_refusals(self.writer, self.refused, len(briefs), self.provider)
        for brief, draft in self.refused:
            await self._keep(brief, draft)
        if self.stopped:
            raise self.stopped
        return [drafts[number] for number in range(len(briefs))]

    async def _one(self, brief: Brief) -> Draft:
        """One brief's draft. Whatever stops the run is noted, so that those under way still end, and are kept."""
        try:
            return await self._drafted(brief)
        except NoAnswer as error:
            self.stopped = self.stopped or self.writer.cannot_go_on(error)
        except Exception as error:  # raised again by `all`
            self.stopped = self.stopped or error
        return Draft(error="the run was stopped", retryable=True)

    async def _drafted(self, brief: Brief) -> Draft:
        pace, messages = self.provider.pace, self.writer.conversation(brief)
        tokens = prompt_tokens(messages)
        most = self.writer.dollars(tokens, 0, self.writer.max_tokens)
        started = reserved = spent = 0.0

        async def ask(left_s: float) -> Draft:
            nonlocal started, reserved
            started = started or pace.clock()
            if self.stopped:
                raise self.stopped
            if not reserved:
                if not self.provider.budget.reserve(most, self.writer.budget_dollars):
                    raise _OverBudget
                reserved = most
            answer = replace(await self._answer(messages, left_s), seconds=pace.clock() - started)
            await self._keep(brief, answer)  # before another request takes this one's place
            return answer

        try:
            draft = await persist(ask, pace, tokens + self.writer.max_tokens)
            self.provider.answered.add(self.writer.task)
            spent = draft.dollars
        except _OverBudget:
            return self.writer.over_budget()
        except NoAnswer as error:
            if error.then is Then.RUN:
                raise
            draft = Draft(error=str(error))
            if error.then is Then.CLIP:
                self.refused.append((brief, draft))
                return draft
            said = f"no answer within {pace.limits.patience_s:g} s; at last: {error}"
            return Draft(error=said, retryable=True)
        finally:
            self.provider.budget.settle(reserved, spent)
        return draft

    async def _answer(self, messages: Sequence[Mapping[str, str]], left_s: float) -> Draft:
        """One request; more only where the server does not know the form of the question."""
        while True:
            asked = self.writer.body(messages, self.provider.dialect)
            try:
                answer = await self.connection.post(asked, min(self.writer.timeout_s, left_s))
                return self.writer.read(answer, asked, self.connection.secret)
            except NoAnswer as error:
                if not self.writer.adapts(self.provider.dialect, asked, error):
                    raise

    async def _keep(self, brief: Brief, draft: Draft) -> None:
        """Returns when an answer is kept. Those that come while others are being kept go to the disk together."""
        self.unkept.append((brief, draft))
        async with self.keeping:
            unkept, self.unkept = self.unkept, []
            if unkept and self.writer.answered:
                await asyncio.to_thread(self.writer.answered, unkept)


def check_refusals(writer: ApiWriter, refused: Sequence[tuple[Brief, Draft]], asked: int, provider: Provider) -> None:
    """Raises `ModelError` where all were refused and none of the task was ever answered: then no clip is to blame."""
    if len(refused) == asked >= _ALL_REFUSED and writer.task not in provider.answered:
        said = NoAnswer(f"all of the first {asked} questions were refused, the last with {refused[-1][1].error}")
        raise writer.cannot_go_on(said)


def prompt_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """An estimate of a question's tokens, rather too high: a token of English is about four characters."""
    return sum(len(message["content"]) for message in messages) // 3 + 1


def _text(found: Any) -> str:
    """Text without halves of characters, which JSON can hold and UTF-8 cannot."""
    return str(found or "").encode("utf-8", "replace").decode()


def _count(found: Any, name: str) -> int | None:
    count = found.get(name) if isinstance(found, dict) else None
    return count if isinstance(count, int) and 0 <= count < 10**9 else None


def _plain_schema(part: Any) -> Any:
    """A JSON schema without what OpenAI's strict mode refuses: limits of length, titles and descriptions."""
    if isinstance(part, dict):
        left_out = ("maxItems", "maxLength", "title", "description")
        return {name: _plain_schema(value) for name, value in part.items() if name not in left_out}
    return [_plain_schema(value) for value in part] if isinstance(part, list) else part


@lru_cache(maxsize=8)
def _response_format(form: type[BaseModel], how: str) -> dict[str, Any]:
    """The field of a request that demands an answer's form."""
    if how == "json":
        return {"type": "json_object"}
    schema = {"name": "answer", "strict": True, "schema": _plain_schema(form.model_json_schema())}
    return {"type": "json_schema", "json_schema": schema}
