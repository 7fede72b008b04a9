"""Regressions at the cells of keypoints: the sub-pixel offset, and the object that a keypoint belongs to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.layers.distributed import average_over_processes
from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.keypoint_regression import unflip_offsets
from centernet_d2.modeling.heads.sparse import DeferredMap, SparseHead, average_per_object, check_normalizer
from centernet_d2.ops.indexing import gather_cells, pad_rows, round_up
from centernet_d2.structures import Targets
from centernet_d2.structures.keypoint_schema import get_schema


class CellValues(NamedTuple):
    """Target values at S cells around each of E keypoints.

    Attributes:
        num_objects: P.
        owner: (E,) int64, index of the keypoint's object, in [0, P).
        image_index: (E,) int64.
        cells: (E, S, 2) int64 x, y; cells outside the grid are clamped to it.
        inside: (E, S) bool, False for clamped cells, and in padding.
        channels: (E, 2) int64.
        values: (E, S, 2) x, y in grid cells.
    """

    num_objects: int
    owner: Tensor
    image_index: Tensor
    cells: Tensor
    inside: Tensor
    channels: Tensor
    values: Tensor


class CellRegressionHead(SparseHead):
    """Regresses a vector at the cells of keypoints with an L1 loss.

    Args:
        flip_indices: (K,) the keypoint that each becomes in a flipped image.
        shared: use one pair of maps for all keypoints; else channels 2 k and 2 k + 1 belong to keypoint k.
        radius: cells up to this far from a keypoint's cell are trained too, so that a peak in a neighboring cell still
            leads to the keypoint.
        pixel_center: see :mod:`centernet_d2.geometry`.
        normalizer: as of ``KeypointRegressionHead``.
    """

    def __init__(
        self,
        *,
        flip_indices: Sequence[int],
        shared: bool,
        radius: int = 0,
        pixel_center: float = 0.5,
        normalizer: str = "objects",
        **kwargs: Any,
    ) -> None:
        super().__init__(out_channels=2 if shared else 2 * len(flip_indices), **kwargs)
        self.flip_indices = [0] if shared else list(flip_indices)
        self.shared, self.radius, self.pixel_center = shared, radius, pixel_center
        self.normalizer = check_normalizer(normalizer)

    @abstractmethod
    def compute_target_positions(self, targets: Targets, owner: Tensor, keypoint: Tensor) -> Tensor:
        """Return the positions (E, 2), in grid cells, that the vectors of ``keypoint`` (E,) of objects ``owner`` (E,)
        point at."""

    def select_channels(self, keypoint: Tensor) -> Tensor:
        """Return the channels (..., 2) of keypoints (...)."""
        first = torch.zeros_like(keypoint) if self.shared else 2 * keypoint
        return torch.stack([first, first + 1], dim=-1)

    def encode(self, targets: Targets) -> CellValues:
        keypoints = targets.fields["keypoints"]
        owner, keypoint = (keypoints[..., 2] > 0).nonzero(as_tuple=True)
        near = torch.arange(-self.radius, self.radius + 1, device=owner.device)
        around = gather_cells(keypoints[owner, keypoint, :2], targets.grid_size)[:, None] + torch.cartesian_prod(
            near, near
        )
        cells = gather_cells(around, targets.grid_size)
        values = self.compute_target_positions(targets, owner, keypoint)[:, None] - cells
        inside = (cells == around).all(dim=-1)
        channels = self.select_channels(keypoint)
        return CellValues(len(targets), owner, targets.image_index[owner], cells, inside, channels, values)

    def pad(self, target: CellValues) -> CellValues:
        rows, num_objects = round_up(len(target.owner)), round_up(target.num_objects + 1)
        return CellValues(
            num_objects,
            pad_rows(target.owner, rows, num_objects - 1),  # nobody's
            *(pad_rows(x, rows) for x in target[2:]),
        )

    def loss(self, output: DeferredMap, target: CellValues, num_objects: Tensor) -> Tensor:
        """Return the absolute difference, averaged over the cells of a keypoint and as ``normalizer`` says."""
        read = output.read_channels(target.image_index, target.cells, target.channels).float()
        count = target.inside.sum(dim=1)
        difference = ((read - target.values).abs().mean(dim=-1) * target.inside).sum(dim=1) / count.clamp(min=1)
        if self.normalizer == "keypoints":
            return difference.sum() / average_over_processes((count > 0).sum().float())
        return average_per_object(difference, target.owner, target.num_objects).sum() / num_objects

    def encode_dense(self, targets: Targets) -> Tensor:
        target = self.encode(targets)
        maps = target.values.new_zeros(targets.num_images, self.out_channels, *targets.grid_size)
        steps = torch.cartesian_prod(*[torch.arange(-self.radius, self.radius + 1)] * 2)
        for j in steps.square().sum(dim=-1).argsort(descending=True).tolist():  # the keypoint's own cell last
            x, y = target.cells[:, j].unbind(-1)
            maps[target.image_index[:, None], target.channels, y[:, None], x[:, None]] = target.values[:, j]
        return maps

    def read(self, output: Tensor, image_index: Tensor, keypoint: Tensor, cells: Tensor) -> Tensor:
        """Return the positions (..., 2), in grid cells, that the vectors at ``cells`` (..., 2) of ``keypoint`` (...)
        in images ``image_index`` (...) point at."""
        channels = self.select_channels(keypoint)
        return output[image_index[..., None], channels, cells[..., 1, None], cells[..., 0, None]] + cells

    def unflip(self, flipped: Tensor) -> Tensor:
        return unflip_offsets(flipped, self.flip_indices, self.pixel_center)

    def merge_flipped(self, output: Tensor, flipped: Tensor) -> Tensor:
        """Return the mean if neighboring cells were trained too, else the unflipped image's map (as the reference)."""
        return super().merge_flipped(output, flipped) if self.radius else output


