"""Which captions people are shown: drawn by a seed, in proportion to sources and splits, in one pass over a dataset.

What is drawn hangs on the seed and the clips' ids alone: a clip's place is a hash of both, and of each stratum those
with the lowest are taken. So neither the order of rows nor that of files matters, every rater has the same clips, and a
larger sample holds a smaller one, but for a clip or two where strata are rounded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import heapq
import json
import re
import secrets
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from beam_pipeline.dataset import Dataset
from beam_pipeline.review.ratings import counted_rows
from transforms.records import Clip

BLOCK = 100  # clips that all raters are shown before any of the next, each in an order of their own
_MOST_ITEMS, _MOST_LETTERS = 12, 600  # of a cue, and of an item: more is not read anyway
_EMBEDDING = re.compile(r"[A-Za-z0-9+/=]{200,}")  # in base64: nothing to read
# What the handlers of speech put beside what was said: that nobody speaks, how surely, and in which language.
_MEASURED = re.compile(r"no speech|language [a-z]{2,3}")
_CLIP = tuple(field.name for field in fields(Clip))

Stratum = tuple[str, str, str]  # outcome, source, split


@dataclass(frozen=True)
class Said:
    """One thing that a cue says; as `Item` has it, without the box."""

    text: str
    score: float | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, order=True)
class Drawn:
    """A caption that was drawn; `unpack` has the rest."""

    clip_id: str
    caption: str
    packed: bytes


@dataclass(frozen=True)
class Sampled:
    """A caption to be judged, with what is needed for it.

    Attributes:
        outcome: ``captions`` or ``rejected``.
        clip: which.
        caption: as the version has it.
        cues: by name, what those say that can be judged.
    """

    outcome: str
    clip: Clip
    caption: str
    cues: dict[str, tuple[Said, ...]]


def place(seed: int | str, clip_id: str) -> int:
    """A number of 64 bits that hangs on both."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{clip_id}".encode("utf-8", "replace"), digest_size=8).digest())


class Sampler:
    """Draws up to `count` captions out of rows that go by; holds at most as many of each stratum, packed.

    Args:
        count: of captions.
        seed: of the draw.
        silent: cues that say nothing that can be right or wrong to a listener (`silent_cues`).
    """

    def __init__(self, count: int, seed: int = 0, silent: frozenset[str] = frozenset()) -> None:
        self._count, self._seed, self._silent = count, seed, silent
        self._kept: dict[Stratum, list[tuple[int, Drawn]]] = {}  # heaps, the highest place first
        self._seen: Counter[Stratum] = Counter()

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Takes a row of ``captions`` or ``rejected``, as `Dataset.rows` has it; one without a caption is left out."""
        if not row["caption"]:
            return
        clip_id = row["clip"]["clip_id"]
        stratum = (name, row["clip"]["source"], row.get("split", ""))
        self._seen[stratum] += 1
        kept, at = self._kept.setdefault(stratum, []), place(self._seed, clip_id)
        if len(kept) < self._count:
            heapq.heappush(kept, (-at, self._drawn(name, row)))
        elif -at > kept[0][0]:
            heapq.heapreplace(kept, (-at, self._drawn(name, row)))

    def result(self) -> list[Drawn]:
        """The sample, in an order that is drawn as well."""
        chosen: list[tuple[int, Drawn]] = []
        for stratum, number in allot(self._seen, self._count, self._seed).items():
            chosen += heapq.nlargest(number, self._kept[stratum]) if number else []
        return [drawn for _, drawn in sorted(chosen, reverse=True)]

    def _drawn(self, name: str, row: dict[str, Any]) -> Drawn:
        return Drawn(row["clip"]["clip_id"], row["caption"], pack(name, row, self._silent))


def draw(dataset: Dataset, count: int, seed: int = 0, rejected: bool = False) -> list[Drawn]:
    """Draws captions of a version; with `rejected`, of those too that were rejected with a caption.

    Raises:
        ConfigError: a file cannot be read.
    """
    sampler = Sampler(count, seed, silent_cues(dataset.manifest))
    for name in ("captions", "rejected") if rejected else ("captions",):
        for row in counted_rows(dataset, name, f"drawing from {name}"):
            sampler.add(name, row)
    return sampler.result()


def drawn_once(dataset: Dataset, folder: Path, count: int, seed: int = 0, rejected: bool = False) -> list[Drawn]:
    """Does what `draw` does, but remembers in `folder` what was drawn: reading millions of rows takes minutes.

    Where the folder cannot be written, as another user's, it is drawn every time. Raises as `draw` does.
    """
    which = dataset.manifest.get("digest") or f"version-{dataset.version}-{_hash_of(dataset.root)}"
    path = folder / f"{which}-{count}-{seed}{'-rejected' if rejected else ''}.jsonl"
    with suppress(OSError, ValueError, TypeError, binascii.Error):  # not there yet, or broken: it is drawn again
        with path.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        head, *rest = rows
        if head == {"sample": len(rest)}:
            return [Drawn(clip_id, caption, base64.b64decode(packed)) for clip_id, caption, packed in rest]
    sample = draw(dataset, count, seed, rejected)
    lines: list[Any] = [{"sample": len(sample)}]
    lines += [[one.clip_id, one.caption, base64.b64encode(one.packed).decode()] for one in sample]
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    with suppress(OSError):  # it is only a cache
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return sample


def _hash_of(root: str) -> str:
    whole = root if "://" in root else str(Path(root).resolve())
    return hashlib.blake2b(whole.encode("utf-8", "replace"), digest_size=8).hexdigest()


def allot(sizes: dict[Stratum, int], count: int, seed: int = 0) -> dict[Stratum, int]:
    """Shares `count` out among strata in proportion to their sizes.

    Each has what is due to it, rounded up or down: systematic sampling over the strata in an order that is drawn, so
    that over all seeds every clip is as likely as any other, be its stratum small or large. A small one may have none.
    """
    total = sum(sizes.values())
    count = min(count, total)
    if not count:
        return {}
    given, reached = {}, place(seed, "start") % total
    for stratum in sorted(sizes, key=lambda one: place(seed, "\0".join(one))):
        before, reached = reached, reached + count * sizes[stratum]
        given[stratum] = reached // total - before // total
    return given


def silent_cues(manifest: dict[str, Any]) -> frozenset[str]:
    """Names of the cues that are measurements: the filters' own, the embedding, and what describes the file."""
    filters, cues = manifest["filters"], manifest["cues"]
    named = {filters.get(name, {}).get("cue") for name in ("silence", "sync") if isinstance(filters.get(name), dict)}
    named.add((manifest.get("similarity") or {}).get("cue"))
    named |= {name for name, cue in cues.items() if cue.get("model") in ("MediaFacts", "Loudness")}
    return frozenset(filter(None, named))


