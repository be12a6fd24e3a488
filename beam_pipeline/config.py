"""What a run is made of: a profile names the cues, the filters and the caption writer. Unknown keys are errors."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from beam_pipeline.shipped import shipped
from model_handlers.audio_embedding import AudioEmbedding
from model_handlers.base import CueHandler
from model_handlers.loudness import Loudness
from model_handlers.questions import Questions
from model_handlers.references import parse
from model_handlers.separation import Separator, StemCue
from model_handlers.synchronisation import CLASSES, Synchronisation
from model_handlers.writers import CaptionWriter, Task
from transforms.checks import Checks
from transforms.conditions import Condition, cues_of, levels
from transforms.cues import CueInfo
from transforms.similarity import Scorer
from transforms.splits import Benchmarks, SplitRule

PROFILES = files("beam_pipeline") / "profiles"
_STRICT = ConfigDict(extra="forbid")
_CUE_NAME = r"^[a-z][a-z0-9_]*$"
_RESERVED = {
    "caption",
    "clips",
    "decode",
    "done",
    "questions",
    "separation",
    "similarity",
}  # steps of the pipeline that are labelled like cues


class ConfigError(ValueError):
    """A profile or option that cannot be used. The message says what to change."""


@dataclass(frozen=True)
class LabelRule:
    """Drops a clip whose dataset labels include every one of `all_of` (Auto-ACD: speech together with music).

    `sources` limits the rule to clips of those sources; empty means every source.
    """

    __pydantic_config__ = _STRICT

    all_of: Annotated[tuple[str, ...], Field(min_length=1)]
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

    An evaluation is right when the predicted offset lies within `tolerance` classes of 0.2 s of the true one, and the
    classes within tolerance together have at least `least_probability`. Auto-ACD (section 3.3) requires one of five
    within 0.6 s, however unsure. `sources` as in `LabelRule`.
    """

    __pydantic_config__ = _STRICT

    cue: str = "synchronisation"
    required_hits: Annotated[int, Field(ge=1)] = 1
    tolerance: Annotated[int, Field(ge=0, lt=CLASSES)] = 3
    least_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filters:
    """The filters of a profile; one that is absent does not run.

    Attributes:
        labels: by the source's labels.
        silence: by loudness.
        sync: by synchronisation.
        first: computes the cues that the filters need before all others, and these only for the clips that are kept:
            cheaper, but of a clip that was dropped no more is known than why.
    """

    __pydantic_config__ = _STRICT

    labels: LabelRule | None = None
    silence: SilenceRule | None = None
    sync: SyncRule | None = None
    first: bool = False

    def cues(self) -> tuple[str, ...]:
        """The cues that the filters need."""
        return tuple(rule.cue for rule in (self.silence, self.sync) if rule)


@dataclass(frozen=True)
class SimilarityRule:
    """Drops a caption whose similarity to the sound is below `least`, by the CLAP of the cue `cue`.

    FusionAudio's least is 0.08, for a checkpoint that it does not name; `earshot calibrate` finds one for another.
    """

    __pydantic_config__ = _STRICT

    cue: str = "clap"
    least: Annotated[float, Field(ge=-1, le=1)] = -1.0


