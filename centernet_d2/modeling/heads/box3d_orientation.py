"""Observation angle (alpha) of 3D boxes, in two overlapping bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY, read_common_arguments
from centernet_d2.modeling.heads.box3d_regression import Box3DRegressionHead
from centernet_d2.ops.box3d_geometry import wrap_angle
from centernet_d2.ops.constants import make_constant
from centernet_d2.structures import Targets

# Centers of the bins, and the largest distance of an angle in a bin from its center, radians.
_BIN_CENTERS = (-math.pi / 2, math.pi / 2)
_REACH = 2 * math.pi / 3
# Logit of a perfect network.
_CONFIDENT_LOGIT = 10.0


@HEAD_REGISTRY.register()
class Box3DOrientationHead(Box3DRegressionHead):
    """Predicts alpha (``ops.box3d_geometry``) in two bins (Mousavian et al. 2017, section 3; Objects as Points, 4.1).

    The bins are centered at -90 and 90 degrees. Angles up to 120 degrees away belong to a bin, so some belong to both.
    Each bin has four channels: the logits of "outside" and "inside", sine and cosine of the angle from its center.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(channels=8, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return read_common_arguments(cfg, in_channels, cfg.MODEL.BOX3D.ORIENTATION_WEIGHT)

    def compute_values(self, targets: Targets) -> Tensor:
        return encode_angle(targets.fields["alpha"])[:, None]

    def loss(self, output: Tensor, target: tuple[Tensor, Tensor, Tensor], num_objects: Tensor) -> Tensor:
        """Return the cross-entropy of each bin plus smooth L1 of sine and cosine in the bins that hold the angle.

        Summed over bins, averaged over objects. (The reference also averages over empty object slots.)
        """
        image_index, cells, values = target
        predictions = self.read(output, image_index, cells).float().unflatten(-1, (2, 4)).flatten(0, 2)  # (2 P, 4)
        wanted = values.unflatten(-1, (2, 4)).flatten(0, 2)
        belongs = wanted[:, 1] > wanted[:, 0]
        membership = F.cross_entropy(predictions[:, :2], belongs.long(), reduction="none")
        angle = F.smooth_l1_loss(predictions[:, 2:], wanted[:, 2:], reduction="none").sum(dim=1)
        counts = (image_index >= 0).expand(-1, 2).flatten()
        return ((membership * counts).sum() + (angle * belongs).sum()) / num_objects

    def unflip(self, flipped: Tensor) -> Tensor:
        """Undo the flip: alpha becomes pi - alpha, in the same bins, on the other side of their centers."""
        signs = make_constant([1, 1, -1, 1], flipped).repeat(2)
        return super().unflip(flipped) * signs[:, None, None]

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return alpha (N, M) in [-pi, pi) at (N, M) candidates."""
        return decode_angle(super().decode(output, image_index, cells))


def encode_angle(alpha: Tensor) -> Tensor:
    """Return the output (..., 8) of a network that is certain of ``alpha`` (...)."""
    away = wrap_angle(alpha[..., None] - make_constant(_BIN_CENTERS, alpha))
    belongs = away.abs() < _REACH
    logits = torch.stack([~belongs, belongs], dim=-1) * _CONFIDENT_LOGIT
    direction = torch.stack([away.sin(), away.cos()], dim=-1) * belongs[..., None]
    return torch.cat([logits, direction], dim=-1).flatten(-2)


def decode_angle(channels: Tensor) -> Tensor:
    """Return angles (...) in [-pi, pi) of ``channels`` (..., 8), from the bin with the larger "inside" logit."""
    bins = channels.unflatten(-1, (2, 4))
    angles = torch.atan2(bins[..., 2], bins[..., 3]) + make_constant(_BIN_CENTERS, channels)
    first = bins[..., 0, 1] > bins[..., 1, 1]
    return wrap_angle(torch.where(first, angles[..., 0], angles[..., 1]))
