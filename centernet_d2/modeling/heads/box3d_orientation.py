"""The angle under which an object is seen, as two halves of the circle that overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.box3d_regression import Box3DRegressionHead, box3d_settings
from centernet_d2.ops.box3d_geometry import wrap_angle
from centernet_d2.structures import Targets

# Where the bins look to, and how far from there an angle still belongs to a bin, radians.
_BIN_CENTERS = (-math.pi / 2, math.pi / 2)
_REACH = 2 * math.pi / 3
# Logit of a perfect network.
_SURE = 10.0


@HEAD_REGISTRY.register()
class Box3DOrientationHead(Box3DRegressionHead):
    """Alpha (``ops.box3d_geometry``) in two bins (Mousavian et al. 2017, section 3; Objects as Points, section 4.1).

    One looks to -90 degrees and one to 90; angles up to 120 degrees away belong to a bin, so that some belong to both.
    Four channels of each bin: logits of "does not" and "does belong", sine and cosine of the angle from its center.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(channels=8, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return box3d_settings(cfg, in_channels, cfg.MODEL.BOX3D.ORIENTATION_WEIGHT)

    def values(self, targets: Targets) -> Tensor:
        return encode_angle(targets.fields["alpha"])[:, None]

    def loss(self, output: Tensor, target: tuple[Tensor, Tensor, Tensor], num_objects: Tensor) -> Tensor:
        """Cross-entropy of belonging to each bin and smooth L1 of sine and cosine in those it does belong to, summed
        over bins, averaged over objects. (The reference averages over slots without objects, too.)"""
        image_index, cells, values = target
        predictions = self.read(output, image_index, cells).float().unflatten(-1, (2, 4)).flatten(0, 2)  # (2 P, 4)
        wanted = values.unflatten(-1, (2, 4)).flatten(0, 2)
        belongs = wanted[:, 1] > wanted[:, 0]
        membership = F.cross_entropy(predictions[:, :2], belongs.long(), reduction="sum")
        angle = F.smooth_l1_loss(predictions[:, 2:], wanted[:, 2:], reduction="none").sum(dim=1)
        return (membership + (angle * belongs).sum()) / num_objects

    def unflip(self, flipped: Tensor) -> Tensor:
        """The flipped image of alpha is pi - alpha: in the same bins, on the other side of their centers."""
        signs = flipped.new_tensor([1, 1, -1, 1]).repeat(2)
        return super().unflip(flipped) * signs[:, None, None]

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """(N, M) alpha in [-pi, pi) at (N, M) candidates."""
        return decode_angle(super().decode(output, image_index, cells))


def encode_angle(alpha: Tensor) -> Tensor:
    """The 8 channels (..., 8) of a network that is sure of ``alpha`` (...)."""
    away = wrap_angle(alpha[..., None] - alpha.new_tensor(_BIN_CENTERS))
    belongs = away.abs() < _REACH
    logits = torch.stack([~belongs, belongs], dim=-1) * _SURE
    direction = torch.stack([away.sin(), away.cos()], dim=-1) * belongs[..., None]
    return torch.cat([logits, direction], dim=-1).flatten(-2)


def decode_angle(channels: Tensor) -> Tensor:
    """(...) in [-pi, pi) of (..., 8), by the bin whose logit of "does belong" is larger."""
    bins = channels.unflatten(-1, (2, 4))
    angles = torch.atan2(bins[..., 2], bins[..., 3]) + channels.new_tensor(_BIN_CENTERS)
    first = bins[..., 0, 1] > bins[..., 1, 1]
    return wrap_angle(torch.where(first, angles[..., 0], angles[..., 1]))
