"""Briefs, and a writer that asks a server of these tests, with its answers kept."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from model_handlers.api_writer import ApiWriter
from model_handlers.base import Item
from model_handlers.writers import Brief, Draft
from tests.llm_server import LlmServer

HEADINGS = {"audio_tags": "what is heard"}


def brief(name: str | int = "dog", **fields: Any) -> Brief:
    return Brief(f"clip {name}", {"audio_tags": (Item(f"dog {name}", 0.9),)}, **fields)


def writer(server: LlmServer, **fields: Any) -> ApiWriter:
    row = {"model": "any", "base_url": server.url, "key_env": "", "headings": HEADINGS, **fields}
    return ApiWriter(**row)


def asked(server: LlmServer, count: int = 1, **fields: Any) -> list[Draft]:
    told = writer(server, **fields)
    return told.write([brief(n) for n in range(count)], told.load())


class Kept:
    """Keeps answers, as a run does."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, Draft]] = []
        self.threads: set[int] = set()

    def __call__(self, answers: Sequence[tuple[Brief, Draft]]) -> None:
        self.rows.extend((told.clip_id, draft) for told, draft in answers)
        self.threads.add(threading.get_ident())

    def flush(self) -> None:
        pass
