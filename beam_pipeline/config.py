"""What a run is made of: a profile names the cues, the filters and the caption writer. Unknown keys are errors."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from model_handlers.base import CueHandler
from model_handlers.writers import CaptionWriter

PROFILES = files("beam_pipeline") / "profiles"
_STRICT = ConfigDict(extra="forbid", strict=False)


class ConfigError(ValueError):
    """A profile or option that cannot be used. The message says what to change."""


@dataclass(frozen=True)
class LabelRule:
    """Drops a clip whose dataset labels include every one of `all_of` (Auto-ACD: speech together with music).

    `sources` limits the rule to clips of those sources; empty means every source.
    """

    __pydantic_config__ = _STRICT

    all_of: tuple[str, ...]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class SilenceRule:
    """Drops a clip whose loudest sample stays below `below_dbfs` (dB relative to full scale): nothing can be heard."""

    __pydantic_config__ = _STRICT

    cue: str = "loudness"
    below_dbfs: float = -60.0


@dataclass(frozen=True)
class SyncRule:
    """Drops a clip in which fewer than `required_hits` of the synchronisation evaluations are right.

    An evaluation is right when the predicted offset lies within `tolerance` classes of 0.2 s of the true one. Auto-ACD
    (section 3.3) requires one of five within 0.6 s. `sources` as in `LabelRule`.
    """

    __pydantic_config__ = _STRICT

    cue: str = "synchronisation"
    required_hits: int = 1
    tolerance: int = 3
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filters:
    """The filters of a profile; one that is absent does not run."""

    __pydantic_config__ = _STRICT

    labels: LabelRule | None = None
    silence: SilenceRule | None = None
    sync: SyncRule | None = None


@dataclass(frozen=True)
class Profile:
    """A named set of cues, filters and a caption writer.

    Attributes:
        name: the file's name without ``.toml``.
        description: one sentence for ``earshot run --help`` and the manifest.
        notice: what a reader of the results has to know; shown with every result.
        cues: cue name → row: ``handler`` (``module:Class`` below model_handlers, or a full path) and the handler's
            own fields.
        filters: what drops a clip.
        caption: the caption writer's row.
    """

    __pydantic_config__ = _STRICT

    name: str
    description: str
    caption: Mapping[str, Any]
    cues: Mapping[str, Mapping[str, Any]]
    filters: Filters = field(default_factory=Filters)
    notice: str = ""

    def handlers(self) -> tuple[CueHandler, ...]:
        """Builds the cue handlers in the profile's order. Raises `ConfigError` on a row that fits no handler."""
        return tuple(_build(CueHandler, name, {"name": name, **row}) for name, row in self.cues.items())

    def writer(self) -> CaptionWriter:
        """Builds the caption writer."""
        return _build(CaptionWriter, "caption", dict(self.caption))


def profile_names() -> list[str]:
    """The profiles that ship with Earshot."""
    return sorted(Path(entry.name).stem for entry in PROFILES.iterdir() if entry.name.endswith(".toml"))


def load_profile(name: str) -> Profile:
    """Reads a profile by its name, or by the path of a TOML file."""
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no profile {name!r}; there are: {', '.join(profile_names())}, or give the path of a .toml file"
        ) from None
    try:
        profile = TypeAdapter(Profile).validate_python({"name": Path(name).stem, **tomllib.loads(text)})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {problems}") from None
    for rule in (profile.filters.silence, profile.filters.sync):
        if rule and rule.cue not in profile.cues:
            raise ConfigError(f"{path}: a filter needs the cue {rule.cue!r}, which the profile has not")
    return profile


def _build(base: type, name: str, row: dict[str, Any]) -> Any:
    """Builds what a row describes: ``handler`` names the class, the other keys are its fields."""
    target = row.pop("handler", None)
    if not target or ":" not in target:
        raise ConfigError(f"{name}: the row needs `handler`, as in handler = 'audio_tags:AudioTags'")
    module_name, _, class_name = target.partition(":")
    module_name = module_name if "." in module_name else f"model_handlers.{module_name}"
    try:
        handler = getattr(import_module(module_name), class_name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(f"{name}: handler {target!r} cannot be imported: {error}") from None
    if not (isinstance(handler, type) and issubclass(handler, base)):
        raise ConfigError(f"{name}: {target!r} is not a {base.__name__}")
    known = {f.name for f in fields(handler) if f.init}  # type: ignore[arg-type]  # both bases are dataclasses
    for key in row.keys() - known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(sorted(known - {'name'}))}"
        raise ConfigError(f"{name}: {class_name} has no parameter {key!r}; {hint}")
    try:
        return handler(**row)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from None
