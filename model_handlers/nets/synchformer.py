"""Synchformer: by how much a clip's sound is offset against its picture.

Iashin et al., "Synchformer: Efficient Synchronization from Sparse Cues" (ICASSP 2024), https://arxiv.org/abs/2401.16423.
A module of our own that strictly loads the published checkpoint (`24-01-04T16-39-21.pt`, AudioSet; 237.5 M parameters).
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from model_handlers.nets.motionformer import Motionformer, merge_heads, split_heads
from model_handlers.nets.spectrogram_transformer import SpectrogramTransformer, log_mel
from model_handlers.weights import ModelError

UNUSED = "vfeat_extractor.patch_embed."  # 2-D patches that the official class carries along and never uses


@dataclass(frozen=True)
class SynchformerConfig:
    """Sizes of a Synchformer; the defaults are the published model's.

    Attributes:
        crop: height and width of a frame, in pixels.
        segment_frames: frames a segment, at 25 a second.
        segment_samples: audio samples a segment, at 16 kHz.
        segments: segments a 5 s crop, each half a segment after the one before.
        video_patch: (frames, height, width) of a video patch.
        mels: mel bands.
        spectrogram_length: steps of 10 ms in a segment's spectrogram, padding included.
        audio_patch: (mels, time) of an audio patch.
        audio_stride: (mels, time) from patch to patch.
        width: of both extractors; `heads`, `video_depth`, `audio_depth` likewise.
        fusion_width: of the transformer over both; `fusion_heads`, `fusion_depth` likewise.
        mlp_ratio: hidden width over width, everywhere.
        classes: offsets that are told apart.
    """

    crop: int = 224
    segment_frames: int = 16
    segment_samples: int = 10_240
    segments: int = 14
    video_patch: tuple[int, int, int] = (2, 16, 16)
    mels: int = 128
    spectrogram_length: int = 66
    audio_patch: tuple[int, int] = (16, 16)
    audio_stride: tuple[int, int] = (10, 10)
    width: int = 768
    heads: int = 12
    video_depth: int = 12
    audio_depth: int = 12
    fusion_width: int = 768
    fusion_heads: int = 8
    fusion_depth: int = 3
    mlp_ratio: int = 4
    classes: int = 21

    @classmethod
    def from_json(cls, path: Path) -> SynchformerConfig:
        """Reads a ``config.json``; what it does not name has the published size. Unknown names raise `ModelError`."""
        values = json.loads(path.read_text(encoding="utf-8"))
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            known = [field.name for field in fields(cls)]
            raise ModelError(f"{path}: unknown sizes {sorted(unknown)}; a Synchformer has {known}")
        sizes: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**sizes)


class FusionAttention(nn.Module):
    """Multi-head self-attention with separate key, query and value layers and an output projection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        return self.proj(merge_heads(scaled_dot_product_attention(q, k, v)))


