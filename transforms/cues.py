"""Cues of one view: decode the view, run its models in the same stage, and let only small rows out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import RunInference
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from model_handlers.base import CueHandler, Example, Prediction
from model_handlers.views import Audio, AudioVideo, Decoded, Header, Listed, Listing, MiddleFrame, View
from transforms.decoder import Decoder, shared_decoder
from transforms.fetch import open_media
from transforms.media import Limits, MediaError, NoTrack
from transforms.progress import NAMESPACE, Tick
from transforms.records import Clip, Cue, CueFailure

# Views decoded ahead of the models: enough to keep the decoder busy, few enough to keep memory flat.
AHEAD = 2


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

    def cue(self, clip_id: str, **what: Any) -> Cue:
        """A cue of this handler."""
        return Cue(clip_id=clip_id, name=self.name, fingerprint=self.fingerprint, model=self.model, **what)


def to_outcome(prediction: Prediction, info: CueInfo) -> Cue | CueFailure:
    """Turns a handler's answer into the cue's record, and counts its milliseconds."""
    Metrics.distribution(NAMESPACE, f"{info.name}_ms").update(round(prediction.seconds * 1000))
    if prediction.error is not None:
        return CueFailure(prediction.clip_id, info.name, prediction.error, prediction.retryable)
    return info.cue(prediction.clip_id, items=prediction.items)


@dataclass
class ComputeCues(beam.PTransform):
    """Clips → outcomes (`Cue` or `CueFailure`) of every handler that shares one view.

    Decoded media stays inside this composite: the stage begins with a reshuffle of clip references and ends with cues.
    """

    handlers: tuple[CueHandler, ...]
    limits: Limits
    progress: str = ""

    @property
    def view(self) -> View:
        """The one view that all handlers share."""
        (view,) = {handler.view for handler in self.handlers}
        return view

    def expand(self, clips: beam.PCollection[Clip]) -> beam.PCollection[Cue | CueFailure]:
        infos = {handler.name: CueInfo.of(handler) for handler in self.handlers}
        decode = DecodeView(self.view, tuple(infos.values()), self.limits)
        decoded = (
            clips
            | "spread clips" >> beam.Reshuffle()
            | "decode" >> beam.ParDo(decode).with_outputs("without", main="views")
        )
        outcomes = [decoded.without]
        for handler in self.handlers:
            outcomes.append(
                decoded.views
                | handler.name >> RunInference(handler)
                | f"{handler.name} cue" >> beam.Map(to_outcome, infos[handler.name])
            )
        return outcomes | "all outcomes" >> beam.Flatten() | "done" >> Tick(folder=self.progress)


class DecodeView(beam.DoFn):
    """Clips → `Example`s of one view, decoded ahead in a process of their own.

    A clip without the view's track gives a skipped cue for every handler of the view, one that cannot be decoded gives
    a failure; both leave by the output ``without``.
    """

    def __init__(self, view: View, infos: tuple[CueInfo, ...], limits: Limits):
        self.view, self.infos, self.limits = view, infos, limits

    def setup(self) -> None:
        self.decoder: Decoder = shared_decoder(self.limits)

    def start_bundle(self) -> None:
        self.pending: deque[_Pending] = deque()

    def process(self, clip: Clip) -> Iterator[Any]:
        self.pending.append(_Pending(clip, self.decoder, self.view))
        if len(self.pending) > AHEAD:
            yield from self._finish(self.pending.popleft())

    def finish_bundle(self) -> Iterator[Any]:
        while self.pending:
            for output in self._finish(self.pending.popleft()):
                if isinstance(output, TaggedOutput):
                    yield TaggedOutput(output.tag, _windowed(output.value))
                else:
                    yield _windowed(output)

    def _finish(self, pending: _Pending) -> Iterator[Any]:
        clip_id = pending.clip.clip_id
        try:
            yield Example(clip_id, pending.result())
        except NoTrack as missing:
            for info in self.infos:
                yield TaggedOutput("without", info.cue(clip_id, skipped=str(missing)))
        except MediaError as error:
            for info in self.infos:
                yield TaggedOutput("without", CueFailure(clip_id, info.name, str(error), error.retryable))


class _Pending:
    """A clip whose view is being decoded; a copy of a remote file lives until the result is taken."""

    def __init__(self, clip: Clip, decoder: Decoder, view: View):
        self.clip = clip
        self._files = ExitStack()
        self._future: Future = Future()
        if isinstance(view, Listing):
            self._future.set_result(Listed(clip.labels))
            return
        duration_s = None if clip.end_s is None else clip.end_s - clip.start_s
        try:
            path = self._files.enter_context(open_media(clip.uri))
        except MediaError as error:
            self._future.set_exception(error)
        else:
            self._future = decoder.submit(path, clip.media_start_s, duration_s, view)

    def result(self) -> Decoded:
        """Waits for the view. Raises `NoTrack` or `MediaError`."""
        with self._files:
            return self._future.result()


def _windowed(value: Any) -> WindowedValue:
    return WindowedValue(value, MIN_TIMESTAMP, (GlobalWindow(),))
