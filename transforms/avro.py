"""Avro for frozen dataclasses: the schema of a class, its records, and files of them.

The mapping (Avro 1.11 specification): str "string", float "double", int "long", bool "boolean", tuples "array",
``T | None`` a union, a nested dataclass "record". Every field with a default has one in the schema too, and an optional
field without one gets null; so a class that has gained such fields still reads older files, and one that has lost some
reads newer ones.
"""

from __future__ import annotations

import dataclasses
import numbers
import re
import types
import typing
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, TypeVar

import fastavro
from apache_beam.io.filesystems import FileSystems

T = TypeVar("T")

NAMESPACE = "earshot"
# What fastavro raises on a file that is damaged or of another schema.
_BROKEN = (
    ValueError,
    EOFError,
    LookupError,
    OverflowError,
    zlib.error,
    fastavro.read.SchemaResolutionError,
    fastavro.schema.SchemaParseException,
)
_PRIMITIVES = {str: "string", float: "double", int: "long", bool: "boolean"}


def avro_schema(cls: type) -> dict[str, Any]:
    """Returns the Avro schema of a dataclass; each nested class is defined where it first occurs, then only named.

    Raises:
        TypeError: a field's type has no Avro form here.
    """
    return _schema(cls, cls.__name__, {})


def to_record(obj: Any) -> dict[str, Any]:
    """Returns a dataclass instance as fastavro writes it.

    Lone surrogates, which UTF-8 and so Avro cannot hold, become U+FFFD: a broken character in an error message must not
    cost the record. Everything else comes back from `from_record` as it was.

    Raises:
        TypeError: a value is not of its field's type.
        ValueError: an int needs more than 64 bits, or a tuple has another length than its type.
    """
    cls: Any = type(obj)
    return _writer(cls)(obj)


def from_record(cls: type[T], record: dict[str, Any]) -> T:
    """Returns the instance of `cls` that a record holds, leaving out fields that `cls` has not.

    Raises:
        ValueError: the record lacks a field that has no default.
    """
    return _reader(typing.cast(Any, cls))(record)


def read_avro(paths: str | Iterable[str], cls: type[T]) -> Iterator[T]:
    """Yields the instances of `cls` in Avro files, file by file in the order given, a glob's files sorted.

    Args:
        paths: one path or glob, or several; on any file system that Beam knows.
        cls: the dataclass; files of an older or newer form of it are read as the schema allows.

    Raises:
        FileNotFoundError: a path or glob matches nothing.
        ValueError: a file is no Avro file, is cut short, or holds something else than `cls`.
    """
    for pattern in [paths] if isinstance(paths, str) else paths:
        for path in _match(pattern):
            for record in read_records(path, cls):
                yield from_record(cls, record)


def read_records(path: str, cls: type) -> Iterator[dict[str, Any]]:
    """Yields the records of one Avro file, as `from_record` takes them; raises what `read_avro` raises."""
    schema = fastavro.parse_schema(avro_schema(cls))
    with FileSystems.open(path, compression_type="uncompressed") as file:
        try:
            reader = fastavro.reader(file)
            if _canonical(reader.writer_schema) != _canonical(schema):  # resolving takes twice as long
                file.seek(0)
                reader = fastavro.reader(file, reader_schema=schema)
            for record in reader:
                yield typing.cast(dict[str, Any], record)
        except _BROKEN as error:
            raise ValueError(f"{path}: not a whole Avro file of {cls.__name__}: {error}") from error


def _canonical(schema: Any) -> str:
    return fastavro.schema.to_parsing_canonical_form(schema)


def _match(pattern: str) -> list[str]:
    if FileSystems.exists(pattern):
        return [pattern]
    [result] = FileSystems.match([pattern])
    if not result.metadata_list:
        raise FileNotFoundError(f"{pattern}: no such file, and nothing matches")
    return sorted(metadata.path for metadata in result.metadata_list)


def _schema(tp: Any, where: str, defined: dict[str, type]) -> Any:
    if tp in _PRIMITIVES:
        return _PRIMITIVES[tp]
    if optional := _optional(tp):
        return ["null", _schema(optional, where, defined)]
    if item := _item(tp, where):
        return {"type": "array", "items": _schema(item, where, defined)}
    if not _is_record(tp):
        raise _no_form(tp, where)
    if tp.__name__ in defined:
        if defined[tp.__name__] is not tp:
            raise TypeError(f"{where}: two classes called {tp.__name__} cannot be in one Avro schema")
        return f"{NAMESPACE}.{tp.__name__}"
    defined[tp.__name__] = tp
    fields = [_field(f, field_type, f"{tp.__name__}.{f.name}", defined) for f, field_type in _typed_fields(tp)]
    return {"type": "record", "name": tp.__name__, "namespace": NAMESPACE, "fields": fields}


def _field(f: dataclasses.Field, tp: Any, where: str, defined: dict[str, type]) -> dict[str, Any]:
    schema = {"name": f.name, "type": _schema(tp, where, defined)}
    try:
        default = _default(f, tp)
    except LookupError:
        return schema
    if _optional(tp) and default is not None:
        schema["type"].reverse()  # a union's default is of its first type
    return schema | {"default": _value_writer(tp, where)(default)}


