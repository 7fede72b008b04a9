"""Boxes regressed with a box loss, at one or several cells per point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.box_size import BoxSizeHead
from centernet_d2.ops import grid_coding as grid
from centernet_d2.ops.box_losses import BOX_LOSSES, box_loss
from centernet_d2.ops.box_sampling import SAMPLINGS, average_votes, list_voting_cells, sample_box_cells
from centernet_d2.ops.indexing import pad_rows, round_up
from centernet_d2.structures import Targets

# One unit of the output, input pixels (TTFNet).
_UNIT = 16.0
# The output before training. Values near 0 would be empty boxes, which overlap nothing and have almost no gradient.
_START = 0.5


@dataclass
class BoxTargets:
    """Cells at which boxes are learned: E rows, each with one cell for each of an object's K points.

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
    """Regresses the box as seen from each point ("wh", "lt") or from the center of a cell near it ("ltrb").

    The unit is 16 input pixels. Outputs may be negative: a small box need not contain its cell's center. Corners in the
    wrong order are swapped, in the loss too, so that every output has a gradient.

    Args:
        box_loss: a name of :data:`~centernet_d2.ops.box_losses.BOX_LOSSES`.
        sampling: one of :data:`~centernet_d2.ops.box_sampling.SAMPLINGS`. All but "peak" need "ltrb".
        alpha: fraction of the box's sides that the "gaussian" window covers.
        voting: decoded boxes are the mean of those that cells in the middle of the box predict
            (:mod:`~centernet_d2.ops.box_sampling`). Needs "gaussian", which trains these cells.
        stride: of the output map, input pixels. ``from_config`` leaves it at 4, because heads are built from channels
            alone; a model with other strides has to pass it.
    """

    @configurable
    def __init__(
        self,
        *,
        box_loss: str = "giou",
        sampling: str = "peak",
        alpha: float = 0.54,
        voting: bool = False,
        encoding: str = "ltrb",
        stride: int = 4,
        **kwargs: Any,
    ) -> None:
        if box_loss not in BOX_LOSSES:
            raise ValueError(f"MODEL.CENTERNET.BOX_LOSS must be one of {sorted(BOX_LOSSES)}, not {box_loss!r}")
        if sampling not in SAMPLINGS:
            raise ValueError(f"MODEL.CENTERNET.BOX_SAMPLING must be one of {SAMPLINGS}, not {sampling!r}")
        if encoding == "log_wh":
            raise ValueError('MODEL.CENTERNET.BOX_ENCODING "log_wh" is of BoxSizeHead, not of BoxHead')
        if encoding != "ltrb" and sampling != "peak":
            raise ValueError(
                f"encoding {encoding!r} is measured from the point, whose position only its own cell predicts: "
                f"sampling {sampling!r} needs 'ltrb'"
            )
        if voting and sampling != "gaussian":
            raise ValueError(
                f"MODEL.CENTERNET.BOX_VOTING needs BOX_SAMPLING 'gaussian': with {sampling!r} the cells around a peak "
                "do not learn the box"
            )
        super().__init__(encoding=encoding, bias=_START, **kwargs)
        self.box_loss, self.sampling, self.alpha, self.voting = box_loss, sampling, alpha, voting
        self.stride, self.unit = stride, _UNIT / stride  # the unit in grid cells
        self.needs_offset = encoding != "ltrb"

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        settings = cfg.MODEL.CENTERNET
        return {
            **super().from_config(cfg, in_channels),
            "box_loss": settings.BOX_LOSS,
            "sampling": settings.BOX_SAMPLING,
            "alpha": settings.GAUSSIAN_ALPHA,
            "voting": settings.BOX_VOTING,
        }

    def encode(self, targets: Targets) -> BoxTargets:  # type: ignore[override]
        points, cells = targets.get_points(self.point_flags), targets.get_cells(self.point_flags)
        samples = sample_box_cells(
            self.sampling, targets.boxes, targets.image_index, cells, targets.grid_size, self.alpha, self.stride
        )
        owner = samples.owner
        boxes = targets.boxes[owner, None].expand(*samples.weight.shape, 4)
        return BoxTargets(targets.image_index[owner, None], samples.cells, points[owner], boxes, samples.weight)

    def pad(self, target: BoxTargets) -> BoxTargets:  # type: ignore[override]
        rows = round_up(len(target.cells))
        padded = BoxTargets(**{x.name: pad_rows(getattr(target, x.name), rows) for x in fields(target)})
        # Losses of empty boxes may be no numbers.
        padded.boxes[len(target.cells) :, :, 2:] = 1
        return padded

    def decode_boxes(self, output: Tensor, image_index: Tensor, cells: Tensor, points: Tensor) -> Tensor:
        boxes = self.read_boxes(output, image_index, cells, points)
        if not self.voting:
            return boxes
        height, width = output.shape[-2:]
        voters = list_voting_cells(boxes, cells, (height, width), self.alpha)
        return average_votes(boxes, self.read_boxes(output, image_index, voters, points))

    def read_boxes(self, output: Tensor, image_index: Tensor, cells: Tensor, points: Tensor) -> Tensor:
        """Return what :meth:`decode_boxes` does, each box from its own cell alone."""
        numbers = self.unit * self.read(output, image_index, cells).float()
        sides = grid.convert_size(numbers, self.point_flags, self.encoding, "ltrb")
        origin = points if self.needs_offset else cells + 0.5
        corners = origin - sides[..., :2], origin + sides[..., 2:]
        return torch.cat([torch.minimum(*corners), torch.maximum(*corners)], dim=-1)

    def loss(self, output: Tensor, target: BoxTargets, num_objects: Tensor) -> Tensor:  # type: ignore[override]
        """Return the weighted sum over cells, divided by the number of points."""
        predictions = self.read_boxes(output, target.image_index, target.cells, target.points)
        losses = box_loss(self.box_loss, predictions.flatten(0, 1), target.boxes.flatten(0, 1))
        return (target.weight.flatten() * losses).sum() / (num_objects * len(self.point_flags))

    def encode_dense(self, targets: Targets) -> Tensor:
        target = self.encode(targets)
        origin = target.points if self.needs_offset else target.cells + 0.5
        sides = torch.cat([origin - target.boxes[..., :2], target.boxes[..., 2:] - origin], dim=-1)
        values = grid.convert_size(sides, self.point_flags, "ltrb", self.encoding) / self.unit
        shape = (targets.num_images, len(self.point_flags), *targets.grid_size, values.shape[-1])
        maps = values.new_zeros(shape)
        row, point = (target.weight > 0).nonzero(as_tuple=True)
        x, y = target.cells[row, point].unbind(-1)
        maps[target.image_index[row, 0], point, y, x] = values[row, point]
        return maps.movedim(-1, 2).flatten(1, 2)
