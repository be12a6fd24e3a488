"""The README's pictures of Earshot's pages: ``python -m tests.pages.pictures DATASET docs/``; needs Chromium."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from beam_pipeline.report.build import report
from tests.pages.conftest import launched
from tests.pages.test_review_page import Server

GAP = 24  # pixels between pictures that stand beside each other
HEIGHT = 960
DESKTOP, PHONE = (1180, HEIGHT), (400, HEIGHT)


def shot(browser: Any, url: str, size: tuple[int, int], scheme: str, keys: str = "") -> Image.Image:
    """A window at `url`, after some keys."""
    width, height = size
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    page.goto(url)
    page.wait_for_timeout(1500)  # fonts, scrolling, the sound's outline
    for key in keys.split():
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        page.screenshot(path=file.name)
        return Image.open(file.name).convert("RGB")


def beside(left: Image.Image, right: Image.Image, path: Path) -> None:
    """Two pictures of one height as one."""
    joined = Image.new("RGB", (left.width + GAP + right.width, HEIGHT), "white")
    joined.paste(left, (0, 0))
    joined.paste(right, (left.width + GAP, 0))
    joined.quantize(160).save(path, optimize=True)


def main(dataset: str, to: str) -> None:
    """Makes ``report.png``, ``gallery.png`` and ``review.png`` of a dataset."""
    folder = Path(to)
    with tempfile.TemporaryDirectory() as scratch, launched() as browser:
        page = Path(report(dataset, output=str(Path(scratch, "report.html")))).resolve().as_uri()
        overview = shot(browser, f"{page}#captions", DESKTOP, "light")
        beside(overview, shot(browser, page, PHONE, "dark"), folder / "report.png")
        gallery = shot(browser, f"{page}#gallery", DESKTOP, "light")
        beside(gallery, shot(browser, f"{page}#c1", PHONE, "dark"), folder / "gallery.png")
        server = Server(Path(dataset), "-n", "100", "--rater", "ann", "--reviews", str(Path(scratch, "reviews")))
        try:
            judged = shot(browser, server.url, DESKTOP, "light", "y d 2 5 Enter r")
            beside(judged, shot(browser, server.url, PHONE, "dark"), folder / "review.png")
        finally:
            server.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
