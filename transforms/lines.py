"""Lists of clips as text: their lines with numbers, and CSV records that a stray quote cannot swallow."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import Any, TextIO

MAX_ROW = 1 << 16  # characters; a longer line is not a row but a file without line breaks

Records = Iterator[tuple[int, Any]]


class BadRow(ValueError):
    """A row that names no clip; the message says what is wrong with it."""


def numbered_lines(stream: TextIO) -> Iterator[tuple[int, Any]]:
    """Yields the number of every line with its text, or with a `BadRow` in place of more than `MAX_ROW` characters."""
    number = 0
    while line := stream.readline(MAX_ROW + 1):
        number += 1
        if len(line) <= MAX_ROW:
            yield number, line if line.strip() else "\n"
            continue
        while line and not line.endswith("\n"):
            line = stream.readline(MAX_ROW + 1)
        yield number, BadRow(f"the line is longer than {MAX_ROW} characters")


def csv_records(lines: Records, most_lines: int, comment: str = "") -> Records:
    """Yields the first line's number of every CSV record with its stripped fields, or with a `BadRow`.

    A quote that nobody closes swallows what follows. It costs one row and no more: the lines after it are read again.

    Args:
        lines: as `numbered_lines` gives them.
        most_lines: the most lines that a quoted field may spread a record over.
        comment: what a line that is no record begins with.
    """
    again: deque[tuple[int, Any]] = deque()
    while True:
        used: list[tuple[int, Any]] = []
        try:
            record: Any = next(
                csv.reader(_feed(lines, again, used, most_lines), strict=True, skipinitialspace=True), []
            )
        except csv.Error as error:
            record = BadRow(f"not CSV: {error}")
            again.extendleft(reversed(used[1:]))
        if not used:
            return
        number, line = used[0]
        if isinstance(line, BadRow):
            yield number, line
        elif line != "\n" and not (comment and line.startswith(comment)):
            yield number, record if isinstance(record, BadRow) else [value.strip() for value in record]


def _feed(lines: Records, again: deque[tuple[int, Any]], used: list[tuple[int, Any]], most_lines: int) -> Iterator[str]:
    """Yields one record's lines to `csv.reader`, as long as it asks for more, noting in `used` what it took."""
    size = 0
    while len(used) < most_lines and size <= MAX_ROW:
        taken = again.popleft() if again else next(lines, None)
        if taken is None:
            return
        used.append(taken)
        if isinstance(taken[1], BadRow):
            return
        size += len(taken[1])
        yield taken[1]
