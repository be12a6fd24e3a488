"""A provider of language models as one process sees it: the connection to it, and the key, which stays secret."""

from __future__ import annotations

import asyncio
import json
import os
import re
import weakref
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from model_handlers.llm import harmless
from model_handlers.pace import NoAnswer, Provider, event_loop, wait_asked_for, what_then
from model_handlers.weights import ModelError

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

MOST_BYTES = 1_000_000  # of a response; a caption's is about a thousand
_KEY_LIKE = re.compile(r"\bsk-[^\s\"',;]+|[^\s\"',;]*\*{3,}[^\s\"',;]*")


class Secret:
    """A key, which shows itself to nobody by accident: not printed, not pickled, and taken out of messages."""

    def __init__(self, value: str):
        self._value = value

    def headers(self) -> dict[str, str]:
        """The header that shows the key to the server."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def reveal(self) -> str:
        """The key itself."""
        return self._value

    def hidden_in(self, text: str) -> str:
        """`text` without the key. One of fewer than 8 characters is a dummy, and a word like others."""
        return text.replace(self._value, "(key)") if len(self._value) >= 8 else text

    def scrub(self, text: str) -> str:
        """`text` without the key, anything like one, and shortened ones such as ``ab12****``."""
        return _KEY_LIKE.sub("(key)", self.hidden_in(text))

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> Any:
        raise TypeError("a key is not pickled; each process reads it for itself")


def read_key(variable: str, secret: str) -> Secret:
    """Reads a key from Secret Manager where `secret` names one, else from an environment variable, if that is named.

    Raises:
        weights.ModelError: there is none.
    """
    key = read_secret(secret) if secret else os.environ.get(variable, "").strip() if variable else ""
    if variable and not key:
        raise ModelError(
            f"it needs a key, and the environment variable {variable} is empty here; set it on the machines that ask, "
            'name a key_secret, or say key_env = "" where no key is needed'
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ModelError(f"the key in {secret or variable} holds what no key holds; was it copied in full?")
    return Secret(key)


class Connection:
    """A provider, and the key to it, in one process."""

    def __init__(self, base_url: str, secret: Secret, provider: Provider):
        self.base_url, self.secret, self.provider = base_url, secret, provider
        self._url = base_url.rstrip("/") + "/chat/completions"
        self._loop = event_loop()
        self._session = self.wait_for(_session(self._url, secret))
        weakref.finalize(self, _close, self._session, self._loop)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine where requests are made, and waits for what it returns."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def post(self, body: Mapping[str, Any], timeout_s: float) -> Any:
        """Asks for one chat completion. Raises `NoAnswer`, never with the key in its message."""
        import aiohttp

        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.post(self._url, data=json.dumps(body).encode(), allow_redirects=False) as reply,
            ):
                content = await _body(reply)
                if reply.status == 200:
                    return json.loads(content)
                raise refusal(reply.status, content, reply.headers, self.secret)
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:.3g} s") from None
        except (ValueError, RecursionError):
            raise NoAnswer("the server's answer is no JSON") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(
                self.secret.scrub(f"{type(error).__name__}: {harmless(self.secret.hidden_in(str(error)))}")
            ) from None


async def _session(url: str, secret: Secret) -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # `Limits.in_flight` limits
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Content-Type": "application/json", "Accept-Encoding": "identity", **secret.headers()},
        timeout=aiohttp.ClientTimeout(total=None),  # `timeout_s` limits
        proxy=_proxy(url),
    )


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address; looked up once, as aiohttp does it for each request."""
    place = urlsplit(url)
    return None if proxy_bypass(place.hostname or "") else getproxies().get(place.scheme)


def _close(session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop) -> None:
    asyncio.run_coroutine_threadsafe(session.close(), loop)


async def _body(reply: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in reply.content.iter_chunked(1 << 16):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            reply.close()
            raise NoAnswer(f"the server's answer is longer than {MOST_BYTES:,} bytes")
    return b"".join(parts)


def refusal(status: int, content: bytes | str, headers: Mapping[str, str], secret: Secret) -> NoAnswer:
    """What a reply with an error's status means."""
    code, message = "", ""
    try:
        found = json.loads(content)
        error = found.get("error") or found.get("detail") or found.get("message") or found
        code = str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
        message = str(error.get("message") or error) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError, RecursionError):
        message = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    said = secret.scrub(harmless(secret.hidden_in(message)))
    return NoAnswer(f"HTTP {status}: {said}".rstrip(": "), what_then(status, code), wait_asked_for(headers), status)


def read_secret(name: str) -> str:
    """Reads a key from Google's Secret Manager. Raises `ModelError`."""
    try:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
    except ImportError:
        raise ModelError(f"key_secret {name}: install earshot-captions[gcp] to read secrets") from None
    try:
        payload = secret_client().access_secret_version(name=name, timeout=60).payload.data
        return payload.decode("utf-8").strip()
    except (GoogleAPIError, GoogleAuthError) as error:
        raise ModelError(f"key_secret {name}: {harmless(str(error))}") from None
    except UnicodeDecodeError:
        raise ModelError(f"key_secret {name}: it is no text") from None


def secret_client() -> Any:
    """Secret Manager, as this machine may use it."""
    try:
        from google.cloud import secretmanager
    except ImportError:
        raise ModelError("key_secret: install google-cloud-secret-manager to read secrets") from None
    return secretmanager.SecretManagerServiceClient()
