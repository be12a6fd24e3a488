"""Whisper's log-mel spectrogram in two steps, so that training can mix sounds in between.

A sound's powers in mel bands take long to compute; the powers of a mixture are about the sum of its sounds' powers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperFeatureExtractor


def mel_power(audio: np.ndarray, extractor: WhisperFeatureExtractor) -> Tensor:
    """Powers in an extractor's mel bands, float32 (bands, samples // hop); those of a sum are about the sum of them."""
    filters = torch.from_numpy(np.asarray(extractor.mel_filters, np.float32))
    window = torch.hann_window(extractor.n_fft)
    samples = torch.from_numpy(audio).float()
    spectrum = torch.stft(samples, extractor.n_fft, extractor.hop_length, window=window, return_complex=True)
    return filters.T @ spectrum[:, :-1].abs().square()


def packed(power: Tensor) -> Tensor:
    """Powers as logarithms to base 10 in half precision, which take little room; `unpacked` gives the powers back."""
    return power.clamp(min=1e-10).log10().half()


def unpacked(levels: Tensor) -> Tensor:
    """The powers, float32."""
    return 10 ** levels.float()


def whisper_scale(power: Tensor) -> Tensor:
    """The features that Whisper's extractor makes of powers (..., bands, frames): logarithms, 80 dB deep."""
    level = power.clamp(min=1e-10).log10()
    return (torch.maximum(level, level.amax((-2, -1), keepdim=True) - 8.0) + 4.0) / 4.0
