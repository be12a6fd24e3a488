"""Avro: what a dataclass becomes, that it comes back unchanged, and that schemas may grow and shrink."""

from __future__ import annotations

import io
import random
import re
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import fastavro
import numpy as np
import pytest

from transforms import records
from transforms.avro import avro_schema, from_record, read_avro, to_record
from transforms.records import Clip, Failure, Item

RECORDS = [getattr(records, name) for name in records.__all__]


@dataclass(frozen=True)
class Leaf:
    size: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Tree:
    name: str
    leaf: Leaf
    more: tuple[Leaf, ...] = ()
    twig: Tree | None = None
    grid: tuple[tuple[int, ...], ...] = ()
    living: bool = True
    height: float | None = 1.5
    note: str | None = None
    tags: tuple[str, ...] = field(default_factory=lambda: ("a", "b"))


def write(path: Path, cls: type, objects: list[Any]) -> str:
    with path.open("wb") as file:
        fastavro.writer(file, fastavro.parse_schema(avro_schema(cls)), map(to_record, objects), codec="deflate")
    return str(path)


def through_avro(cls: type, objects: list[Any], reader: type | None = None) -> list[Any]:
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(avro_schema(cls)), map(to_record, objects), validator=True)
    file.seek(0)
    schema = fastavro.parse_schema(avro_schema(reader or cls))
    return [from_record(reader or cls, record) for record in fastavro.reader(file, schema)]


LETTERS = "az09 \0\t\n\"'\\,;é中\u200b\u2028\ufeff\U0001f600\U0010ffff"


def anything(tp: Any, rng: random.Random) -> Any:
    """A random value of any type that records use."""
    if tp is str:
        return "".join(rng.choices(LETTERS, k=rng.choice((0, 1, 3, 40))))
    if tp is float:
        return rng.choice((0.0, -0.0, 1e-300, 1e300, float("inf"), 0.1, rng.uniform(-1e3, 1e3)))
    if tp is int:
        return rng.choice((0, -1, 2**63 - 1, -(2**63), rng.randrange(1000)))
    if tp is bool:
        return rng.random() < 0.5
    if is_dataclass(tp):
        return tp(**{name: anything(hint, rng) for name, hint in get_type_hints(tp).items()})
    args = get_args(tp)
    if type(None) in args:
        return None if rng.random() < 0.5 else anything(args[0], rng)
    return tuple(anything(arg, rng) for arg in (args[:1] * rng.randrange(4) if Ellipsis in args else args))


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_every_record_has_a_schema_that_fastavro_takes(cls: type) -> None:
    schema = avro_schema(cls)
    fastavro.parse_schema(schema)
    assert [f["name"] for f in schema["fields"]] == [f.name for f in fields(cls)]


def test_schema_of_each_kind_of_field() -> None:
    schema = avro_schema(Tree)
    fastavro.parse_schema(schema)
    by_name = {f["name"]: f for f in schema["fields"]}
    leaf = by_name["leaf"]["type"]
    assert leaf["name"] == "Leaf"
    assert leaf["fields"][1] == {
        "name": "box",
        "type": ["null", {"type": "array", "items": "double"}],
        "default": None,
    }
    assert by_name["more"] == {"name": "more", "type": {"type": "array", "items": "earshot.Leaf"}, "default": []}
    assert by_name["twig"] == {"name": "twig", "type": ["null", "earshot.Tree"], "default": None}
    assert by_name["height"] == {"name": "height", "type": ["double", "null"], "default": 1.5}
    assert by_name["tags"]["default"] == ["a", "b"]
    assert "default" not in by_name["name"]


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
def test_random_records_come_back_unchanged(cls: type) -> None:
    rng = random.Random(20261121)
    some = [anything(cls, rng) for _ in range(60)]
    back = through_avro(cls, some)
    assert back == some
    assert repr(back) == repr(some)  # -0.0 == 0.0, but it has to stay what it was


def test_nested_and_recursive_dataclasses_come_back_unchanged() -> None:
    leaf = Leaf(-(2**63), (0.0, 0.25, 0.5, 1.0))
    tree = Tree("root", leaf, (leaf, Leaf(2**63 - 1)), Tree("twig", leaf), ((1, 2), (), (3,)), False, None, "n", ())
    assert through_avro(Tree, [tree]) == [tree]


def test_huge_text_comes_back_unchanged() -> None:
    item = Item("\U0001f600a\0" * 1_000_000)
    assert through_avro(Item, [item]) == [item]


