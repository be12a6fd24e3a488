"""Synchformer's video side: a vision transformer with divided space-time attention over one segment of frames.

Patrick et al., "Keeping Your Eye on the Ball" (Motionformer, 2021), its `divided_224_16x4` variant, as Iashin et al.
use it in "Synchformer" (2024). Parameter names are those of the published checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

EPS = 1e-6  # of every LayerNorm on the video side and in both aggregation layers


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(batch, tokens, width) → (batch, heads, tokens, width / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, tokens, head width) → (batch, tokens, width)."""
    return x.transpose(1, 2).flatten(2)


class DividedAttention(nn.Module):
    """Attention in which a patch sees the class token and only its own row (time) or its own frame (space)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, frames: int, over_time: bool) -> Tensor:
        """`x` is (batch, 1 + frames * patches, width), the class token first, then frame by frame."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        class_out = scaled_dot_product_attention(q[:, :, :1], k, v)  # the class token sees every patch

        def groups(part: Tensor) -> Tensor:  # (batch, heads, groups, members, head width)
            grid = part[:, :, 1:].unflatten(2, (frames, -1))
            return grid.transpose(2, 3) if over_time else grid

        def with_class(part: Tensor) -> Tensor:
            members = groups(part)
            first = part[:, :, None, :1].expand(-1, -1, members.shape[2], -1, -1)
            return torch.cat((first, members), dim=3)

        out = scaled_dot_product_attention(groups(q), with_class(k), with_class(v))
        patches_out = (out.transpose(2, 3) if over_time else out).flatten(2, 3)
        return self.proj(merge_heads(torch.cat((class_out, patches_out), dim=2)))


class Mlp(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class DividedBlock(nn.Module):
    """Time attention, then space attention, then the MLP; each on normalised input with a residual."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = DividedAttention(width, heads)
        self.timeattn = DividedAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = Mlp(width, mlp_ratio * width)
        self.norm3 = nn.LayerNorm(width, eps=EPS)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        x = x + self.timeattn(self.norm3(x), frames, over_time=True)
        x = x + self.attn(self.norm1(x), frames, over_time=False)
        return x + self.mlp(self.norm2(x))


class Aggregation(nn.TransformerEncoderLayer):
    """One pre-norm encoder layer that sums a set of tokens up in a class token of its own."""

    def __init__(self, width: int, heads: int, mlp_ratio: int):
        super().__init__(
            width,
            heads,
            dim_feedforward=mlp_ratio * width,
            dropout=0.0,
            activation=nn.GELU(),
            layer_norm_eps=EPS,
            batch_first=True,
            norm_first=True,
        )
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)

    def summarise(self, x: Tensor) -> Tensor:
        """(…, tokens, width) → (…, width)."""
        tokens = x.flatten(0, -3)
        tokens = torch.cat((self.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        return super().forward(tokens)[:, 0].unflatten(0, x.shape[:-2])


class PatchEmbedding3d(nn.Module):
    """Non-overlapping patches of frames × height × width pixels, each projected to one token."""

    def __init__(self, patch: tuple[int, int, int], width: int):
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(3, width, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 3, frames, height, width) → (batch, patches, width), by a matrix product (Conv3d is slow on CPUs)."""
        frames, height, width = self.patch
        blocks = x.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(2, (-1, frames))
        patches = blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)
        return linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class Motionformer(nn.Module):
    """Frames of a segment → one token for each temporal patch.

    Args:
        frames: frames a segment.
        crop: height and width of a frame, in pixels.
        patch: (frames, height, width) of a patch.
        width, heads, depth, mlp_ratio: of the transformer.
    """

    def __init__(
        self, frames: int, crop: int, patch: tuple[int, int, int], width: int, heads: int, depth: int, mlp_ratio: int
    ):
        super().__init__()
        self.steps = frames // patch[0]
        patches = (crop // patch[1]) * (crop // patch[2])
        self.patch_embed_3d = PatchEmbedding3d(patch, width)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + patches, width) * 0.02)
        self.temp_embed = nn.Parameter(torch.zeros(1, self.steps, width))
        self.blocks = nn.ModuleList(DividedBlock(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.spatial_attn_agg = Aggregation(width, heads, mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (segments, steps, width) for `x` in [-1, 1] of shape (segments, 3, frames, crop, crop)."""
        patches = self.patch_embed_3d(x).unflatten(1, (self.steps, -1))
        patches = patches + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        tokens = torch.cat((first, patches.flatten(1, 2)), dim=1)
        for block in self.blocks:
            tokens = block(tokens, self.steps)
        return self.spatial_attn_agg.summarise(self.norm(tokens[:, 1:]).unflatten(1, (self.steps, -1)))
