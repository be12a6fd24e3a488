"""Cues of one view: decode the view, run its models in the same stage, and let only small rows out."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import RunInference
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from model_handlers.base import CueHandler, Example, Prediction, num_bytes
from model_handlers.separation import Separated, Separation, StemCue
from model_handlers.views import Audio, AudioVideo, Decoded, Header, Listed, Listing, MiddleFrame, Moments, Stems, View
from transforms import telemetry
from transforms.decoder import Decoder, shared_decoder
from transforms.fetch import open_media
from transforms.media import Limits, MediaError, NoTrack
from transforms.pieces import Piece
from transforms.progress import Tick
from transforms.records import Clip, Finding, Spent, Work
from transforms.store import Keep, Store

# Views decoded ahead of the models: enough to keep the decoder busy, few enough to keep memory flat.
AHEAD = 2

SEPARATION = "separation"  # how the separator's costs and metrics are called
_WHOLE = "to separate"  # an output of `DecodeView`; no cue is called so


def view_label(view: View) -> str:
    """How steps that work on a view are labelled: ``listing``, ``frame``, ``audio 32000 Hz`` …"""
    match view:
        case Listing():
            return "listing"
        case Header():
            return "header"
        case MiddleFrame():
            return "frame"
        case Audio(rate=rate, decoder=decoder):
            return f"audio {rate} Hz" if decoder == "pyav" else f"audio {rate} Hz by {decoder}"
        case AudioVideo(fps=fps, short_side=short_side, crop=crop, rate=rate):
            return f"AV {short_side} to {crop} px {fps} fps {rate} Hz"
        case Moments(every_s=every_s, most=most, short_side=short_side):
            return f"{most} moments every {every_s:g} s {short_side} px"
        case Stems(mixture=mixture, rate=rate):
            return f"stems {rate} Hz of {view_label(mixture)}" if rate else f"stems of {view_label(mixture)}"


def shared_view(views: Iterable[View]) -> View:
    """The one view of which all of these are made: of stems at several rates, the same without a rate (0 Hz).

    Raises `ValueError` where there is none.
    """
    distinct = set(views)
    (shared,) = distinct if len(distinct) == 1 else {made_of(view) for view in distinct}
    return shared


def made_of(view: View) -> View:
    """What a view shares with all others that one decode, and one separation, gives."""
    return replace(view, rate=0) if isinstance(view, Stems) else view


@dataclass(frozen=True)
class CueInfo:
    """What every cue of a handler carries beside its items."""

    name: str
    fingerprint: str
    model: str

    @classmethod
    def of(cls, handler: CueHandler) -> CueInfo:
        """Reads it off a handler; this hashes local model files, so it happens once, where the graph is built."""
        model = f"{handler.model}@{handler.revision}" if handler.revision else handler.model
        return cls(handler.name, handler.fingerprint(), model or type(handler).__name__)

    def finding(self, clip_id: str, subject: str, **what: Any) -> Finding:
        """A finding of this handler."""
        return Finding(clip_id, self.name, self.fingerprint, self.model, subject, **what)


def subject(clip: Clip, view: View) -> str:
    """What of a clip a view shows: its labels, or a stretch of its file, as ``30.0+10.0`` (start and length in s).

    Together with clip id, cue and fingerprint it tells one value in the store from any other. The file's address is no
    part of it, so that a dataset may move.
    """
    if isinstance(view, Listing):
        return f"labels:{hashlib.sha256(json.dumps(clip.labels).encode()).hexdigest()[:16]}"
    return f"{clip.media_start_s!r}+{duration_s(clip)!r}"


def duration_s(clip: Clip) -> float | None:
    """The clip's length in seconds; ``None`` where only its file tells."""
    return None if clip.end_s is None else clip.end_s - clip.start_s


def to_finding(prediction: Prediction, info: CueInfo) -> Finding:
    """Turns a handler's answer into what the store keeps, and counts it."""
    return telemetry.found(
        info.finding(
            prediction.clip_id,
            prediction.subject,
            items=prediction.items,
            error=prediction.error or "",
            retryable=prediction.retryable,
            seconds=prediction.seconds,
            on_gpu=prediction.on_gpu,
        )
    )


def cost(finding: Finding) -> Iterator[tuple[str, Spent]]:
    """What a model took for one clip, by cue; nothing where none was asked: there is no track, or no decoding it."""
    if finding.seconds:
        yield finding.name, Spent(1, finding.seconds, finding.seconds if finding.on_gpu else 0.0)


