"""How many of the requests that a server could answer are made: 200 at once, of 200 ms each, are 1,000 a second.

Server and client each run in a process of their own. What `ApiWriter` reaches is held against plain HTTP clients and
against the `openai` package, with each of its transports.

    python -m benchmarks.requests
    python -m benchmarks.requests --clients "ApiWriter,plain aiohttp" --requests 16000 --processes 2
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.progress import track
from rich.table import Table

from model_handlers.api_writer import ApiWriter
from model_handlers.base import Item
from model_handlers.pace import Dialect
from model_handlers.writers import Brief
from transforms.answers import Answers
from transforms.store import Store

Seconds = tuple[float, float]  # of the clock, and of this process's cores
Ask = Callable[[], Awaitable[object]]
HEADINGS = {"audio_tags": "sounds, by an audio tagger", "image_caption": "what a picture of the clip shows"}


def briefs(count: int) -> list[Brief]:
    """What is asked: two cues, as a profile has them."""
    tags = tuple(Item(f"Dog {n}", 0.9 - n / 10) for n in range(6))
    return [Brief(f"c{n}", {"audio_tags": tags, "image_caption": (Item(f"a dog {n}"),)}) for n in range(count)]


def writer(url: str, at_once: int) -> ApiWriter:
    """The writer that is measured."""
    return ApiWriter(model="any", base_url=url, key_env="", headings=HEADINGS, in_flight=at_once)


def timed(work: Callable[[int], object], at_once: int, count: int) -> Seconds:
    """Seconds that `work(count)` takes when its connections are there already."""
    work(at_once)
    began, cpu = time.perf_counter(), time.process_time()
    work(count)
    return time.perf_counter() - began, time.process_time() - cpu


def api_writer(url: str, at_once: int, count: int) -> Seconds:
    """`ApiWriter`, with all briefs in one batch, and its answers kept in a store as they come."""
    told = writer(url, at_once)
    connection = told.load()

    def work(number: int) -> None:
        drafts = told.write(briefs(number), connection)
        assert all(draft.caption for draft in drafts)

    with tempfile.TemporaryDirectory() as folder:
        told.answered = Answers(Store(folder), told.fingerprint())
        return timed(work, at_once, count)


def _question(url: str) -> dict:
    return writer(url, 1).question(briefs(1)[0], Dialect("schema"))


def _measured(ask: Ask, at_once: int, count: int) -> Callable[[asyncio.Runner], Seconds]:
    async def several(number: int) -> None:
        left = iter(range(number))

        async def one_after_the_other() -> None:
            for _ in left:
                await ask()

        await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))

    return lambda runner: timed(lambda number: runner.run(several(number)), at_once, count)


def plain_aiohttp(url: str, at_once: int, count: int) -> Seconds:
    """aiohttp and nothing else."""
    import aiohttp

    body = _question(url)
    with asyncio.Runner() as runner:

        async def opened() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

        session = runner.run(opened())

        async def ask() -> None:
            async with session.post(f"{url}/chat/completions", json=body) as reply:
                await reply.json()

        try:
            return _measured(ask, at_once, count)(runner)
        finally:
            runner.run(session.close())


def plain_httpx(url: str, at_once: int, count: int) -> Seconds:
    """The HTTP client that the `openai` package is built on, and nothing else."""
    import httpx2

    body = _question(url)
    with asyncio.Runner() as runner:
        client = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=at_once), timeout=60)

        async def ask() -> None:
            (await client.post(f"{url}/chat/completions", json=body)).json()

        try:
            return _measured(ask, at_once, count)(runner)
        finally:
            runner.run(client.aclose())


def openai_async(url: str, at_once: int, count: int, backend: str = "httpx2") -> Seconds:
    """The `openai` package's asynchronous client, on httpx2 or on aiohttp."""
    import httpx2
    import openai

    body = _question(url)
    kind = openai.DefaultAioHttpClient if backend == "aiohttp" else openai.DefaultAsyncHttpxClient
    with asyncio.Runner() as runner:
        limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=kind(limits=limits))

        async def ask() -> None:
            await client.chat.completions.create(**body)

        try:
            return _measured(ask, at_once, count)(runner)
        finally:
            runner.run(client.close())


def openai_threads(url: str, at_once: int, count: int) -> Seconds:
    """The `openai` package's ordinary client, and a thread for each request."""
    import httpx2
    import openai

    body = _question(url)
    limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
    http = httpx2.Client(limits=limits, timeout=60)
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, http_client=http) as client:

        def ask(_: int) -> None:
            client.chat.completions.create(**body)

        with ThreadPoolExecutor(at_once) as threads:
            return timed(lambda number: list(threads.map(ask, range(number))), at_once, count)


CLIENTS: dict[str, Callable[[str, int, int], Seconds]] = {
    "ApiWriter": api_writer,
    "plain aiohttp": plain_aiohttp,
    "plain httpx2": plain_httpx,
    "openai, aiohttp": lambda url, at_once, count: openai_async(url, at_once, count, "aiohttp"),
    "openai, httpx2": openai_async,
    "openai, threads": openai_threads,
}


def measure(name: str, at_once: int, count: int, latency_s: float, processes: int) -> Seconds:
    """Seconds that `count` requests take a client, shared out to fresh processes, against a server in another."""
    command = [sys.executable, "-m", "tests.llm_server", "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            url = server.stdout.readline().strip()
            shares = [str(at_once // processes), str(count // processes)]
            once = [sys.executable, "-m", "benchmarks.requests", "--once", name, url, *shares]
            begun = [subprocess.Popen(once, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
            ended = [json.loads(process.communicate()[0]) for process in begun]
            return max(took for took, _ in ended), sum(cpu for _, cpu in ended)
        finally:
            server.kill()


def main(arguments: list[str] | None = None) -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", default=",".join(CLIENTS).replace(", ", "/"), help="which, by name")
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--requests", type=int, default=8000)
    parser.add_argument("--processes", type=int, default=1, help="that share the requests, as a run's workers do")
    parser.add_argument("--latency", type=float, default=0.2, help="of the server, in seconds")
    parser.add_argument("--once", nargs=4, help=argparse.SUPPRESS)  # name, address, at once, requests: in this process
    given = parser.parse_args(arguments)
    if given.once:
        name, url, at_once, count = given.once
        print(json.dumps(CLIENTS[name](url, int(at_once), int(count))))
        return
    ideal = given.at_once / given.latency
    table = Table("client", "requests/s", f"of {ideal:,.0f}/s", "ms of a core per request")
    for name in track([n.replace("/", ", ") for n in given.clients.split(",")], transient=True):
        took, cpu = measure(name, given.at_once, given.requests, given.latency, given.processes)
        rate = given.requests / took
        table.add_row(name, f"{rate:,.0f}", f"{rate / ideal:.0%}", f"{1000 * cpu / given.requests:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
