"""What a row may write where it names a model or a file, and which files that is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from model_handlers.downloads import ModelError, Source, listed

PACKAGE = "pkg://"
_PIN = re.compile(r"sha256=([0-9a-f]{64})|md5=([0-9a-f]{32})")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w.-]+))?")


@dataclass(frozen=True)
class Reference:
    """What a row names.

    Attributes:
        text: as the row has it, for messages.
        kind: a folder of an installed ``package``, a ``local`` path, a ``hub`` repository, or a ``url``.
        place: the path, the hub id, or the URL without its fragment.
        pin: what fixes the content: a hub id's revision, or ``sha256:`` or ``md5:`` and the hash of what a URL leads
            to. The SHA-256 of a folder is that of `folder_digest`.
    """

    text: str
    kind: Literal["package", "local", "hub", "url"]
    place: str
    pin: str = ""

    @property
    def key(self) -> str:
        """What tells its content from any other: ``owner/name@revision``, or the hash, wherever the file lies.

        Raises `ModelError` for a URL without a hash, because what it leads to may be another file tomorrow.
        """
        if self.kind == "hub":
            return f"{self.place}@{self.pin}"
        if not self.pin:
            raise ModelError(
                f"model {self.text!r}: a URL needs the hash of what it leads to, as in {self.place}#sha256=<64 digits> "
                "(or #md5=…); `earshot models fetch` says what the hash is"
            )
        return self.pin

    @property
    def moves(self) -> bool:
        """Whether it is a hub repository at a branch or a tag, which may be another model tomorrow."""
        return self.kind == "hub" and not _COMMIT.fullmatch(self.pin)

    @property
    def filename(self) -> str:
        """The last part of a URL's path, as a name that is harmless on this machine."""
        name = re.sub(r"[^\w.=+-]", "_", PurePosixPath(unquote(urlsplit(self.place).path)).name)
        return name if name.strip("._") else "file"


def parse(text: str, revision: str = "") -> Reference:
    """Reads a reference; raises `ModelError` on one that cannot be meant.

    Args:
        text: a path; ``pkg://package/path``; a hub id (``owner/name``, or ``owner/name@revision``); or a URL with the
            hash of what it leads to, ``https://host/file#sha256=…``: a file, or with one of Beam's schemes (``gs``) a
            folder.
        revision: the commit of a hub id that does not carry one.
    """
    if text.startswith(PACKAGE):
        return Reference(text, "package", text.removeprefix(PACKAGE))
    if "://" in text:
        return _url(text)
    if text.startswith(("/", "./", "../", "~")) or Path(text).exists():
        return Reference(text, "local", text)
    match = _HUB.fullmatch(text)
    if not match or ".." in text or text.endswith((".git", ".")):
        raise ModelError(f"model {text!r}: no such path here, and not the form of a hub id (owner/name)")
    if match[2] and revision:
        raise ModelError(f"model {text!r}: has a revision of its own, and `revision` = {revision!r} beside it")
    if not (match[2] or revision):
        raise ModelError(f"model {text!r}: a hub id needs a `revision` (a commit) in the profile's row")
    return Reference(text, "hub", match[1], match[2] or revision)


def _url(text: str) -> Reference:
    place, _, fragment = text.partition("#")
    if urlsplit(place).scheme.lower() == "file":
        raise ModelError(f"model {text!r}: give the path itself, without file://")
    pin = _PIN.fullmatch(fragment.lower())
    if fragment and not pin:
        raise ModelError(f"model {text!r}: #{fragment} is no hash; write #sha256=<64 digits> or #md5=<32 digits>")
    return Reference(text, "url", place, (f"sha256:{pin[1]}" if pin[1] else f"md5:{pin[2]}") if pin else "")


