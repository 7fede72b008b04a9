"""Boxes that know how good they are: their IoU is learned beside them (Jiang et al. 2018, "Acquisition of Localization
Confidence", arXiv:1807.11590; in dense detectors Wu et al. 2020, "IoU-aware Single-stage Object Detector")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor
from torchvision.ops import box_iou

from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.box import BoxHead, BoxTargets
from centernet_d2.ops.constants import select_channels
from centernet_d2.structures import Targets

# Of a perfect box in encode_dense; its sigmoid is 1 to seven digits.
_PERFECT = 16.0


@HEAD_REGISTRY.register()
class BoxQualityHead(BoxHead):
    """:class:`BoxHead` with one more channel for each point: the logit of the IoU of its box with the object.

    A candidate's score becomes score^(1 - power) * IoU^power (equation 7 of the second paper), so that of two boxes of
    an object the better one comes first.

    Args:
        quality_weight: factor of the loss of that channel, beside that of the box.
        quality_power: in [0, 1]; 0: scores stay.
    """

    extra_channels = 1

    @configurable
    def __init__(self, *, quality_weight: float = 0.2, quality_power: float = 0.5, **kwargs: Any) -> None:
        if not 0 <= quality_power <= 1:
            raise ValueError(f"MODEL.CENTERNET.BOX_QUALITY_POWER must be in 0..1, not {quality_power}")
        super().__init__(**kwargs)
        self.quality_weight, self.quality_power = quality_weight, quality_power

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        settings = cfg.MODEL.CENTERNET
        return {
            **super().from_config(cfg, in_channels),
            "quality_weight": settings.BOX_QUALITY_FACTOR,
            "quality_power": settings.BOX_QUALITY_POWER,
        }

    def read(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        return super().read(output, image_index, cells)[..., :-1]

    def read_quality(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return the logits (..., K) of the IoU at ``cells`` (..., K, 2); ``image_index`` is (..., 1)."""
        return super().read(output, image_index, cells)[..., -1]

    def adjust_scores(self, scores: Tensor, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        quality = self.read_quality(output, image_index, cells).sigmoid()
        return scores ** (1 - self.quality_power) * quality**self.quality_power

    def loss(self, output: Tensor, target: BoxTargets, num_objects: Tensor) -> Tensor:  # type: ignore[override]
        """Return the loss of boxes, and the cross entropy of the IoU that they have now, at the same cells and with the
        same weights."""
        with torch.no_grad():
            boxes = self.read_boxes(output, target.image_index, target.cells, target.points).flatten(0, 1)
            overlap = box_iou(boxes[:, None], target.boxes.flatten(0, 1)[:, None])[:, 0, 0]
        logits = self.read_quality(output, target.image_index, target.cells).flatten().float()
        errors = F.binary_cross_entropy_with_logits(logits, overlap, reduction="none")
        quality = (target.weight.flatten() * errors).sum() / (num_objects * len(self.point_flags))
        return super().loss(output, target, num_objects) + self.quality_weight * quality

    def encode_dense(self, targets: Targets) -> Tensor:
        sides = super().encode_dense(targets).unflatten(1, (len(self.point_flags), -1))
        return torch.cat([sides, torch.full_like(sides[:, :, :1], _PERFECT)], dim=2).flatten(1, 2)

    def unflip(self, flipped: Tensor) -> Tensor:
        maps = flipped.unflatten(1, (len(self.point_flags), -1))
        sides = super().unflip(maps[:, :, :-1].flatten(1, 2)).unflatten(1, (len(self.point_flags), -1))
        quality = select_channels(maps[:, :, -1:].flip(-1), 1, self.order_flipped_points())
        return torch.cat([sides, quality], dim=2).flatten(1, 2)
