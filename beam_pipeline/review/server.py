"""The review's web server: for one person, on this machine.

It listens on 127.0.0.1 only, but any page that the person's browser has open can send requests there, and so can other
users of the machine. So every request has to carry a token that only the terminal shows, and to name this server as its
host, which one that reaches us by a name of the attacker's (DNS rebinding) does not; what changes anything has to come
from our own page. A browser that is opened for the person has the token among its arguments, which other users may be
able to list: ``--no-open`` is for such machines.
"""

from __future__ import annotations

import asyncio
import hmac
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from beam_pipeline.config import ConfigError
from beam_pipeline.excerpts import MEDIA_TYPES, Excerpts, MediaError
from beam_pipeline.pages.render import render
from beam_pipeline.review.media import Media
from beam_pipeline.review.session import Judgement, JudgementError, Session
from beam_pipeline.review.table import rows

HOST = "127.0.0.1"
PORT, PORTS = 8420, 20  # the first that is free of so many: the page's drafts belong to its port
_BODY = 256 << 10  # bytes of a request
_AHEAD = 2  # sounds that are decoded before they are asked for
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def bound(port: int | None = None) -> socket.socket:
    """Returns a socket that is bound to a port of this machine: to `port`, or to the first free one of ours.

    Raises:
        ConfigError: it is taken.
    """
    for wanted in range(PORT, PORT + PORTS) if port is None else [port]:
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, wanted))
            found.listen()
        except (OSError, OverflowError) as error:
            found.close()
            reason = str(error)
            continue
        return found
    raise ConfigError(f"port {wanted} of {HOST} cannot be had: {reason}; name another with --port")


def application(session: Session, media: Media, token: str, port: int) -> web.Application:
    """The server, to be run.

    Args:
        session: whose review it is.
        media: of its clips.
        token: without which nothing is answered.
        port: that it listens on.
    """
    app = web.Application(middlewares=[_guard(token, port), _errors], client_max_size=_BODY)
    server = _Server(session, media)
    app.router.add_get("/", server.page)
    app.router.add_get("/api/state", server.state)
    app.router.add_get("/api/figures", server.figures)
    app.router.add_get(r"/api/clips/{at:\d{1,9}}", server.clip)
    app.router.add_get(r"/api/clips/{at:\d{1,9}}/sound", server.sound)
    app.router.add_get(r"/api/clips/{at:\d{1,9}}/strip", server.strip)
    app.router.add_get(r"/sound/{at:\d{1,9}}.wav", server.wav)
    app.router.add_post(r"/api/clips/{at:\d{1,9}}", server.save)
    return app


async def serve(
    session: Session, excerpts: Excerpts, token: str, found: socket.socket, ready: Callable[[], None]
) -> None:
    """Serves until the process is asked to end (SIGINT, SIGTERM); calls `ready` when the page can be opened."""
    media = Media(lambda at: session.sampled(at).clip, excerpts)
    runner = web.AppRunner(application(session, media, token, found.getsockname()[1]), access_log=None)
    await runner.setup()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        await web.SockSite(runner, found, shutdown_timeout=1).start()
        if (first := session.state()["start"]) is not None:
            media.ahead(first)
        ready()
        await ended.wait()
    finally:
        await media.close()
        await runner.cleanup()


def _guard(token: str, port: int) -> Any:
    hosts = (f"{HOST}:{port}", f"localhost:{port}")

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Host") not in hosts:
            return _refused(403, "this server answers to 127.0.0.1 and localhost only")
        if not hmac.compare_digest(request.query.get("token", "").encode("utf-8", "replace"), token.encode()):
            return _refused(403, "open the address that the terminal shows: it ends in a token")
        # The page itself may be opened from a link, such as a terminal's in a browser.
        if request.path != "/" and request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            return _refused(403, "another site's page may not ask this")
        if request.method not in ("GET", "HEAD"):
            if request.headers.get("Origin") not in [f"http://{host}" for host in hosts]:
                return _refused(403, "another site's page may not change anything")
            if request.content_type != "application/json":
                return _refused(415, "send JSON")
        response = await handler(request)
        response.headers.update(_HEADERS)
        return response

    return guard


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Says in JSON what is wrong."""
    try:
        return await handler(request)
    except IndexError:
        return _refused(404, "there is no such clip in the sample")
    except JudgementError as error:
        return _refused(409, str(error))
    except ConfigError as error:  # the reviews' file cannot be read or written
        return _refused(500, str(error))
    except web.HTTPException as error:
        return _refused(error.status, error.reason)


def _refused(status: int, error: str) -> web.Response:
    return web.json_response({"error": error}, status=status, headers=_HEADERS)


class _Server:
    """Answers requests that the guard has let through."""

    def __init__(self, session: Session, media: Media) -> None:
        self._session, self._media = session, media

    async def page(self, _: web.Request) -> web.Response:
        text = render(
            "review/review.html",
            script="review/review.js",
            styles=("review/review.css",),
            connect="'self'",
            rater=self._session.rater,
            dataset=self._session.sample.root,
            version=self._session.sample.version,
            key=f"{self._session.sample.root}\n{self._session.rater}",
        )
        return web.Response(text=text, content_type="text/html")

    async def state(self, _: web.Request) -> web.Response:
        return web.json_response(self._session.state())

    async def figures(self, _: web.Request) -> web.Response:
        found = await asyncio.to_thread(self._session.figures)
        shown = [[row.name, row.value, row.interval, row.clips, row.published] for row in rows(found)]
        return web.json_response({"rows": shown, "raters": found.raters})

    async def clip(self, request: web.Request) -> web.Response:
        at = _place(request)
        shown = self._session.clip(at)
        for next_ in range(at, at + 1 + _AHEAD):
            with suppress(IndexError):
                self._media.ahead(next_)
        return web.json_response(shown)

    async def sound(self, request: web.Request) -> web.Response:
        """What there is to hear; a clip that cannot be heard is no error of the page's."""
        try:
            found = await self._media.sound(_place(request))
        except (MediaError, OSError) as error:
            return web.json_response({"error": str(error)})
        return web.json_response({"seconds": found.seconds, "outline": found.outline})

    async def strip(self, request: web.Request) -> web.Response:
        try:
            times, image = await self._media.strip(_place(request))
        except (MediaError, OSError) as error:
            return web.json_response({"error": str(error)})
        return web.json_response({"times": times, "image": image})

    async def wav(self, request: web.Request) -> web.Response:
        try:
            found = await self._media.sound(_place(request))
        except (MediaError, OSError) as error:
            return _refused(404, str(error))
        return ranged(request, found.wav, MEDIA_TYPES["wav"])

    async def save(self, request: web.Request) -> web.Response:
        try:
            judgement = Judgement.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return _refused(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        review = self._session.save(_place(request), judgement)
        return web.json_response({"at": review.at, "file": str(self._session.file)})


def _place(request: web.Request) -> int:
    return int(request.match_info["at"])


def ranged(request: web.Request, body: bytes, content_type: str) -> web.Response:
    """Answers with the part of `body` that the request's ``Range`` asks for (RFC 9110, 14), or with all of it."""
    headers = {"Accept-Ranges": "bytes", "Content-Type": content_type}
    try:
        wanted = request.http_range
    except ValueError:  # several ranges, or none that can be understood: such a header does not count
        return web.Response(body=body, headers=headers)
    if wanted.start is None and wanted.stop is None:
        return web.Response(body=body, headers=headers)
    start, stop, _ = wanted.indices(len(body))
    if start >= stop:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
    return web.Response(status=206, body=body[start:stop], headers=headers)
