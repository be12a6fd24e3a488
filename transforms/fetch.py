"""Brings a clip's file to this machine where it is not here yet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from transforms.media import MediaError

MAX_FILE_BYTES = 2 << 30
_CHUNK_BYTES = 8 << 20


@contextmanager
def open_media(uri: str, max_file_bytes: int = MAX_FILE_BYTES) -> Iterator[Path]:
    """Gives a local path for `uri`, for as long as the context lasts.

    A path, or a ``file://`` URL, is passed through. Anything else (``gs://…``) is copied to a temporary file by Beam's
    file system for that scheme, a few megabytes at a time.

    Raises:
        MediaError: the file is larger than `max_file_bytes`, or cannot be copied (which may work the next time).
    """
    scheme = FileSystems.get_scheme(uri)
    if scheme is None:
        yield Path(uri)
        return
    if scheme == "file":
        yield Path(unquote(urlsplit(uri).path))
        return
    with tempfile.NamedTemporaryFile(prefix="earshot-", suffix=PurePosixPath(uri).suffix) as copy:
        _copy(uri, copy, max_file_bytes)
        yield Path(copy.name)


def _copy(uri: str, copy: IO[bytes], max_file_bytes: int) -> None:
    """Copies `uri` to an open file, at most `max_file_bytes`."""
    too_large = f"{uri} is larger than the limit of {max_file_bytes / (1 << 30):.3g} GiB"
    try:
        (found,) = FileSystems.match([uri])  # says what is wrong by one type of error, which opening does not
        if not found.metadata_list:
            raise MediaError(f"no such file: {uri}", retryable=True)
        if found.metadata_list[0].size_in_bytes > max_file_bytes:
            raise MediaError(too_large)
        size = 0
        with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as source:
            while chunk := source.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > max_file_bytes:
                    raise MediaError(too_large)
                copy.write(chunk)
        copy.flush()
    except MediaError:
        raise
    except (BeamIOError, OSError) as error:
        raise MediaError(f"cannot fetch {uri}: {error}", retryable=True) from error
    except ValueError as error:  # Beam knows no file system for the scheme
        raise MediaError(f"cannot fetch {uri}: {error}") from error
