"""CLAP (Contrastive Language-Audio Pretraining), whole or one of its halves, from a folder in transformers' form.

Wu et al., "Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption Augmentation"
(ICASSP 2023, arXiv:2211.06687).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import (
    ClapAudioModelWithProjection,
    ClapConfig,
    ClapModel,
    ClapProcessor,
    ClapTextModelWithProjection,
)

from model_handlers.image_label import unit
from model_handlers.weights import ModelError, check_whole, reading

RATE = 48_000  # samples a second, in Hz, that CLAP hears
FILES = ("*.json", "*.txt", "*.safetensors")  # of a hub repository that are needed


class _SoundHalf(ClapAudioModelWithProjection):
    _keys_to_ignore_on_load_unexpected: ClassVar = [r"^text_", r"^logit_scale_"]  # else each load warns of them


class _TextHalf(ClapTextModelWithProjection):
    _keys_to_ignore_on_load_unexpected: ClassVar = [r"^audio_", r"^logit_scale_"]


_HALVES: dict[str, Any] = {"sound": _SoundHalf, "text": _TextHalf}


def load_clap(folder: Path, device: str, half: str = "") -> tuple[Any, ClapProcessor]:
    """Returns a CLAP in evaluation mode on `device`, and its processor.

    Args:
        folder: what `save_pretrained` wrote.
        device: such as ``cpu`` or ``cuda``.
        half: ``sound`` or ``text`` for a ClapAudioModelWithProjection or a ClapTextModelWithProjection; the whole
            ClapModel where empty.

    Raises:
        ModelError: it cannot be loaded, lacks weights, or hears another rate than 48 kHz.
    """
    with reading(folder, "CLAP"):
        kind = ClapConfig.get_config_dict(folder, local_files_only=True)[0].get("model_type")
        if kind != "clap":  # else a CLAP of the published size would be made up at random
            raise ValueError(f"config.json is of a {kind}, not of a clap")
        config = ClapConfig.from_pretrained(folder, local_files_only=True)
        parts = {"": config, "sound": config.audio_config, "text": config.text_config}
        processor = ClapProcessor.from_pretrained(folder, local_files_only=True)
        model, info = _HALVES.get(half, ClapModel).from_pretrained(
            folder, config=parts[half], local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    check_whole(info, folder, "CLAP")
    rate = processor.feature_extractor.sampling_rate
    if rate != RATE:
        raise ModelError(f"{folder} hears {rate} Hz, not {RATE}")
    return model.eval().to(device), processor


def spectrograms(clips: Sequence[np.ndarray], extractor: Any, device: torch.device) -> dict[str, Tensor]:
    """Returns what CLAP's sound half is given for clips at 48 kHz, each float32 of shape (samples,).

    CLAP hears ten seconds. Its own extractor cuts them out of a longer clip at random; here they are the middle ten
    seconds, so that a clip has one answer. What a model with feature fusion would add for a longer clip is thereby left
    out.

    Raises:
        ValueError: a clip is empty, or holds samples that are no finite numbers.
    """
    middles = [_middle(clip, extractor.nb_max_samples) for clip in clips]
    features = extractor(middles, sampling_rate=RATE, return_tensors="pt")["input_features"].float()
    # The extractor of a model with fusion calls one clip of a batch of short ones longer, drawn at random.
    longer = torch.zeros(len(clips), 1, dtype=torch.bool, device=device)
    return {"input_features": features.to(device), "is_longer": longer}


def embedded(features: Tensor) -> np.ndarray:
    """Returns features, shape (n, width), as unit vectors: float32 of the same shape.

    Raises:
        FloatingPointError: they are no numbers, as half precision makes them when it overflows.
    """
    vectors = unit(features.float()).cpu().numpy()
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the embeddings are no numbers: half precision overflowed")
    return vectors


def _middle(clip: np.ndarray, samples: int) -> np.ndarray:
    """Returns the middle `samples` of a clip, or all where it has fewer."""
    if not len(clip):
        raise ValueError("there are no audio samples")
    if not np.isfinite(clip).all():
        raise ValueError("the audio holds samples that are no finite numbers")
    start = max(0, (len(clip) - samples) // 2)
    return clip[start : start + samples]
