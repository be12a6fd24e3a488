"""Bytes of files far away: a stretch of one, or all of it, insisted on and checked.

For Google's storage (``gs://``) this is Google's own client, one for each process, so that connections are used again:
Beam's file system opens a new one for every file, asks for a listing (an operation of the dear class) to learn a size,
and checks no hash. A file is one request here. Other schemes go through Beam's file systems.

What passes (429, 5xx, broken or silent connections, an answer that ends early) is tried again for up to `INSIST_S`,
from where it broke off and of the same generation of the object; and what was fetched whole is compared with the
object's CRC32C. Nothing waits forever: not for a connection, not for the next byte, and not for bytes that trickle.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, Any

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

CONNECT_S, SILENCE_S = 10.0, 30.0  # to answer, and between two pieces of an answer
INSIST_S = 120.0  # on one request, all attempts together
SLOWEST = 128 << 10  # bytes a second, on average after the first minute
WAITS_S = 0.5, 15.0  # after the first failure, and at most, before asking again
_ATTEMPTS = 3  # at content that is not what its hash says
_CHUNK_BYTES = 4 << 20


class RemoteError(OSError):
    """A file could not be had, and may be the next time."""


class Missing(RemoteError):
    """There is no such object."""


class TooLarge(RemoteError):
    """The file has more bytes than it may have."""


def size_of(uri: str) -> int:
    """A file's length in bytes. Raises `RemoteError`."""
    if not uri.startswith("gs://"):
        with errors(uri):
            return _listed_size(uri)
    with errors(uri):
        blob = blob_at(uri)
        blob.reload(timeout=(CONNECT_S, SILENCE_S), retry=_retry())
        return int(blob.size)


def read(uri: str, offset: int, length: int) -> bytes:
    """The bytes of a file from `offset` on; fewer than `length` where it ends before. Raises `RemoteError`."""
    with errors(uri):
        if not uri.startswith("gs://"):
            with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                file.seek(offset)
                return file.read(length)
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        try:
            content = blob_at(uri).download_as_bytes(
                start=offset, end=offset + length - 1, raw_download=True, checksum=None, **_patience()
            )
        except RequestRangeNotSatisfiable:
            return b""
        if len(content) > length:
            raise RemoteError(f"{uri}: {len(content)} bytes came where {length} were asked for")
        return content


def copy(uri: str, file: IO[bytes], most: int) -> int:
    """Copies a whole file to an open one that is empty, a piece at a time; returns its length in bytes.

    Raises `TooLarge` where it has more than `most` bytes, otherwise `RemoteError`.
    """
    with errors(uri):
        if uri.startswith("gs://"):
            return _copy_object(uri, file, most)
        if _listed_size(uri) > most:
            raise TooLarge
        sink = _Sink(file, most)
        with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as source:
            while chunk := source.read(_CHUNK_BYTES):
                sink.write(chunk)
        return sink.size


def copy_range(uri: str, file: IO[bytes], offset: int, length: int) -> None:
    """Copies a stretch of a file to an open one, a piece at a time. Raises `RemoteError`, also where it ends before."""
    with errors(uri):
        sink = _Sink(file, length)
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
            if blob.exists(timeout=(CONNECT_S, SILENCE_S), retry=_retry()):
                return
            found = blob.client.list_blobs(blob.bucket, max_results=1, timeout=(CONNECT_S, SILENCE_S), retry=_retry())
            next(iter(found), None)
        except NotFound:
            raise Missing(f"there is no bucket gs://{blob.bucket.name}: check the spelling") from None
        except (Forbidden, Unauthorized) as error:
            raise RemoteError(f"no permission to read {uri}: {error.message}") from error


def _copy_object(uri: str, file: IO[bytes], most: int) -> int:
    for _ in range(_ATTEMPTS):
        file.seek(0)
        file.truncate()
        blob, sink = blob_at(uri), _Sink(file, most, checked=True)
        _download(uri, blob, sink)
        if blob.content_encoding == "gzip":
            raise RemoteError(f"{uri} is stored with Content-Encoding gzip: upload it again without")
        if not blob.crc32c:  # an answer to a part, after an interruption, may come without the hash of the whole
            blob.reload(timeout=(CONNECT_S, SILENCE_S), retry=_retry())
        if blob.crc32c == sink.crc32c():
            return sink.size
    raise RemoteError(f"{uri}: what came is not what its CRC32C says, {_ATTEMPTS} times")


def _download(uri: str, blob: Any, sink: _Sink, **part: int) -> None:
    from google.api_core.exceptions import NotFound

    try:
        blob.download_to_file(sink, raw_download=True, checksum=None, **part, **_patience())
    except NotFound:
        if not sink.size:
            raise
        # What broke off was to go on with the same generation, and that is no more.
        raise RemoteError(f"{uri}: was replaced while it was read") from None


class _Sink:
    """Where a download goes: counts and checks what comes, and gives up when it is too much or too slow."""

    def __init__(self, file: IO[bytes], most: int, checked: bool = False):
        self.size = 0
        self._file, self._most = file, most
        self._hash: Any = None
        if checked:
            import google_crc32c

            self._hash = google_crc32c.Checksum()
        self._deadline = time.monotonic() + 60.0 + INSIST_S

    def write(self, chunk: bytes) -> int:
        self.size += len(chunk)
        if self.size > self._most:
            raise TooLarge
        if time.monotonic() > self._deadline + self.size / SLOWEST:
            raise RemoteError(f"after {self.size} bytes given up: it comes at less than {SLOWEST >> 10} KiB a second")
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


def _retry() -> Any:
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_delay(initial=WAITS_S[0], maximum=WAITS_S[1], multiplier=2.0).with_timeout(INSIST_S)


def _patience() -> dict[str, Any]:
    return {"timeout": (CONNECT_S, SILENCE_S), "retry": _retry()}


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
        if not _is_googles(error):
            raise
        if getattr(error, "code", None) == 404:
            raise Missing(f"there is no {uri}") from error
        what = "no permission to read it: " if getattr(error, "code", None) in (401, 403) else ""
        raise RemoteError(f"{uri}: {what}{error}") from error


def _is_googles(error: Exception) -> bool:
    """Whether an exception is the client's, or of what it stands on."""
    return type(error).__module__.partition(".")[0] in ("google", "urllib3", "http")
