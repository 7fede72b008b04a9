"""The angle of rotated boxes, without a jump at its period."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY, read_common_arguments
from centernet_d2.modeling.heads.box_size import PointRegressionHead
from centernet_d2.ops.constants import make_constant
from centernet_d2.ops.rotated_boxes import wrap_half_turn
from centernet_d2.structures import Targets


@HEAD_REGISTRY.register()
class AngleHead(PointRegressionHead):
    """Regresses the angle a of the box's longer side as (cos 2a, sin 2a, cos 4a, sin 4a), with an L1 loss.

    A box looks the same after half a turn, and so do cos 2a and sin 2a: nothing jumps between -90 and 90 degrees. A
    square looks the same after a quarter of a turn, where they change their sign, but cos 4a and sin 4a do not. So the
    latter say the angle up to quarter turns, and the former which of two. (Yu and Da 2023, "Phase-Shifting Coder",
    sections 3.2 and 3.3, whose two phases are these with other numbers of steps.)

    The targets' field "angle" (P,) is in degrees, as in ``ops.rotated_boxes``.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(point_flags=(4,), channels_per_point=4, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return read_common_arguments(cfg, in_channels, cfg.MODEL.ROTATED_BOX.ANGLE_WEIGHT)

    def compute_values(self, targets: Targets) -> Tensor:
        return encode_angle(targets.fields["angle"])[:, None]

    def unflip(self, flipped: Tensor) -> Tensor:
        """Undo the flip: the angle becomes its negative."""
        return flipped.flip(-1) * make_constant([1, -1, 1, -1], flipped)[:, None, None]

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return angles (N, M) in degrees, in [-90, 90), at (N, M) candidates."""
        return decode_angle(self.read(output, image_index[..., None], cells[..., None, :])[..., 0, :])


def encode_angle(angle: Tensor) -> Tensor:
    """Return (..., 4) cos 2a, sin 2a, cos 4a, sin 4a of angles (...) in degrees."""
    double = 2 * angle.deg2rad()
    return torch.stack([double.cos(), double.sin(), (2 * double).cos(), (2 * double).sin()], dim=-1)


def decode_angle(values: Tensor) -> Tensor:
    """Return the angles (...) in degrees, in [-90, 90), of (..., 4) cos 2a, sin 2a, cos 4a, sin 4a."""
    coarse = torch.atan2(values[..., 1], values[..., 0]).rad2deg() / 2
    fine = torch.atan2(values[..., 3], values[..., 2]).rad2deg() / 4
    return wrap_half_turn(fine + 90 * ((coarse - fine) / 90).round())
