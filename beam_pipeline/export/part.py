"""A folder that appears when it is whole: it is made under another name beside its place, and renamed at the end."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from beam_pipeline.config import ConfigError

_MARK = ".earshot-export"  # by which a folder is known for ours; its lock says whether somebody is at work


@contextmanager
def made_whole(out: str) -> Iterator[Path]:
    """Gives the folder to write to, which is called `out` when the block has ended, and is gone when the block fails.

    Where `out` is a symbolic link, what it leads to is the place. What a killed process left of the same is removed
    first. A whole folder that cannot take its name keeps the one it has, which the error tells.

    Raises:
        ConfigError: `out` is there and not empty, is no local folder, is where a file system is mounted, or another
            process is making it.
    """
    if "://" in out:
        raise ConfigError(f"--output {out}: give a folder of this machine, and copy it there when it is whole")
    place = Path(os.path.realpath(out))
    _check(place, out)
    part = place.with_name(f"{place.name}.part")
    try:
        lock = _begun(part)
        try:
            try:
                yield part
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            _named(part, place, out)
        finally:
            os.close(lock)
    except OSError as error:
        raise ConfigError(f"--output {out}: cannot be written: {error}") from None


def _named(part: Path, place: Path, out: str) -> None:
    """Gives the whole folder its name, or says where it is."""
    try:
        if place.exists():
            place.rmdir()  # it was empty, and has to be still
        part.rename(place)
    except OSError as error:
        (part / _MARK).unlink()  # else the next export takes it for what a killed one left
        raise ConfigError(f"--output {out}: cannot be written ({error}); the export is whole, in {part}") from None
    (place / _MARK).unlink()


def _check(place: Path, out: str) -> None:
    if not place.name:
        raise ConfigError(f"--output {out}: give a new folder")
    if os.path.ismount(place):  # which nothing can be renamed to
        raise ConfigError(f"--output {out}: a file system is mounted there; give a folder in it: {place / 'export'}")
    try:
        taken = place.exists() and (not place.is_dir() or any(place.iterdir()))
    except OSError as error:
        raise ConfigError(f"--output {out}: cannot be written: {error}") from None
    if taken:
        raise ConfigError(f"--output {out}: there is something already; give a new folder, or remove that one")


def _begun(part: Path) -> int:
    """Makes the folder anew, ours alone; returns the lock's descriptor."""
    mark = part / _MARK
    if part.exists():
        if not mark.is_file() and any(part.iterdir()):
            raise ConfigError(f"{part}: there is something already; move it away, or give another --output")
        os.close(_locked(mark))
        shutil.rmtree(part)
    part.mkdir(parents=True)
    return _locked(mark)


def _locked(mark: Path) -> int:
    lock = os.open(mark, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(f"{mark.parent}: another export is writing there; wait for it, or stop it") from None
    return lock
