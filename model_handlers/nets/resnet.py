"""ResNet-50 of any width, with torchvision's blocks and under torchvision's names.

He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016). torchvision's own class fixes the width of the
first layer; at 64 channels this is `torchvision.models.resnet50` (tests/test_place.py compares them).
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torchvision.models.resnet import Bottleneck

from model_handlers.weights import ModelError

BLOCKS = (3, 4, 6, 3)


class ResNet50(nn.Module):
    """Logits (batch, classes) for normalised pictures (batch, 3, height, width).

    Args:
        classes: how many.
        width: channels of the first convolution; 64 in the published networks.
    """

    def __init__(self, classes: int, width: int = 64):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inputs = width
        for stage, count in enumerate(BLOCKS):
            planes, stride = width << stage, 1 if stage == 0 else 2
            outputs = planes * Bottleneck.expansion
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            rest = (Bottleneck(outputs, planes) for _ in range(count - 1))
            self.add_module(f"layer{stage + 1}", nn.Sequential(Bottleneck(inputs, planes, stride, shortcut), *rest))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.maxpool(relu(self.bn1(self.conv1(pictures))))
        for stage in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(x.mean(dim=(2, 3)))


def load_resnet50(path: Path) -> ResNet50:
    """Loads a checkpoint ``{"state_dict": {"module.…": …}}``, as Places365 has it, on the CPU and ready for inference.

    The number of classes and the width are read off the weights. Raises `ModelError` where the file cannot be read or
    its weights are not exactly those of a ResNet-50.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): tensor for name, tensor in checkpoint["state_dict"].items()}
        net = ResNet50(len(state["fc.weight"]), len(state["conv1.weight"]))
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise ModelError(f"{path}: cannot be read as a checkpoint of a ResNet-50 ({what})") from error
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path}: not the weights of a ResNet-50: {str(error)[:300]}") from error
    return net.eval()