@dataclass
class ComputeCues(beam.PTransform):
    """Works → `findings` of every handler that shares one view, for the cues that a work lacks; and ``costs``.

    Attributes:
        handlers: of one view.
        limits: of decoding.
        store: where findings are kept.
        progress: a local folder for ticks, or empty.
        hints: Beam's resource hints for where clips are decoded and shown to models. What is lacking is found out
            elsewhere, so that where nothing is no GPU is waited for.
    """

    handlers: tuple[CueHandler, ...]
    limits: Limits
    store: Store
    progress: str = ""
    hints: Mapping[str, str] = field(default_factory=dict)

    def expand(self, works: beam.PCollection[Work]) -> dict[str, beam.PCollection]:
        names = tuple(handler.name for handler in self.handlers)
        decoded = ShowClips(self.handlers, self.limits, self.store, self.progress).with_resource_hints(**self.hints)
        return works | "lacking" >> beam.FlatMap(_lacking, names) | "show" >> decoded


@dataclass
class ShowClips(beam.PTransform):
    """(clip, names of cues) → `findings` of the handlers of these names, which share a decode; and ``costs``.

    Decoded media stays inside this composite: the stage begins with a reshuffle of clip references and ends with
    findings, each of them kept in the store before it goes on. Whoever gives resource hints gives them to all of it:
    between steps of unequal hints media would be written to a disk and read again. Where the view is of stems, a clip
    is taken apart here too, once for all of its cues.
    """

    handlers: tuple[CueHandler, ...]
    limits: Limits
    store: Store
    progress: str = ""

    @property
    def view(self) -> View:
        """What all handlers share (`shared_view`)."""
        return shared_view(handler.view for handler in self.handlers)

    def expand(self, clips: beam.PCollection[tuple[Clip, tuple[str, ...]]]) -> dict[str, beam.PCollection]:
        infos = {handler.name: CueInfo.of(handler) for handler in self.handlers}
        decode = DecodeView(self.view, tuple(infos.values()), self.limits)
        decoded = (
            clips
            | "spread clips" >> beam.Reshuffle()
            | "decode" >> beam.ParDo(decode).with_outputs("costs", _WHOLE, *infos, main="without")
        )
        # Each branch ticks by itself: behind a Flatten, Beam's local runner would wait for all of them.
        findings = [decoded.without | "keep without" >> Keep(self.store) | "without" >> Tick(folder=self.progress)]
        shown, costs = decoded, decoded.costs
        if isinstance(self.view, Stems):
            shown = (
                decoded[_WHOLE]
                | "separate sound" >> RunInference(self._separation())
                | "stems"
                >> beam.ParDo(HandOut(tuple(infos.values()), self._rates())).with_outputs(
                    "costs", *infos, main="without"
                )
            )
            unheard = shown.without | "keep unseparated" >> Keep(self.store)
            findings.append(unheard | "unseparated" >> Tick(folder=self.progress))
            costs = (decoded.costs, shown.costs) | "decoded and separated" >> beam.Flatten()
        for handler in self.handlers:
            findings.append(
                shown[handler.name]
                | handler.name >> RunInference(handler)
                | f"{handler.name} finding" >> beam.Map(to_finding, infos[handler.name])
                | f"keep {handler.name}" >> Keep(self.store, handler.batch_size)
                | f"{handler.name} done" >> Tick(handler.name, self.progress)
            )
        return {"findings": findings | "all findings" >> beam.Flatten(), "costs": costs}

    def _separation(self) -> Separation:
        separator = next(h.separator for h in self.handlers if isinstance(h, StemCue) and h.separator)
        return Separation(separator=separator, rates=tuple(sorted({*self._rates().values()})))

    def _rates(self) -> dict[str, int]:
        """Samples per second of the stems that each cue wants, in Hz, by its name."""
        return {handler.name: view.rate for handler in self.handlers if isinstance(view := handler.view, Stems)}


def _lacking(work: Work, names: tuple[str, ...]) -> Iterator[tuple[Clip, tuple[str, ...]]]:
    if lacking := work.lacks(names):
        yield work.clip, lacking