def _typed_fields(cls: type) -> list[tuple[dataclasses.Field, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in dataclasses.fields(cls)]


def _default(f: dataclasses.Field, tp: Any) -> Any:
    """The value of a field that a record lacks; raises `LookupError` where there is none."""
    if f.default is not dataclasses.MISSING:
        return f.default
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    if _optional(tp):
        return None
    raise LookupError(f.name)


def _optional(tp: Any) -> Any:
    """``T`` of ``T | None``, else ``None``."""
    if typing.get_origin(tp) not in (typing.Union, types.UnionType):
        return None
    others = [arg for arg in typing.get_args(tp) if arg is not types.NoneType]
    return others[0] if len(others) == 1 == len(typing.get_args(tp)) - 1 else None


def _item(tp: Any, where: str) -> Any:
    """``T`` of ``tuple[T, ...]`` or ``tuple[T, T]``, else ``None``."""
    args = [arg for arg in typing.get_args(tp) if arg is not Ellipsis]
    if typing.get_origin(tp) is not tuple or not args:
        return None
    if len(set(args)) > 1:
        raise _no_form(tp, where)
    return args[0]


def _is_record(tp: Any) -> bool:
    return isinstance(tp, type) and dataclasses.is_dataclass(tp)


def _length(tp: Any) -> int | None:
    """How long a tuple of this type is; ``None`` for any length."""
    args = typing.get_args(tp)
    return None if Ellipsis in args else len(args)


def _no_form(tp: Any, where: str) -> TypeError:
    return TypeError(
        f"{where}: {tp} has no Avro form here; use str, float, int, bool, a tuple of one type, a dataclass, or one of "
        "these | None"
    )


@lru_cache(maxsize=256)
def _writer(cls: Any) -> Callable[[Any], dict[str, Any]]:
    writers = [(f.name, _value_writer(tp, f"{cls.__name__}.{f.name}")) for f, tp in _typed_fields(cls)]
    return lambda obj: {name: write(getattr(obj, name)) for name, write in writers}


def _value_writer(tp: Any, where: str) -> Callable[[Any], Any]:
    """Returns the function that turns a value of type `tp` into what fastavro writes."""
    if optional := _optional(tp):
        write_some = _value_writer(optional, where)
        return lambda value: None if value is None else write_some(value)
    if item := _item(tp, where):
        write_item, length = _value_writer(item, where), _length(tp)
        return lambda value: [
            write_item(part) for part in _checked_length(_checked(value, tuple, where), length, where)
        ]
    if tp is str:
        return lambda value: _unicode(_checked(value, str, where))
    if tp is float:
        return lambda value: value if type(value) is float else float(_checked(value, numbers.Real, where))
    if tp is int:
        return lambda value: _long(_checked(value, numbers.Integral, where), where)
    if tp is bool:
        return lambda value: _checked(value, bool, where)
    if _is_record(tp):
        return lambda value: _writer(tp)(_checked(value, tp, where))
    raise _no_form(tp, where)


@lru_cache(maxsize=256)
def _reader(cls: Any) -> Callable[[dict[str, Any]], Any]:
    readers = {f.name: _value_reader(tp, f"{cls.__name__}.{f.name}") for f, tp in _typed_fields(cls)}
    types_of = {f.name: (f, tp) for f, tp in _typed_fields(cls)}

    def read(record: dict[str, Any]) -> Any:
        values = {name: convert(record[name]) for name, convert in readers.items() if name in record}
        for name in readers.keys() - values.keys():
            try:
                values[name] = _default(*types_of[name])
            except LookupError as error:
                raise ValueError(f"a record has no {cls.__name__}.{name}, which has no default") from error
        return cls(**values)

    return read


def _value_reader(tp: Any, where: str) -> Callable[[Any], Any]:
    """Returns the function that turns what fastavro reads into a value of type `tp`."""
    if optional := _optional(tp):
        read_some = _value_reader(optional, where)
        return lambda value: None if value is None else read_some(value)
    if item := _item(tp, where):
        read_item, length = _value_reader(item, where), _length(tp)
        return lambda value: _checked_length(tuple(map(read_item, value)), length, where)
    if _is_record(tp):
        return lambda value: _reader(tp)(value)  # asked for when a value comes, for classes that hold themselves
    return tp


def _checked(value: Any, tp: type, where: str) -> Any:
    if not isinstance(value, tp) or (isinstance(value, bool) and tp is not bool):
        raise TypeError(f"{where}: {value!r:.80} is not of type {tp.__name__}")
    return value


def _checked_length(value: tuple, length: int | None, where: str) -> tuple:
    if length is not None and len(value) != length:
        raise ValueError(f"{where}: {len(value)} values instead of {length}")
    return value


def _long(value: Any, where: str) -> int:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{where}: {value} needs more than 64 bits")
    return int(value)


def _unicode(text: str) -> str:
    if text.isascii() or not re.search("[\ud800-\udfff]", text):
        return text
    # Through UTF-16, so that two surrogates that belong together become the character they mean.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
