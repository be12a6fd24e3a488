"""Do sound and picture belong together? Several drawn offsets a clip, each guessed by a Synchformer.

Auto-ACD (Sun et al. 2024, section 3.3): shift the sound against the picture by a known offset, let the model guess it,
and keep the clip where a guess is within 0.6 s. Each evaluation is an item that keeps the offset, the guess and the
probabilities of all 21 classes, so that a stricter rule needs no rerun: a random guess is within tolerance 30.6 % of
the time, and 84 % of unsynchronised clips have one of five such guesses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from model_handlers import weights
from model_handlers.base import CueHandler, Example, Item, Items, pick_device
from model_handlers.footprint import Footprint
from model_handlers.views import AudioVideo, AudioVideoView

if TYPE_CHECKING:
    from torch import Tensor

    from model_handlers.nets.synchformer import Synchformer

FPS = 25
RATE = 16_000
FRAME_SAMPLES = RATE // FPS
CLASSES = 21  # offsets linspace(-2, 2, 21) in seconds
ZERO_CLASS = CLASSES // 2
CLASS_FRAMES = 5  # 0.2 s from class to class
WINDOW_FRAMES = 125  # both crops last 5 s
SEGMENT_FRAMES = 16
SEGMENT_STEP = 8
SEGMENT_LEAD = 2  # fourteen segments span 120 frames and are centred in the window, rounded down
SEGMENTS_AT_ONCE = 8  # bounds memory: about 0.3 GB at the published size


@dataclass(frozen=True)
class Draw:
    """One evaluation's question: picture from frame `video_start` on, sound from frame `audio_start` on (25 a second).

    The offset is `audio_start` - `video_start`, as in the reference code: a positive one means that what is heard comes
    from later in the clip than what is seen, so that the sound runs ahead of the picture.
    """

    true_class: int
    video_start: int
    audio_start: int


@dataclass(frozen=True)
class Evaluation:
    """What an item says: the drawn class, the likeliest class, and the probabilities of all in order of offset."""

    true_class: int
    predicted_class: int
    probabilities: tuple[float, ...]


def offset_s(offset_class: int) -> float:
    """Seconds by which the sound runs ahead of the picture in a class (0 to 20): -2.0 to +2.0."""
    return (offset_class - ZERO_CLASS) * CLASS_FRAMES / FPS


def draw_evaluations(clip_id: str, frames: int, count: int = 5) -> tuple[Draw, ...]:
    """Draws offsets and starts; the same for the same clip everywhere and always.

    Offsets are uniform over the classes that fit; starts are uniform over multiples of eight frames where both crops
    fit, because then evaluations share segments (30 instead of 70 for 10 s), or over all frames where no multiple fits.

    Args:
        clip_id: seeds the drawing; a higher `count` adds draws and leaves the first ones as they are.
        frames: the clip's length in frames, at 25 a second.
        count: how many to draw.

    Returns:
        `count` draws. From 7 s on every offset fits; for a shorter clip only |offset| ≤ length - 5 s is drawn; for one
        shorter than 5 s there is nothing to draw, and the result is empty.
    """
    reach = min((frames - WINDOW_FRAMES) // CLASS_FRAMES, ZERO_CLASS)
    if frames < WINDOW_FRAMES:
        return ()
    draws = []
    for number in range(count):
        digest = hashlib.sha256(f"{clip_id}\n{number}".encode()).digest()
        which_class, which_start = (int.from_bytes(digest[at : at + 8], "big") for at in (0, 8))
        true_class = ZERO_CLASS - reach + which_class % (2 * reach + 1)
        offset = (true_class - ZERO_CLASS) * CLASS_FRAMES
        first, last = max(0, -offset), frames - WINDOW_FRAMES - max(0, offset)
        starts = [s for s in range(first, last + 1) if s % SEGMENT_STEP == 0] or list(range(first, last + 1))
        start = starts[which_start % len(starts)]
        draws.append(Draw(true_class, start, start + offset))
    return tuple(draws)


def segment_starts(start: int, segments: int = 14) -> list[int]:
    """The frames at which the segments of a window that starts at frame `start` begin."""
    return [start + SEGMENT_LEAD + SEGMENT_STEP * number for number in range(segments)]


def to_item(draw: Draw, probabilities: Sequence[float]) -> Item:
    """Writes an evaluation down: ``true=+0.4 predicted=+0.6 probabilities=0.0012,…``; the score is the prediction's."""
    predicted = int(np.argmax(probabilities))
    listed = ",".join(f"{p:.4f}" for p in probabilities)
    start_s = draw.video_start / FPS
    return Item(
        text=f"true={offset_s(draw.true_class):+.1f} predicted={offset_s(predicted):+.1f} probabilities={listed}",
        score=round(float(probabilities[predicted]), 4),
        start_s=start_s,
        end_s=start_s + WINDOW_FRAMES / FPS,
    )


_TEXT = re.compile(r"true=([+-]\d\.\d) predicted=([+-]\d\.\d) probabilities=([\d.,]+)")


