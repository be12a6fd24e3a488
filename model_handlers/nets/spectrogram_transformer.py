"""Synchformer's audio side: the Audio Spectrogram Transformer over one segment's log-mel spectrogram.

Gong et al., "AST" (2021), as Iashin et al. use it in "Synchformer" (2024). Parameter names are those of the published
checkpoint, which took them from the Hugging Face port.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention
from transformers.audio_utils import mel_filter_bank

from model_handlers.nets.motionformer import Aggregation, merge_heads, split_heads

RATE = 16_000
N_FFT = 1024
WINDOW = 400  # 25 ms
HOP = 160  # 10 ms
MEAN, STD = -4.2677393, 4.5689974  # of AudioSet's log-mels, as AST was trained


@lru_cache(maxsize=4)
def _mel_filters(mels: int) -> Tensor:
    filters = mel_filter_bank(N_FFT // 2 + 1, mels, 0.0, RATE / 2, RATE, norm=None, mel_scale="htk")
    return torch.from_numpy(filters).float()


def log_mel(audio: Tensor, mels: int, length: int) -> Tensor:
    """Returns normalised log-mel spectrograms, shape (segments, length, mels), of 16 kHz mono (segments, samples).

    Power spectrum, Hann window of 25 ms, hop 10 ms, HTK mels from 0 to 8 kHz without area normalisation. What is
    missing up to `length` is filled with a log-mel of 0, as in training; what is more is cut. Computed in single
    precision whatever the network's: powers span more than half precision holds.
    """
    window = torch.hann_window(WINDOW, device=audio.device)
    with torch.autocast(audio.device.type, enabled=False):
        spectrum = torch.stft(audio, N_FFT, HOP, WINDOW, window, center=True, pad_mode="reflect", return_complex=True)
        power = torch.view_as_real(spectrum).square_().sum(-1)
        log_power = torch.log(power.transpose(1, 2) @ _mel_filters(mels).to(audio.device) + 1e-6)
    log_power = pad(log_power, (0, 0, 0, max(0, length - log_power.shape[1])))[:, :length]
    return (log_power - MEAN) / (2 * STD)


class SelfAttention(nn.Module):
    """Multi-head self-attention with separate query, key and value layers."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(layer(x), self.heads) for layer in (self.query, self.key, self.value))
        return merge_heads(scaled_dot_product_attention(q, k, v))


class Dense(nn.Module):
    """A linear layer under the name that the checkpoint gives it."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class Attention(nn.Module):
    """Self-attention and its output projection."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.output = Dense(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.attention(x))


class Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.attention = Attention(width, heads)
        self.intermediate = Dense(width, mlp_ratio * width)
        self.output = Dense(mlp_ratio * width, width)
        self.layernorm_before = nn.LayerNorm(width, eps=1e-12)
        self.layernorm_after = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output(gelu(self.intermediate(self.layernorm_after(x))))


class PatchProjection(nn.Module):
    """Overlapping patches of mels × time, each projected to one token; mel by mel, then in time."""

    def __init__(self, patch: tuple[int, int], stride: tuple[int, int], width: int):
        super().__init__()
        self.projection = nn.Conv2d(1, width, kernel_size=patch, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x.transpose(1, 2)[:, None]).flatten(2).transpose(1, 2)


class Embeddings(nn.Module):
    """Class token, distillation token and patches, with learned positions."""

    def __init__(self, patches: int, patch: tuple[int, int], stride: tuple[int, int], width: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embeddings = PatchProjection(patch, stride, width)
        self.position_embeddings = nn.Parameter(torch.randn(1, 2 + patches, width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.cat((self.cls_token, self.distillation_token), dim=1).expand(len(x), -1, -1)
        return torch.cat((first, self.patch_embeddings(x)), dim=1) + self.position_embeddings


class Encoder(nn.Module):
    """The stack of layers, under the name that the checkpoint gives it."""

    def __init__(self, width: int, heads: int, depth: int, mlp_ratio: int):
        super().__init__()
        self.layer = nn.ModuleList(Layer(width, heads, mlp_ratio) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x)
        return x


class Ast(nn.Module):
    """Embeddings, encoder and last norm."""

    def __init__(self, embeddings: Embeddings, encoder: Encoder, width: int):
        super().__init__()
        self.embeddings = embeddings
        self.encoder = encoder
        self.layernorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return self.layernorm(self.encoder(self.embeddings(x)))


class SpectrogramTransformer(nn.Module):
    """Log-mels of a segment → one token for each step in time.

    Args:
        mels, length: of a segment's spectrogram.
        patch, stride: (mels, time) of a patch.
        width, heads, depth, mlp_ratio: of the transformer.
    """

    def __init__(
        self,
        mels: int,
        length: int,
        patch: tuple[int, int],
        stride: tuple[int, int],
        width: int,
        heads: int,
        depth: int,
        mlp_ratio: int,
    ):
        super().__init__()
        self.steps = (length - patch[1]) // stride[1] + 1
        bands = (mels - patch[0]) // stride[0] + 1
        embeddings = Embeddings(bands * self.steps, patch, stride, width)
        self.ast = Ast(embeddings, Encoder(width, heads, depth, mlp_ratio), width)
        self.freq_attn_agg = Aggregation(width, heads, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (segments, steps, width) for log-mels of shape (segments, length, mels)."""
        patches = self.ast(x)[:, 2:].unflatten(1, (-1, self.steps))  # (segments, bands, steps, width)
        return self.freq_attn_agg.summarise(patches.transpose(1, 2))