class FusionBlock(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)
        self.attn = FusionAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Positions(nn.Module):
    """Learned positions of all tokens, under the name that the checkpoint gives them."""

    def __init__(self, length: int, width: int):
        super().__init__()
        self.pos_emb = nn.Parameter(torch.randn(1, length, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pos_emb


class Fusion(nn.Module):
    """The transformer over both sides' tokens; its first token, `OFF_tok`, gives the offset's class."""

    def __init__(self, width: int, heads: int, depth: int, mlp_ratio: int, length: int, classes: int):
        super().__init__()
        self.vis_in_lnorm = nn.LayerNorm(width)
        self.aud_in_lnorm = nn.LayerNorm(width)
        self.OFF_tok = nn.Parameter(torch.randn(1, 1, width))
        self.MOD_tok = nn.Parameter(torch.randn(1, 1, width))
        self.pos_emb_cfg = Positions(length, width)
        self.blocks = nn.Sequential(*(FusionBlock(width, heads, mlp_ratio) for _ in range(depth)))
        self.ln_f = nn.LayerNorm(width)
        self.off_head = nn.Linear(width, classes)

    def tokens(self, video: Tensor, audio: Tensor) -> Tensor:
        """Returns every token after the last norm, shape (batch, 2 + video tokens + audio tokens, width)."""
        offset, separator = (token.expand(len(video), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        x = torch.cat((offset, self.vis_in_lnorm(video), separator, self.aud_in_lnorm(audio)), dim=1)
        return self.ln_f(self.blocks(self.pos_emb_cfg(x)))

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        return self.off_head(self.tokens(video, audio)[:, 0])


class Synchformer(nn.Module):
    """Both extractors, their projections and the fusion transformer."""

    def __init__(self, config: SynchformerConfig):
        super().__init__()
        self.config = c = config
        self.vfeat_extractor = Motionformer(
            c.segment_frames, c.crop, c.video_patch, c.width, c.heads, c.video_depth, c.mlp_ratio
        )
        self.afeat_extractor = SpectrogramTransformer(
            c.mels, c.spectrogram_length, c.audio_patch, c.audio_stride, c.width, c.heads, c.audio_depth, c.mlp_ratio
        )
        self.vproj = nn.Linear(c.width, c.fusion_width)
        self.aproj = nn.Linear(c.width, c.fusion_width)
        length = 2 + c.segments * (self.vfeat_extractor.steps + self.afeat_extractor.steps)
        self.transformer = Fusion(c.fusion_width, c.fusion_heads, c.fusion_depth, c.mlp_ratio, length, c.classes)

    def video_features(self, segments: Tensor) -> Tensor:
        """Returns (segments, steps, width) for uint8 RGB frames of shape (segments, frames, crop, crop, 3)."""
        scaled = segments.float().mul(2 / 255).sub_(1)  # (x / 255 - 0.5) / 0.5
        return self.vfeat_extractor(scaled.permute(0, 4, 1, 2, 3))

    def audio_features(self, segments: Tensor) -> Tensor:
        """Returns (segments, steps, width) for 16 kHz mono in [-1, 1] of shape (segments, samples)."""
        return self.afeat_extractor(log_mel(segments, self.config.mels, self.config.spectrogram_length))

    def fuse(self, video: Tensor, audio: Tensor) -> Tensor:
        """Returns logits (batch, classes) for features of shape (batch, segments, steps, width)."""
        return self.transformer(self.vproj(video.flatten(1, 2)), self.aproj(audio.flatten(1, 2)))

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Returns logits (batch, classes), before any softmax.

        Args:
            frames: uint8 RGB, shape (batch, segments, segment frames, crop, crop, 3).
            audio: 16 kHz mono in [-1, 1], shape (batch, segments, segment samples).
        """
        video = self.video_features(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return self.fuse(video, self.audio_features(audio.flatten(0, 1)).unflatten(0, audio.shape[:2]))


def windows(signal: Tensor, starts: Sequence[int], length: int) -> Tensor:
    """Returns `signal[start : start + length]` for each start, stacked; raises `ValueError` where one does not fit."""
    if any(start < 0 or start + length > len(signal) for start in starts):
        raise ValueError(f"a window of {length} from one of {list(starts)} does not fit in {len(signal)}")
    return torch.stack([signal[start : start + length] for start in starts])


def load_synchformer(path: Path) -> Synchformer:
    """Loads a checkpoint strictly, on the CPU, ready for inference.

    Args:
        path: the checkpoint, or a folder with exactly one ``.pt`` or ``.pth`` file. Without a ``config.json`` beside
            the checkpoint the model has the published size. The weights may lie under ``model`` or be the whole file.

    Raises:
        ModelError: there is no such file, it cannot be read safely, or its tensors are not those of this size.
    """
    if path.is_dir():
        found = sorted([*path.glob("*.pt"), *path.glob("*.pth")])
        if len(found) != 1:
            raise ModelError(f"{path}: {len(found)} .pt or .pth files; name the checkpoint itself, or leave one there")
        path = found[0]
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, and is not loaded because that could run code. Use "
            "`synchformer_state_dict.pth` (same weights), or save the file's `['model']` alone where you trust it."
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path}: not a PyTorch checkpoint ({error})") from error
    state = state.get("model", state)
    config_json = path.parent / "config.json"
    model = Synchformer(SynchformerConfig.from_json(config_json) if config_json.exists() else SynchformerConfig())
    try:
        model.load_state_dict({key: value for key, value in state.items() if not key.startswith(UNUSED)})
    except RuntimeError as error:
        raise ModelError(
            f"{path}: not a Synchformer of this size; is its config.json missing or another one's? {error}"
        ) from error
    return model.eval()
