"""Bytes of files far away: a stretch of one, or all of it, insisted on and checked.

For Google's storage (``gs://``) this is Google's own client, one for each process, so that connections are used again:
Beam's file system opens a new one for every file, asks for a listing (an operation of the dear class) to learn a size,
and checks no hash. A file is one request here. Other schemes go through Beam's file systems.

What passes (429, 5xx, broken or silent connections, an answer that ends early) is tried again, as `Patience` says, from
where it broke off and of the same generation of the object; and what was fetched whole is compared with the
object's CRC32C. Nothing waits forever: not for a connection, not for the next byte, and not for bytes that trickle.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from model_handlers.downloads import is_googles

_ATTEMPTS = 3  # at content that is not what its hash says
_CHUNK_BYTES = 4 << 20


class RemoteError(OSError):
    """A file could not be had, and may be the next time."""


class Missing(RemoteError):
    """There is no such object."""


class TooLarge(RemoteError):
    """The file has more bytes than it may have."""


@dataclass(frozen=True)
class Patience:
    """How long a file far away is waited for.

    Attributes:
        connect_s: for a server to answer.
        silence_s: between two pieces of an answer.
        insist_s: on a request that is tried again, since a byte last came.
        wait_s: before asking again for the first time; later ones wait longer.
        most_wait_s: at most.
        slowest: bytes a second that a download has to bring, on average and from `grace_s` on.
        grace_s: what it may take besides.
    """

    connect_s: float = 10.0
    silence_s: float = 30.0
    insist_s: float = 120.0
    wait_s: float = 0.5
    most_wait_s: float = 15.0
    slowest: float = 128 << 10
    grace_s: float = 180.0

    def limits(self, sink: _Sink | None = None) -> dict[str, Any]:
        """What Google's client is told of it; for a download, which is taken up where it broke off, with its sink."""
        from google.cloud.storage.retry import DEFAULT_RETRY

        retry = DEFAULT_RETRY.with_delay(initial=self.wait_s, maximum=self.most_wait_s, multiplier=2.0)
        if sink is None:
            retry = retry.with_timeout(self.insist_s)
        else:  # the client would count from the download's beginning
            passes = retry._predicate
            retry = retry.with_timeout(None).with_predicate(lambda e: passes(e) and sink.idle_s < self.insist_s)
        return {"timeout": (self.connect_s, self.silence_s), "retry": retry}


PATIENT = Patience()


def size_of(uri: str) -> int:
    """A file's length in bytes. Raises `RemoteError`."""
    if not uri.startswith("gs://"):
        with errors(uri):
            return _listed_size(uri)
    with errors(uri):
        blob = blob_at(uri)
        blob.reload(**PATIENT.limits())
        return int(blob.size)


def read(uri: str, offset: int, length: int, patience: Patience = PATIENT) -> bytes:
    """The bytes of a file from `offset` on; fewer than `length` where it ends before. Raises `RemoteError`."""
    with errors(uri):
        if not uri.startswith("gs://"):
            with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                file.seek(offset)
                return file.read(length)
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        try:
            content = blob_at(uri).download_as_bytes(
                start=offset, end=offset + length - 1, raw_download=True, checksum=None, **patience.limits()
            )
        except RequestRangeNotSatisfiable:
            return b""
        if len(content) > length:
            raise RemoteError(f"{uri}: {len(content)} bytes came where {length} were asked for")
        return content


def copy(uri: str, file: IO[bytes], most: int, patience: Patience = PATIENT) -> int:
    """Copies a whole file to an open one that is empty, a piece at a time; returns its length in bytes.

    Raises `TooLarge` where it has more than `most` bytes, `ValueError` where it is stored in a form that would have to
    be unpacked, otherwise `RemoteError`.
    """
    with errors(uri):
        if uri.startswith("gs://"):
            return _copy_object(uri, file, most, patience)
        if _listed_size(uri) > most:
            raise TooLarge
        sink = _Sink(file, most, patience)
        with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as source:
            while chunk := source.read(_CHUNK_BYTES):
                sink.write(chunk)
        return sink.size


def copy_range(uri: str, file: IO[bytes], offset: int, length: int, patience: Patience = PATIENT) -> None:
    """Copies a stretch of a file to an open one, a piece at a time. Raises `RemoteError`, also where it ends before."""
    with errors(uri):
        sink = _Sink(file, length, patience)
        if uri.startswith("gs://"):
            _download(uri, blob_at(uri), sink, start=offset, end=offset + length - 1)
        else:
            with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as source:
                source.seek(offset)
                while sink.size < length and (chunk := source.read(min(_CHUNK_BYTES, length - sink.size))):
                    sink.write(chunk)
        if sink.size != length:
            raise RemoteError(f"{uri}: ends {length - sink.size} bytes before the stretch does that was asked for")


