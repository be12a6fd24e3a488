"""The README's pictures of Earshot's pages: ``python -m tests.pages.pictures DATASET docs/``; needs Chromium."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from beam_pipeline.report.build import report
from tests.pages.browser import DESKTOP, PHONE
from tests.pages.conftest import launched

GAP = 24  # pixels between pictures that stand beside each other


def beside(pictures: list[Path], path: Path) -> None:
    """Joins pictures of one height."""
    images = [Image.open(picture).convert("RGB") for picture in pictures]
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    joined = Image.new("RGB", (width, max(image.height for image in images)), "white")
    left = 0
    for image in images:
        joined.paste(image, (left, 0))
        left += image.width + GAP
    joined.quantize(128).save(path, optimize=True)


def shots(browser: Any, url: str, folder: Path) -> list[Path]:
    """The report's beginning and its gallery on a desktop, and the gallery on a phone in the dark."""
    wanted = (
        ("overview", DESKTOP, "light", ""),
        ("clips", DESKTOP, "light", "#clips"),
        ("phone", PHONE, "dark", "#clips"),
    )
    paths = []
    for name, viewport, scheme, where in wanted:
        size = {"width": viewport["width"], "height": 900}
        page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
        page.goto(url + where)
        page.wait_for_timeout(300)  # the page scrolls to its place
        paths.append(folder / f"{name}.png")
        page.screenshot(path=str(paths[-1]))
        page.context.close()
    return paths


def main(dataset: str, to: str) -> None:
    """Makes ``report.png`` of a dataset."""
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        page = Path(report(dataset, output=str(Path(folder, "report.html"))))
        beside(shots(browser, page.resolve().as_uri(), Path(folder)), Path(to, "report.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