def sources(reference: Reference, patterns: tuple[str, ...] = ()) -> tuple[str, list[Source]]:
    """Where a hub repository's or a URL's files are to be had.

    Args:
        reference: of kind ``hub`` or ``url``.
        patterns: which files of a hub repository; all where empty.

    Returns:
        The path that the model has within a store, and its files, each with its path within the store as its name.
    """
    if reference.kind == "hub":
        root = safe_path(f"hub/{reference.place}/{reference.pin}")
        return root, _hub_sources(reference, patterns, root)
    place = reference.pin.replace(":", "-") or f"new-{hashlib.sha256(reference.place.encode()).hexdigest()[:16]}"
    root = f"files/{place}/{reference.filename}"
    if urlsplit(reference.place).scheme in ("http", "https"):
        return root, [Source(root, reference.place, reference.pin)]
    url = reference.place.rstrip("/")
    for found, size in listed(url):
        if found == url:
            return root, [Source(root, url, reference.pin, size)]
    inside = [(found, size) for found, size in listed(f"{url}/**") if not found.endswith("/")]
    if not inside:
        raise ModelError(f"model {reference.text!r}: there is no file and no folder {url}")
    if reference.pin.startswith("md5:"):
        raise ModelError(f"model {reference.text!r}: a folder has no MD5; give its SHA-256 (`earshot models fetch`)")
    return root, [Source(safe_path(f"{root}/{found[len(url) + 1 :]}"), found, size=size) for found, size in inside]


def _hub_sources(reference: Reference, patterns: tuple[str, ...], root: str) -> list[Source]:
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import build_hf_headers, filter_repo_objects

    model, revision = reference.place, reference.pin
    with hub_errors(model, revision):
        tree = [f for f in HfApi().list_repo_tree(model, revision=revision, recursive=True) if isinstance(f, RepoFile)]
    wanted = list(filter_repo_objects(tree, allow_patterns=list(patterns) or None, key=lambda file: file.path))
    if not wanted:
        raise ModelError(f"model {model!r} at revision {revision}: the hub has none of {', '.join(patterns) or 'it'}")
    return [
        Source(
            safe_path(f"{root}/{file.path}"),
            hf_hub_url(model, file.path, revision=revision),
            f"sha256:{file.lfs.sha256}" if file.lfs else f"git:{file.blob_id}",
            file.size,
            build_hf_headers(),
        )
        for file in wanted
    ]


def commit(reference: Reference) -> str:
    """The commit that a hub repository's branch or tag stands for at this moment."""
    from huggingface_hub import HfApi

    with hub_errors(reference.place, reference.pin):
        return HfApi().model_info(reference.place, revision=reference.pin).sha or ""


@contextmanager
def hub_errors(model: str, revision: str) -> Iterator[None]:
    """Says of what goes wrong with the hub which model it was about, and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise ModelError(f"model {model!r}: no such path here, and not the form of a hub id (owner/name)") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"model {model!r}: the hub has it, but not at revision {revision!r}") from error
    except GatedRepoError as error:
        raise ModelError(
            f"model {model!r} at revision {revision}: the hub gives it only to those who accept its terms; do that on "
            "its page, and run `hf auth login`, or set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"model {model!r} at revision {revision}: no such repository on the hub, and no such path here; "
            "check the spelling of `model` in the profile's row"
        ) from error
    except (HTTPError, OSError) as error:
        raise ModelError(
            f"model {model!r} at revision {revision}: not in the local hub cache, and the hub cannot be reached "
            f"({type(error).__name__}). Where there is a network, run `earshot models fetch` and give its folder as "
            f"--models here, or run `hf download {model} --revision {revision} --local-dir FOLDER` and set `model` in "
            "the profile's row to that folder."
        ) from error


def safe_path(path: str) -> str:
    """Returns `path` where it stays below the folder that it is relative to; raises `ModelError` where it does not."""
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise ModelError(f"{path!r} is no path within a model's folder; it is not brought here")
    return path


def folder_digest(path: Path) -> str:
    """SHA-256 over the names and contents of the files at `path`, as ``sha256:<hex>``; of one file, its content's."""
    digest = hashlib.sha256()
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in inside:
        if path.is_dir():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