class DecodeView(beam.DoFn):
    """(Clip, names of cues) → `Example`s of one view, one for each of the cues and by its name, decoded ahead.

    Where the view is of stems there is one (`Example`, names of cues) of the whole, to be taken apart. A clip without
    the view's track gives a skipped finding for each cue, one that cannot be decoded a failed one; both leave by the
    main output. ``costs`` are ("decode <view>", `Spent`), one for each clip.
    """

    def __init__(self, view: View, infos: tuple[CueInfo, ...], limits: Limits):
        self.view, self.limits = view, limits
        self.decoded = view.mixture if isinstance(view, Stems) else view
        self.infos = {info.name: info for info in infos}

    def setup(self) -> None:
        self.decoder: Decoder = shared_decoder(self.limits)

    def start_bundle(self) -> None:
        self.pending: deque[tuple[_Pending, tuple[str, ...]]] = deque()

    def process(self, element: tuple[Clip, tuple[str, ...]]) -> Iterator[Any]:
        clip, names = element
        self.pending.append((_Pending(clip, self.decoder, self.decoded), names))
        if len(self.pending) > AHEAD:
            yield from self._finish(*self.pending.popleft())

    def finish_bundle(self) -> Iterator[Any]:
        while self.pending:
            for output in self._finish(*self.pending.popleft()):
                if isinstance(output, TaggedOutput):
                    yield TaggedOutput(output.tag, _windowed(output.value))
                else:
                    yield _windowed(output)

    def _finish(self, pending: _Pending, names: tuple[str, ...]) -> Iterator[Any]:
        clip_id, of = pending.clip.clip_id, subject(pending.clip, self.view)
        step, failed = f"decode {view_label(self.view)}", ("", False)
        try:
            example = Example(clip_id, pending.result(), of)
        except NoTrack as missing:
            telemetry.count(step, "no_track")
            yield from (self.infos[name].finding(clip_id, of, skipped=str(missing)) for name in names)
        except MediaError as error:
            failed = str(error), error.retryable
            what = {"error": str(error), "retryable": error.retryable}
            yield from (self.infos[name].finding(clip_id, of, **what) for name in names)
        else:
            telemetry.count(step, "bytes_decoded", num_bytes(example.view))
            if isinstance(self.view, Stems):
                yield TaggedOutput(_WHOLE, (example, names))
            else:
                yield from (TaggedOutput(name, example) for name in names)
        telemetry.count(step, "bytes_fetched", pending.fetched)
        telemetry.worked(step, clip_id, pending.seconds, *failed)
        yield TaggedOutput("costs", (step, Spent(seconds=pending.seconds)))


class HandOut(beam.DoFn):
    """`Separated` → `Example`s of stems, one for each of the cues, by its name and at its rate (`rates`, in Hz).

    A clip that could not be taken apart gives a failed finding for each cue, by the main output. ``costs`` are
    ("separation", `Spent`), one for each clip.
    """

    def __init__(self, infos: tuple[CueInfo, ...], rates: Mapping[str, int]):
        self.infos, self.rates = {info.name: info for info in infos}, rates

    def process(self, parted: Separated) -> Iterator[Any]:
        for name in parted.cues:
            if parted.error:
                what = {"error": f"{SEPARATION}: {parted.error}", "retryable": parted.retryable}
                yield self.infos[name].finding(parted.clip_id, parted.subject, **what)
            else:
                yield TaggedOutput(name, Example(parted.clip_id, parted.stems[self.rates[name]], parted.subject))
        telemetry.worked(SEPARATION, parted.clip_id, parted.seconds, parted.error, parted.retryable)
        yield TaggedOutput("costs", (SEPARATION, Spent(1, parted.seconds, parted.seconds if parted.on_gpu else 0.0)))


class _Pending:
    """A clip whose view is being decoded; a copy of a remote file lives until the result is taken."""

    def __init__(self, clip: Clip, decoder: Decoder, view: View):
        self.clip, self.seconds, self.fetched = clip, 0.0, 0
        self._files = ExitStack()
        self._future: Future = Future()
        if isinstance(view, Listing):
            self._future.set_result(Listed(clip.labels))
            return
        started = time.monotonic()
        try:
            path = self._files.enter_context(open_media(clip.uri))
        except MediaError as error:
            self._future.set_exception(error)
        else:
            self._spent(time.monotonic() - started)  # fetching it, where it is far away
            self.fetched = fetched_bytes(clip.uri, path)
            self._future = decoder.submit(path, clip.media_start_s, duration_s(clip), view, self._spent)

    def _spent(self, seconds: float) -> None:
        self.seconds += seconds

    def result(self) -> Decoded:
        """Waits for the view. Raises `NoTrack` or `MediaError`."""
        with self._files:
            return self._future.result()


def fetched_bytes(uri: str, path: str | os.PathLike[str] | Piece) -> int:
    """How many bytes came over the network for the local copy at `path`: none where the file was here already."""
    if isinstance(path, Piece) or FileSystems.get_scheme(uri) in (None, "file"):
        return 0
    return os.path.getsize(path)


def _windowed(value: Any) -> WindowedValue:
    return WindowedValue(value, MIN_TIMESTAMP, (GlobalWindow(),))
