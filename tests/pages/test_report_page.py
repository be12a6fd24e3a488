"""The report in a browser: it shows, plays, filters, links phrases to cues, and runs nothing that a dataset holds."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import fastavro
import pytest

from beam_pipeline.dataset import Dataset
from beam_pipeline.report.build import report
from tests.pages.browser import PHONE, opened, overflows, violations
from transforms.avro import avro_schema, to_record
from transforms.publish import DATASETS
from transforms.records import Attempt, Pair, Version


@pytest.fixture(scope="module")
def page(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the demo's clips, one of which was asked for again, has questions and other forms."""
    copy = Path(shutil.copytree(dataset, tmp_path_factory.mktemp("page") / "demo"))
    add_to_first(copy)
    return Path(report(str(copy), quiet=True)).as_uri()


def add_to_first(root: Path) -> None:
    """Gives the first caption what only other profiles ask for."""
    version = Dataset.open(str(root))
    rows = list(version.rows("captions"))
    clip = rows[0]["clip"]
    rows[0]["attempts"] = [to_record(Attempt("A dog barks (0.93).", "numbers", "It contains a number."))]
    rows[0]["versions"] = [to_record(Version("short", "en", "Dog barking."))]
    rows[0]["ambiguities"] = ["how many dogs"]
    about = {"source": "", "start_s": 0.0, "end_s": None, "split": "", "benchmarks": (), "evidence": (), "writer": "w"}
    said = {
        "kind": "sound",
        "form": "choice",
        "question": "What barks?",
        "answer": "a dog",
        "choices": ("a cat", "a dog"),
    }
    pair = to_record(Pair(clip_id=clip["clip_id"], video_id=clip["video_id"], **about, **said))
    folder = Path(version.folder)
    write(folder / "captions.avro", "captions", rows)
    write(folder / "qa.avro", "qa", [pair])
    manifest = version.manifest | {"pairs": {"published": 1, "kinds": {}, "forms": {}, "dropped": {}}}
    manifest["files"] = manifest["files"] | {"captions": ["captions.avro"], "qa": ["qa.avro"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def write(path: Path, name: str, rows: list[dict[str, Any]]) -> None:
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(avro_schema(DATASETS[name])), rows)


def until(tab: Any, holds: str) -> None:
    """Waits for an expression to hold; playwright's own way of waiting is not allowed by the page's policy."""
    for _ in range(100):
        if tab.evaluate(holds):
            return
        time.sleep(0.1)
    raise AssertionError(holds)


def shown(tab: Any) -> int:
    return tab.locator("article.clip:visible").count()


def test_every_section_and_every_clip_is_there(chromium: Any, page: str) -> None:
    with opened(chromium, page) as tab:
        assert "version 1" in tab.locator("h1").inner_text()
        names = [link.get_attribute("href") for link in tab.locator("nav a").all()]
        assert names[-1] == "#gallery"
        assert len(names) > 6
        for name in names:
            assert tab.locator(name).count() == 1
        assert tab.locator("section").count() == len(names) - 1
        svgs = tab.locator("figure svg")
        assert svgs.count() >= 6
        assert all(svg.bounding_box()["height"] > 20 for svg in svgs.all())
        assert shown(tab) == 20
        ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
        assert len(ids) == len(set(ids))
        links = tab.evaluate(
            "[...document.querySelectorAll('[data-links]')].flatMap((one) => one.dataset.links.split(' '))"
        )
        assert set(links) - {""} <= set(ids)


def test_a_player_plays_and_stops_the_one_before(chromium: Any, page: str) -> None:
    with opened(chromium, page) as tab:
        first, second = tab.locator("audio").nth(0), tab.locator("audio").nth(1)
        assert first.get_attribute("preload") == "none"
        first.evaluate("(player) => { player.muted = true; return player.play(); }")
        until(tab, "document.querySelectorAll('audio')[0].currentTime > 0.2")
        assert 9 < first.evaluate("(player) => player.duration") < 11
        second.evaluate("(player) => { player.muted = true; return player.play(); }")
        until(tab, "document.querySelectorAll('audio')[0].paused")


def test_frames_are_drawn_and_described(chromium: Any, page: str) -> None:
    with opened(chromium, page) as tab:
        strip = tab.locator("article img").first
        strip.scroll_into_view_if_needed()
        until(tab, "document.querySelector('article img').naturalWidth > 0")
        assert strip.evaluate("(image) => image.naturalHeight") == 90
        assert strip.get_attribute("alt").startswith("Frames of the clip at 0.0, ")


def test_filters_leave_what_was_asked_for_and_say_how_many(chromium: Any, page: str) -> None:
    with opened(chromium, page) as tab:
        count = tab.locator("output")
        assert count.inner_text() == "20 clips"
        reset = tab.get_by_role("button", name="Show all")
        assert not reset.is_visible()
        tab.get_by_label("end").select_option("rejected")
        rejected = shown(tab)
        assert 0 < rejected < 20
        assert count.inner_text() == f"{rejected} of 20 clips"
        assert set(tab.locator("article.clip:visible .end").all_text_contents()) > {"rejected: no_audio"}
        tab.get_by_label("reason").select_option("no_audio")
        assert shown(tab) == 1
        tab.get_by_label("search").fill("no such words at all")
        assert shown(tab) == 0
        assert tab.get_by_text("No clip here is like that.").is_visible()
        reset.click()
        until(tab, "document.querySelector('output').value === '20 clips'")
        assert shown(tab) == 20
        assert not tab.get_by_text("No clip here is like that.").is_visible()


def test_the_search_finds_words_of_captions_cues_and_ids_whatever_their_case(chromium: Any, page: str) -> None:
    with opened(chromium, page) as tab:
        search = tab.get_by_label("search")
        clip_id = tab.locator("article.clip h3").nth(2).text_content()
        search.fill(clip_id.upper())
        assert tab.locator("article.clip:visible h3").all_text_contents() == [clip_id]
        search.fill("how MANY dogs")
        assert shown(tab) == 1
        search.fill("audio_tags")
        assert shown(tab) > 10


def test_only_those_that_were_asked_for_again(chromium: Any, page: str) -> None:
    with opened(chromium, page) as tab:
        tab.get_by_label("asked for again").check()
        assert shown(tab) == 1
        card = tab.locator("article.clip:visible")
        for text in ("A dog barks (0.93).", "It contains a number."):
            assert card.get_by_text(text).is_visible()
        assert not card.get_by_text("Dog barking.").is_visible()
        for summary in ("In 1 other form", "What the cues leave open", "1 question"):
            card.get_by_text(summary, exact=True).click()
        for text in ("Dog barking.", "how many dogs", "What barks?", "a dog ✓"):
            assert card.get_by_text(text).is_visible()


def lit(tab: Any) -> set[str]:
    return set(tab.evaluate("[...document.querySelectorAll('.on')].map((one) => one.id)"))


def test_a_phrase_and_its_cues_point_at_each_other_by_keyboard(chromium: Any, page: str) -> None:
    with opened(chromium, page) as tab:
        phrase = tab.locator(".phrase[data-links]").first
        links = set(phrase.get_attribute("data-links").split())
        assert len(links) > 1
        tab.locator("article.clip audio").first.focus()
        for _ in range(12):  # through the player's own buttons
            tab.keyboard.press("Tab")
            if tab.evaluate("document.activeElement.matches('.phrase')"):
                break
        assert lit(tab) == links | {phrase.get_attribute("id")}
        described = tab.evaluate(
            "document.getElementById(document.activeElement.getAttribute('aria-describedby')).textContent"
        )
        assert described.startswith("rests on ")
        tab.keyboard.press("Enter")
        assert phrase.get_attribute("aria-pressed") == "true"
        tab.locator("h2").last.click()  # elsewhere: what was pressed stays lit
        phrase.evaluate("(one) => one.blur()")
        assert lit(tab) == links | {phrase.get_attribute("id")}
        tab.keyboard.press("Escape")
        assert lit(tab) == set()
        assert phrase.get_attribute("aria-pressed") == "false"
        cue = tab.locator("article.clip").first.locator(".cue button").first
        cue.focus()
        holder = cue.locator("xpath=..")
        assert lit(tab) == set(holder.get_attribute("data-links").split()) | {holder.get_attribute("id")}
        tab.keyboard.press("Space")
        assert cue.get_attribute("aria-pressed") == "true"


def test_a_phrase_and_its_cues_point_at_each_other_by_mouse_and_by_touch(chromium: Any, page: str) -> None:
    with opened(chromium, page) as tab:
        phrase = tab.locator(".phrase[data-links]").first
        phrase.hover()
        assert lit(tab) == {*phrase.get_attribute("data-links").split(), phrase.get_attribute("id")}
        tab.locator("article.clip h3").first.hover()
        assert lit(tab) == set()
        phrase.click()
        tab.locator("article.clip h3").first.hover()
        assert phrase.get_attribute("id") in lit(tab)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_nobody_is_left_out(chromium: Any, page: str, scheme: str, viewport: dict[str, int] | None) -> None:
    with opened(chromium, page, viewport, scheme) as tab:
        tab.add_style_tag(
            content=".clips > li { content-visibility: visible !important; }"
        )  # all of them are looked at
        assert violations(tab) == []
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.locator(".phrase[data-links]").first.click()
        assert violations(tab) == []
        assert not overflows(tab)


def test_the_row_of_sections_stays_in_sight_and_follows(chromium: Any, page: str) -> None:
    with opened(chromium, page, PHONE) as tab:
        tab.locator("nav a[href='#gallery']").click()
        until(tab, "document.querySelector('nav [aria-current]')?.hash === '#gallery'")
        box = tab.locator("nav").bounding_box()
        assert box["y"] == 0
        assert tab.locator("nav a[href='#gallery']").bounding_box()["x"] < PHONE["width"]


def test_a_report_without_clips_says_so(chromium: Any, dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    report(str(dataset), clips=0, output=str(path), quiet=True)
    with opened(chromium, path.as_uri()) as tab:
        assert tab.get_by_text("No clips are shown.").is_visible()
        assert violations(tab) == []


ATTACKS = (
    '"><img src=x onerror="window.hit=\'image\'">',
    "</script><script>window.hit='script'</script>",
    "'><svg onload=window.hit='svg'></svg>",
    "javascript:window.hit='link'",
    "</style></title></textarea>--><body onload=window.hit='body'>",
    "{{ 7 * 7 }}{% raw %}<iframe srcdoc='<script>parent.hit=1</script>'></iframe>\u202e\u2028\x00\x1b[31m",
)


class Hostile:
    """Every text but addresses and what names a file, with an attack behind it; the same one for the same text."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def text(self, text: str) -> str:
        return self.known.setdefault(text, f"{text} {ATTACKS[len(self.known) % len(ATTACKS)]}")

    def of(self, value: Any, keys: bool = False) -> Any:
        match value:
            case str():
                return self.text(value)
            case dict():
                kept = ("uri", "kind", "fingerprint", "handler")
                return {self.text(k) if keys else k: v if k in kept else self.of(v) for k, v in value.items()}
            case list():
                return [self.of(one) for one in value]
        return value


@pytest.fixture(scope="module")
def hostile(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    copy = Path(shutil.copytree(dataset, tmp_path_factory.mktemp("hostile") / "a <b> & 'c'"))
    add_to_first(copy)
    version = Dataset.open(str(copy))
    evil = Hostile()
    for name in DATASETS:
        write(Path(version.folder) / f"{name}.avro", name, [evil.of(row) for row in version.rows(name)])
    manifest = dict(version.manifest)
    for name in ("notice", "profile", "model", "prompt", "order", "source", "earshot", "digest"):
        manifest[name] = evil.of(manifest[name])
    for name in ("cues", "costs", "splits"):
        manifest[name] = evil.of(manifest[name], keys=True)
    manifest["reasons"] = {"/".join(map(evil.text, key.split("/"))): n for key, n in manifest["reasons"].items()}
    manifest["files"] = {name: [f"{name}.avro"] for name in DATASETS}
    (Path(version.folder) / "manifest.json").write_text(json.dumps(manifest))
    return Path(report(str(copy), quiet=True)).as_uri()


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_a_hostile_dataset_runs_nothing(chromium: Any, hostile: str, viewport: dict[str, int] | None) -> None:
    with opened(chromium, hostile, viewport) as tab:
        assert shown(tab) == 20
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        tab.locator(".phrase[data-links]").first.click()
        tab.get_by_label("end").select_option("captioned")
        tab.get_by_label("search").fill("onerror")
        assert shown(tab) > 0
        tab.wait_for_timeout(300)
        assert tab.evaluate("window.hit") is None
        assert tab.locator("iframe, script:not([src])").count() == 1  # its own
        assert tab.locator("img:not([src^='data:']), a:not([href^='#']), [onload], [onerror]").count() == 0
        assert "7 * 7" in tab.locator("body").text_content()
        assert not overflows(tab)