def _read_arguments(cfg: CfgNode, in_channels: Sequence[int], loss_weight: float) -> dict[str, Any]:
    return {
        "flip_indices": get_schema(cfg.MODEL.KEYPOINT.SCHEMA).flip_indices().tolist(),
        "shared": not cfg.MODEL.KEYPOINT.OFFSET_PER_KEYPOINT,
        "radius": cfg.MODEL.KEYPOINT.OFFSET_RADIUS,
        "pixel_center": cfg.MODEL.CENTERNET.PIXEL_CENTER,
        "normalizer": cfg.MODEL.KEYPOINT.LOSS_NORMALIZER,
        "in_channels": in_channels,
        "head_channels": cfg.MODEL.CENTERNET.HEAD_CHANNELS,
        "loss_weight": loss_weight,
    }


@HEAD_REGISTRY.register()
class KeypointOffsetHead(CellRegressionHead):
    """Regresses the vector from the corner of a cell to the keypoint in it (or near it), in grid cells."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return _read_arguments(cfg, in_channels, cfg.MODEL.KEYPOINT.OFFSET_WEIGHT)

    def compute_target_positions(self, targets: Targets, owner: Tensor, keypoint: Tensor) -> Tensor:
        return targets.fields["keypoints"][owner, keypoint, :2]


@HEAD_REGISTRY.register()
class KeypointGroupingHead(CellRegressionHead):
    """Regresses the vector from the corner of a keypoint's cell to its object's center, in grid cells. It tells which
    object a keypoint belongs to (after PersonLab's mid-range offsets, Papandreou et al. 2018, section 3.1.2)."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return _read_arguments(cfg, in_channels, cfg.MODEL.KEYPOINT.GROUPING_WEIGHT)

    def compute_target_positions(self, targets: Targets, owner: Tensor, keypoint: Tensor) -> Tensor:
        return targets.get_points([4])[owner, 0]
