"""Files from elsewhere: resumed where they broke off, checked against their hash, and there whole or not at all."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

CONNECT_S, SILENCE_S = 10, 60  # how long a server may take to answer, and to say nothing in between
ATTEMPTS = 4  # in a row that bring nothing; a broken connection that brought some does not count
_BACKOFF_S = 0.5
_REDIRECTS = 10
_CHUNK_BYTES = 1 << 16
_PASSING = frozenset({408, 425, 429})  # with all above 499: what may be different the next time

Progress = Callable[[str, int, "int | None"], None]  # file, bytes that are here, bytes in all where that is known


class ModelError(RuntimeError):
    """A model cannot be had. The message says which, where it was sought, and what to do."""


class _Interrupted(Exception):
    """A transfer that may be taken up again; from the beginning where what is here is of no use."""

    def __init__(self, reason: str, *, useless: bool = False):
        super().__init__(reason)
        self.useless = useless


@dataclass(frozen=True)
class Source:
    """A file to bring.

    Attributes:
        name: its path within the model, with slashes.
        url: ``http``, ``https``, or a scheme of Beam's file systems (``gs``).
        digest: ``sha256:``, ``md5:`` or ``git:`` (a blob's id) and hexadecimal digits; empty where it is not known.
        size: in bytes, where it is known.
        headers: what the server wants to hear, such as a token.
    """

    name: str
    url: str
    digest: str = ""
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def is_googles(error: Exception) -> bool:
    """Whether an exception is that of Google's storage client, or of what it stands on; it has no class in common."""
    return type(error).__module__.partition(".")[0] in ("google", "urllib3", "http")


@contextmanager
def storage_errors(url: str, what: str) -> Iterator[None]:
    """Turns what Beam's file systems, and Google's client below them, raise over a file into `ModelError`.

    Args:
        url: the file's address.
        what: that cannot be done with it ("read", "listed", "written to").
    """
    try:
        yield
    except (ModelError, _Interrupted):
        raise
    except Exception as error:
        if not (isinstance(error, BeamIOError | OSError | ValueError) or is_googles(error)):
            raise
        code: Any = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", 0)
        why = {401: "no permission; ", 403: "no permission; ", 404: "there is no such bucket or file; "}.get(code, "")
        raise ModelError(f"{url}: cannot be {what}: {why}{error}") from error


def quiet(name: str, done: int, total: int | None) -> None:
    """Progress that nobody looks at."""


def download(source: Source, target: Path, progress: Progress = quiet) -> str:
    """Brings a file to `target`, by way of ``<target>.part``, which a later call takes up where this one is killed.

    The caller sees to it that nobody else writes to `target` at the same time.

    Returns:
        The SHA-256, in hexadecimal digits.

    Raises:
        ModelError: the file cannot be had, or is not what its digest says; in that case nothing is left of it.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.digest:  # what is left of another time cannot be told from the file's present beginning
            part.unlink(missing_ok=True)
        resumed = _size(part) > 0
        _insist(source, part, progress)
        try:
            sha256 = verified(part, source)
        except ModelError:
            part.unlink()
            if not resumed:
                raise
            _insist(source, part, progress)  # the part may have been of another file that had this address
            sha256 = verified(part, source, remove=True)
        part.replace(target)
    except OSError as error:
        raise ModelError(f"{source.url}: cannot be written to {target}: {error}") from error
    return sha256


def verified(path: Path, source: Source, *, remove: bool = False) -> str:
    """Returns the SHA-256 of the file; raises `ModelError`, with both hashes, where it is not what `source` says."""
    algorithm, _, expected = source.digest.partition(":")
    sha256, other = hashlib.sha256(), None
    if algorithm == "md5":
        other = hashlib.md5(usedforsecurity=False)
    elif algorithm == "git":  # a blob's id is the SHA-1 of its length and its content
        other = hashlib.sha1(b"blob %d\0" % _size(path), usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            sha256.update(chunk)
            if other:
                other.update(chunk)
    found = (other or sha256).hexdigest()
    if expected and found != expected:
        if remove:
            path.unlink()
        raise ModelError(
            f"{source.url}: its {algorithm} is {found}, but {expected} was asked for; the file was removed. Try again, "
            "and where that does not help, find out whether the file was replaced"
        )
    return sha256.hexdigest()


def _insist(source: Source, part: Path, progress: Progress) -> None:
    """Transfers, as often as it takes; gives up after `ATTEMPTS` that brought nothing."""
    furthest, failures = _size(part), 0
    while True:
        try:
            return _transfer(source, part, progress)
        except _Interrupted as error:
            if error.useless:
                part.unlink(missing_ok=True)
            failures = 0 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures >= ATTEMPTS:
                raise ModelError(f"{source.url}: cannot be downloaded, {ATTEMPTS} attempts failed ({error})") from error
            time.sleep(_BACKOFF_S * 2**failures)


def _transfer(source: Source, part: Path, progress: Progress) -> None:
    """One attempt: appends what `part` lacks."""
    have = _size(part)
    if have and have == source.size:
        return
    opened = _open_http if urlsplit(source.url).scheme in ("http", "https") else _open_beam
    with opened(source, have) as (start, total, chunks), part.open("ab" if start else "wb") as file:
        done = start
        progress(source.name, done, total)
        for chunk in chunks:
            file.write(chunk)
            done += len(chunk)
            progress(source.name, done, total)
    if total is not None and done != total:
        raise _Interrupted(f"broke off after {done:,} of {total:,} bytes", useless=done > total)


# Where the bytes start (0, or as far as was asked for), how long the whole file is, and the bytes.
_Opened = Iterator[tuple[int, "int | None", Iterator[bytes]]]


@contextmanager
def _open_http(source: Source, offset: int) -> _Opened:
    headers = {"Accept-Encoding": "identity", "User-Agent": "earshot", **source.headers}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = _follow(source.url, headers)
    except requests.RequestException as error:
        raise _Interrupted(f"{type(error).__name__} at {urlsplit(source.url).netloc}") from error
    with response:
        status = response.status_code
        if status == 416:
            raise _Interrupted("the server has fewer bytes than are here already", useless=True)
        if status in _PASSING or status >= 500:
            raise _Interrupted(f"the server answers {status} {response.reason}")
        if status not in (200, 206):
            raise ModelError(f"{source.url}: the server answers {status} {response.reason}; check the address")
        start, total = 0, response.headers.get("Content-Length", "")
        if status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not match or int(match[1]) != offset:
                raise _Interrupted("the server sends another part than it was asked for", useless=True)
            start, total = offset, match[2]
        yield start, int(total) if total.isdecimal() else None, _body(response)


def _body(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.raw.stream(_CHUNK_BYTES, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Interrupted(f"the connection broke: {type(error).__name__}") from error


def _follow(url: str, headers: dict[str, str]) -> requests.Response:
    """Follows redirects, from https to https only; another host is not shown the token."""
    for _ in range(_REDIRECTS):
        response = requests.get(
            url, headers=headers, stream=True, timeout=(CONNECT_S, SILENCE_S), allow_redirects=False
        )
        if not response.is_redirect:
            return response
        response.close()
        following = urljoin(url, response.headers["Location"])
        here, there = urlsplit(url), urlsplit(following)
        if there.scheme not in ("http", "https") or (here.scheme, there.scheme) == ("https", "http"):
            raise ModelError(f"{url}: redirects to {following}, which is not followed; give an https address")
        if here.netloc != there.netloc:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        url = following
    raise ModelError(f"{url}: more than {_REDIRECTS} redirects; check the address")


@contextmanager
def _open_beam(source: Source, offset: int) -> _Opened:
    size = source.size if source.size is not None else file_size(source.url)
    with storage_errors(source.url, "read"):
        stream = FileSystems.open(source.url, compression_type=CompressionTypes.UNCOMPRESSED)
        with stream:
            stream.seek(min(offset, size))
            if offset > size:
                raise _Interrupted(f"{source.url} is shorter than what is here", useless=True)
            yield offset, size, _pieces(stream)


def _pieces(stream: object) -> Iterator[bytes]:
    try:
        while chunk := stream.read(1 << 20):  # type: ignore[attr-defined]  # whatever Beam's file system opens
            yield chunk
    except OSError as error:
        raise _Interrupted(f"reading broke: {error}") from error


def file_size(url: str) -> int:
    """The bytes of a file in one of Beam's file systems; raises `ModelError` where there is none."""
    for found in listed(url):
        if found[0] == url:
            return found[1]
    raise ModelError(f"{url}: no such file")


def listed(pattern: str) -> list[tuple[str, int]]:
    """Addresses and bytes of the files that match, in one of Beam's file systems."""
    with storage_errors(pattern, "listed"):
        (result,) = FileSystems.match([pattern])
    return [(found.path, found.size_in_bytes) for found in result.metadata_list]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
