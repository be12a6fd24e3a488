"""What the tests' language model answers when all is well, and in how many ways it can go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from time import time
from typing import Any

Reply = tuple[int, dict[str, str], bytes]  # status, headers, body
Refusal = Callable[[float, str], Reply]  # of how long the server wants to be left alone, and the key that was sent
Answer = Callable[[Mapping[str, Any]], dict[str, Any]]  # to a request's body
Mischief = Callable[[asyncio.StreamWriter], Awaitable[None]]


def clip_of(body: Mapping[str, Any]) -> str:
    """Whose request it is: the first user message, which shows the clip's cues."""
    return next(m["content"] for m in body["messages"] if m["role"] == "user")


def answer_to(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a well-behaved model answers: a caption of what the cues of the sound say first."""
    cues = [json.loads(line) for line in clip_of(body).splitlines() if line.startswith("{")]
    if "<caption>" in clip_of(body):
        return {"pairs": questions_of(cues)}
    heard = [cue for cue in cues if "audio" in cue["cue"]] or cues
    sounds = list(
        dict.fromkeys((cue["says"][0]["text"].lower().strip(". "), cue["cue"]) for cue in heard if cue["says"])
    )
    if not sounds:
        none = {"caption": "", "events": [], "abstained": "The cues do not tell what can be heard."}
        return {**none, **besides(body, dict.fromkeys(TEXTS, ""))}
    events = [{"sound": sound, "cues": [cue]} for sound, cue in sounds[:2]]
    said = " and ".join(dict.fromkeys(sound for sound, _ in sounds[:2]))
    caption = f"The sound of {said} can be heard."
    return {
        "caption": caption,
        "events": events,
        "abstained": "",
        **besides(body, TEXTS | {"short": f"There is {said}."}),
    }


# What it writes in other forms and languages, and says to be open, of any clip.
TEXTS = {
    "short": "There is a sound.",
    "detailed": " ".join(["The sound begins softly at first, swells, comes again and then fades away."] * 3),
    **dict.fromkeys(("speech", "music", "place"), ""),
    "sound": "A sound begins softly, swells and fades.",
    "de": "Man hört ein Geräusch, das langsam lauter wird und wieder verklingt.",
    "fr": "On entend un bruit qui devient plus fort et qui s'éteint ensuite.",
}


def besides(body: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """What the request's schema demands beside the caption: forms and languages by their names, and ambiguities."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    wanted = {
        name: schema["$defs"][name.capitalize()]["properties"]
        for name in ("forms", "languages")
        if name in schema.get("properties", {})
    }
    found: dict[str, Any] = {name: {key: texts[key] for key in keys} for name, keys in wanted.items()}
    return found | ({"ambiguities": ["how far away it is"]} if "ambiguities" in schema.get("properties", {}) else {})


