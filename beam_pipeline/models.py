"""A profile's models: brought to one place before a run, and tried out on one clip."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from beam_pipeline.config import ConfigError, Profile
from beam_pipeline.show import errors, plain
from model_handlers.base import CueHandler, Example, Items
from model_handlers.downloads import Progress
from model_handlers.references import Reference, commit, parse
from model_handlers.separation import StemCue
from model_handlers.store import Entry, Store, cache, place_index, remote, upload
from model_handlers.views import Decoded, Listed, Listing, Stems, View
from model_handlers.weights import ModelError
from model_handlers.writers import CaptionWriter
from transforms.caption import told
from transforms.media import MediaError, decode

Wanted = tuple[str, str, tuple[str, ...]]  # reference, revision, patterns: as `CueHandler.references` has them


@dataclass(frozen=True)
class Fetched:
    """What became of one reference.

    Attributes:
        text: the reference as the row has it, with its revision.
        files: how many.
        bytes: of all of them.
        state: ``fetched``, ``was there``, ``local`` (it needs no fetching), or what is wrong.
        ok: whether a run can use it.
    """

    text: str
    files: int
    bytes: int
    state: str
    ok: bool


@dataclass(frozen=True)
class Checked:
    """How a handler did with one clip: ``ok``, or what is wrong. Times in seconds, where it got that far."""

    name: str
    model: str
    state: str
    load_s: float | None = None
    clip_s: float | None = None
    said: str = ""

    @property
    def ok(self) -> bool:
        """Whether it answered."""
        return self.state == "ok"


def wanted(profile: Profile) -> list[Wanted]:
    """What the profile's cues and its writers refer to, each once, in the profile's order."""
    users: tuple[CueHandler | CaptionWriter, ...] = (*profile.models_used(), *profile.writers())
    return list(dict.fromkeys(reference for user in users for reference in user.references()))


def fetch(profile: Profile, place: str, progress: Progress) -> Iterator[Fetched]:
    """Brings every model of a profile to `place`, a folder or a ``gs://…``; yields one result each as it goes.

    What is there already is not fetched again, and one that cannot be had does not keep the others back.
    """
    for text, revision, patterns in wanted(profile):
        shown = f"{text}@{revision}" if revision else text
        try:
            reference = parse(text, revision)
            if reference.kind in ("package", "local"):
                yield Fetched(shown, 0, 0, "local", True)
                continue
            present = bool(reference.pin) and _present(place, reference, patterns)
            entry = _bring(place, reference, patterns, progress)
            now = commit(reference) if reference.moves and not present else ""
        except ModelError as error:
            yield Fetched(shown, 0, 0, str(error), False)
            continue
        state = "was there" if present else "fetched"
        if now:
            state = f"fetched; {reference.pin} is commit {now} now: write that in the profile's row"
        if not reference.pin:  # its place is named after the hash
            pin = Path(entry.path).parent.name.replace("-", "=", 1)
            state = f"fetched, but a run needs the hash in the profile's row: {reference.place}#{pin}"
        yield Fetched(shown, len(entry.files), entry.bytes, state, bool(reference.pin))


def _present(place: str, reference: Reference, patterns: tuple[str, ...]) -> bool:
    if not remote(place):
        return Store(Path(place).expanduser()).find(reference.key, patterns) is not None
    entry = place_index(place).get(reference.key)
    return entry is not None and entry.covers(patterns)


def _bring(place: str, reference: Reference, patterns: tuple[str, ...], progress: Progress) -> Entry:
    if not remote(place):
        return Store(Path(place).expanduser()).bring(reference, patterns, progress)
    if reference.pin and _present(place, reference, patterns):
        return place_index(place)[reference.key]
    # Downloads are resumed, uploads are not: so a file comes to this machine first, and goes when it is there.
    staging = Store(cache().root / "staging" / sha256(place.encode()).hexdigest()[:16])
    entry = staging.bring(reference, patterns, progress)
    key = reference.key if reference.pin else Path(entry.path).parent.name.replace("-", ":", 1)
    upload(staging, key, entry, place, progress)
    staging.remove(key)
    return entry


def check_place(place: str) -> None:
    """Raises `ConfigError` where a `--models` place holds nothing that was fetched."""
    try:
        found = bool(place_index(place))
    except ModelError as error:
        raise ConfigError(f"--models {place}: {error}") from None
    if not found:
        raise ConfigError(
            f"--models {place}: there is no models.json; fill it with `earshot models fetch --to {place}`"
        )


def check(profile: Profile, clip_for: Callable[[View], Path], device: str = "") -> Iterator[Checked]:
    """Loads each model, has it look at one clip, and yields how it did; then the same for the writer.

    Args:
        profile: whose cues are tried; `Profile.models` says where models are.
        clip_for: a clip's file that the view can be decoded from.
        device: instead of the rows' own, where given.
    """
    heard: dict[str, Items] = {}
    for handler in profile.models_used():
        handler = replace(handler, device=device) if device else handler
        result, items = _try(handler, clip_for)
        heard[handler.name] = items
        gc.collect()  # the next model may need the memory
        yield result
    for writer in profile.writers():
        yield _try_writer(writer, heard)


def _try(handler: CueHandler, clip_for: Callable[[View], Path]) -> tuple[Checked, Items]:
    load_s = None
    try:
        _verify(handler)
        handler.fingerprint()
        started = time.perf_counter()
        model = handler.load_model()
        model.get()
        load_s = time.perf_counter() - started
        (answer,) = handler.run_inference([Example("check", seen(handler, clip_for))], model)
    except (ModelError, MediaError, ImportError) as error:
        return Checked(handler.name, _named(handler), str(error), load_s), ()
    except Exception as error:  # whatever is wrong with one model, the others are to be tried as well
        return Checked(handler.name, _named(handler), f"{type(error).__name__}: {error}", load_s), ()
    said = "; ".join(item.text for item in answer.items[:3])
    state = answer.error or "ok"
    return Checked(handler.name, _named(handler), state, load_s, answer.seconds, said), answer.items


def _try_writer(writer: CaptionWriter, heard: dict[str, Items]) -> Checked:
    name, load_s = type(writer).__name__, None
    brief = told("check", heard, writer.needs)
    if writer.task == "questions":
        brief = replace(brief, caption="Something can be heard.")
    try:
        started = time.perf_counter()
        model = writer.load_model()
        model.get()
        load_s = time.perf_counter() - started
        started = time.perf_counter()
        (draft,) = writer.run_inference([brief], model)
    except Exception as error:  # as for a cue
        text = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
        return Checked(writer.task, name, text, load_s)
    seconds = time.perf_counter() - started
    state = draft.error or (f"its answer cannot be read: {draft.unreadable}" if draft.unreadable else "ok")
    asked = " ".join(pair.question for pair in draft.pairs)
    said = draft.caption or asked or f"(none: {draft.abstained})"
    return Checked(writer.task, name, state, load_s, seconds, said)


def _verify(handler: CueHandler) -> None:
    """Compares what a place on this machine holds with its hashes; what is copied from elsewhere is checked then."""
    if not handler.mirror or remote(handler.mirror):
        return
    store = Store(Path(handler.mirror).expanduser())
    for text, revision, _ in handler.references():
        reference = parse(text, revision)
        entry = store.index().get(reference.key) if reference.kind in ("hub", "url") else None
        if entry and (faults := store.faults(entry, thorough=True)):
            raise ModelError(f"{handler.name}: {faults[0]}; remove it, and run `earshot models fetch` again")


def seen(handler: CueHandler, clip_for: Callable[[View], Path]) -> Decoded:
    """What a handler sees of one clip outside of a pipeline: decoded and, where it is of stems, taken apart.

    Args:
        handler: whose.
        clip_for: a clip's file that the view can be decoded from.
    """
    view = handler.view
    if isinstance(view, Listing):
        return Listed(("Speech",))
    if isinstance(view, Stems) and isinstance(handler, StemCue) and handler.separator:
        separator, whole = handler.separator, decode(clip_for(view.mixture), 0.0, None, view.mixture)
        assert isinstance(whole, np.ndarray)
        return separator.separate([whole], separator.load_model().get(), view.rate)[0]
    return decode(clip_for(view), 0.0, None, view)


def _named(handler: CueHandler) -> str:
    if "://" in handler.model and not handler.model.startswith("pkg://"):
        return unquote(urlsplit(handler.model).path.rpartition("/")[2])
    return handler.model or type(handler).__name__


@contextmanager
def downloads_shown() -> Iterator[Progress]:
    """Shows a bar for each file that is on its way; where the output is no terminal, a line for each that begins."""
    if not errors.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=errors) as bars:
        tasks: dict[str, TaskID] = {}

        def update(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(plain(name[-50:]), total=total, completed=done)
            bars.update(tasks[name], completed=done, total=total)

        yield update


class _Lines:
    """Says once of each file that it is on its way."""

    def __init__(self) -> None:
        self.begun: set[str] = set()

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if name not in self.begun:
            self.begun.add(name)
            size = "" if total is None else f" ({_size(total)}, {_size(done)} of it here)"
            errors.print(f"{plain(name)}{size}", highlight=False, soft_wrap=True)


def fetched_table(results: Iterable[Fetched], place: str) -> Table:
    """The models of a profile, and what became of each; what is wrong is too long for a table."""
    table = Table(title=f"Models in {plain(place)}", title_justify="left")
    for column in ("model", "state"):
        table.add_column(column, overflow="fold")
    for column in ("files", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        counted = [str(result.files), _size(result.bytes)] if result.files else ["", ""]
        state = f"[green]{result.state}[/]" if result.ok else "[red]failed[/]"
        table.add_row(plain(result.text), state, *counted)
    return table


def checked_table(results: Iterable[Checked]) -> Table:
    """How each handler did; what is wrong is too long for a table."""
    table = Table(title="Models on one clip", title_justify="left")
    for column in ("cue", "model", "state"):
        table.add_column(column, overflow="fold")
    for column in ("load s", "clip s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("says", overflow="fold", style="dim")
    for result in results:
        times = ["" if seconds is None else f"{seconds:.2f}" for seconds in (result.load_s, result.clip_s)]
        said = result.said if len(result.said) <= 60 else f"{result.said[:57]}..."
        state = "[green]ok[/]" if result.ok else "[red]failed[/]"
        table.add_row(plain(result.name), plain(result.model), state, *times, plain(said))
    return table


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
