"""Source separation: what is sung or spoken in a clip apart from the rest, by Hybrid Demucs (arXiv:2111.03600).

The network is torchaudio's, whose published weights are a plain state dict. The checkpoints of the package `demucs`
hold pickled classes, which the package loads with ``weights_only=False``; here they are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from apache_beam.ml.inference.base import ModelHandler

from model_handlers.base import (
    CueHandler,
    Example,
    Item,
    Items,
    Loaded,
    by_length,
    in_parts,
    num_bytes,
    pick_device,
)
from model_handlers.footprint import Footprint
from model_handlers.views import Audio, AudioDecoder, Decoded, Stems, StemsView
from model_handlers.weights import ModelError, reading

if TYPE_CHECKING:
    import torch
    from torchaudio.models import HDemucs

VOCALS = "vocals"
PUBLISHED_RATE = 44_100  # of torchaudio's HDEMUCS_HIGH_MUSDB_PLUS, whose file says nothing of itself …
PUBLISHED_SOURCES = ("drums", "bass", "other", VOCALS)  # … nor in which order it gives what it finds
_SHORTEST_S = 1.0  # what is shorter is filled up with silence before the network sees it
_QUIET = 1e-8  # below this standard deviation there is nothing to be told apart


@dataclass(frozen=True)
class Network:
    """A separation network ready to run.

    Attributes:
        net: in evaluation mode, on its device.
        rate: samples per second that it was trained with, in Hz.
    """

    net: HDemucs
    rate: int


@dataclass(kw_only=True)
class Separator(CueHandler[Network]):
    """The separator of a profile (its section ``[separation]``): the vocals, and what is left of the clip without them.

    The rest is the clip minus the vocals, so the two add up to the clip: what the network attributes to no source is
    not lost. A clip is heard in mono (in each of the network's channels), normalised by its mean and deviation, in
    chunks that overlap and fade into each other; so what the network takes does not grow with its length;
    the clip and its stems themselves do.

    `model` is a state dict of torchaudio's ``hdemucs_high`` as it is published, or a folder with ``model.safetensors``
    and a ``config.json`` of ``rate`` (Hz) and ``network`` (the arguments of `torchaudio.models.HDemucs`).

    Attributes:
        rate: samples per second that the network hears, in Hz.
        chunk_s: seconds that it hears at once, at most.
        overlap_s: by how many of them chunks overlap.
    """

    rate: int = PUBLISHED_RATE
    chunk_s: float = 10.0
    overlap_s: float = 1.0
    # In half precision a quiet voice would drown in rounding: a wave has 11 bits there.
    precision: str = "fp32"

    patterns = ("config.json", "model.safetensors")
    advice = (
        "The published weights are https://download.pytorch.org/torchaudio/models/hdemucs_high_trained.pt#sha256="
        "a004b2790d73ffeaa535db458a1a79b539dfdbafbccc31f275d07e632ebd7816 (334,697,255 bytes), with rate = 44100; they "
        "are for research"
    )
    footprint: ClassVar[Footprint | None] = Footprint(parameters_m=84, clip_mb=360)  # as published, 10 s in stereo

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate < 1:
            raise ValueError(f"{self.name}: rate is {self.rate}; it has to be at least 1")
        if not 0 <= 2 * self.overlap_s <= self.chunk_s or not _SHORTEST_S <= self.chunk_s < math.inf:
            raise ValueError(
                f"{self.name}: chunk_s has to be at least {_SHORTEST_S:g}, and overlap_s at most half of it"
            )

    @property
    def view(self) -> Audio:
        """Mono at `rate`."""
        return Audio(self.rate)

    def load(self) -> Network:
        """Loads the network; raises `ModelError` where something lacks or does not fit."""
        place = self.locate()
        network = _read_folder(place) if place.is_dir() else _read_published(place)
        if network.rate != self.rate:
            raise ModelError(f"{place} hears {network.rate} Hz; set rate = {network.rate} in the row")
        if VOCALS not in network.net.sources:
            raise ModelError(f"{place} tells {', '.join(network.net.sources)} apart, but no {VOCALS}")
        return replace(network, net=network.net.eval().to(pick_device(self.device)))

    def separate(self, mixtures: Sequence[np.ndarray], model: Network, rate: int) -> list[StemsView]:
        """Takes clips apart; the arguments are those of `separate_at`, but for the one rate."""
        return [stems[rate] for stems in self.separate_at(mixtures, model, (rate,))]

    def separate_at(
        self, mixtures: Sequence[np.ndarray], model: Network, rates: Sequence[int]
    ) -> list[dict[int, StemsView]]:
        """Takes clips apart, once for all rates that their stems are wanted at.

        Args:
            mixtures: float32 at `self.rate`, each of shape (samples,).
            model: what `load` returned.
            rates: samples per second of the stems, in Hz.
        """
        import torch
        from torchaudio.functional import resample

        device = next(model.net.parameters()).device
        found: list[dict[int, StemsView]] = [{} for _ in mixtures]
        for indices in by_length(mixtures):
            whole = torch.from_numpy(np.stack([mixtures[index] for index in indices])).to(device)
            with self.inference(device.type):
                vocals = self._vocals(whole, model.net)
            stems = torch.stack([vocals, whole - vocals])
            if not torch.isfinite(stems).all():
                raise FloatingPointError("the stems are no numbers: half precision overflowed")
            for rate in rates:
                length = round(whole.shape[1] * rate / self.rate)
                parts = resample(stems, self.rate, rate)[..., :length].cpu().numpy()
                for index, sung, rest in zip(indices, *parts, strict=True):  # copies, so that a batch goes clip by clip
                    found[index][rate] = StemsView(sung.copy(), rest.copy())
        return found

    def predict(self, batch: Sequence[Example], model: Network) -> list[Items]:
        """How loud the two are, in dB relative to full scale: what a check of the profile's models looks at."""
        stems = self.separate([cast(np.ndarray, example.view) for example in batch], model, self.rate)
        return [(_level("vocals", view.vocals), _level("rest", view.rest)) for view in stems]

    def _vocals(self, whole: torch.Tensor, net: HDemucs) -> torch.Tensor:
        """The vocals of clips of equal length, shape (clips, samples) as `whole`."""
        import torch

        mean, deviation = whole.mean(1, keepdim=True), whole.std(1, keepdim=True, correction=0)
        normal = (whole - mean) / (deviation + _QUIET)
        found, weights = torch.zeros_like(whole), torch.zeros_like(whole[0])
        for start, stop in chunks(whole.shape[1], round(self.chunk_s * self.rate), round(self.overlap_s * self.rate)):
            fade = _fade(start, stop, whole.shape[1], round(self.overlap_s * self.rate)).to(whole)
            found[:, start:stop] += fade * _sung(normal[:, start:stop], net, round(_SHORTEST_S * self.rate))
            weights[start:stop] += fade
        return found / weights * (deviation + _QUIET) + mean


def chunks(length: int, chunk: int, overlap: int) -> list[tuple[int, int]]:
    """Where the chunks of a clip of `length` samples start and stop, each of `chunk` samples but for the last.

    The last one is never shorter than the overlap, since nothing of it would be heard but what was heard before.
    """
    step = chunk - overlap
    return [(start, min(start + chunk, length)) for start in range(0, max(1, length - overlap), step)]


def _fade(start: int, stop: int, length: int, overlap: int) -> torch.Tensor:
    """Weights of a chunk's samples, falling towards each end that another chunk overlaps."""
    import torch

    rising = (torch.arange(overlap, dtype=torch.float32) + 1) / (overlap + 1)
    weights = torch.ones(stop - start)
    if overlap and start > 0:
        weights[:overlap] *= rising
    if overlap and stop < length:
        weights[-overlap:] *= rising.flip(0)
    return weights


def _sung(chunk: torch.Tensor, net: HDemucs, shortest: int) -> torch.Tensor:
    """The network's vocals, as the mean of its channels, of chunks of shape (clips, samples)."""
    import torch

    length = chunk.shape[1]
    heard = torch.nn.functional.pad(chunk, (0, max(0, shortest - length)))
    sources = net(heard[:, None].expand(-1, net.audio_channels, -1))
    return sources[:, net.sources.index(VOCALS), :, :length].float().mean(1)


def _read_published(path: Path) -> Network:
    import torch
    from torchaudio.models import hdemucs_high

    with reading(path, "torchaudio's Hybrid Demucs"):
        net = hdemucs_high(sources=list(PUBLISHED_SOURCES))
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Network(net, PUBLISHED_RATE)


def _read_folder(folder: Path) -> Network:
    from safetensors.torch import load_file
    from torchaudio.models import HDemucs

    with reading(folder, "a Hybrid Demucs"):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        net = HDemucs(**config["network"])
        net.load_state_dict(load_file(folder / "model.safetensors"))
        return Network(net, int(config["rate"]))


def _level(name: str, samples: np.ndarray) -> Item:
    loudness = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12)
    return Item(f"{name} {loudness:.1f} dBFS")


