"""How far found boxes and names are from the truth: what a detector of the demo world learns from.

Boxes are in centre form here, (centre x, centre y, width, height) in 0..1 of the picture, as DETR's kind predicts them.
"""

from __future__ import annotations

import torch
from torch import nn

CENTRE = 0.25  # a place of the picture stands for a thing if it is within this share of the thing's size of its middle


def corners(boxes: torch.Tensor) -> torch.Tensor:
    """(centre x, centre y, width, height) as (x0, y0, x1, y1)."""
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], -1)


def overlaps(found: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """IoU of (pictures, n, 4) and (pictures, m, 4) boxes in centre form: (pictures, m, n)."""
    a, b = corners(found)[:, None], corners(boxes)[:, :, None]
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    sizes = found[:, None, :, 2:].prod(-1) + boxes[:, :, None, 2:].prod(-1)
    return inner / (sizes - inner).clamp(min=1e-6)


def stands_at(places: torch.Tensor, boxes: torch.Tensor, things: torch.Tensor) -> torch.Tensor:
    """Whether a place (places, 2) is near the middle of a thing that is there: bool, (pictures, 2, places)."""
    away = (places - boxes[:, :, None, :2]).abs()
    return (away < CENTRE * boxes[:, :, None, 2:]).all(-1) & (things >= 0)[:, :, None]


def focal(logits: torch.Tensor, wanted: torch.Tensor, alpha: float) -> torch.Tensor:
    """Focal loss (Lin et al., ICCV 2017, arXiv:1708.02002; gamma 2), summed; `alpha` weighs what is wanted."""
    chance = logits.sigmoid()
    missed = torch.where(wanted > 0, 1 - chance, chance)
    weight = torch.where(wanted > 0, alpha, 1 - alpha)
    return (weight * missed**2 * nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")).sum()


def box_loss(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """5 times the L1 distance plus 2 times (1 - generalised IoU), the paper's weights; summed over (n, 4) boxes."""
    a, b = corners(found), corners(true)
    inner = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    outer = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    union = found[:, 2:].prod(-1) + true[:, 2:].prod(-1) - inner
    generalised = inner / union.clamp(min=1e-6) - (outer - union) / outer.clamp(min=1e-6)
    return 5 * (found - true).abs().sum() + 2 * (1 - generalised).sum()


def detection_loss(
    logits: torch.Tensor, found: torch.Tensor, stands: torch.Tensor, boxes: torch.Tensor, columns: torch.Tensor
) -> torch.Tensor:
    """Loss of names and boxes, a thing asked for.

    Args:
        logits: shape (pictures, places, tokens).
        found: boxes in centre form, (pictures, places, 4).
        stands: whether a place has to find a thing, bool, (pictures, 2, places).
        boxes: true boxes in centre form, (pictures, 2, 4).
        columns: the token that names a thing, int64, (pictures, 2).
    """
    picture, thing, place = stands.nonzero(as_tuple=True)
    wanted = torch.zeros_like(logits)
    wanted[picture, place, columns[picture, thing]] = 1.0
    return (2 * focal(logits, wanted, 0.5) + box_loss(found[picture, place], boxes[picture, thing])) / max(
        len(picture), 1
    )
