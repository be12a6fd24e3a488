"""TOML files that ship with Earshot or are a user's own: read strictly, with one line for what is wrong."""

from __future__ import annotations

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def read_table(name: str, folder: Traversable, form: type[T], what: str, /, **given: Any) -> T:
    """What a file holds.

    Args:
        name: of one in `folder`, without its ending, or the path of a ``.toml`` file.
        folder: those that ship.
        form: a dataclass, of whose fields these are the values.
        what: it is, for messages.
        given: further values, where the file does not give them.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, or something in it is wrong.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    try:
        return TypeAdapter(form).validate_python({**given, **tomllib.loads(path.read_text(encoding="utf-8"))})
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{what} {name}: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"{what} {name}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
