"""The review's server: what a rater is told and what is kept, and who is let in."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from beam_pipeline.config import ConfigError
from beam_pipeline.excerpts import MediaError
from beam_pipeline.review import command
from beam_pipeline.review.media import Media, outline
from beam_pipeline.review.ratings import Review, append, read_reviews
from beam_pipeline.review.sample import Drawn, pack
from beam_pipeline.review.server import application, bound
from beam_pipeline.review.session import Judgement, JudgementError, Sample, Session, phrases, pieces, places
from tests.test_calibrate import publish
from transforms.avro import to_record
from transforms.records import Caption, Clip, Cue, Item

TOKEN = "a-token"
NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


def drawn(index: int, caption: str = "") -> Drawn:
    clip_id, caption = f"clip{index}", caption or f"A red dog barks {index} times."
    clip = Clip(clip_id, f"/media/{index}.mp4", video_id=f"v{index}", end_s=10.0)
    cues = (
        Cue(clip_id, "tags", "f", "m", (Item("Dog", 0.91, 1.0, 2.0),)),
        Cue(clip_id, "place", "f", "m", (Item("park"),)),
    )
    return Drawn(clip_id, caption, pack("captions", to_record(Caption(clip, caption, "w", cues))))


def session(folder: Path, rater: str = "ann", clips: int = 5) -> Session:
    return Session(Sample("/data", 3, 0, tuple(map(drawn, range(clips)))), rater, folder)


def judgement(at: int, of: Session, **more: Any) -> Judgement:
    shown = of.clip(at)
    return Judgement(**{"clip_id": shown["clip_id"], "corresponds": True, "corrected": shown["caption"], **more})


# --- a rater's way through a sample ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "marked", "said"),
    [
        ("A red dog, barking loudly.", [1], ("red",)),
        ("A red dog, barking loudly.", [2, 1], ("red dog",)),
        ("A red dog, barking loudly.", [0, 2, 4], ("A", "dog", "loudly")),
        ("A red dog, barking loudly.", [2, 3], ("dog, barking",)),
        ("It – “sings” – again.", [1, 2], ("sings",)),
        ("It – sings.", [1], ()),
        ("一只红狗在叫。", [2, 3], ("红狗",)),
    ],
)
def test_marked_words_are_phrases_and_found_again(caption: str, marked: list[int], said: tuple[str, ...]) -> None:
    assert phrases(caption, marked) == said
    assert phrases(caption, places(caption, said)) == said


@pytest.mark.parametrize(
    ("caption", "marked"),
    [
        ("Dogs bark near a red car.", [3]),
        ("Rain falls in the rain, rain.", [4]),
        ("A dog, a cat and a dog.", [5, 6]),
        ("It – sings.", [1]),
        ("一只红狗在叫，红狗。", [7, 8]),
    ],
)
def test_marked_words_are_marked_again_where_they_were(tmp_path: Path, caption: str, marked: list[int]) -> None:
    of = Session(Sample("/data", 1, 0, (drawn(0, caption),)), "ann", tmp_path)
    first = of.save(0, judgement(0, of, inaudible=marked))
    again = Session(of.sample, "ann", tmp_path)
    again.state()
    assert again.clip(0)["review"]["inaudible"] == marked
    assert (
        again.save(0, judgement(0, again, inaudible=again.clip(0)["review"]["inaudible"])).inaudible == first.inaudible
    )


def test_of_a_review_without_places_whole_words_are_marked(tmp_path: Path) -> None:
    caption = "Dogs bark near a red car."
    of = Session(Sample("/data", 1, 0, (drawn(0, caption),)), "ann", tmp_path)
    append(tmp_path, Review("ann", "clip0", 1, "captions", caption, True, caption, ("a",)))
    of.state()
    assert of.clip(0)["review"]["inaudible"] == [3]


def test_the_words_of_a_caption_are_all_of_it() -> None:
    caption = "  A\tdog’s «bark»…\u2028twice 狗叫 "
    assert [caption[start:end] for start, end in pieces(caption)] == ["A", "dog’s", "«bark»…", "twice", "狗", "叫"]
    with pytest.raises(JudgementError, match="6 words"):
        phrases(caption, [6])
    with pytest.raises(JudgementError, match="6 words"):
        phrases(caption, [-1])


def test_what_is_saved_is_what_was_said(tmp_path: Path) -> None:
    of = session(tmp_path)
    shown = of.clip(2)
    said = judgement(
        2,
        of,
        corresponds=False,
        corrected="  A dog \n barks. ",
        inaudible=[1],
        detail=2,
        hallucination=4,
        cues={"place": False, "tags": True},
        note=" so ",
        seconds=3.14,
    )
    review = of.save(2, said, NOW)
    index = shown["clip_id"].removeprefix("clip")
    assert review == Review(
        "ann",
        f"clip{index}",
        3,
        "captions",
        shown["caption"],
        False,
        "A dog barks.",
        ("red",),
        2,
        4,
        (("tags", True), ("place", False)),
        "so",
        "2026-11-21T22:00:00+00:00",
        3.1,
        f"v{index}",
        (1,),
    )
    assert read_reviews(str(tmp_path)) == [review]
    again = of.clip(2)["review"]
    assert (again["inaudible"], again["seconds"], again["corrected"], again["cues"]) == (
        [1],
        3.1,
        "A dog barks.",
        {"tags": True, "place": False},
    )


def test_an_unchanged_caption_stays_as_it_was_shown(tmp_path: Path) -> None:
    one = drawn(0, "A  dog\u2028barks. ")
    of = Session(Sample("/data", 1, 0, (one,)), "ann", tmp_path)
    assert of.save(0, judgement(0, of, corrected="A dog barks."), NOW).corrected == one.caption


def test_the_rater_goes_on_after_the_last_clip_and_then_at_what_was_left(tmp_path: Path) -> None:
    of = session(tmp_path)
    assert of.state() == {"total": 5, "done": "00000", "start": 0, "file": str(tmp_path / "ann.jsonl")}
    of.save(2, judgement(2, of))
    assert (of.state()["done"], of.state()["start"]) == ("00100", 3)
    other = session(tmp_path)  # another process, a day later
    assert (other.state()["done"], other.state()["start"]) == ("00100", 3)
    for at in (3, 4):
        other.save(at, judgement(at, other))
    assert other.state()["start"] == 0
    assert of.state()["done"] == "00111"  # two windows at once see what the other saved
    for at in (0, 1):
        of.save(at, judgement(at, of))
    assert of.state()["start"] is None
    assert other.count() == 5


def test_raters_do_not_see_each_others_answers(tmp_path: Path) -> None:
    ann, ben = session(tmp_path), session(tmp_path, "ben")
    ann.save(0, judgement(0, ann))
    assert ben.state()["done"] == "00000"
    assert all(ben.clip(at)["review"] is None for at in range(5))
    assert {ann.clip(at)["clip_id"] for at in range(5)} == {ben.clip(at)["clip_id"] for at in range(5)}
    ben.save(1, judgement(1, ben))
    assert ann.figures().raters == ("ann", "ben")


def test_a_clip_whose_caption_was_written_anew_is_judged_anew(tmp_path: Path) -> None:
    of = session(tmp_path, clips=1)
    append(tmp_path, Review("ann", "clip0", 2, "captions", "An older caption.", True, "An older caption."))
    assert of.state()["done"] == "0"
    assert of.clip(0)["review"] is None
    assert of.figures().reviews == 0


def test_what_is_said_of_another_version_leaves_a_clip_judged(tmp_path: Path) -> None:
    old, new = (
        Session(Sample("/data", version, 0, (drawn(0, caption),)), "ann", tmp_path)
        for version, caption in ((1, "An old caption."), (2, "A new caption."))
    )
    old.save(0, judgement(0, old, detail=1))
    new.save(0, judgement(0, new, detail=3))
    for of, detail in ((old, 1), (new, 3)):
        assert (of.state()["done"], of.count(), of.clip(0)["review"]["detail"]) == ("1", 1, detail)
        assert of.figures().reviews == 1


def test_what_nobody_sees_is_no_part_of_a_corrected_caption(tmp_path: Path) -> None:
    of = session(tmp_path)
    assert of.save(0, judgement(0, of, corrected="A \u200bdog\u0000 \u202ebarks.\x1b")).corrected == "A dog barks."
    persian = "سگ پارس می\u200cکند."
    assert of.save(0, judgement(0, of, corrected=persian)).corrected == persian
    hidden = Session(Sample("/data", 1, 0, (drawn(0, "A\u200b dog."), drawn(1, "..."))), "ben", tmp_path)
    for at in (0, 1):  # what is not edited stays as it was shown
        assert hidden.save(at, judgement(at, hidden)).corrected == hidden.clip(at)["caption"]


def test_how_a_clip_ended_is_not_told(tmp_path: Path) -> None:
    assert session(tmp_path).clip(0).keys() == {"at", "clip_id", "caption", "words", "cues", "review"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip_id": "clip9"}, "another clip"),
        ({"corrected": " \n"}, "at least one word"),
        ({"corrected": "\u200b"}, "at least one word"),
        ({"corrected": "… !"}, "at least one word"),
        ({"cues": {"speech": True}}, "none called speech"),
        ({"inaudible": [6]}, "6 words"),
    ],
)
def test_what_does_not_fit_the_clip_is_refused_and_nothing_kept(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    of = session(tmp_path)
    with pytest.raises(JudgementError, match=message):
        of.save(0, judgement(0, of, **wrong))
    for at in (-1, 5):
        with pytest.raises(IndexError):
            of.save(at, judgement(0, of))
    assert list(tmp_path.iterdir()) == []


# --- over HTTP -------------------------------------------------------------------------------------------------------


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


# --- the command -----------------------------------------------------------------------------------------------------


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_only_this_machine_is_listened_to_and_a_taken_port_is_not_waited_for() -> None:
    first = bound(0)
    host, port = first.getsockname()
    assert host == "127.0.0.1"
    with pytest.raises(ConfigError, match="--port"):
        bound(port)
    with pytest.raises(ConfigError, match="--port"):
        bound(70_000)
    one, two = bound(), bound()  # twice at once on one machine
    assert one.getsockname()[1] != two.getsockname()[1]
    for each in (first, one, two):
        each.close()


def test_figures_are_those_of_the_captions_the_version_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = publish(tmp_path / "data", [0.1, 0.4, 0.5])
    for index, caption in ((0, ""), (1, ""), (2, "An older one.")):
        text = caption or f"Caption {index}."
        append(Path(root, "reviews"), Review("ann", f"c{index}", 1, "captions", text, True, text, detail=2))
    assert command.main(options(root, "--figures", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["reviews"], found["clips"], found["detail"]["value"]) == (1, 1, 1, 2.0)
    assert found["left_out"] == {"of another caption than the clip now has": 1}
    assert command.main(options(root, "--figures", "--reviews", str(tmp_path / "none"))) == 0
    shown = capsys.readouterr().out
    assert "none: no review of a caption that version 1 has" in shown
    assert shown.count("\n") == 1


def test_figures_fit_a_narrow_terminal_that_has_ascii_alone(tmp_path: Path) -> None:
    root = publish(tmp_path / "data", [0.4, 0.4, 0.4])
    for index in range(3):
        text = f"Caption {index}."
        said = Review("ann", f"c{index}", 1, "captions", text, True, text, (), 3, 5, (("шум", True), ("place", True)))
        append(Path(root, "reviews"), said)
    script = f"from beam_pipeline.review import command; import argparse; p = argparse.ArgumentParser(); \
command.add_arguments(p); command.main(p.parse_args([{root!r}, '--figures']))"
    variables = {**os.environ, "COLUMNS": "40", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ran = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "1.000" in ran.stdout


def test_a_browser_that_takes_the_terminal_does_not_hold_up_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, left, ended = threading.Event(), threading.Event(), []

    def browser(_: str) -> None:
        opened.set()
        ended.append(left.wait(10))

    async def serve(*_: Any) -> None:
        _[-1]()
        assert opened.wait(10)
        assert not ended

    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setattr("beam_pipeline.review.server.serve", serve)
    try:
        assert command.main(options(publish(tmp_path / "data", [0.4]), "--rater", "ann")) == 0
    finally:
        left.set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "0"), "at least one"),
        (("--json",), "--figures"),
        (("--figures", "--rater", "ann"), "leave out --rater"),
        (("--figures", "-n", "5", "--seed", "1", "--include-rejected"), "leave out -n, --seed, --include-rejected"),
        (("--rater", "../x"), "--rater"),
        (("--version", "7"), "no version 7"),
        (("--reviews", "gs://bucket/reviews"), "no object store can"),
    ],
)
def test_options_without_sense_are_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    root = publish(tmp_path / "data", [0.4])
    with pytest.raises(ConfigError, match=message):
        command.main(options(root, "--no-open", *arguments))


def test_the_users_name_becomes_a_raters(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wanted in (("ann", "ann"), ("Ann.Lee@uni", "ann-lee-uni"), ("Ärger", "rger"), ("__", "")):
        monkeypatch.setenv("LOGNAME", name)
        assert command.default_rater() == wanted


def test_a_port_that_another_server_has_taken_is_stepped_over() -> None:
    with socket.socket() as other:
        found = bound()
        port = found.getsockname()[1]
        found.close()
        other.bind(("127.0.0.1", port))
        other.listen()
        next_ = bound()
        assert next_.getsockname()[1] == port + 1
        next_.close()
