"""Where an object was in the previous frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from torch import Tensor
from torch.nn import functional as F

from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.box_size import PointRegressionHead
from centernet_d2.structures import Targets


@HEAD_REGISTRY.register()
class DisplacementHead(PointRegressionHead):
    """From the corner (x, y) of the cell of an object's center to its center in the previous frame, in grid cells (Zhou
    et al. 2020, "Tracking Objects as Points", section 4.2).

    Objects have "previous_center" (P, 1, 3) x, y and whether it is known; only those teach it. Candidates get the
    center in the previous frame as a point.
    """

    decodes_points = True

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(point_flags=(4,), channels_per_point=2, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return {
            "in_channels": in_channels,
            "head_channels": cfg.MODEL.CENTERNET.HEAD_CHANNELS,
            "loss_weight": cfg.MODEL.TRACKING.DISPLACEMENT_WEIGHT,
        }

    def select_supervised(self, targets: Targets) -> Targets:
        return targets.select(targets.fields["previous_center"][:, 0, 2] > 0)

    def values(self, targets: Targets) -> Tensor:
        return targets.fields["previous_center"][..., :2] - targets.cells([4])

    def merge_flipped(self, output: Tensor, flipped: Tensor) -> Tensor:
        """That of the image itself, as in the reference."""
        return output

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """(N, M, 1, 3): centers in the previous frame, x, y in grid cells, and 1."""
        cells = cells[..., None, :]
        return F.pad(cells + self.read(output, image_index[..., None], cells), (0, 1), value=1.0)