def test_lone_surrogates_become_replacement_characters_and_pairs_become_characters() -> None:
    failure = Failure(Clip("c", "u"), "ingest", "bad name a\udcffb \ud83d\ude00")
    [back] = through_avro(Failure, [failure])
    assert back.error == "bad name a\ufffdb \U0001f600"


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        (Clip("c", None), TypeError, "Clip.uri: None is not of type str"),
        (Clip("c", "u", start_s="1"), TypeError, "Clip.start_s: '1' is not of type Real"),
        (Clip("c", "u", labels=["a"]), TypeError, "Clip.labels: ['a'] is not of type tuple"),
        (Clip("c", "u", labels="ab"), TypeError, "Clip.labels: 'ab' is not of type tuple"),
        (Item("t", score=True), TypeError, "Item.score: True is not of type Real"),
        (Item("t", box=(0.0, 1.0, 2.0)), ValueError, "Item.box: 3 values instead of 4"),
        (Leaf(2**63), ValueError, "Leaf.size: 9223372036854775808 needs more than 64 bits"),
        (Failure(Item("t"), "s", "e"), TypeError, "is not of type Clip"),
        (Failure(Clip("c", "u"), "s", "e", 1), TypeError, "Failure.retryable: 1 is not of type bool"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_names_the_field(record: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        to_record(record)


def test_numpy_numbers_are_numbers() -> None:
    assert to_record(Item("t", score=np.float32(0.5)))["score"] == 0.5
    assert to_record(Leaf(np.int64(3)))["size"] == 3


def test_a_type_without_avro_form_is_an_error_that_names_the_field() -> None:
    for tp in (dict[str, str], list[str], str | int, tuple[str, int], tuple[()], bytes, Any):
        with pytest.raises(TypeError, match=r"Odd\.value: .* has no Avro form"):
            avro_schema(make_dataclass("Odd", [("value", tp)]))


def test_two_classes_of_one_name_are_an_error() -> None:
    other = make_dataclass("Leaf", [("colour", str)])
    with pytest.raises(TypeError, match="two classes called Leaf"):
        avro_schema(make_dataclass("Branch", [("one", Leaf), ("other", other)]))


OldLeaf = make_dataclass("Leaf", [("size", int)], frozen=True)
OldTree = make_dataclass("Tree", [("name", str), ("leaf", OldLeaf), ("height", int)], frozen=True)


def test_an_older_file_is_read_with_the_defaults_of_fields_it_lacks() -> None:
    old = OldTree("root", OldLeaf(3), 7)
    assert through_avro(OldTree, [old], reader=Tree) == [Tree("root", Leaf(3), height=7.0)]
    assert from_record(Tree, to_record(old)) == Tree("root", Leaf(3), height=7.0)


def test_a_newer_file_is_read_without_the_fields_that_are_gone() -> None:
    Short = make_dataclass("Tree", [("name", str), ("leaf", OldLeaf)], frozen=True)
    new = Tree("root", Leaf(3, (0.0, 0.0, 1.0, 1.0)), (Leaf(4),), note="n")
    assert through_avro(Tree, [new], reader=Short) == [Short("root", OldLeaf(3))]
    assert from_record(Short, to_record(new)) == Short("root", OldLeaf(3))


def test_a_field_without_default_that_a_record_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no Tree\.name"):
        from_record(Tree, {"leaf": {"size": 1}})


def test_read_avro_reads_paths_and_globs_in_order(tmp_path: Path) -> None:
    clips = [Clip(f"c{n}", "u") for n in range(4)]
    last = write(tmp_path / "z.avro", Clip, clips[3:])
    write(tmp_path / "a-00001-of-00002.avro", Clip, clips[1:3])
    write(tmp_path / "a-00000-of-00002.avro", Clip, clips[:1])
    assert list(read_avro([str(tmp_path / "a-*.avro"), last], Clip)) == clips
    assert list(read_avro(last, Clip)) == clips[3:]
    odd = write(tmp_path / "b [1].avro", Clip, clips)
    assert list(read_avro(odd, Clip)) == clips


def test_read_avro_says_which_path_is_missing_and_which_file_is_broken(tmp_path: Path) -> None:
    for missing in ("none.avro", "none-*.avro"):
        with pytest.raises(FileNotFoundError, match=missing.replace("*", r"\*")):
            list(read_avro(str(tmp_path / missing), Clip))
    text = tmp_path / "text.avro"
    text.write_text("no Avro")
    with pytest.raises(ValueError, match=r"text\.avro: not a whole Avro file of Clip"):
        list(read_avro(str(text), Clip))
    other = write(tmp_path / "other.avro", Item, [Item("t")])
    with pytest.raises(ValueError, match=r"other\.avro: not a whole Avro file of Clip"):
        list(read_avro(other, Clip))


def test_a_damaged_file_is_a_named_error_or_reads_as_records_never_as_something_else(tmp_path: Path) -> None:
    whole = Path(write(tmp_path / "whole.avro", Clip, [Clip(f"c{n}", "u" * 50) for n in range(200)])).read_bytes()
    damage = random.Random(5)
    path, read, refused = tmp_path / "damaged.avro", 0, 0
    for _ in range(100):
        at = damage.randrange(len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ 1 << damage.randrange(8)]) + whole[at + 1 :]
        path.write_bytes(damage.choice((whole[:at], flipped)))
        try:
            assert all(isinstance(clip, Clip) for clip in read_avro(str(path), Clip))
            read += 1
        except ValueError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            refused += 1
    assert read
    assert refused
