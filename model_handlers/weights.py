"""Where a model's files are, and what pins their content.

Every place gives a local path in the end, so that a handler loads a published checkpoint and a small local one by the
same code. `references.parse` says what may be written; a folder that `earshot models fetch` filled (a *mirror*) takes
the network's place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from model_handlers.downloads import ModelError
from model_handlers.references import Reference, folder_digest, hub_errors, parse
from model_handlers.store import cache, from_place

__all__ = ["ModelError", "check_complete", "check_whole", "checksum", "identity", "is_local", "local_path", "reading"]


def is_local(model: str) -> bool:
    """Whether `model` names files that are already on this machine, rather than a hub repository or a URL."""
    return model.startswith(("pkg://", "/", "./", "../", "~")) or Path(model).exists()


def local_path(model: str, revision: str = "", patterns: tuple[str, ...] = (), mirror: str = "") -> Path:
    """Returns the folder or file that holds `model`, downloading what is not here yet.

    Args:
        model: a path, ``pkg://package/path``, a hub id such as ``Salesforce/blip2-opt-2.7b``, or a URL with a hash.
        revision: the commit of a hub id; it has to be given, so that a rerun means the same model.
        patterns: which files of a hub repository are needed; all where empty.
        mirror: the place that `earshot models fetch` filled, for what would otherwise come from the network.
    """
    reference = parse(model, revision)
    match reference.kind:
        case "package" | "local":
            return _present(reference)
        case _ if mirror:
            return from_place(mirror, reference, patterns)
        case "hub":
            return _from_hub(reference, patterns)
        case _:
            return _from_url(reference)


def identity(model: str, revision: str = "") -> str:
    """Returns what pins a model's content: a hub id's revision, a URL's hash, else the SHA-256 over the local files."""
    reference = parse(model, revision)
    return checksum(_present(reference)) if reference.kind in ("package", "local") else reference.key


@lru_cache(maxsize=256)
def checksum(path: Path) -> str:
    """SHA-256 over the names and contents of the files at `path`, as ``sha256:<hex>``; read once in a process."""
    return folder_digest(path)


@contextmanager
def reading(place: Path, what: str) -> Iterator[None]:
    """Turns whatever a library raises over the files at `place` into a `ModelError`.

    It belongs around calls that do nothing but read them. A configuration with a wrong type in it makes transformers
    raise TypeError, AttributeError, KeyError and errors of its own, and tokenizers the bare `Exception`; no list holds.

    Args:
        place: the folder or file.
        what: the model that is expected there.
    """
    try:
        yield
    except (ModelError, MemoryError):  # the one says it already, and of the other the files are innocent
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:500]}"
        raise ModelError(
            f"{what} cannot be loaded from {place} ({said}); get the files again, or save the model with "
            "save_pretrained"
        ) from error


def check_complete(place: Path, what: str, vocabulary: str) -> None:
    """Raises `ModelError` with what a folder lacks of a model with a processor, before transformers gets to guess.

    Args:
        place: the folder.
        what: the model that is expected there.
        vocabulary: the file in which older tokenizers of this kind have their words.
    """
    needed = (
        ("config.json",),
        ("processor_config.json", "preprocessor_config.json"),
        ("tokenizer.json", vocabulary),
        ("model.safetensors", "model.safetensors.index.json"),
    )
    lacking = [" or ".join(names) for names in needed if not any((place / name).is_file() for name in names)]
    if lacking:
        raise ModelError(
            f"{place} lacks {'; '.join(lacking)}; give the folder of a {what} as saved with save_pretrained (model and "
            "processor)"
        )


def check_whole(info: Mapping[str, Any], place: Path, what: str) -> None:
    """Raises `ModelError` where weights were missing: transformers fills them with random numbers and goes on.

    Args:
        info: what ``from_pretrained(…, output_loading_info=True)`` says.
        place: the folder.
        what: the model that is expected there.
    """
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(f"{place} is not a whole {what} (missing: {missing}); get the files again")


def _present(reference: Reference) -> Path:
    if reference.kind == "package":
        package, _, inside = reference.place.partition("/")
        try:
            path = Path(str(files(package))) / inside
        except ModuleNotFoundError as error:
            raise ModelError(f"model {reference.text!r}: there is no package {package!r} installed") from error
    else:
        path = Path(reference.place).expanduser()
    if not path.exists():
        raise ModelError(f"model {reference.text!r}: nothing at {path}; give a folder or file that exists, or a hub id")
    return path


def _from_hub(reference: Reference, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    with hub_errors(reference.place, reference.pin):
        return Path(snapshot_download(reference.place, revision=reference.pin, allow_patterns=list(patterns) or None))


def _from_url(reference: Reference) -> Path:
    store = cache()
    key = reference.key
    try:
        entry = store.find(key) or store.bring(reference)
    except ModelError as error:
        raise ModelError(
            f"{error}. It is not in the cache {store.root} either. Where there is a network, run `earshot models "
            "fetch`, and give its folder as --models here"
        ) from error
    return store.root / entry.path