@dataclass(kw_only=True)
class StemCue:
    """What the row of a cue of sound may ask for: the whole, or one of the two parts that a separator makes of it.

    Attributes:
        stem: ``vocals``, ``rest``, or empty for the whole.
        separator: what takes clips apart; the profile's, not the row's.
    """

    stem: Literal["", "vocals", "rest"] = ""
    separator: Separator | None = field(default=None, repr=False)

    _speed_only: ClassVar[frozenset[str]] = CueHandler._speed_only | {"separator"}  # its fingerprint is in the view

    @property
    def without_effect(self) -> frozenset[str]:
        return frozenset() if self.stem else frozenset({"stem"})

    def sound(self, rate: int, decoder: AudioDecoder = "pyav") -> Audio | Stems:
        """The view of a cue that hears so many samples per second."""
        if not self.stem:
            return Audio(rate, decoder)
        if self.separator is None:
            raise ValueError(f"stem is {self.stem!r}, but there is no separator")
        return Stems(self.separator.fingerprint(), replace(self.separator.view, decoder=decoder), rate)

    def heard(self, view: Decoded) -> np.ndarray:
        """What of a decoded view the cue listens to: float32, shape (samples,)."""
        return getattr(view, self.stem) if self.stem else cast(np.ndarray, view)


Cues = tuple[str, ...]