def parse_evaluation(item: Item) -> Evaluation:
    """Reads what `to_item` wrote; raises `ValueError` on any other item."""
    match = _TEXT.fullmatch(item.text)
    if not match:
        raise ValueError(f"not a synchronisation evaluation: {item.text!r}")
    true_class, predicted_class = (ZERO_CLASS + round(float(match[n]) * FPS / CLASS_FRAMES) for n in (1, 2))
    return Evaluation(true_class, predicted_class, tuple(float(p) for p in match[3].split(",")))


def near_truth(evaluation: Evaluation, tolerance_classes: int = 3) -> float:
    """The probability that the model gives to offsets at most `tolerance_classes` from the truth, together."""
    first = max(0, evaluation.true_class - tolerance_classes)
    return sum(evaluation.probabilities[first : evaluation.true_class + tolerance_classes + 1])


def heard_as(item: Item) -> str:
    """An evaluation in words: the offset that was made, and the one that the model hears; empty for other items."""
    if not _TEXT.fullmatch(item.text):
        return ""
    evaluation = parse_evaluation(item)
    return f"{offset_s(evaluation.true_class):+.1f} s heard as {offset_s(evaluation.predicted_class):+.1f} s"


def hits(items: Iterable[Item], tolerance_classes: int = 3, least_probability: float = 0.0) -> int:
    """Counts the evaluations whose guess is at most `tolerance_classes` from the truth; 3 classes are 0.6 s.

    Class indices are compared, because differences of seconds misjudge some pairs that are exactly 0.6 s apart.

    Args:
        items: a clip's evaluations.
        tolerance_classes: how far a guess may be off.
        least_probability: what `near_truth` must be for a hit. 0 is Auto-ACD's rule; 0.5 also asks that the model be
            sure: a soundtrack that does not belong to the picture tends to get diffuse probabilities.
    """
    evaluations = [parse_evaluation(item) for item in items]
    return sum(
        abs(e.predicted_class - e.true_class) <= tolerance_classes
        and near_truth(e, tolerance_classes) >= least_probability
        for e in evaluations
    )


@dataclass(kw_only=True)
class Synchronisation(CueHandler["Synchformer"]):
    """Evaluates synchronisation: one item an evaluation; none for a clip of less than 5 s, to which it cannot apply.

    Attributes:
        short_side: pixels of the frames' short side before the crop.
        crop: pixels of the centre square; the model's own.
        evaluations: offsets a clip.
    """

    short_side: int = 256
    crop: int = 224
    evaluations: int = 5

    footprint = Footprint(parameters_m=237, clip_mb=0, pass_mb=570)  # Synchformer; segments go through 8 at a time
    advice = "The profile auto_acd has the address of the published checkpoint, `synchformer_state_dict.pth`"

    @property
    def view(self) -> AudioVideo:
        return AudioVideo(fps=FPS, short_side=self.short_side, crop=self.crop, rate=RATE)

    def load(self) -> Synchformer:
        from model_handlers.nets.synchformer import load_synchformer

        place = self.locate()
        with weights.reading(place, "Synchformer"):
            model = load_synchformer(place)
        if model.config.crop != self.crop:
            raise weights.ModelError(
                f"{self.model} sees {model.config.crop} pixels; set `crop` to that in the profile's row"
            )
        return model.to(pick_device(self.device))

    def predict(self, batch: Sequence[Example], model: Synchformer) -> list[Items]:
        return [self._evaluate(example, model) for example in batch]

    def _evaluate(self, example: Example, model: Synchformer) -> Items:
        view = example.view
        if not isinstance(view, AudioVideoView):
            raise TypeError(f"{self.name}: needs an AudioVideoView, got {type(view).__name__}")
        frames = min(len(view.frames), len(view.audio) // FRAME_SAMPLES)
        draws = draw_evaluations(example.clip_id, frames, self.evaluations)
        if not draws:
            return ()
        device = next(model.parameters()).device
        with self.inference(device.type):
            video = _features(view.frames, 1, [d.video_start for d in draws], model.video_features, device)
            audio = _features(view.audio, FRAME_SAMPLES, [d.audio_start for d in draws], model.audio_features, device)
            probabilities = model.fuse(video, audio).float().softmax(1).cpu().numpy()
        return tuple(to_item(draw, row) for draw, row in zip(draws, probabilities, strict=True))


def _features(
    signal: np.ndarray, unit: int, starts: Sequence[int], extract: Callable[[Tensor], Tensor], device: Any
) -> Tensor:
    """Returns features (windows, segments, steps, width); a segment that windows share is computed once.

    Args:
        signal: frames or samples.
        unit: how many of its elements last a frame.
        starts: where the windows begin, in frames.
        extract: segments → features.
        device: where to.
    """
    import torch

    wanted = [segment_starts(start) for start in starts]
    distinct = sorted({start for window in wanted for start in window})
    parts = []
    for at in range(0, len(distinct), SEGMENTS_AT_ONCE):
        chosen = distinct[at : at + SEGMENTS_AT_ONCE]
        segments = np.stack([signal[unit * start : unit * (start + SEGMENT_FRAMES)] for start in chosen])
        parts.append(extract(torch.from_numpy(segments).to(device)))
    features = torch.cat(parts)
    place = {start: number for number, start in enumerate(distinct)}
    return features[torch.tensor([[place[start] for start in window] for window in wanted])]
