"""Losses of boxes as boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou, complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

# Predicted boxes count as at least this wide and high, in the unit of the boxes: an empty box has no aspect ratio.
_MIN = 1e-3


def _l1_loss(boxes: Tensor, gt: Tensor) -> Tensor:
    return (boxes - gt).abs().mean(dim=-1)


def _iou_loss(boxes: Tensor, gt: Tensor) -> Tensor:
    return 1 - box_iou(boxes[:, None], gt[:, None])[:, 0, 0]


BOX_LOSSES = {
    "l1": _l1_loss,
    "iou": _iou_loss,
    "giou": generalized_box_iou_loss,
    "diou": distance_box_iou_loss,
    "ciou": complete_box_iou_loss,
}


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
