"""`earshot review` in a browser, served by a process as a user starts it: by keyboard, over reloads and kills."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from beam_pipeline.review.ratings import Review, append, read_reviews
from tests.pages.browser import DESKTOP, PHONE, opened, overflows, violations
from transforms import versions
from transforms.avro import avro_schema, to_record
from transforms.publish import OUTCOMES, manifest
from transforms.records import Caption, Clip, Cue, Item

HOSTILE = (
    "<img src=x onerror=window.hacked=1> \"'><script>window.hacked=1</script>{{7*7}} ${window.hacked=1} \u202eevil"
)
CUES = ("image_caption", "objects", "image_label", "place", "audio_tags")


def sound(path: Path, seconds: float = 2.0) -> str:
    """A tone that comes and goes."""
    time_s = np.arange(int(16_000 * seconds)) / 16_000
    samples = 0.4 * np.sin(2 * np.pi * 440 * time_s) * np.abs(np.sin(3 * time_s))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((samples * 32_767).astype("<i2").tobytes())
    return str(path)


def captioned(clip_id: str, uri: str, caption: str, says: str = "a dog") -> Caption:
    cues = tuple(Cue(clip_id, name, "f", "m", (Item(f"{says} by {name}", 0.5),)) for name in CUES)
    return Caption(Clip(clip_id, uri, end_s=2.0, video_id=clip_id, source="own"), caption, "w", cues, "train")


def publish(root: Path, captions: Sequence[Caption]) -> Path:
    """Writes a version as a run leaves it."""
    folder = Path(versions.folder(str(root), 1))
    folder.mkdir(parents=True)
    for name, cls in OUTCOMES.items():
        with (folder / f"{name}.avro").open("wb") as file:
            records = map(to_record, captions if name == "captions" else ())
            fastavro.writer(file, avro_schema(cls), records, codec="deflate")
    content = {
        "cues": {name: {"model": "m"} for name in CUES},
        "filters": {},
        "writer": "w",
        "digest": f"d{len(captions)}",
    }
    counts = {"captions": len(captions), "rejected": 0, "failed": 0}
    files = {name: [f"{name}.avro"] for name in OUTCOMES}
    (folder / "manifest.json").write_text(json.dumps(manifest(content, counts, [], files)))
    versions.advance(str(root), 1)
    return root


@pytest.fixture(scope="module")
def dogs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes a dataset of so many clips that can be heard."""
    uri = sound(tmp_path_factory.mktemp("media") / "dog.wav")

    def make(clips: int) -> Path:
        captions = [captioned(f"clip{i}", uri, f"A red dog barks {i} times, loudly.") for i in range(clips)]
        return publish(tmp_path_factory.mktemp("dogs") / "data", captions)

    return make


