"""Writes a version's report: one pass over its records, a few of its clips opened, one page."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from markupsafe import Markup
from rich.progress import track

from beam_pipeline import compare
from beam_pipeline.config import ConfigError
from beam_pipeline.dataset import Dataset
from beam_pipeline.excerpts import Excerpts
from beam_pipeline.export.licences import licence_of
from beam_pipeline.pages.render import render
from beam_pipeline.report.figures import Figures
from beam_pipeline.report.gallery import Exhibit, Media, Sample, exhibits
from beam_pipeline.report.parts import Section, Table
from beam_pipeline.report.sections import sections
from beam_pipeline.review.figures import ReviewFigures, review_figures
from beam_pipeline.review.ratings import InVersion, read_reviews, reviews_folder
from beam_pipeline.show import errors
from transforms.publish import DATASETS
from transforms.remote import Patience

NAME = "report.html"
BYTES = 30_000_000  # that a page has at most
MEDIA = 26_000_000  # of them for pictures and sound; what the rest really takes is known once it is drawn
# A bucket that cannot be reached keeps nobody waiting: the page is whole without its clips.
_PATIENCE = Patience(connect_s=5, silence_s=10, insist_s=10, grace_s=30)
_NOTE = 150  # letters that are needed to say that something is left out
_NUMBER = re.compile(r"[−+-]?[\d,.]+ ?(%|s|h|min|dB|\$)?|")
_HANDLER = re.compile(r"[A-Z]\w*")  # which stands in a manifest where a cue has no model; ids of models have a slash
_REVISION = re.compile(r"(?P<what>.+?)(?:@(?P<commit>[^@/]+)|#(?P<hash>(?:sha256|md5)=[0-9a-f]+))")


def report(
    root: str,
    version: int | None = None,
    clips: int = 60,
    seed: int = 0,
    output: str = "",
    compared: bool = True,
    quiet: bool = False,
) -> str:
    """Writes the report of a version.

    Args:
        root: the dataset's folder, on any file system that Beam knows.
        version: its number; ``None`` for the current one.
        clips: how many are shown, at most.
        seed: of the draw of those.
        output: where the page is written; empty for ``report.html`` in the version's folder.
        compared: with the version before, which is read as well.
        quiet: no progress bars.

    Returns:
        The page's path.

    Raises:
        ConfigError: there is no such dataset or version, it cannot be read, or the page cannot be written.
    """
    dataset = Dataset.open(root, version)
    path = output or FileSystems.join(dataset.folder, NAME)
    _check_place(path)
    figures, sample = Figures(dataset.manifest), Sample(clips, seed)
    reviewed, unread = _reviews(root)
    for name in DATASETS:
        for row in _progress(dataset, name, quiet):
            figures.add(name, row)
            sample.add(name, row)
            reviewed.add(name, row)
    heard, left_out = _heard(reviewed)
    parts = sections(figures, dataset, _comparison(dataset) if compared else None, unread or heard, left_out)
    least = (dataset.manifest.get("similarity") or {}).get("least")
    with Excerpts(processes=2, patience=_PATIENCE) as excerpts:
        shown = exhibits(sample, excerpts, MEDIA, least, quiet)
    _write(path, page(dataset, parts, shown))
    return path


def _progress(dataset: Dataset, name: str, quiet: bool) -> Iterable[dict[str, Any]]:
    hidden = quiet or not errors.is_terminal
    rows, total = dataset.rows(name), dataset.count(name)
    return track(rows, f"reading {name}", total, console=errors, transient=True, disable=hidden)


def _check_place(path: str) -> None:
    """Raises `ConfigError` where no page can be written: better now than when all has been read."""
    if path.endswith(("/", os.sep)) or ("://" not in path and Path(path).is_dir()):
        raise ConfigError(f"{path}: the report cannot be written: this is a folder; name a file")
    if "://" not in path and not Path(path).parent.is_dir():
        raise ConfigError(f"{path}: the report cannot be written: there is no folder {Path(path).parent}")


def _reviews(root: str) -> tuple[InVersion, str]:
    """The reviews, and what is wrong with their files: damaged ones cost their section and not the report."""
    try:
        return InVersion(read_reviews(reviews_folder(root))), ""
    except ConfigError as error:
        return InVersion([]), str(error)


def _heard(reviewed: InVersion) -> tuple[ReviewFigures | None, dict[str, int]]:
    """What people said of captions, and the reviews that do not count."""
    found = reviewed.result()
    figures = review_figures(found.reviews)
    left_out = dict(found.left_out)
    if rejected := len(found.reviews) - figures.reviews:
        left_out["of captions that were rejected"] = rejected
    return (figures if figures.reviews else None), left_out


def _comparison(dataset: Dataset) -> compare.Comparison | str | None:
    """With the version that was published before, or why there is none; ``None`` for the first one."""
    try:
        before = [number for number in compare.published(dataset.root) if number < dataset.version]
        return compare.compare(dataset.root, before[-1], dataset.version) if before else None
    except ConfigError as error:
        return str(error)


def page(dataset: Dataset, parts: Sequence[Section], shown: Sequence[Exhibit], most: int = BYTES) -> bytes:
    """The page as UTF-8, of `most` bytes: players of the last clips are left out first, then their pictures.

    Raises:
        ConfigError: it is larger even so.
    """
    drawn = _drawn(dataset, parts, shown)
    if (over := len(drawn) - most) > 0:
        drawn = _drawn(dataset, parts, slimmer(shown, over))
    if len(drawn) > most:
        raise ConfigError(f"--clips {len(shown)}: the page would have more than {most / 1e6:.0f} MB; show fewer clips")
    return drawn


def slimmer(shown: Sequence[Exhibit], over: int) -> list[Exhibit]:
    """The exhibits with `over` bytes less, as far as sounds and pictures go; what is left out is said on each."""
    kept = list(shown)
    for lighter, said in ((Media.silent, "The player is"), (Media.unseen, "The pictures are")):
        for place in reversed(range(len(kept))):
            media = kept[place].media
            lean = lighter(media, f"{said} left out: the page would be too large.")
            if over > 0 and lean.size < media.size:
                over -= media.size - lean.size - _NOTE
                kept[place] = replace(kept[place], media=lean)
    return kept


def _drawn(dataset: Dataset, parts: Sequence[Section], shown: Sequence[Exhibit]) -> bytes:
    text = render(
        "report/report.html",
        script="report/report.js",
        styles=("report/report.css",),
        name=dataset.root.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or dataset.root,
        version=dataset.version,
        manifest=dataset.manifest,
        counts=dataset.manifest["counts"],
        made=_date(dataset.manifest.get("finished", "")),
        models=list(models(dataset.manifest)),
        sections=parts,
        exhibits=shown,
        numbers=_numbers,
        picture=Markup,
    )
    return text.encode("utf-8", "replace")  # a manifest may hold what UTF-8 cannot


def _date(text: str) -> str:
    try:
        return f"{datetime.fromisoformat(text):%d %B %Y, %H:%M} UTC".lstrip("0")
    except (TypeError, ValueError):
        return ""


def _numbers(table: Table) -> set[int]:
    """The columns that hold numbers, which are put to the right."""
    columns = range(1, len(table.head))
    return {at for at in columns if all(_NUMBER.fullmatch(row[at].strip()) for row in table.rows if at < len(row))}


@dataclass(frozen=True)
class Model:
    """Who had a part in a dataset.

    Attributes:
        part: a cue, or what else was done.
        name: of the model, as short as it can be told; of a handler where there is no model.
        revision: which of it: a commit, or the hash of a file; empty where there is none.
        licence: its name; empty where there is no model.
        restricted: whether the licence allows research or non-commercial use only.
        said: in words, what else is to know.
        full: all that the manifest says.
    """

    part: str
    name: str
    revision: str
    licence: str
    restricted: bool
    said: str
    full: str


def models(manifest: dict[str, Any]) -> Iterable[Model]:
    """Which models made the dataset, in the order in which they came to work."""
    conditions = manifest.get("conditions") or {}
    if separation := manifest.get("separation"):
        yield _model("separation", separation["model"], "splits off the voices before other models listen")
    for name, cue in manifest["cues"].items():
        said = _asked_where(conditions.get(name))
        known = _by_rule if _HANDLER.fullmatch(cue["model"]) else _model
        yield known(name, cue["model"], said)
    asked = [*manifest.get("forms", ()), *manifest.get("languages", ())]
    yield _written("captions", manifest, f"also as {', '.join(asked)}" if asked else "")
    if questions := manifest.get("questions"):
        yield _written("questions", questions, "")


def _written(part: str, by: dict[str, Any], said: str) -> Model:
    prompt = f"prompt {by['prompt']}" if by.get("prompt") else ""
    said = "; ".join(filter(None, (prompt, said)))
    return _model(part, by["model"], said) if by.get("model") else _by_rule(part, by["writer"].split(":")[0], said)


def _by_rule(part: str, handler: str, said: str) -> Model:
    return Model(part, handler, "", "", False, "; ".join(filter(None, ("by rule, without a model", said))), handler)


def _model(part: str, full: str, said: str) -> Model:
    found = _REVISION.fullmatch(full)
    name = found["what"] if found else full
    revision = (found["commit"] or found["hash"]) if found else ""
    licence = licence_of(full)
    if name.startswith("pkg://"):
        name, said = name.rsplit("/", 1)[-1], "; ".join(filter(None, ("comes with Earshot", said)))
    elif "://" in name:
        name = unquote(name.split("?")[0].rstrip("/").rsplit("/", 1)[-1])
    return Model(part, name, revision, licence.name, licence.restricted, said, full)


def _asked_where(told: dict[str, Any] | list[dict[str, Any]] | None) -> str:
    """Of which clips a cue is wanted, by one condition or any of several; empty for all."""
    conditions = told if isinstance(told, list) else [told] if told else []
    return f"asked only where {', or '.join(map(_condition, conditions))}" if conditions else ""


def _condition(condition: dict[str, Any]) -> str:
    wanted = " or ".join(condition["any_of"]) or "something"
    score = "" if condition["min_score"] is None else f" with {condition['min_score']:g} or more"
    return f"{condition['cue']} names {wanted}{score}"


def _write(path: str, content: bytes) -> None:
    try:
        if "://" in path:
            with FileSystems.create(path, mime_type="text/html", compression_type="uncompressed") as file:
                file.write(content)
            return
        # Whoever opens it meanwhile sees the old page or the new one.
        place = Path(path)
        new = place.with_name(f".{place.name}-{os.getpid()}")
        try:
            new.write_bytes(content)
            new.replace(place)
        finally:
            new.unlink(missing_ok=True)
    except (OSError, BeamIOError) as error:
        raise ConfigError(f"{path}: the report cannot be written: {error}") from None
