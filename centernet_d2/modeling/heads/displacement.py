"""Displacement of an object since the previous frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from torch import Tensor
from torch.nn import functional as F

from centernet_d2.modeling.heads.base import HEAD_REGISTRY, read_common_arguments
from centernet_d2.modeling.heads.box_size import PointRegressionHead
from centernet_d2.structures import Targets


@HEAD_REGISTRY.register()
class DisplacementHead(PointRegressionHead):
    """Predicts the vector from the corner of the object's center cell to its center in the previous frame, grid cells.

    (Zhou et al. 2020, "Tracking Objects as Points", section 4.2.) The targets' field "previous_center" (P, 1, 3) holds
    x, y and 1 where known; other objects are not trained. Candidates get the previous center as a point.
    """

    decodes_points = True

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(point_flags=(4,), channels_per_point=2, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return read_common_arguments(cfg, in_channels, cfg.MODEL.TRACKING.DISPLACEMENT_WEIGHT)

    def select_supervised(self, targets: Targets) -> Targets:
        return targets.select(targets.fields["previous_center"][:, 0, 2] > 0)

    def compute_values(self, targets: Targets) -> Tensor:
        return targets.fields["previous_center"][..., :2] - targets.get_cells([4])

    def merge_flipped(self, output: Tensor, flipped: Tensor) -> Tensor:
        """Return the map of the unflipped image, as the reference does."""
        return output

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return centers in the previous frame (N, M, 1, 3): x, y in grid cells, and 1."""
        cells = cells[..., None, :]
        return F.pad(cells + self.read(output, image_index[..., None], cells), (0, 1), value=1.0)
