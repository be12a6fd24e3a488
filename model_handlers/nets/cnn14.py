"""PANNs Cnn14, the AudioSet tagger, as a module that loads the published checkpoint.

Kong et al., *PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition* (IEEE/ACM TASLP 2020,
arXiv:1912.10211). The names of the parameters are those of `Cnn14_mAP=0.431.pth`, which scores a mAP of 0.431 on
AudioSet's evaluation set with 527 classes.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_handlers.weights import ModelError

# The published module computes its spectrum by convolution with these; torch.stft needs no weights.
DFT_KERNELS = {
    "spectrogram_extractor.stft.conv_real.weight": "real",
    "spectrogram_extractor.stft.conv_imag.weight": "imag",
}
POOLINGS = 5


class Cnn14(nn.Module):
    """Waveform in, one probability a class out; the classes are independent of each other (sigmoid, not softmax).

    For inference: the dropout and SpecAugment of the published training are left out.

    Args:
        classes: number of classes; AudioSet has 527.
        width: channels of the first block; each of the six blocks doubles them. 64 as published (64 … 2048).
        rate: samples per second, in Hz.
        window: samples of the Hann window, which is also the length of the FFT.
        hop: samples between two frames.
        mels: number of mel bands.
        fmin: lower edge of the lowest band, in Hz.
        fmax: upper edge of the highest band, in Hz.
    """

    def __init__(
        self,
        classes: int = 527,
        width: int = 64,
        rate: int = 32_000,
        window: int = 1024,
        hop: int = 320,
        mels: int = 64,
        fmin: float = 50.0,
        fmax: float = 14_000.0,
    ):
        super().__init__()
        channels = [1] + [width << block for block in range(6)]
        self.logmel_extractor = LogMel(rate, window, hop, mels, fmin, fmax)
        self.bn0 = nn.BatchNorm2d(mels)
        for block in range(6):
            self.add_module(f"conv_block{block + 1}", ConvBlock(channels[block], channels[block + 1]))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], classes)

    def forward(self, waveform: Tensor) -> Tensor:
        """Probabilities of shape (batch, classes) for mono audio of shape (batch, samples) in [-1, 1].

        Clips of fewer than 32 frames (9,920 samples, 0.31 s) are padded with silence at the end: the five poolings
        halve the number of frames five times. Raises ValueError where there are no samples at all.
        """
        return torch.sigmoid(self.logits(self.logmel_extractor(waveform)).float())

    def logits(self, logmel: Tensor) -> Tensor:
        """Logits of shape (batch, classes) for a log-mel spectrogram of shape (batch, 1, frames, mels) in dB."""
        x = self.bn0(logmel.transpose(1, 3)).transpose(1, 3)
        for block in range(1, 7):
            x = self.get_submodule(f"conv_block{block}")(x)
            if block <= POOLINGS:
                x = F.avg_pool2d(x, 2)
        x = x.mean(dim=3)  # over the mel bands: (batch, channels, frames / 32)
        x = x.amax(dim=2) + x.mean(dim=2)
        return self.fc_audioset(F.relu(self.fc1(x)))


class ConvBlock(nn.Module):
    """Two 3×3 convolutions, each with batch normalisation and ReLU; the size of the map stays."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, frames, bands) → (batch, outputs, frames, bands)."""
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class LogMel(nn.Module):
    """Log-mel spectrogram: power spectrum, Slaney mel bands, 10·log10 with a floor of -100 dB."""

    window: Tensor

    def __init__(self, rate: int, window: int, hop: int, mels: int, fmin: float, fmax: float):
        super().__init__()
        self.hop = hop
        self.register_buffer("window", torch.hann_window(window, device="cpu"), persistent=False)
        bands = torch.from_numpy(mel_bands(rate, window, mels, fmin, fmax))
        self.melW = nn.Parameter(bands, requires_grad=False)  # the checkpoint's name

    def forward(self, waveform: Tensor) -> Tensor:
        """(batch, samples) → (batch, 1, frames, mels) in dB, frames = samples // hop + 1.

        In single precision whatever the network's: powers span more than half precision holds.
        """
        samples, needed = waveform.shape[-1], self.hop * (2**POOLINGS - 1)
        if not samples:
            raise ValueError("the clip has no audio samples")
        if samples < needed:
            waveform = F.pad(waveform, (0, needed - samples))
        size = len(self.window)
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform, size, self.hop, window=self.window, center=True, pad_mode="reflect", return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()
            mel = power.transpose(1, 2) @ self.melW
        return 10 * torch.log10(mel.clamp(min=1e-10)).unsqueeze(1)


