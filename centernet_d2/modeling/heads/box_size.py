"""Box size and sub-pixel offset, regressed at the cell of each grid point."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY, Head, read_common_arguments
from centernet_d2.ops import grid_coding as grid
from centernet_d2.ops.constants import select_channels
from centernet_d2.ops.indexing import NO_IMAGE, pad_rows, round_up
from centernet_d2.structures import Targets


class PointRegressionHead(Head):
    """Regresses d numbers at each of K points with an L1 loss; channels k * d to k * d + d - 1 belong to point k."""

    def __init__(self, *, point_flags: Sequence[int], channels_per_point: int, **kwargs: Any) -> None:
        self.point_flags = grid.check_point_flags(point_flags)
        super().__init__(out_channels=channels_per_point * len(self.point_flags), **kwargs)
        self.channels_per_point = channels_per_point

    @abstractmethod
    def compute_values(self, targets: Targets) -> Tensor:
        """Return the ground truth (P, K, d), in grid cells."""

    def select_supervised(self, targets: Targets) -> Targets:
        """Select the objects whose values are known."""
        return targets

    def encode(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Return image indices (P, 1), cells (P, K, 2) and values (P, K, d) of the supervised objects."""
        targets = self.select_supervised(targets)
        return targets.image_index[:, None], targets.get_cells(self.point_flags), self.compute_values(targets)

    def pad(self, target: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        image_index, cells, values = target
        rows = round_up(len(cells))
        return pad_rows(image_index, rows, NO_IMAGE), pad_rows(cells, rows), pad_rows(values, rows)

    def read(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return each point's channels (..., K, d) at its cell; ``image_index`` (..., 1), ``cells`` (..., K, 2)."""
        maps = output.unflatten(1, (len(self.point_flags), self.channels_per_point))
        point = torch.arange(len(self.point_flags), device=output.device)
        return maps[image_index, point, :, cells[..., 1], cells[..., 0]]

    def loss(self, output: Tensor, target: tuple[Tensor, Tensor, Tensor], num_objects: Tensor) -> Tensor:
        """Return the mean absolute difference over objects, points and channels."""
        image_index, cells, values = target
        difference = (self.read(output, image_index, cells).float() - values).abs() * (image_index >= 0)[..., None]
        return difference.sum() / (num_objects * self.out_channels)

    def encode_dense(self, targets: Targets) -> Tensor:
        targets = self.select_supervised(targets)
        image_index, cells, values = self.encode(targets)
        maps = values.new_zeros(targets.num_images, len(self.point_flags), *targets.grid_size, self.channels_per_point)
        area = (targets.boxes[:, 2:] - targets.boxes[:, :2]).prod(dim=1)
        point = torch.arange(len(self.point_flags))
        for i in area.argsort(descending=True).tolist():
            maps[image_index[i], point, cells[i, :, 1], cells[i, :, 0]] = values[i]
        return maps.movedim(-1, 2).flatten(1, 2)


@HEAD_REGISTRY.register()
class BoxSizeHead(PointRegressionHead):
    """Regresses the box size as seen from each point, in grid cells.

    Args:
        encoding: "wh", "lt", "ltrb" or "log_wh" (``ops.grid_coding``).

    Attributes:
        extra_channels: of each point, behind those of the box.
        needs_offset: whether boxes are decoded around points (which need offsets); else around cell centers.
    """

    needs_offset = True
    extra_channels = 0

    @configurable
    def __init__(self, *, encoding: str = "wh", **kwargs: Any) -> None:
        if encoding not in grid.SIZE_CHANNELS:
            options = sorted(grid.SIZE_CHANNELS)
            raise ValueError(f"MODEL.CENTERNET.BOX_ENCODING must be one of {options}, not {encoding!r}")
        super().__init__(channels_per_point=grid.SIZE_CHANNELS[encoding] + self.extra_channels, **kwargs)
        self.encoding = encoding

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        settings = cfg.MODEL.CENTERNET
        return {
            "encoding": settings.BOX_ENCODING,
            "point_flags": settings.GRID_POINTS,
            **read_common_arguments(cfg, in_channels, settings.BOX_SIZE_WEIGHT),
        }

    def compute_values(self, targets: Targets) -> Tensor:
        return grid.encode_size(targets.boxes, self.point_flags, self.encoding)

    def decode_boxes(self, output: Tensor, image_index: Tensor, cells: Tensor, points: Tensor) -> Tensor:
        """Return boxes (..., K, 4) in grid cells, read at ``cells`` (..., K, 2), of objects with ``points``
        (..., K, 2) in those cells; ``image_index`` is (..., 1)."""
        return grid.decode_boxes(points, self.read(output, image_index, cells), self.point_flags, self.encoding)

    def adjust_scores(self, scores: Tensor, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return the scores (..., K) of candidates with boxes at ``cells`` (..., K, 2); ``image_index`` is (..., 1)."""
        return scores

    def order_flipped_points(self) -> list[int]:
        """Return, for each point, the index of the point that it is in a flipped image."""
        return [self.point_flags.index(p) for p in grid.flip_grid_points(self.point_flags)]

    def unflip(self, flipped: Tensor) -> Tensor:
        flip_pairs = grid.flip_grid_points(self.point_flags)
        maps = select_channels(flipped.flip(-1).unflatten(1, (len(flip_pairs), -1)), 1, self.order_flipped_points())
        if self.encoding == "log_wh":
            return maps.flatten(1, 2)
        sides = grid.convert_size(maps.movedim((1, 2), (-2, -1)), flip_pairs, self.encoding, "ltrb")
        sides = select_channels(sides, -1, [2, 1, 0, 3])
        if self.encoding == "wh":
            sides = sides[..., :2] + sides[..., 2:]
        return sides[..., : grid.SIZE_CHANNELS[self.encoding]].movedim((-2, -1), (1, 2)).flatten(1, 2)


@HEAD_REGISTRY.register()
class PointOffsetHead(PointRegressionHead):
    """Regresses the offset of each point inside its cell, x and y in [0, 1) of a cell."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(channels_per_point=2, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        settings = cfg.MODEL.CENTERNET
        return {
            "point_flags": settings.GRID_POINTS,
            **read_common_arguments(cfg, in_channels, settings.OFFSET_WEIGHT),
        }

    def compute_values(self, targets: Targets) -> Tensor:
        return targets.get_points(self.point_flags) - targets.get_cells(self.point_flags)

    def merge_flipped(self, output: Tensor, flipped: Tensor) -> Tensor:
        """Return the offset of the unflipped image, as the reference does: networks trained with integer pixel centers
        flip differently."""
        return output
