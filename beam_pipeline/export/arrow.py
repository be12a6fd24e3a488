"""Rows in Parquet: Arrow's types and the features of the `datasets` library, both from the records' Avro types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipeline.export.records import Columns, Row
from beam_pipeline.export.sounds import Sound

SOUND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as the `datasets` library holds sounds
_ARROW = {"string": pa.string(), "double": pa.float64(), "long": pa.int64(), "boolean": pa.bool_()}
_NAMES = {"string": "string", "double": "float64", "long": "int64", "boolean": "bool"}
_ROWS, _BYTES = 1_000, 32_000_000  # of a row group, at most: readers hold one at a time


def arrow_schema(columns: Columns, rate: int | None = None, features: bool = False) -> pa.Schema:
    """The schema of rows.

    Args:
        columns: names and Avro types.
        rate: of the sounds, in Hz; ``None`` where there is no column of them.
        features: whether the schema tells the `datasets` library what the columns are.
    """
    fields = [pa.field(name, _arrow_type(tp, {})) for name, tp in columns.items()]
    told = {name: _feature(tp, {}) for name, tp in columns.items()}
    if rate is not None:
        fields.append(pa.field("audio", SOUND))
        told["audio"] = {"sampling_rate": rate, "_type": "Audio"}
    metadata = {"huggingface": json.dumps({"info": {"features": told}})} if features else None
    return pa.schema(fields, metadata=metadata)


class ParquetFile:
    """A Parquet file under way; rows are held until there are enough of them for a row group."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = path.open("wb")
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, row: Row, sound_bytes: int = 0) -> None:
        """Writes a row; `sound_bytes` is how many of them are sound."""
        self._rows.append(row)
        self._bytes += sound_bytes
        if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
            self._flush()

    @property
    def size(self) -> int:
        """Bytes that it has now, with the sounds that are yet to be written."""
        return self._file.tell() + self._bytes

    def close(self) -> None:
        """Writes what is left."""
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0


def with_sound(row: Row, sound: object, key: str) -> tuple[Row, int]:
    """The row with its sound as the `datasets` library holds it, and the sound's bytes."""
    if not isinstance(sound, Sound):
        return row, 0
    return {**row, "audio": {"bytes": sound.content, "path": key}}, len(sound.content)


def _arrow_type(tp: Any, named: dict[str, Any]) -> pa.DataType:
    tp = _plain(tp, named)
    if isinstance(tp, str):
        return _ARROW[tp]
    if tp["type"] == "array":
        return pa.list_(_arrow_type(tp["items"], named))
    return pa.struct([pa.field(field["name"], _arrow_type(field["type"], named)) for field in tp["fields"]])


def _feature(tp: Any, named: dict[str, Any]) -> Any:
    """What the `datasets` library calls it. A list in brackets is understood by every version of it."""
    tp = _plain(tp, named)
    if isinstance(tp, str):
        return {"dtype": _NAMES[tp], "_type": "Value"}
    if tp["type"] == "array":
        return [_feature(tp["items"], named)]
    return {field["name"]: _feature(field["type"], named) for field in tp["fields"]}


def _plain(tp: Any, named: dict[str, Any]) -> Any:
    """An Avro type without ``null``; a name stands for the type that had it before."""
    if isinstance(tp, list):
        [tp] = [one for one in tp if one != "null"]
    if isinstance(tp, dict) and tp["type"] == "record":
        named[f"{tp.get('namespace', '')}.{tp['name']}"] = tp
    return named.get(tp, tp) if isinstance(tp, str) else tp