class Server:
    """A process of `earshot review`."""

    def __init__(self, root: Path, *options: str) -> None:
        command = [sys.executable, "-m", "beam_pipeline.cli", "review", str(root), "--no-open", *options]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        self.lines: list[str] = []
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"open (http://127\.0\.0\.1:(\d+)/\?token=\S+)", line):
                self.url, self.port = found.group(1), found.group(2)
                break
        else:
            raise AssertionError("".join(self.lines))
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stderr or ()), daemon=True)
        self._reader.start()

    def end(self, how: int = signal.SIGINT) -> str:
        """Ends it; returns all it said."""
        self.process.send_signal(how)
        self.process.wait(60)
        self._reader.join(10)
        return "".join(self.lines)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(root: Path, *options: str) -> Server:
        servers.append(Server(root, *options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.end(signal.SIGKILL)


def until(page: Any, script: str, argument: Any = None, seconds: float = 30.0) -> None:
    """Waits; playwright's own `wait_for_function` runs text as code, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(script, argument):
        assert time.monotonic() < end, f"{script} did not come true; the page says {page.text_content('#said')!r}"
        page.wait_for_timeout(20)


def press(page: Any, keys: str) -> None:
    for key in keys.split():
        page.keyboard.press(key)


def is_at(page: Any, number: int) -> None:
    until(page, f"document.getElementById('which').textContent.startsWith('Clip {number} of')")
    page.wait_for_selector("#outline rect", state="attached")


def said(page: Any, text: str) -> None:
    until(page, "text => document.getElementById('said').textContent.includes(text)", text)


def test_three_clips_are_judged_by_keyboard_alone_and_a_reload_costs_nothing(
    chromium: Any, dogs: Callable[[int], Path], serve: Callable[..., Server]
) -> None:
    root = dogs(3)
    server = serve(root, "-n", "3", "--rater", "ann")
    with opened(chromium, server.url) as page:
        is_at(page, 1)
        # Blind: nothing of a cue is on the page before the caption is judged.
        assert "by image_caption" not in page.content()
        press(page, "Enter")
        said(page, "Still to answer")
        press(page, "p")
        until(page, "document.getElementById('player').currentTime > 0.1")
        press(page, "y 3 5")
        assert "by image_caption" not in page.content()
        press(page, "Enter r r w r r Enter")
        said(page, "Clip 1 saved")
        is_at(page, 2)
        assert page.text_content("#count") == "1 of 3 judged"

        # Words that cannot be heard, and words that are wrong; then half of the clip is kept over a reload.
        press(page, "n x ArrowRight x ArrowRight x Escape e")
        press(page, "Control+a")
        page.keyboard.type("A brown dog barks, loudly.")
        press(page, "Enter 1 2 m")
        page.keyboard.type("y n 1: no keys here")
        press(page, "Escape")
        page.reload()
        is_at(page, 2)
        assert page.input_value("#corrected") == "A brown dog barks, loudly."
        assert page.input_value("#note") == "y n 1: no keys here"
        assert page.locator("#words button[aria-pressed=true]").all_text_contents() == ["red", "dog"]
        assert page.is_checked("input[name=corresponds][value=no]")
        assert page.is_checked("input[name=hallucination][value='2']")
        press(page, "Enter w Shift+R")  # the first cue is wrong, all others are right
        page.reload()
        is_at(page, 2)
        assert page.locator("#cue-list button.right[aria-pressed=true]").count() == 4
        press(page, "Enter")
        said(page, "Clip 2 saved")
        is_at(page, 3)

        # What was saved can be gone back to, and saved anew.
        press(page, "k")
        is_at(page, 2)
        assert page.text_content("#which") == "Clip 2 of 3, judged"
        assert page.input_value("#corrected") == "A brown dog barks, loudly."
        press(page, "d 2 Enter")
        said(page, "Clip 2 saved")
        is_at(page, 3)
        press(page, "y 2 4 Enter Enter")
        page.wait_for_selector("#figures tbody tr >> nth=5")
        assert "All 3 clips are judged" in (page.text_content("#end-title") or "")
        assert "0.924 (Auto-ACD)" in (page.text_content("#figures") or "")
        assert violations(page) == []
        press(page, "k")
        is_at(page, 3)
        assert page.evaluate("Object.keys(localStorage).filter(key => key.includes('clip')).length") == 0
    first, third, second = sorted(
        read_reviews(str(root / "reviews")), key=lambda one: (one.corrected != one.caption, one.at)
    )
    if first.detail != 3:
        first, third = third, first
    assert (first.corresponds, first.detail, first.hallucination, first.inaudible) == (True, 3, 5, ())
    assert first.cues == tuple(zip(CUES, (True, True, False, True, True), strict=True))
    assert first.corrected == first.caption
    assert (second.corresponds, second.detail, second.hallucination) == (False, 2, 2)
    assert (second.inaudible, second.corrected) == (("red dog",), "A brown dog barks, loudly.")
    assert second.note == "y n 1: no keys here"
    assert second.cues == tuple(zip(CUES, (False, True, True, True, True), strict=True))
    assert second.seconds > 0
    assert (third.cues, third.detail, third.hallucination) == ((), 2, 4)
    assert (root / "reviews" / "ann.jsonl").read_bytes().count(b"\n") == 4  # only ever added to
    ended = server.end()
    assert server.process.returncode == 0
    assert f"3 of 3 captions judged by ann; go on with: earshot review {root} -n 3 --rater ann" in ended


def test_a_server_that_is_killed_costs_nothing_that_was_saved_and_no_half_marked_clip(
    chromium: Any, dogs: Callable[[int], Path], serve: Callable[..., Server]
) -> None:
    root = dogs(4)
    server = serve(root, "--rater", "ann")
    context = chromium.new_context(viewport=DESKTOP)  # as one browser, over both servers
    page = context.new_page()
    page.goto(server.url)
    is_at(page, 1)
    press(page, "y 3 5 Enter Enter")
    said(page, "Clip 1 saved")
    is_at(page, 2)
    server.end(signal.SIGKILL)
    saved = read_reviews(str(root / "reviews"))
    assert [one.detail for one in saved] == [3]
    press(page, "n 1 1 Enter w Enter")
    said(page, "Not saved")
    assert "Your answers are kept here" in (page.text_content("#said") or "")

    again = serve(root, "--rater", "ann", "--port", server.port)
    page.goto(again.url)
    is_at(page, 2)
    assert page.text_content("#count") == "1 of 4 judged"
    assert page.is_checked("input[name=corresponds][value=no]")
    assert page.locator("#cue-list button.wrong[aria-pressed=true]").count() == 1
    press(page, "Enter")
    said(page, "Clip 2 saved")
    context.close()
    found = read_reviews(str(root / "reviews"))
    assert found[0] == saved[0]
    assert [(one.corresponds, one.detail, one.cues) for one in found[1:]] == [(False, 1, ((CUES[0], False),))]


def test_two_raters_at_once_judge_the_same_clips_in_orders_of_their_own(
    chromium: Any, dogs: Callable[[int], Path], serve: Callable[..., Server]
) -> None:
    root = dogs(20)
    servers = {rater: serve(root, "-n", "8", "--rater", rater) for rater in ("ann", "ben")}
    orders: dict[str, list[str]] = {}
    for rater, server in servers.items():
        with opened(chromium, server.url) as page:
            for number in range(8):
                is_at(page, number + 1)
                clip_id = int((page.text_content("#words") or "").split()[4])
                orders.setdefault(rater, []).append(str(clip_id))
                press(page, f"{'y' if clip_id % 2 else 'n'} 2 4 Enter Enter")
                said(page, f"Clip {number + 1} saved")
            page.wait_for_selector("#figures tbody tr >> nth=5")
            if rater == "ben":
                assert "ann, ben" in (page.text_content("#end-said") or "")
    assert orders["ann"] != orders["ben"]
    assert sorted(orders["ann"]) == sorted(orders["ben"])
    command = [sys.executable, "-m", "beam_pipeline.cli", "review", str(root), "--figures", "--json"]
    figures = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert (figures["reviews"], figures["clips"], figures["raters"]) == (16, 8, ["ann", "ben"])
    assert figures["agreement"]["corresponds"] == pytest.approx(1.0)
    assert figures["corresponds"]["value"] == sum(int(one) % 2 for one in orders["ann"]) / 8


def test_text_from_clips_runs_nothing_and_a_clip_that_is_gone_says_so(
    chromium: Any, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    here = sound(tmp_path / "here.wav")
    captions = [
        captioned(f"{HOSTILE}{i}", here if i else str(tmp_path / "gone.mp4"), HOSTILE, HOSTILE) for i in range(2)
    ]
    root = publish(tmp_path / "data", captions)
    server = serve(root, "--rater", "ann")
    troubles: list[str] = []
    for number in (1, 2):
        with opened(chromium, f"{server.url}#{number}") as page:
            until(
                page, "document.getElementById('outline').children.length || !document.getElementById('trouble').hidden"
            )
            troubles.append(page.text_content("#trouble") or "")
            assert (page.text_content("#words") or "").split() == HOSTILE.split()
            press(page, "y 1 1 Enter v")
            page.wait_for_selector("#strip :text('Nothing can be seen')")
            if "gone.mp4" in troubles[-1]:
                assert "cannot be heard" in troubles[-1]
                said(page, "cannot be judged")
            else:
                assert HOSTILE in (page.text_content("#cue-list") or "")
                press(page, "Shift+R Enter")
                said(page, f"Clip {number} saved")
            assert page.evaluate("window.hacked") is None
            assert page.locator("main img, main script").count() == 0
    assert sorted(map(bool, troubles)) == [False, True]
    assert [one.caption for one in read_reviews(str(root / "reviews"))] == [HOSTILE]


def test_where_only_clips_are_left_that_cannot_be_heard_the_end_comes(
    chromium: Any, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    uris = [sound(tmp_path / "here.wav"), str(tmp_path / "gone.mp4"), str(tmp_path / "lost.mp4")]
    root = publish(tmp_path / "data", [captioned(f"clip{i}", uri, f"Dog {i} barks.") for i, uri in enumerate(uris)])
    with opened(chromium, serve(root, "--rater", "ann").url) as page:
        for _ in uris:
            until(
                page, "document.getElementById('outline').children.length || !document.getElementById('trouble').hidden"
            )
            number = page.text_content("#which")
            if page.locator("#outline rect").count():
                press(page, "y 3 5 Enter Enter")
                said(page, "saved")
            else:
                press(page, "y 3 5 Enter")
                said(page, "cannot be judged")
                press(page, "s")
            moved = (
                "was => document.getElementById('which').textContent !== was || !document.getElementById('end').hidden"
            )
            until(page, moved, number)
        page.wait_for_selector("#figures tbody tr >> nth=4")
        assert "2 clips cannot be heard; of 3 clips all others are judged" in (page.text_content("#end-title") or "")
        assert page.text_content("#count") == "1 of 3 judged"
    assert [one.clip_id for one in read_reviews(str(root / "reviews"))] == ["clip0"]


def test_keys_before_the_next_clip_is_shown_are_no_answers_to_the_one_that_was_saved(
    chromium: Any, dogs: Callable[[int], Path], serve: Callable[..., Server]
) -> None:
    root = dogs(2)
    with opened(chromium, serve(root, "--rater", "ann").url) as page:
        is_at(page, 1)
        page.evaluate(
            """() => { const real = window.fetch; window.fetch = async (address, asked) => {
                if (!asked?.method && /clips\\/\\d+\\?/.test(address)) await new Promise((go) => setTimeout(go, 1000));
                return real(address, asked); }; }"""
        )
        press(page, "y 3 5 Enter Enter")
        said(page, "Clip 1 saved")
        assert (page.text_content("#which") or "").startswith("Clip 1 of")
        press(page, "n 1 1 w")
        is_at(page, 2)
        assert page.locator("input[type=radio]:checked").count() == 0
        assert page.evaluate("Object.keys(localStorage).filter(key => key.includes('clip')).length") == 0
        press(page, "k")
        is_at(page, 1)
        for name, value in (("corresponds", "yes"), ("detail", "3"), ("hallucination", "5")):
            assert page.is_checked(f"input[name={name}][value='{value}']")
        press(page, "R")  # as Caps Lock makes of r: one cue is right, not all
        assert page.locator("#cue-list button.right[aria-pressed=true]").count() == 1
    (kept,) = read_reviews(str(root / "reviews"))
    assert (kept.corresponds, kept.detail, kept.hallucination) == (True, 3, 5)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_is_for_everybody(chromium: Any, accessible: Server, viewport: dict[str, int], scheme: str) -> None:
    with opened(chromium, accessible.url, viewport, scheme) as page:
        is_at(page, 1)
        assert violations(page) == []
        assert not overflows(page)
        press(page, "y 3 x x Escape e")
        page.keyboard.type("More. ")
        press(page, "Escape 5 Enter r w")
        assert page.evaluate("document.activeElement.closest('#cue-list') !== null")
        assert violations(page) == []
        assert not overflows(page)
        press(page, "?")
        assert page.evaluate("document.activeElement.closest('dialog') !== null")
        assert violations(page) == []
        press(page, "Escape")
        assert not page.evaluate("document.getElementById('help').open")
        press(page, "z")
        # Every key that is shown in the help does what it says; with single keys off, none does.
        shown = set(page.locator("#help dt kbd").all_text_contents()) - {
            "…",
            "Space",
            "Shift",
            "Esc",
            "←",
            "→",
            "↑",
            "↓",
        }
        assert shown == set("pa,.yn15dhxezmvrwcjks") | {"Enter"}
        page.evaluate("document.getElementById('keys').click()")
        press(page, "n")
        assert page.is_checked("input[name=corresponds][value=yes]")


def test_the_figures_at_the_end_are_for_everybody(
    chromium: Any, dogs: Callable[[int], Path], serve: Callable[..., Server]
) -> None:
    with opened(chromium, serve(dogs(1), "--rater", "ann").url, PHONE, "dark") as page:
        is_at(page, 1)
        press(page, "y 3 5 Enter Shift+R Enter")
        page.wait_for_selector("#figures tbody tr >> nth=5")
        assert violations(page) == []
        assert not overflows(page)
        assert page.evaluate("document.activeElement.id") == "end-title"


@pytest.fixture(scope="module")
def accessible(dogs: Callable[[int], Path]) -> Iterator[Server]:
    server = Server(dogs(2), "--rater", "ann")
    yield server
    server.end(signal.SIGKILL)


def test_the_video_is_shown_only_where_it_is_asked_for(
    chromium: Any, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    from demo.world import make_scene, write_clip

    write_clip(make_scene(7, 0), tmp_path / "clip.mp4")
    root = publish(tmp_path / "data", [captioned("clip", str(tmp_path / "clip.mp4"), "A hammer strikes.")])
    with opened(chromium, serve(root, "--rater", "ann").url) as page:
        is_at(page, 1)
        assert page.locator("main img").count() == 0
        press(page, "v")
        until(page, "document.querySelector('#strip img')?.naturalWidth > 100")
        assert "seconds" in (page.get_attribute("#strip img", "alt") or "")
        press(page, "v")
        assert page.locator("main img").count() == 0


def test_ten_thousand_clips_with_as_many_reviews_do_not_lag(
    chromium: Any, dogs: Callable[[int], Path], serve: Callable[..., Server]
) -> None:
    root, clips = dogs(10_001), 10_001
    folder = root / "reviews"
    reviews = (
        Review("ann", f"clip{i}", 1, "captions", text, i % 9 > 0, text, detail=i % 3 + 1, hallucination=i % 5 + 1)
        for i in range(clips - 1)
        if (text := f"A red dog barks {i} times, loudly.")
    )
    append(folder, next(reviews))
    with (folder / "ann.jsonl").open("a") as file:
        file.writelines(json.dumps({**vars(review), "inaudible": [], "cues": []}) + "\n" for review in reviews)
    server = serve(root, "-n", str(clips), "--rater", "ann")
    started = time.monotonic()
    with opened(chromium, server.url) as page:
        page.wait_for_selector("#words button")
        first = time.monotonic() - started
        page.wait_for_selector("#outline rect", state="attached")
        heard = time.monotonic() - started
        assert page.text_content("#count") == "10000 of 10001 judged"
        started = time.monotonic()
        for _ in range(5):
            number = page.text_content("#which")
            press(page, "k")
            until(page, "was => document.getElementById('which').textContent !== was", number)
            page.wait_for_selector("#outline rect", state="attached")
        each = (time.monotonic() - started) / 5
        print(f"caption {first:.2f} s, sound {heard:.2f} s, another clip with its sound {each:.2f} s", os.getloadavg())
    assert first < 5
    assert each < 2