def mel_bands(rate: int, window: int, mels: int, fmin: float, fmax: float) -> np.ndarray:
    """Triangular bands on Slaney's mel scale, each of area one: float32 of shape (window // 2 + 1, mels).

    Slaney, *Auditory Toolbox* (1998): linear with 3 mel per 200 Hz up to 1 kHz, above it 27 mel per factor of 6.4.
    """
    knee, log_step = 15.0, math.log(6.4) / 27  # 1 kHz is 15 mel

    def to_mel(hz: float) -> float:
        return hz * 3 / 200 if hz < 1000 else knee + math.log(hz / 1000) / log_step

    points = np.linspace(to_mel(fmin), to_mel(fmax), mels + 2)
    edges = np.where(points < knee, points * 200 / 3, 1000 * np.exp((points - knee) * log_step))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    bins = np.linspace(0, rate / 2, window // 2 + 1)[:, None]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(min=0)
    return (triangles * (2 / (high - low))).astype(np.float32)


def load_cnn14(path: Path, device: str = "cpu") -> Cnn14:
    """Loads a checkpoint in the published layout, ``{"model": state}``, ready for inference.

    The number of classes and the width are read off the state. Raises `ModelError` where the file cannot be read or
    its state is not exactly that of a Cnn14 at 32 kHz.
    """
    state = _read_state(path)
    for name in ("conv_block1.conv1.weight", "fc_audioset.weight"):
        if name not in state:
            raise ModelError(f"{path}: not a Cnn14 checkpoint, it has no {name!r} (found {_some(sorted(state))})")
    classes, width = len(state["fc_audioset.weight"]), len(state["conv_block1.conv1.weight"])
    with torch.device("meta"):  # the weights come from the file: initialising 80 million of them takes seconds
        model = Cnn14(classes=classes, width=width)
    own = model.state_dict()
    kernels = {name: state.pop(name) for name in DFT_KERNELS if name in state}
    faults = [f"missing {name}" for name in sorted(own.keys() - state.keys())]
    faults += [f"unexpected {name}" for name in sorted(state.keys() - own.keys())]
    faults += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    faults += _faulty_kernels(kernels, model.logmel_extractor.window)
    if faults:
        raise ModelError(
            f"{path}: not the Cnn14 for 32 kHz: {_some(faults)}. The variants for 8 and 16 kHz and the Wavegram and "
            "DecisionLevel models have other weights; take Cnn14_mAP=0.431.pth."
        )
    model.load_state_dict(state, assign=True)
    return model.eval().to(device)


def _read_state(path: Path) -> dict[str, Tensor]:
    """The tensors under ``model``; beside them the published files may hold counters written by numpy."""
    try:
        with torch.serialization.safe_globals(_numpy_data()):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ModelError(
            f"{path}: cannot be read as a PyTorch checkpoint ({type(error).__name__}: {str(error)[:200]}); "
            f"it has {path.stat().st_size:,} bytes. Check that the download is complete and download it again."
        ) from error
    state = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: no state dict under the key 'model', where the published Cnn14 has it")
    return dict(state)


def _numpy_data() -> list[Any]:
    """What a pickle of numpy numbers and arrays names, under numpy 1's and numpy 2's module names; data, no code."""
    reducers = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.empty(0).__reduce__()[0]}
    functions = [
        (reducer, f"numpy.{module}.multiarray.{name}")
        for name, reducer in reducers.items()
        for module in ("core", "_core")
    ]
    kinds = [type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")]
    return [*functions, *kinds, np.ndarray, np.dtype]


def _faulty_kernels(kernels: dict[str, Tensor], window: Tensor) -> list[str]:
    """What differs between the checkpoint's DFT kernels and the windowed DFT that torch.stft computes."""
    size = len(window)
    turns = torch.outer(torch.arange(size // 2 + 1), torch.arange(size)) % size
    dft = torch.polar(window.double(), -2 * math.pi * turns.double() / size)
    faults = []
    for name, kernel in kernels.items():
        expected = getattr(dft, DFT_KERNELS[name])[:, None]
        if kernel.shape != expected.shape:
            faults.append(f"{name} is {tuple(kernel.shape)}, not {tuple(expected.shape)}")
        elif not torch.allclose(kernel.double(), expected, atol=1e-4):
            faults.append(f"{name} is not the DFT under a Hann window of {size} samples")
    return faults


def _some(what: list[str], limit: int = 4) -> str:
    more = f" and {len(what) - limit} more" if len(what) > limit else ""
    return ", ".join(what[:limit]) + more