def questions_of(cues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Three questions about what the cues say: two that hold, and one that asks for what is seen."""
    names, sounds = [cue["cue"] for cue in cues], [item["text"] for cue in cues for item in cue["says"]]
    found = [
        ("What can be heard?", f"The sound of {' and '.join(dict.fromkeys(sounds))}.", []),
        ("Which of these can be heard?", sounds[0], ["a submarine", sounds[0], "an accordion", "a volcano"]),
        ("What can be seen in the picture?", sounds[0], []),
    ]
    return [
        {"kind": "sound", "question": question, "answer": answer, "choices": choices, "cues": names}
        for question, answer, choices in found
    ]


def completion(body: Mapping[str, Any], fault: str = "", answer: Answer = answer_to) -> dict[str, Any]:
    """A chat completion that gives `answer` to `body`, with what `fault` does to its content."""
    content: str | None = json.dumps(answer(body))
    message: dict[str, Any] = {"role": "assistant"}
    finish = "stop"
    match fault:
        case "wrong_schema":
            content = json.dumps({"sentence": "A dog barks.", "score": 3})
        case "bad_caption":
            bad = {"caption": "The image shows a red car.", "events": [], "abstained": ""}
            content = json.dumps(bad)
        case "odd":
            odd = {"caption": "A dog \ud800 barks.", "events": [], "abstained": ""}
            content = json.dumps(odd, ensure_ascii=False)
        case "abstains":
            content = json.dumps({"caption": "", "events": [], "abstained": "Nothing is certain."})
        case "length":
            content, finish = str(content)[:20], "length"
        case "content_filter":
            content, finish = None, "content_filter"
        case "refusal":
            content, message["refusal"] = None, "I cannot\nhelp with that. " + "x" * 5000
    message["content"] = content
    tokens_in, tokens_out = sum(len(m["content"]) for m in body["messages"]) // 4, len(content or "") // 4
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    found = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "usage": usage}
    if fault == "no_usage":
        del found["usage"]
    if fault == "cached":
        found["usage"] = {**usage, "prompt_tokens_details": {"cached_tokens": tokens_in // 2}}
    if fault == "boasts":
        found["usage"] = {"prompt_tokens": 10**400, "completion_tokens": -1}
    return {**found, "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def as_json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A reply with a JSON body."""
    return status, headers or {}, json.dumps(content).encode()


def failure(status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> Reply:
    """A reply that says what went wrong, as OpenAI does."""
    return as_json({"error": {"message": message, "type": "error", "param": None, "code": code}}, status, headers)


def _limit(headers: Callable[[float], dict[str, str]]) -> Refusal:
    return lambda wait_s, _: failure(429, "Rate limit reached", "rate_limit", headers(wait_s))


def _plain(status: int, message: str = "no", code: str | None = None) -> Refusal:
    return lambda _, key: failure(status, message.replace("KEY", key), code)


# Faults that are a proper HTTP reply.
STATUSES: dict[str, Refusal] = {
    "400": _plain(400, "Your input image is not valid"),
    "401": _plain(401, "Incorrect API key provided: KEY. It ends in sk-abc12***********wxyz.", "invalid_api_key"),
    "403": _plain(403, "KEY may not"),
    "404": _plain(404, "The model `any` does not exist", "model_not_found"),
    "408": _plain(408),
    "409": _plain(409),
    "413": _plain(413),
    "422": _plain(422),
    "429": _plain(429, "Rate limit reached"),
    "429_seconds": _limit(lambda s: {"Retry-After": f"{s:.3f}"}),
    "429_ms": _limit(lambda s: {"retry-after-ms": str(int(1000 * s))}),
    "429_date": _limit(lambda s: {"Retry-After": formatdate(time() + s, usegmt=True)}),
    "quota": _plain(429, "You exceeded your current quota, please check your plan", "insufficient_quota"),
    "500": _plain(500, "The server had an error"),
    "503": _plain(503, "Overloaded"),
    "no_choices": lambda *_: as_json({"id": "x", "object": "chat.completion", "choices": []}),
    "null_choices": lambda *_: as_json({"choices": [{"message": None}]}),
    "list": lambda *_: as_json([1, 2]),
    "nested": lambda *_: (200, {}, b"[" * 900_000),
    "garbage": lambda *_: (200, {}, b"\xff\xfe<html>Bad gateway"),
    "html": lambda *_: (502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>"),
}
# Faults of a completion, which is paid for nonetheless.
PAID = (
    "odd",
    "wrong_schema",
    "bad_caption",
    "abstains",
    "length",
    "content_filter",
    "refusal",
    "no_usage",
    "cached",
    "boasts",
)


async def _reset(out: asyncio.StreamWriter) -> None:
    out.transport.abort()


async def _half(out: asyncio.StreamWriter) -> None:
    out.write(b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"choices": [{"message": {"content": "{')
    await out.drain()
    out.close()


async def _not_http(out: asyncio.StreamWriter) -> None:
    out.write(b"220 smtp.example.org ready\r\n")
    await out.drain()
    out.close()


async def _endless(out: asyncio.StreamWriter, status: str = "200 OK") -> None:
    out.write(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    chunk = b" " * (1 << 16)
    while True:
        out.write(b"10000\r\n" + chunk + b"\r\n")
        await out.drain()


async def _endless_error(out: asyncio.StreamWriter) -> None:
    await _endless(out, "500 Internal Server Error")


async def _slow(out: asyncio.StreamWriter) -> None:
    out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while True:
        out.write(b" ")
        await out.drain()
        await asyncio.sleep(0.05)


async def _hang(out: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


ON_THE_WIRE: dict[str, Mischief] = {
    "reset": _reset,
    "half": _half,
    "not_http": _not_http,
    "endless": _endless,
    "endless_error": _endless_error,
    "slow": _slow,
    "hang": _hang,
}
FAULTS = (*STATUSES, *PAID, *ON_THE_WIRE)
