"""The review over HTTP: who is let in, what is refused, and how sounds are served."""

from __future__ import annotations

import asyncio
import io
import json
import time
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web

from beam_pipeline.excerpts import MediaError
from beam_pipeline.review.media import Media, outline
from beam_pipeline.review.ratings import read_reviews
from beam_pipeline.review.server import application, bound
from beam_pipeline.review.session import Session
from tests.reviewing import session
from transforms.records import Clip

TOKEN = "a-token"


class Tones:
    """Two seconds of a tone, and no pictures; clip 4's file is gone."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def sound(self, clip: Clip, rate: int) -> np.ndarray | None:
        self.opened.append(clip.clip_id)
        if clip.clip_id == "clip4":
            raise MediaError("no such file: /media/4.mp4", True)
        return np.sin(np.arange(2 * rate) / 50).astype(np.float32)

    def strip(self, clip: Clip, pictures: int, height: int) -> tuple[list[float], bytes] | None:
        return None


Ask = Callable[..., Awaitable[tuple[int, Any, Any]]]


def served(of: Session, talk: Callable[[Ask, int], Awaitable[None]], tones: Tones | None = None) -> None:
    """Runs `talk` with a function that asks the server, and the port."""

    async def run() -> None:
        found = bound(0)
        port = found.getsockname()[1]
        media = Media(lambda at: of.sampled(at).clip, tones or Tones())
        runner = web.AppRunner(application(of, media, TOKEN, port))
        await runner.setup()
        await web.SockSite(runner, found).start()

        async with aiohttp.ClientSession() as client:

            async def ask(path: str, method: str = "GET", token: str = TOKEN, **more: Any) -> tuple[int, Any, Any]:
                url = f"http://127.0.0.1:{port}{path}" + (f"?token={token}" if token else "")
                async with client.request(method, url, **more) as answer:
                    body = await answer.read()
                    is_json = answer.content_type == "application/json"
                    return answer.status, answer.headers, json.loads(body) if is_json else body

            await talk(ask, port)
        await media.close()
        await runner.cleanup()

    asyncio.run(run())


def body(of: Session, at: int = 0, **more: Any) -> dict[str, Any]:
    shown = of.clip(at)
    return {"clip_id": shown["clip_id"], "corresponds": True, "corrected": shown["caption"], **more}


PATHS = ("/", "/api/state", "/api/figures", "/api/clips/0", "/api/clips/0/sound", "/api/clips/0/strip", "/sound/0.wav")


def test_nothing_is_answered_without_the_token_or_to_another_host(tmp_path: Path) -> None:
    of = session(tmp_path)

    async def talk(ask: Ask, port: int) -> None:
        for path in PATHS:
            assert (await ask(path))[0] == 200, path
            for refused in ({"token": ""}, {"token": "another"}, {"token": "%C3%A4"}):
                assert (await ask(path, **refused))[0] == 403
            for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
                assert (await ask(path, headers={"Host": host}))[0] in (400, 403)
            assert (await ask(path, headers={"Host": f"localhost:{port}"}))[0] == 200
        for path in PATHS[1:]:
            assert (await ask(path, headers={"Sec-Fetch-Site": "cross-site"}))[0] == 403
        status, headers, _ = await ask("/etc/passwd")
        assert status == 404
        assert headers["X-Content-Type-Options"] == "nosniff"

    served(of, talk)


def test_only_our_own_page_may_save(tmp_path: Path) -> None:
    of = session(tmp_path)

    async def talk(ask: Ask, port: int) -> None:
        ours = {"Origin": f"http://127.0.0.1:{port}"}
        for foreign in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1"}):
            assert (await ask("/api/clips/0", "POST", json=body(of), headers=foreign))[0] == 403
        assert (await ask("/api/clips/0", "POST", token="", json=body(of), headers=ours))[0] == 403
        plain = {**ours, "Content-Type": "text/plain"}
        assert (await ask("/api/clips/0", "POST", data=json.dumps(body(of)), headers=plain))[0] == 415
        assert read_reviews(str(tmp_path)) == []
        assert (await ask("/api/clips/0", "POST", json=body(of), headers=ours))[0] == 200
        assert len(read_reviews(str(tmp_path))) == 1

    served(of, talk)


def test_what_is_no_judgement_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    of = session(tmp_path)
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"corresponds": "yes"}, 422, "corresponds"),
        ({"corresponds": None}, 422, "corresponds"),
        ({"detail": 4}, 422, "detail"),
        ({"detail": True}, 422, "detail"),
        ({"hallucination": 0}, 422, "hallucination"),
        ({"seconds": -1}, 422, "seconds"),
        ({"note": "x" * 10_001}, 422, "note"),
        ({"rater": "../../ben"}, 422, "rater"),
        ({"cues": {"tags": 1}}, 422, "cues"),
        ({"inaudible": [99]}, 409, "6 words"),
        ({"clip_id": "clip-of-another-sample"}, 409, "another clip"),
        ({"cues": {"../tags": True}}, 409, "none called"),
    ]

    async def talk(ask: Ask, port: int) -> None:
        ours = {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
        for change, status, message in wrong:
            found = await ask("/api/clips/0", "POST", json={**body(of), **change}, headers=ours)
            assert found[0] == status, change
            assert message in found[2]["error"]
        for data in (b"", b"[]", b"{", b'{"seconds": NaN}', b"\xff"):
            assert (await ask("/api/clips/0", "POST", data=data, headers=ours))[0] == 422
        assert (await ask("/api/clips/0", "POST", data=b" " * (300 << 10), headers=ours))[0] == 413
        for path in (
            "/api/clips/5",
            "/api/clips/-1",
            "/api/clips/..%2f..%2fetc",
            "/api/clips/0/../../x",
            "/sound/5.wav",
        ):
            assert (await ask(path))[0] == 404, path
        assert (await ask("/api/clips/0", "DELETE", headers=ours))[0] == 405

    served(of, talk)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_said_and_costs_no_answer(tmp_path: Path) -> None:
    of = session(tmp_path / "reviews")
    (tmp_path / "reviews").write_text("in the way")

    async def talk(ask: Ask, port: int) -> None:
        ours = {"Origin": f"http://127.0.0.1:{port}"}
        status, _, said = await ask("/api/clips/0", "POST", json=body(of), headers=ours)
        assert status == 500
        assert "cannot be written" in said["error"]
        assert (await ask("/api/clips/0"))[2]["review"] is None

    served(of, talk)


def test_sound_is_served_in_the_ranges_that_are_asked_for(tmp_path: Path) -> None:
    async def talk(ask: Ask, port: int) -> None:
        status, headers, whole = await ask("/sound/0.wav")
        assert (status, headers["Content-Type"], headers["Accept-Ranges"]) == (200, "audio/wav", "bytes")
        with wave.open(io.BytesIO(whole)) as file:
            assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (88_200, 44_100, 1)
        size = len(whole)
        for wanted, start, end in (
            ("0-99", 0, 100),
            ("100-", 100, size),
            ("-50", size - 50, size),
            (f"10-{size + 9}", 10, size),
        ):
            status, headers, part = await ask("/sound/0.wav", headers={"Range": f"bytes={wanted}"})
            assert (status, part) == (206, whole[start:end])
            assert headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
        status, headers, _ = await ask("/sound/0.wav", headers={"Range": f"bytes={size}-"})
        assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")
        for odd in ("bytes=9-1", "bytes=0-1,5-6", "lines=1-2"):
            assert (await ask("/sound/0.wav", headers={"Range": odd}))[0] in (200, 416)
        status, _, said = await ask("/api/clips/0/sound")
        assert (status, said["seconds"], len(said["outline"]), max(said["outline"])) == (200, 2.0, 240, 100)

    served(session(tmp_path), talk)


def test_a_clip_whose_file_is_gone_says_so_and_is_tried_again(tmp_path: Path) -> None:
    of, tones = session(tmp_path), Tones()
    gone = next(at for at in range(5) if of.clip(at)["clip_id"] == "clip4")

    async def talk(ask: Ask, port: int) -> None:
        for _ in range(2):
            assert await_error((await ask(f"/api/clips/{gone}/sound"))[2]) == "no such file: /media/4.mp4"
        assert tones.opened.count("clip4") == 2
        assert (await ask(f"/sound/{gone}.wav"))[0] == 404
        assert await_error((await ask(f"/api/clips/{gone}/strip"))[2]) == "the clip has no picture"
        assert (await ask(f"/api/clips/{gone}"))[0] == 200

    served(of, talk, tones)


def await_error(said: dict[str, Any]) -> str:
    return said["error"]


def test_the_next_sounds_are_decoded_ahead_and_each_once(tmp_path: Path) -> None:
    of, tones = session(tmp_path), Tones()

    async def talk(ask: Ask, port: int) -> None:
        await ask("/api/clips/0")
        await opened(3)
        assert sorted(tones.opened) == sorted(of.clip(at)["clip_id"] for at in (0, 1, 2))
        await ask("/api/clips/1")
        await asyncio.gather(*(ask(path) for path in ("/sound/1.wav", "/api/clips/1/sound", "/sound/0.wav")))
        await opened(4)
        assert len(tones.opened) == 4

    async def opened(number: int) -> None:
        """Waits for so many to be opened, and a while for more than that."""
        end = time.monotonic() + 30
        while len(tones.opened) < number and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)

    served(of, talk, tones)


def test_the_outline_shows_what_is_loud() -> None:
    samples = np.concatenate([np.zeros(500), np.full(500, -0.5), np.full(500, 0.25)]).astype(np.float32)
    assert outline(samples, 3) == [0, 100, 50]
    assert outline(np.zeros(10, np.float32), 4) == [0, 0, 0, 0]
    assert len(outline(np.ones(2, np.float32), 240)) == 2