def check_bucket(uri: str) -> None:
    """Raises `RemoteError` where the bucket of a ``gs://`` address does not exist, or may not be read."""
    from google.api_core.exceptions import Forbidden, NotFound, Unauthorized

    blob = blob_at(uri)
    with errors(uri):
        try:
            if blob.exists(**PATIENT.limits()):
                return
            found = blob.client.list_blobs(blob.bucket, max_results=1, **PATIENT.limits())
            next(iter(found), None)
        except NotFound:
            raise Missing(f"there is no bucket gs://{blob.bucket.name}: check the spelling") from None
        except (Forbidden, Unauthorized) as error:
            raise RemoteError(f"no permission to read {uri}: {error.message}") from error


def _copy_object(uri: str, file: IO[bytes], most: int, patience: Patience) -> int:
    for _ in range(_ATTEMPTS):
        file.seek(0)
        file.truncate()
        blob, sink = blob_at(uri), _Sink(file, most, patience, checked=True)
        _download(uri, blob, sink)
        if blob.content_encoding == "gzip":
            raise ValueError("it is stored with Content-Encoding gzip; upload it again without")
        if not blob.crc32c:  # an answer to a part, after an interruption, may come without the hash of the whole
            blob.reload(**patience.limits())
        if blob.crc32c == sink.crc32c():
            return sink.size
    raise RemoteError(f"{uri}: what came is not what its CRC32C says, {_ATTEMPTS} times")


def _download(uri: str, blob: Any, sink: _Sink, **part: int) -> None:
    from google.api_core.exceptions import NotFound

    try:
        blob.download_to_file(sink, raw_download=True, checksum=None, **part, **sink.patience.limits(sink))
    except NotFound:
        if not sink.size:
            raise
        # What broke off was to go on with the same generation, and that is no more.
        raise RemoteError(f"{uri}: was replaced while it was read") from None


class _Sink:
    """Where a download goes: counts and checks what comes, and gives up when it is too much or too slow."""

    def __init__(self, file: IO[bytes], most: int, patience: Patience, checked: bool = False):
        self.size, self.patience = 0, patience
        self._file, self._most = file, most
        self._hash: Any = None
        if checked:
            import google_crc32c

            self._hash = google_crc32c.Checksum()
        self._begun = self._came = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since something came."""
        return time.monotonic() - self._came

    def write(self, chunk: bytes) -> int:
        self.size += len(chunk)
        if self.size > self._most:
            raise TooLarge
        self._came = time.monotonic()
        slowest = self.patience.slowest
        if self._came > self._begun + self.patience.grace_s + self.size / slowest:
            raise RemoteError(
                f"after {self.size} bytes given up: it comes at less than {slowest / 1024:g} KiB a second"
            )
        if self._hash is not None:
            self._hash.update(chunk)
        return self._file.write(chunk)

    def crc32c(self) -> str:
        """Of all that came, as Google writes it."""
        return base64.b64encode(self._hash.digest()).decode()


def _listed_size(uri: str) -> int:
    (found,) = FileSystems.match([uri])  # says what is wrong by one type of error, which opening does not
    if not found.metadata_list:
        raise Missing
    return found.metadata_list[0].size_in_bytes


def blob_at(uri: str) -> Any:
    """The object at ``gs://bucket/name``, by Google's own client: Beam's file system knows no preconditions."""
    try:
        from apache_beam.io.gcp.gcsio import parse_gcs_path
    except ImportError as error:
        raise RemoteError(f"{uri}: needs the extra gcp (pip install 'earshot-captions[gcp]')") from error
    bucket, name = parse_gcs_path(uri, object_optional=True)
    client = _client(os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST", ""))
    return client.bucket(bucket).blob(name or "-")


@lru_cache(maxsize=4)
def _client(pid: int, emulator: str) -> Any:
    """This process's client, with the credentials that Beam would use."""
    from apache_beam.io.gcp.gcsio import create_storage_client

    return create_storage_client(FileSystems._pipeline_options or PipelineOptions())


@contextmanager
def errors(uri: str) -> Iterator[None]:
    """Turns whatever goes wrong on the way, by Beam's file systems or Google's client, into `RemoteError`."""
    try:
        yield
    except TooLarge:
        raise
    except Missing as error:
        raise Missing(str(error) or f"there is no {uri}") from None
    except (RemoteError, ValueError):  # Beam's word for a scheme without a file system is a ValueError
        raise
    except (BeamIOError, OSError) as error:  # what `requests` raises is an OSError as well
        raise RemoteError(f"{uri}: {error}") from error
    except Exception as error:
        if not is_googles(error):
            raise
        if getattr(error, "code", None) == 404:
            raise Missing(f"there is no {uri}") from error
        what = "no permission to read it: " if getattr(error, "code", None) in (401, 403) else ""
        raise RemoteError(f"{uri}: {what}{error}") from error
