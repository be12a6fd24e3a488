"""Pages in a real browser: `make test-pages` runs these tests, in Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob = [] if os.environ.get("EARSHOT_TEST_PAGES") else ["test_*.py"]

# No sandbox, because Chromium has none for root; no calls home, because a test needs no network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A headless Chromium, of playwright's `Browser`."""
    with launched() as browser:
        yield browser


@contextmanager
def launched() -> Iterator[Any]:
    """The same for as long as a context lasts."""
    from playwright.sync_api import sync_playwright

    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, filter(None, names))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the demo's models and 20 real clips: captions, and clips that ended for every fault."""
    from beam_pipeline.config import load_profile
    from beam_pipeline.run import run
    from demo.world import FAULTS, make_scene, write_scenes
    from transforms.ingest import ClipSource

    world = tmp_path_factory.mktemp("world")
    kinds = [None] * 12 + list(FAULTS)
    write_scenes([make_scene(4321, index, fault=kind) for index, kind in enumerate(kinds)], world)
    output = tmp_path_factory.mktemp("dataset")
    run(load_profile("demo"), ClipSource(str(world / "clips.csv")), str(output), quiet=True)
    return output
