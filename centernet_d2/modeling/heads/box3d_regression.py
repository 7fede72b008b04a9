"""Metric values of 3D boxes, regressed at the center of the object in the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY, read_common_arguments
from centernet_d2.modeling.heads.box_size import PointRegressionHead
from centernet_d2.ops.constants import make_constant
from centernet_d2.structures import Targets

# Of the reference transform from what the network gives to a depth.
_EPSILON = 1e-6


class Box3DRegressionHead(PointRegressionHead):
    """Regresses ``channels`` numbers at an object's center with an L1 loss."""

    def __init__(self, *, channels: int, **kwargs: Any) -> None:
        super().__init__(point_flags=(4,), channels_per_point=channels, **kwargs)

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return the values (N, M, channels) at (N, M) candidates."""
        return self.read(output, image_index[..., None], cells[..., None, :])[..., 0, :]


@HEAD_REGISTRY.register()
class Box3DDepthHead(Box3DRegressionHead):
    """Predicts the depth of the box's center in meters (after Eigen et al. 2014; Objects as Points, section 4.1).

    Depth is 1 / (sigmoid(x) + 1e-6) - 1 of the output x. It starts at 1 m and stays below 10^6 m. The loss is in
    meters.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(channels=1, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return read_common_arguments(cfg, in_channels, cfg.MODEL.BOX3D.DEPTH_WEIGHT)

    def select_supervised(self, targets: Targets) -> Targets:
        return targets.select(targets.fields["metric"])

    def compute_values(self, targets: Targets) -> Tensor:
        return targets.fields["depth"][:, None, None]

    def read(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return depths (..., 1, 1) in meters."""
        return 1 / (super().read(output, image_index, cells).float().sigmoid() + _EPSILON) - 1

    def encode_dense(self, targets: Targets) -> Tensor:
        return (1 / (super().encode_dense(targets).double() + 1) - _EPSILON).logit().float()

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return depths (N, M) in meters at (N, M) candidates."""
        return super().decode(output, image_index, cells)[..., 0]


@HEAD_REGISTRY.register()
class Box3DDimensionsHead(Box3DRegressionHead):
    """Predicts height, width and length in meters."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(channels=3, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return read_common_arguments(cfg, in_channels, cfg.MODEL.BOX3D.DIMENSIONS_WEIGHT)

    def select_supervised(self, targets: Targets) -> Targets:
        return targets.select(targets.fields["metric"])

    def compute_values(self, targets: Targets) -> Tensor:
        return targets.fields["dimensions"][:, None]


@HEAD_REGISTRY.register()
class Box3DCenterOffsetHead(Box3DRegressionHead):
    """From the center of the box in the image to where the center of the 3D box is seen, x and y as fractions of
    the box's width and height: the same at every scale. (Of a near object they are far apart.)"""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(channels=2, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return read_common_arguments(cfg, in_channels, cfg.MODEL.BOX3D.CENTER_OFFSET_WEIGHT)

    def select_supervised(self, targets: Targets) -> Targets:
        return targets.select(targets.fields["center_3d"][:, 0, 2] > 0)

    def compute_values(self, targets: Targets) -> Tensor:
        low, high = targets.boxes[:, None, :2], targets.boxes[:, None, 2:]
        return (targets.fields["center_3d"][..., :2] - (low + high) / 2) / (high - low)

    def unflip(self, flipped: Tensor) -> Tensor:
        return super().unflip(flipped) * make_constant([-1, 1], flipped)[:, None, None]
