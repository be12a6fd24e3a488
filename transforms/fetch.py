"""Brings a clip's file to this machine where it is not here yet, and takes it away again.

Each process keeps its copies in a folder of its own below the system's folder for temporary files. A copy goes when its
clip has been decoded, the folder when the process ends. A process that is killed cannot clean up; the system drops its
lock on the folder, by which the next process on this machine that fetches anything knows the folder for abandoned, and
removes it. So what remains is at most what the killed process had fetched and not yet decoded: three files a thread.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from apache_beam.io.filesystems import FileSystems

from transforms import remote
from transforms.media import MediaError
from transforms.pieces import Member, Piece, is_header_of

MAX_FILE_BYTES = 2 << 30
_PREFIX, _NEW = "earshot-clips-", "earshot-new-"
_LEFT_S = 3600.0  # after which a folder without a lock is nobody's
_LOCK = "lock"
_held: list[IO[bytes]] = []  # locks last as long as their files are open


@contextmanager
def open_media(
    uri: str, max_file_bytes: int = MAX_FILE_BYTES, patience: remote.Patience = remote.PATIENT
) -> Iterator[Path | Piece]:
    """Gives what is at `uri` as a local file, or a piece of one, for as long as the context lasts.

    A path, or a ``file://`` URL, is passed through, and a member of a local shard is read where it is. Anything else
    (``gs://…``) is copied to a temporary file, a little at a time; of a shard only the member.

    Raises:
        MediaError: the file is larger than `max_file_bytes`, is not there, or cannot be copied (which may work the next
            time), or the shard is not the one that was listed.
    """
    member = Member.of(uri)
    place = member.shard if member else uri
    if member and member.length > max_file_bytes:
        raise MediaError(_too_large(uri, max_file_bytes))
    try:
        local = _local(place)
    except ValueError as error:
        raise MediaError(f"{uri} is no address: {error}") from error
    if local is not None:
        yield _piece(local, member) if member else local
        return
    suffix = PurePosixPath(member.name if member else uri).suffix
    suffix = suffix[:16] if suffix.isascii() and suffix.isprintable() else ""
    try:
        made = tempfile.NamedTemporaryFile(prefix="clip-", suffix=suffix, dir=scratch(os.getpid()))  # noqa: SIM115
    except OSError as error:
        scratch.cache_clear()  # somebody cleaned up, perhaps
        raise MediaError(f"no place for a copy of {uri}: {error}", retryable=True) from error
    with made as copy:
        try:
            if member:
                _copy_member(member, copy, patience)
            else:
                remote.copy(uri, copy, max_file_bytes, patience)
            copy.flush()
        except remote.TooLarge:
            raise MediaError(_too_large(uri, max_file_bytes)) from None
        except remote.Missing as error:  # an object store knows; elsewhere a disk may not be mounted yet
            raise MediaError(f"no such file: {uri}", retryable=not uri.startswith("gs://")) from error
        except OSError as error:
            raise MediaError(f"cannot fetch {uri}: {error}", retryable=True) from error
        except ValueError as error:  # Beam knows no file system for the scheme
            raise MediaError(f"cannot fetch {uri}: {error}") from error
        yield Path(copy.name)


@lru_cache(maxsize=1)
def scratch(pid: int) -> Path:
    """The folder of the process `pid`, which is this one; removes those of processes that are gone."""
    root = Path(tempfile.gettempdir())
    for folder in (*root.glob(f"{_PREFIX}*"), *root.glob(f"{_NEW}*")):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=root))
    lock = (new / _LOCK).open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    _held.append(lock)
    mine = new.rename(root / new.name.replace(_NEW, _PREFIX))  # now that it is locked others may look at it
    atexit.register(_remove, mine, pid)
    return mine


def _is_abandoned(folder: Path) -> bool:
    """Whether nobody holds a folder's lock any more."""
    if folder.name.startswith(_NEW) or not (folder / _LOCK).exists():  # being made or removed, or left so
        with suppress(OSError):
            return time.time() - folder.stat().st_mtime > _LEFT_S
        return False
    with suppress(OSError), (folder / _LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # a fork inherits what was registered
        shutil.rmtree(folder, ignore_errors=True)


def _local(place: str) -> Path | None:
    scheme = FileSystems.get_scheme(place)
    if scheme == "file":
        path = unquote(urlsplit(place).path)
        if "\0" in path:
            raise ValueError("it holds a NUL")
        return Path(path)
    return Path(place) if scheme is None else None


def _piece(path: Path, member: Member) -> Piece:
    try:
        with path.open("rb") as shard:
            shard.seek(max(0, member.offset - member.headers))
            header = shard.read(member.headers)
    except FileNotFoundError:
        raise MediaError(f"no such file: {path}", retryable=True) from None
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error}", retryable=True) from error
    _check_header(header, member)
    return Piece(str(path), member.offset, member.length, member.name)


def _copy_member(member: Member, copy: IO[bytes], patience: remote.Patience) -> None:
    """Copies a member and, in the same request, its header, which is taken off again."""
    whole = _AfterHeader(copy, member.headers)
    start, length = member.offset - member.headers, member.headers + member.length
    remote.copy_range(member.shard, whole, start, length, patience)  # type: ignore[arg-type]
    _check_header(bytes(whole.header), member)


class _AfterHeader:
    """Writes to a file what comes after the first 512 bytes."""

    def __init__(self, file: IO[bytes], headers: int):
        self._headers = headers
        self.header = bytearray()
        self._file = file

    def write(self, chunk: bytes) -> int:
        missing = self._headers - len(self.header)
        self.header += chunk[:missing]
        self._file.write(chunk[missing:])
        return len(chunk)


def _check_header(header: bytes, member: Member) -> None:
    if not is_header_of(header, member):
        raise MediaError(
            f"{member.shard} has no {member.name!a} of {member.length} bytes at {member.offset} any more: it was "
            "changed after it was listed",
            retryable=True,
        )


def _too_large(uri: str, most: int) -> str:
    return f"{uri} is larger than the limit of {most / (1 << 30):.3g} GiB"
