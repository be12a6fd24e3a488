"""A row as it is exported: what a dataset's record holds, with the clip's own fields beside the others."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from transforms.avro import avro_schema
from transforms.records import Caption, Pair

Row = dict[str, Any]
Columns = Mapping[str, Any]  # names, and their types as Avro has them

# Of a caption's row; the others follow in the records' order. `original_caption` is what was written where a person
# corrected it, else empty; `reviewed` is whether a person found that the caption corresponds, or wrote it.
_FIRST = {
    "clip_id": "string",
    "caption": "string",
    "split": "string",
    "reviewed": "boolean",
    "original_caption": "string",
}
_CLIP_SPLIT = "source_split"  # the clip's own, by another name than the caption's
_OF_A_TEXT: Row = {
    "versions": [],
    "events": [],
    "similarity": None,
}  # that go with the text, and are nothing of another
_KEY = 120  # characters of a key: a file's name, with its ending, has 255 bytes at most on common file systems


@lru_cache(maxsize=1)
def caption_columns() -> Columns:
    """The columns of captions: all that a `Caption` and its `Clip` have, the clip's split as ``source_split``."""
    fields = _types(avro_schema(Caption))
    clip = _types(fields.pop("clip"))
    clip[_CLIP_SPLIT] = clip.pop("split")
    return {**_FIRST, **{name: tp for name, tp in (fields | clip).items() if name not in _FIRST}}


@lru_cache(maxsize=1)
def pair_columns() -> Columns:
    """The columns of questions: those of a `Pair`."""
    return _types(avro_schema(Pair))


def caption_row(record: Row, split: str, caption: str, reviewed: bool) -> Row:
    """The row of a record of captions, as `Dataset.rows` gives it.

    Where `caption` is another text than the record's, what belongs to that (its other forms and languages, the events
    in it and its similarity to the sound) is left out: nobody has checked it against the new one.
    """
    clip = record["clip"]
    row = {**record, **clip, _CLIP_SPLIT: clip["split"]}
    row |= {"caption": caption, "split": split, "reviewed": reviewed, "original_caption": ""}
    if caption != record["caption"]:
        row |= {"original_caption": record["caption"], **_OF_A_TEXT}
    return {name: row[name] for name in caption_columns()}


def pair_row(record: Row, split: str) -> Row:
    """The row of a record of questions."""
    return {name: record[name] for name in pair_columns()} | {"split": split}


def key_of(clip_id: str) -> str:
    """A name for a clip's files: letters, digits, ``_``, ``-``, ``~`` and ``%`` only; no two clips share one.

    It is the id, percent-encoded (`urllib.parse.unquote` gives it back); of a long one the beginning and a hash.
    """
    key = quote(clip_id.encode("utf-8", "surrogatepass"), safe="").replace(".", "%2E")
    if 0 < len(key) <= _KEY:
        return key
    # No percent-encoded text holds "%-", so this is no other clip's key.
    return f"{key[: _KEY - 40]}%-{_digest(clip_id)[:32]}"


def place_of(clip_id: str, ending: str) -> str:
    """Where a clip's sound lies: one of 256 folders, so that none holds more files than a file system likes."""
    return f"audio/{_digest(clip_id)[:2]}/{key_of(clip_id)}.{ending}"


def _digest(clip_id: str) -> str:
    return hashlib.sha256(clip_id.encode("utf-8", "surrogatepass")).hexdigest()


def _types(schema: Row) -> dict[str, Any]:
    return {field["name"]: field["type"] for field in schema["fields"]}
