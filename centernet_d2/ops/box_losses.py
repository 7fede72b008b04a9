"""Losses of boxes as boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

# Predicted boxes count as at least this wide and high, in the unit of the boxes: an empty box has no aspect ratio.
_MIN = 1e-3
# Keeps divisors from 0, as in torchvision.
_EPS = 1e-7


def _l1_loss(boxes: Tensor, gt: Tensor) -> Tensor:
    return (boxes - gt).abs().mean(dim=-1)


def _iou_loss(boxes: Tensor, gt: Tensor) -> Tensor:
    return 1 - box_iou(boxes[:, None], gt[:, None])[:, 0, 0]


def _giou_loss(boxes: Tensor, gt: Tensor) -> Tensor:
    shared, union = compute_overlap(boxes, gt)
    around = _enclose(boxes, gt).prod(dim=-1)
    return 1 - shared / (union + _EPS) + (around - union) / (around + _EPS)


def _diou_loss(boxes: Tensor, gt: Tensor) -> Tensor:
    shared, union = compute_overlap(boxes, gt)
    distance = ((boxes[:, :2] + boxes[:, 2:] - gt[:, :2] - gt[:, 2:]) / 2).square().sum(dim=-1)
    return 1 - shared / (union + _EPS) + distance / (_enclose(boxes, gt).square().sum(dim=-1) + _EPS)


def _ciou_loss(boxes: Tensor, gt: Tensor) -> Tensor:
    shared, union = compute_overlap(boxes, gt)
    angles = [torch.atan((x[:, 2] - x[:, 0]) / (x[:, 3] - x[:, 1])) for x in (boxes, gt)]
    aspect = 4 / torch.pi**2 * (angles[1] - angles[0]).square()
    factor = (aspect / (1 - shared / (union + _EPS) + aspect + _EPS)).detach()
    return _diou_loss(boxes, gt) + factor * aspect


def compute_overlap(boxes: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
    """Return the areas (...) of intersection and union of boxes (..., 4), each with the one in its place.

    (torchvision's losses read boxes that overlap by a mask, for which the host waits on a GPU.)
    """
    sides = torch.minimum(boxes[..., 2:], gt[..., 2:]) - torch.maximum(boxes[..., :2], gt[..., :2])
    shared = sides.prod(dim=-1).where((sides > 0).all(dim=-1), 0)
    return shared, _area(boxes) + _area(gt) - shared


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)


def _enclose(boxes: Tensor, gt: Tensor) -> Tensor:
    """Return width and height (E, 2) of the smallest box around both."""
    return torch.maximum(boxes[:, 2:], gt[:, 2:]) - torch.minimum(boxes[:, :2], gt[:, :2])


BOX_LOSSES = {"l1": _l1_loss, "iou": _iou_loss, "giou": _giou_loss, "diou": _diou_loss, "ciou": _ciou_loss}


def box_loss(kind: str, boxes: Tensor, gt: Tensor, plus_one: bool = False) -> Tensor:
    """Return losses (E,) of ``boxes`` (E, 4) x1 <= x2, y1 <= y2 against ``gt`` (E, 4) with a positive area.

    "l1": mean absolute difference of the coordinates, in their unit; "iou": 1 - IoU; "giou", "diou" and "ciou"
    (Rezatofighi et al. 2019; Zheng et al. 2020) also see how far boxes that do not overlap are apart.

    ``plus_one`` makes all widths and heights larger by 1, as losses of whole pixels did; those of CenterNet++'s code
    do so in units of several strides, so that boxes less than a unit apart overlap.
    """
    sized = torch.maximum(boxes[:, 2:], boxes[:, :2] + _MIN)
    extra = int(plus_one)
    return BOX_LOSSES[kind](
        torch.cat([boxes[:, :2], sized + extra], dim=-1), torch.cat([gt[:, :2], gt[:, 2:] + extra], dim=-1)
    )
