"""The box at each point, learned as a box, at one or several cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.box_size import BoxSizeHead
from centernet_d2.ops import grid_coding as grid
from centernet_d2.ops.box_losses import BOX_LOSSES, box_loss
from centernet_d2.ops.box_sampling import SAMPLINGS, box_samples
from centernet_d2.structures import Targets

# Grid cells of one unit of the output (TTFNet's 16 input pixels), and the output before anything is learned: numbers
# near 0 would be empty boxes, which overlap nothing and have almost no gradient.
_UNIT, _START = 4.0, 0.5


@dataclass
class BoxTargets:
    """E rows, each with one cell of each of an object's K points.

    Attributes:
        image_index: (E, 1) int64.
        cells: (E, K, 2) int64 x, y.
        points: (E, K, 2) float32 x, y, the object's points.
        boxes: (E, K, 4) float32, in grid cells.
        weight: (E, K) float32.
    """

    image_index: Tensor
    cells: Tensor
    points: Tensor
    boxes: Tensor
    weight: Tensor


@HEAD_REGISTRY.register()
class BoxHead(BoxSizeHead):
    """The box as seen from each point ("wh", "lt") or from the center of any cell around it ("ltrb"), in 4 grid cells.

    Numbers may be negative (a small box need not hold the center of its cell): corners that come out in the wrong order
    are swapped, in the loss too, so that no output is without a gradient.

    Args:
        box_loss: a name of :data:`~centernet_d2.ops.box_losses.BOX_LOSSES`.
        sampling: one of :data:`~centernet_d2.ops.box_sampling.SAMPLINGS`; only "ltrb" has others than "peak".
        share: of the box's sides, that the window of "gaussian" covers.
    """

    @configurable
    def __init__(
        self,
        *,
        box_loss: str = "giou",
        sampling: str = "peak",
        alpha: float = 0.54,
        encoding: str = "ltrb",
        **kwargs: Any,
    ) -> None:
        if box_loss not in BOX_LOSSES:
            raise ValueError(f"BOX_LOSS must be one of {sorted(BOX_LOSSES)}, not {box_loss!r}")
        if sampling not in SAMPLINGS:
            raise ValueError(f"BOX_SAMPLING must be one of {SAMPLINGS}, not {sampling!r}")
        if encoding != "ltrb" and sampling != "peak":
            raise ValueError(
                f"BOX_ENCODING {encoding!r} is measured from the point, which only its own cell knows: BOX_SAMPLING "
                f"{sampling!r} needs 'ltrb'"
            )
        super().__init__(encoding=encoding, bias=_START, **kwargs)
        self.box_loss, self.sampling, self.alpha = box_loss, sampling, alpha
        self.needs_offset = encoding != "ltrb"

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        settings = cfg.MODEL.CENTERNET
        own = {"box_loss": settings.BOX_LOSS, "sampling": settings.BOX_SAMPLING, "alpha": settings.GAUSSIAN_ALPHA}
        return {**own, **super().from_config(cfg, in_channels)}

    def encode(self, targets: Targets) -> BoxTargets:  # type: ignore[override]
        points, cells = targets.points(self.point_flags), targets.cells(self.point_flags)
        predictions = box_samples(
            self.sampling, targets.boxes, targets.image_index, cells, targets.grid_size, self.alpha
        )
        boxes = targets.boxes[predictions.owner, None].expand(*predictions.weight.shape, 4)
        return BoxTargets(
            targets.image_index[predictions.owner, None],
            predictions.cells,
            points[predictions.owner],
            boxes,
            predictions.weight,
        )

    def boxes(self, output: Tensor, image_index: Tensor, cells: Tensor, points: Tensor) -> Tensor:
        numbers = _UNIT * self.read(output, image_index, cells).float()
        sides = grid.convert_size(numbers, self.point_flags, self.encoding, "ltrb")
        origin = points if self.needs_offset else cells + 0.5
        corners = origin - sides[..., :2], origin + sides[..., 2:]
        return torch.cat([torch.minimum(*corners), torch.maximum(*corners)], dim=-1)

    def loss(self, output: Tensor, target: BoxTargets, num_objects: Tensor) -> Tensor:  # type: ignore[override]
        """Weighted sum over cells, divided by the number of points."""
        predictions = self.boxes(output, target.image_index, target.cells, target.points)
        losses = box_loss(self.box_loss, predictions.flatten(0, 1), target.boxes.flatten(0, 1))
        return (target.weight.flatten() * losses).sum() / (num_objects * len(self.point_flags))

    def encode_dense(self, targets: Targets) -> Tensor:
        target = self.encode(targets)
        origin = target.points if self.needs_offset else target.cells + 0.5
        sides = torch.cat([origin - target.boxes[..., :2], target.boxes[..., 2:] - origin], dim=-1)
        values = grid.convert_size(sides, self.point_flags, "ltrb", self.encoding) / _UNIT
        maps = values.new_zeros(targets.num_images, len(self.point_flags), *targets.grid_size, self.channels_per_point)
        row, point = (target.weight > 0).nonzero(as_tuple=True)
        x, y = target.cells[row, point].unbind(-1)
        maps[target.image_index[row, 0], point, y, x] = values[row, point]
        return maps.movedim(-1, 2).flatten(1, 2)