def pack(name: str, row: dict[str, Any], silent: Iterable[str] = ()) -> bytes:
    """What is needed of a row, in a fifth of the space; `unpack` undoes it."""
    readable = {cue["name"]: list(filter(_is_readable, cue["items"])) for cue in row["cues"]}
    cues = {cue: _cut(items) for cue, items in readable.items() if cue not in silent and items}
    said = {"outcome": name, "clip": row["clip"], "caption": row["caption"], "cues": cues}
    return zlib.compress(json.dumps(said, ensure_ascii=False).encode("utf-8", "replace"), 6)


def unpack(packed: bytes) -> Sampled:
    """Returns what `pack` packed."""
    said = json.loads(zlib.decompress(packed))
    clip = {name: said["clip"][name] for name in _CLIP if name in said["clip"]}
    clip["labels"] = tuple(clip.get("labels", ()))
    cues = {name: tuple(Said(*item) for item in items) for name, items in said["cues"].items()}
    return Sampled(said["outcome"], Clip(**clip), said["caption"], cues)


def _is_readable(item: dict[str, Any]) -> bool:
    """Whether an item says something of the sound: no number of a transcript's, and no embedding."""
    text = item["text"]
    return bool(text.strip()) and not _EMBEDDING.fullmatch(text) and not _MEASURED.fullmatch(text)


def _cut(items: list[dict[str, Any]]) -> list[list[Any]]:
    """What is shown of a cue's items; what is left out is said."""
    shown: list[list[Any]] = []
    for item in items[:_MOST_ITEMS]:
        text = item["text"]
        cut = text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"
        shown.append([cut, *map(item.get, ("score", "start_s", "end_s"))])
    if len(items) > _MOST_ITEMS:
        shown.append([f"and {len(items) - _MOST_ITEMS} more"])
    return shown


def in_order_of(rater: str, seed: int, clip_ids: Sequence[str]) -> list[int]:
    """Returns in which order a rater is shown the sample: places in `clip_ids`.

    Whoever tires, tires over other clips than the others do; but block by block, so that raters who have come equally
    far have judged the same clips, and their agreement can be told before they are through.
    """
    return sorted(range(len(clip_ids)), key=lambda at: (at // BLOCK, place(f"{seed}\0{rater}", clip_ids[at])))