@dataclass(frozen=True)
class Profile:
    """A named set of cues, filters and a caption writer.

    Attributes:
        name: the file's name without ``.toml``.
        description: one sentence for ``earshot run --help`` and the manifest.
        notice: what a reader of the results has to know; shown with every result.
        cues: cue name → row: ``handler`` (``module:Class`` below model_handlers, or a full path) and the handler's
            own fields; and ``when``, a `Condition` or a list of some, of which one has to hold.
        separation: the row of what takes sound apart (`Separator`), for the cues whose rows say `stem`; empty for none.
        filters: what drops a clip.
        checks: what a caption has to pass.
        similarity: what compares captions with sounds, if anything does.
        splits: which captions are for training, and which are held out.
        caption: the caption writer's row.
        questions: the row of the writer of questions, with the fields of `Questions`; empty for no questions.
        models: a place that `earshot models fetch` filled, to be used instead of the network; empty for the network.
    """

    __pydantic_config__ = _STRICT

    name: str
    description: str
    caption: Mapping[str, Any]
    cues: Annotated[Mapping[Annotated[str, Field(pattern=_CUE_NAME)], Mapping[str, Any]], Field(min_length=1)]
    separation: Mapping[str, Any] = field(default_factory=dict)
    filters: Filters = field(default_factory=Filters)
    checks: Checks = field(default_factory=Checks)
    similarity: SimilarityRule | None = None
    splits: SplitRule = field(default_factory=SplitRule)
    questions: Mapping[str, Any] = field(default_factory=dict)
    notice: str = ""
    models: str = ""

    def handlers(self) -> tuple[CueHandler, ...]:
        """Builds the cue handlers in the profile's order. Raises `ConfigError` on a row that fits no handler."""
        given = {"mirror": self.models, "separator": self.separator()}
        handlers: tuple[CueHandler, ...] = tuple(
            _build(CueHandler, name, {k: v for k, v in row.items() if k != "when"}, name=name, **given)
            for name, row in self.cues.items()
        )
        for handler in handlers:
            if isinstance(handler, StemCue) and handler.stem and handler.separator is None:
                raise ConfigError(
                    f"{handler.name}: stem = {handler.stem!r} needs what takes sound apart; add a section [separation] "
                    f"with model = … to the profile. {Separator.advice}"
                )
        return handlers

    def separator(self) -> Separator | None:
        """Builds what takes sound apart, where the profile has that. Raises `ConfigError`."""
        if not self.separation:
            return None
        row = {"handler": "separation:Separator", **self.separation}
        return _build(Separator, "separation", row, name="separation", mirror=self.models)

    def models_used(self) -> tuple[CueHandler, ...]:
        """The cue handlers, and what takes sound apart before some of them hear it."""
        handlers, separator = self.handlers(), self.separator()
        used = separator and any(isinstance(handler, StemCue) and handler.stem for handler in handlers)
        return (separator, *handlers) if separator and used else handlers

    def conditions(self) -> dict[str, tuple[Condition, ...]]:
        """Under which conditions cues are wanted, for those that have any: one of them has to hold.

        Raises `ConfigError`.
        """
        found = {}
        for name, row in self.cues.items():
            if "when" in row:
                some = row["when"] if isinstance(row["when"], list) else [row["when"]]
                if not some:
                    raise ConfigError(f"{name}: when is empty; leave it out for a cue that is wanted of every clip")
                found[name] = tuple(_condition(name, one) for one in some)
        return found

    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The cues' names, those that can be computed together at a time. Raises `ConfigError`."""
        try:
            found = levels(tuple(self.cues), self.conditions(), self.filters.cues() if self.filters.first else ())
        except ValueError as error:
            raise ConfigError(f"cues: {error}") from None
        stems = {name for name, row in self.cues.items() if row.get("stem")}
        return _at_once(found, stems, {cue for some in self.conditions().values() for cue in cues_of(some)})

    def notices(self) -> str:
        """What a reader of the results has to know: `notice`, and which models may be others tomorrow."""
        moving = [
            f"{handler.name} names {reference.place} at {reference.pin!r}, which is no commit: a rerun may use another "
            "model and not notice; `earshot models fetch` says which commit it is."
            for handler in self.models_used()
            for text, revision, _ in handler.references()
            if (reference := parse(text, revision)).moves
        ]
        return " ".join([self.notice, *moving]).strip()

    def gpu_memory(self) -> dict[str, float | None]:
        """GB of a GPU's memory that each row wants, by cue name, ``separation``, ``caption``, ``questions`` and
        ``similarity``.

        0 for a row that wants no GPU; ``None`` where nothing says how much.
        """
        scorer = self.scorer()
        return {
            **{handler.name: handler.gpu_memory for handler in self.models_used()},
            **_writers_memory(self.writers()),
            **({"similarity": scorer.model.gpu_memory} if scorer else {}),
        }

    def writer(self, budget_dollars: float | None = None) -> CaptionWriter:
        """Builds the caption writer, for a worker process that may spend so much."""
        return self._writer("caption", self.caption, budget_dollars)

    def questioner(self, budget_dollars: float | None = None) -> CaptionWriter | None:
        """Builds the writer of questions, where the profile wants any."""
        if not self.questions:
            return None
        names = {field.name for field in fields(Questions)}
        asked = {key: value for key, value in self.questions.items() if key in names}
        try:  # by way of JSON, as a profile is read
            wanted = TypeAdapter(Questions).validate_json(json.dumps(asked), strict=True)
        except ValidationError as error:
            problem = error.errors()[0]
            raise ConfigError(f"questions: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
        row = {key: value for key, value in self.questions.items() if key not in names}
        return self._writer("questions", row, budget_dollars, questions=wanted)

    def writers(self, budget_dollars: float | None = None) -> tuple[CaptionWriter, ...]:
        """Builds all writers: of captions and, where the profile wants any, of questions."""
        questioner = self.questioner(budget_dollars)
        return self.writer(budget_dollars), *([questioner] if questioner else [])

    def _writer(self, task: Task, row: Mapping[str, Any], budget_dollars: float | None, **more: Any) -> CaptionWriter:
        headings = {handler.name: handler.told for handler in self.handlers()}
        given = {"headings": headings, "mirror": self.models, "budget_dollars": budget_dollars, **more}
        writer = _build(CaptionWriter, task, dict(row), **given)
        if writer.task != task:
            raise ConfigError(f"{task}: {type(writer).__name__} with this prompt writes for [{writer.task}]")
        return writer

    def scorer(self) -> Scorer | None:
        """Builds what compares captions with sounds, where the profile wants that."""
        if self.similarity is None:
            return None
        name = self.similarity.cue
        if name not in self.cues:
            raise ConfigError(f"similarity needs the cue {name!r}, which the profile has not")
        [handler] = [handler for handler in self.handlers() if handler.name == name]
        if not isinstance(handler, AudioEmbedding):
            raise ConfigError(f"similarity: the cue {name!r} is no AudioEmbedding")
        model = handler.scorer()
        named = CueInfo.of(handler).model
        return Scorer(name, handler.view, named, model.fingerprint(), model, self.similarity.least)


def load_profile(name: str) -> Profile:
    """Reads a profile by its name, or by the path of a TOML file."""
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no profile {name!r}; there are: {', '.join(shipped('profiles'))}, or give the path of a .toml file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a profile: {error}") from None
    try:
        # By way of JSON, in which lists may be tuples and tables dataclasses, and yet "3" is no 3.
        tables = tomllib.loads(text)
        if empty := [table for table in ("questions", "separation") if tables.get(table) == {}]:
            raise ConfigError(f"{path}: [{empty[0]}] is empty; fill it, or leave it out")
        content = json.dumps({"name": Path(name).stem, **tables}, default=str)
        profile = TypeAdapter(Profile).validate_json(content, strict=True)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {problems}") from None
    try:
        profile = replace(profile, splits=_placed(profile.splits, path), caption=_prompted(profile.caption, path))
        profile = replace(profile, questions=_prompted(profile.questions, path))
        _check(profile)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return profile


def _condition(cue: str, given: object) -> Condition:
    """One condition of a cue's row. Raises `ConfigError` with what is wrong."""
    if not isinstance(given, dict):
        raise ConfigError(
            f'{cue}: when is {given!r}; it has to be such as {{ cue = "audio_tags" }}, or a list of these'
        )
    try:
        return TypeAdapter(Condition).validate_python(given)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{cue}: when.{'.'.join(map(str, problem['loc']))}: {problem['msg']}, in {given!r}") from None


def _at_once(levels: Sequence[tuple[str, ...]], stems: set[str], awaited: set[str]) -> tuple[tuple[str, ...], ...]:
    """Puts cues of stems on one level, the last that has any, so that a clip is taken apart once for all of them.

    Those that others wait for (`awaited`) stay where they are.
    """
    last = max((number for number, level in enumerate(levels) if stems & set(level)), default=0)
    late = [name for level in levels[: last + 1] for name in level if name in stems - awaited]
    kept = [[name for name in level if name not in late] for level in levels]
    kept[last] += late
    return tuple(tuple(level) for level in kept if level)


def _writers_memory(writers: Sequence[CaptionWriter]) -> dict[str, float | None]:
    """GB of each writer, by its task; where an earlier one has loaded its model, what it takes beyond that."""
    found: dict[str, float | None] = {}
    loaded: dict[tuple[str, ...], float] = {}
    for writer in writers:
        gb = writer.gpu_memory
        found[writer.task] = gb if gb is None else max(0.0, gb - loaded.get(writer.shares, 0.0))
        if gb is not None and writer.shares:
            loaded[writer.shares] = gb
    return found


def _placed(rule: SplitRule, profile: Any) -> SplitRule:
    """The rule with its lists' paths as they are to be opened: relative ones begin where the profile lies."""
    folder = Path(str(profile)).absolute().parent
    return replace(rule, benchmarks={n: p if "://" in p else str(folder / p) for n, p in rule.benchmarks.items()})


def _prompted(row: Mapping[str, Any], profile: Any) -> Mapping[str, Any]:
    """A writer's row with the paths of its prompt and its forms as they are to be opened, as `_placed` does."""
    folder = Path(str(profile)).absolute().parent
    paths = {name: str(row.get(name, "")) for name in ("prompt", "form_set")}
    return {**row, **{name: str(folder / path) for name, path in paths.items() if path.endswith(".toml")}}


def _check(profile: Profile) -> None:
    """Builds everything once, and sees that what refers to a cue finds one of the right kind."""
    if taken := _RESERVED & profile.cues.keys():
        raise ConfigError(f"cues: {sorted(taken)[0]!r} is the name of a step; call the cue something else")
    profile.levels()
    handlers = {handler.name: handler for handler in profile.handlers()}
    for what, rule, kind in (
        ("filters.silence", profile.filters.silence, Loudness),
        ("filters.sync", profile.filters.sync, Synchronisation),
    ):
        if rule and rule.cue not in handlers:
            raise ConfigError(f"{what} needs the cue {rule.cue!r}, which the profile has not")
        if rule and not isinstance(handlers[rule.cue], kind):
            raise ConfigError(f"{what}: the cue {rule.cue!r} is no {kind.__name__}")
    sync = profile.filters.sync
    if sync and sync.required_hits > (evaluations := handlers[sync.cue].evaluations):
        raise ConfigError(f"filters.sync: required_hits is {sync.required_hits}, of {evaluations} evaluations")
    for what, rule in (("filters.silence", profile.filters.silence), ("filters.sync", profile.filters.sync)):
        if rule and rule.cue in profile.conditions():
            raise ConfigError(f"{what}: its cue {rule.cue!r} has a condition, so a clip could pass it unseen")
    if profile.scorer() and profile.similarity and profile.similarity.cue in profile.conditions():
        raise ConfigError(
            f"similarity: its cue {profile.similarity.cue!r} has a condition, so a caption could pass it unseen"
        )
    for what in ("transcripts", "places"):
        for name in sorted(set(getattr(profile.checks, what)) - handlers.keys() - set(getattr(Checks(), what))):
            raise ConfigError(f"checks.{what}: there is no cue {name!r} in the profile")
    for name in sorted(set(profile.checks.sight) - handlers.keys()):
        raise ConfigError(f"checks.sight: there is no cue {name!r} in the profile")
    for writer in profile.writers():
        if not writer.needs:
            raise ConfigError(
                f"{writer.task}: the profile has no cue that says what can be heard, so there is nothing to write of"
            )
        for name in writer.needs:
            if name not in handlers:
                raise ConfigError(f"{writer.task}: the writer needs the cue {name!r}, which the profile has not")
    _check_languages(profile)
    try:
        Benchmarks.read(profile.splits.benchmarks)
    except ValueError as error:
        raise ConfigError(f"splits.benchmarks: {error}") from None


def _check_languages(profile: Profile) -> None:
    """Sees that nothing is asked for in a language in which there is no sense to it."""
    language = profile.checks.language
    if language and language in profile.writer().asked.languages:
        raise ConfigError(f"caption.languages: captions are in {language!r} as it is (checks.language); leave it out")
    questioner = profile.questioner()
    if language not in ("", "en") and questioner and "place" in questioner.questions.kinds:
        kinds = ", ".join(f'"{kind}"' for kind in questioner.questions.kinds if kind != "place")
        raise ConfigError(
            'questions.kinds: "place" is asked, in English, for what the caption names, and checks.language is '
            f"{language!r}; set kinds = [{kinds}]"
        )


def _build(base: type, name: str, row: dict[str, Any], /, **given: Any) -> Any:
    """Builds what a row describes: ``handler`` names the class, the other keys are its fields but for those `given`.

    What is given and a class has no field for is left out.
    """
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
    takes = {f.name for f in fields(handler) if f.init}  # type: ignore[arg-type]  # a dataclass
    known, given = takes - given.keys(), {key: value for key, value in given.items() if key in takes}
    for key in row.keys() - known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(sorted(known))}"
        raise ConfigError(f"{name}: {class_name} has no parameter {key!r}; {hint}")
    hints = get_type_hints(handler)
    for key, value in row.items():
        row[key] = value = tuple(value) if isinstance(value, list) else value
        try:
            row[key] = TypeAdapter(hints[key]).validate_python(value, strict=True)  # 0 becomes 0.0
        except ValidationError as error:
            raise ConfigError(f"{name}: {key} = {value!r}: {error.errors()[0]['msg']}") from None
    try:
        return handler(**given, **row)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from None