@dataclass(frozen=True)
class Separated:
    """What became of one clip: its stems, or the error that this clip alone met.

    Attributes:
        clip_id: whose.
        subject: what of the clip was taken apart, as its `Example` had it.
        cues: the names of those that want the stems.
        stems: by their rate in Hz; none where there is an error.
        seconds: its share of the time that its batch took.
        error: what the model met instead.
        retryable: whether the same clip may succeed next time.
        on_gpu: whether the seconds are a GPU's.
    """

    clip_id: str
    subject: str
    cues: Cues
    stems: Mapping[int, StemsView]
    seconds: float
    error: str = ""
    retryable: bool = False
    on_gpu: bool = False


@dataclass(kw_only=True)
class Separation(ModelHandler[tuple[Example, Cues], Separated, Loaded[Network]]):
    """Takes clips apart for the cues that want their stems, on Beam's `ModelHandler` contract.

    Attributes:
        separator: the profile's.
        rates: samples per second of the stems that the cues want, in Hz, each once.
    """

    separator: Separator
    rates: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__init__(min_batch_size=self.separator.batch_size, max_batch_size=self.separator.batch_size)

    def load_model(self) -> Loaded[Network]:
        return self.separator.load_model()

    def run_inference(
        self,
        batch: Sequence[tuple[Example, Cues]],
        model: Loaded[Network],
        inference_args: dict[str, Any] | None = None,
    ) -> list[Separated]:
        # As for the cues' models: on a GPU threads take turns.
        with model.turn if self.separator._on_gpu() else nullcontext():
            return list(self._answer(list(batch), model.get()))

    def get_num_bytes(self, batch: Sequence[tuple[Example, Cues]]) -> int:
        return sum(num_bytes(example.view) for example, _ in batch)

    def get_metrics_namespace(self) -> str:
        return f"earshot.{self.separator.name}"

    def validate_inference_args(self, inference_args: dict[str, Any] | None) -> None:
        self.separator.validate_inference_args(inference_args)

    def _answer(self, batch: list[tuple[Example, Cues]], network: Network) -> Iterator[Separated]:
        def stems(some: list[tuple[Example, Cues]]) -> list[dict[int, StemsView]]:
            mixtures = [cast(np.ndarray, example.view) for example, _ in some]
            return self.separator.separate_at(mixtures, network, self.rates)

        on_gpu = self.separator._on_gpu()
        for (example, cues), answer, seconds in in_parts(batch, stems, self.separator.name):
            about = (example.clip_id, example.subject, cues)
            if isinstance(answer, Exception):
                said = f"{type(answer).__name__}: {answer}"
                yield Separated(*about, {}, seconds, said, self.separator._passing(answer), on_gpu)
            else:
                yield Separated(*about, answer, seconds, on_gpu=on_gpu)
