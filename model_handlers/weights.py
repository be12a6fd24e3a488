"""Where a model's files are: a local folder or file, a folder inside an installed package, or a pinned hub repository.

Every place gives a local path in the end, so that a handler loads a published checkpoint and a small local one by the
same code.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

PACKAGE = "pkg://"


class ModelError(RuntimeError):
    """A model cannot be had. The message says which, where it was sought, and what to do."""


def is_local(model: str) -> bool:
    """Whether `model` names files that are already on this machine, rather than a hub repository."""
    return model.startswith((PACKAGE, "/", "./", "../", "~")) or Path(model).exists()


def local_path(model: str, revision: str = "", patterns: tuple[str, ...] = ()) -> Path:
    """Returns the folder or file that holds `model`, downloading a hub repository's files where need be.

    Args:
        model: a path, ``pkg://package/path``, or a hub id such as ``Salesforce/blip2-opt-2.7b``.
        revision: the commit of a hub id; it has to be given, so that a rerun means the same model.
        patterns: which files of a hub repository are needed; all where empty.
    """
    if model.startswith(PACKAGE):
        package, _, inside = model.removeprefix(PACKAGE).partition("/")
        try:
            path = Path(str(files(package))) / inside
        except ModuleNotFoundError as error:
            raise ModelError(f"model {model!r}: there is no package {package!r} installed") from error
    elif is_local(model):
        path = Path(model).expanduser()
    else:
        return _from_hub(model, revision, patterns)
    if not path.exists():
        raise ModelError(f"model {model!r}: nothing at {path}; give a folder or file that exists, or a hub id")
    return path


def _from_hub(model: str, revision: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if not revision:
        raise ModelError(f"model {model!r}: a hub id needs a `revision` (a commit) in the profile's row")
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns) or None))
    except HFValidationError as error:
        raise ModelError(f"model {model!r}: no such path here, and not the form of a hub id (owner/name)") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"model {model!r}: the hub has it, but not at revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model {model!r} at revision {revision}: no such repository on the hub, and no such path here; "
            "check the spelling of `model` in the profile's row"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"model {model!r} at revision {revision}: not in the local hub cache, and the hub cannot be reached "
            f"({type(error).__name__}). Where there is a network, run `hf download {model} --revision {revision} "
            "--local-dir FOLDER`, and set `model` in the profile's row to that folder."
        ) from error


def identity(model: str, revision: str = "") -> str:
    """Returns what pins a model's content: the revision of a hub id, else the SHA-256 over the local files."""
    return checksum(local_path(model)) if is_local(model) else f"{model}@{revision}"


@lru_cache(maxsize=256)
def checksum(path: Path) -> str:
    """SHA-256 over the names and contents of the files at `path`, as ``sha256:<hex>``."""
    digest = hashlib.sha256()
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in inside:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
