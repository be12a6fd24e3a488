"""EfficientNet's convolutions for one-channel pictures, under the names that `efficientnet_pytorch` gives its weights.

Tan & Le, "EfficientNet" (ICML 2019). EfficientNet-B2 is a width of 1.1 and a depth of 1.2. As in that package the
padding of every convolution is fixed by the nominal picture size of 260, whatever is put in.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.functional import pad, silu

PICTURE = 260  # B2's
# Of B0: repeats, kernel, stride, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280
SQUEEZE = 4


def channels(of_b0: int, width: float) -> int:
    """Scales a number of channels: to a multiple of 8, and by no more than a tenth downwards."""
    wanted = of_b0 * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def norm(width: int) -> nn.BatchNorm2d:
    """Batch normalisation with TensorFlow's constants."""
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding for pictures of `size` pixels: more on the far side."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, size: int, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        self.sides = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad(x, self.sides))


class Block(nn.Module):
    """An inverted bottleneck with squeeze and excitation; a skip connection where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, size: int):
        super().__init__()
        inner = inputs * expansion
        self.skips = stride == 1 and inputs == outputs
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = norm(inner)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, size, groups=inner)
        self._bn1 = norm(inner)
        squeezed = max(1, inputs // SQUEEZE)
        self._se_reduce = nn.Conv2d(inner, squeezed, 1)
        self._se_expand = nn.Conv2d(squeezed, inner, 1)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = silu(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = silu(self._bn1(self._depthwise_conv(y)))
        gate = self._se_expand(silu(self._se_reduce(y.mean((2, 3), keepdim=True))))
        y = self._bn2(self._project_conv(gate.sigmoid() * y))
        return x + y if self.skips else y


class EfficientNet(nn.Module):
    """Features (batch, outputs, height / 32, width / 32) of pictures (batch, 1, height, width).

    Args:
        width: factor of B0's channels.
        depth: factor of B0's repeats.
    """

    def __init__(self, width: float = 1.1, depth: float = 1.2):
        super().__init__()
        inputs, size = channels(STEM, width), PICTURE
        self._conv_stem = SameConv(1, inputs, 3, 2, size)
        self._bn0 = norm(inputs)
        size = math.ceil(size / 2)
        blocks = []
        for repeats, kernel, first_stride, expansion, of_b0 in STAGES:
            for number in range(math.ceil(depth * repeats)):
                stride, outputs = first_stride if number == 0 else 1, channels(of_b0, width)
                blocks.append(Block(inputs, outputs, kernel, stride, expansion, size))
                inputs, size = outputs, math.ceil(size / stride)
        self._blocks = nn.ModuleList(blocks)
        self.outputs = channels(HEAD, width)
        self._conv_head = nn.Conv2d(inputs, self.outputs, 1, bias=False)
        self._bn1 = norm(self.outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = silu(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return silu(self._bn1(self._conv_head(x)))
