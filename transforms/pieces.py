"""A media file inside a tar shard: how an address names it, and how it is read without unpacking it.

The address of a member is that of its shard with a fragment, ``<shard>#offset=<bytes>&length=<bytes>&name=<member>``::

    gs://bucket/shards/000123.tar#offset=1536&length=426138&name=dir%2Fabc.mp4

`offset` is where the member's content begins in the shard, after its header; `length` is the content's; `name` is the
member's, percent-encoded, and says what kind of file it is: nothing is ever written under it. The block of 512 bytes
before `offset` is the member's tar header, which tells whether the shard is still the one that was listed.

Nothing here knows of Beam, because the process that decodes imports it.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote

HEADER_BYTES = tarfile.BLOCKSIZE
_MEMBER = re.compile(r"(.+)#offset=(\d{1,18})&length=(\d{1,18})&name=([^#&]*?)(?:&headers=(\d{1,7}))?", re.DOTALL)


@dataclass(frozen=True)
class Member:
    """Where a media file lies in a shard.

    Attributes:
        shard: the tar's path or address.
        offset: bytes before its content.
        length: bytes of its content.
        name: within the shard.
    """

    shard: str
    offset: int
    length: int
    name: str
    headers: int = HEADER_BYTES  # before its content; more where the name is long or foreign

    @classmethod
    def of(cls, uri: str) -> Self | None:
        """Reads an address; ``None`` where it is that of a whole file."""
        found = _MEMBER.fullmatch(uri)
        if found is None:
            return None
        return cls(
            found[1],
            int(found[2]),
            int(found[3]),
            unquote(found[4], errors="surrogateescape"),
            int(found[5] or HEADER_BYTES),
        )

    @property
    def uri(self) -> str:
        """Its address."""
        name = quote(self.name, safe="", errors="surrogateescape")
        return f"{self.shard}#offset={self.offset}&length={self.length}&name={name}" + (
            f"&headers={self.headers}" if self.headers != HEADER_BYTES else ""
        )


def is_header_of(block: bytes, member: Member) -> bool:
    """Whether the 512 bytes before a member's content are the header of a file of its length and name."""
    try:
        with tarfile.open(fileobj=io.BytesIO(block), mode="r:") as tar:
            header = tar.next()
    except (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError):
        return False
    return (
        header is not None
        and header.isreg()
        and (header.offset_data, header.size, header.name) == (len(block), member.length, member.name)
    )


@dataclass(frozen=True)
class Piece:
    """A stretch of a file on this machine that is to be decoded as if it were a file of its own.

    Attributes:
        path: of the file.
        offset: where the stretch begins, in bytes.
        length: in bytes.
        name: what the file would be called; FFmpeg looks at its ending where the content does not tell its format.
    """

    path: str
    offset: int
    length: int
    name: str

    def open(self) -> PieceFile:
        """Opens it for reading."""
        return PieceFile(self)

    @contextmanager
    def as_file(self) -> Iterator[str]:
        """Copies it into memory and gives a path there, for libraries that take nothing else."""
        descriptor = os.memfd_create("earshot-piece")
        try:
            with self.open() as source:
                while chunk := source.read(1 << 20):
                    os.write(descriptor, chunk)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)


class PieceFile(io.RawIOBase):
    """An open `Piece`; positions are relative to it, and reading ends where it does. PyAV takes it for a file."""

    def __init__(self, piece: Piece) -> None:
        self.name = piece.name.replace("/", "_").replace(":", "_")  # FFmpeg would take what is before it for a protocol
        self._piece = piece
        self._at = 0
        self._file = open(piece.path, "rb", buffering=0)  # noqa: SIM115  # closed with this

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._piece.length - self._at))
        data = os.pread(self._file.fileno(), wanted, self._piece.offset + self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._piece.length}[whence]
        if base + offset < 0:
            raise ValueError(f"no place {base + offset} in a file")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()
