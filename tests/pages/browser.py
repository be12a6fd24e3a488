"""What a page has to be in a browser, whatever is on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@contextmanager
def opened(chromium: Any, url: str, viewport: dict[str, int] | None = None, scheme: str = "light") -> Iterator[Any]:
    """Gives playwright's `Page` at `url`; at the end nothing may have gone wrong on it or been asked of a network."""
    context = chromium.new_context(viewport=viewport or DESKTOP, color_scheme=scheme, accept_downloads=True)
    page = context.new_page()
    wrong: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    try:
        yield page
        assert wrong == []
        home = url.split("/", 3)[:3]
        assert [one for one in asked if not one.startswith(("data:", "blob:")) and one.split("/", 3)[:3] != home] == []
    finally:
        context.close()


def violations(page: Any) -> list[str]:
    """What axe finds wrong for people who read with a screen reader, a keyboard or little contrast."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def overflows(page: Any) -> bool:
    """Whether the page is wider than the window, so that a phone has to scroll sideways."""
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
