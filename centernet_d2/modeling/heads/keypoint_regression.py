"""Keypoints regressed at the center of their object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.layers.distributed import average_over_processes
from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.sparse import DeferredMap, SparseHead, check_normalizer
from centernet_d2.ops.constants import select_channels
from centernet_d2.ops.indexing import pad_rows, read_at, round_up
from centernet_d2.structures import Targets
from centernet_d2.structures.keypoint_schema import get_schema

#: How keypoints are regressed, see :class:`KeypointRegressionHead`.
ENCODINGS = ("cells", "box")


@HEAD_REGISTRY.register()
class KeypointRegressionHead(SparseHead):
    """Regresses each keypoint at the cell of the object's center. Channels 2 k and 2 k + 1 are x and y of keypoint k.

    Args:
        flip_indices: (K,) the keypoint that each becomes in a flipped image.
        encoding: "cells", the vector from the corner of the center's cell, in grid cells (Objects as Points, section
            4.2); "box", the position as a fraction of the box, from its top left corner (CenterFace, Xu et al. 2019,
            section 3).
        pixel_center: see :mod:`centernet_d2.geometry`.
        normalizer: "objects": the mean over an object's labeled keypoints, then over objects; "keypoints": the mean
            over all labeled keypoints (the reference).
    """

    @configurable
    def __init__(
        self,
        *,
        flip_indices: Sequence[int],
        encoding: str = "cells",
        pixel_center: float = 0.5,
        normalizer: str = "objects",
        **kwargs: Any,
    ) -> None:
        if encoding not in ENCODINGS:
            raise ValueError(f"MODEL.KEYPOINT.REGRESSION_ENCODING must be one of {ENCODINGS}, not {encoding!r}")
        super().__init__(out_channels=2 * len(flip_indices), **kwargs)
        self.flip_indices, self.encoding = list(flip_indices), encoding
        # In a flipped image x becomes 1 - x of the box.
        self.pixel_center = 0.5 if encoding == "box" else pixel_center
        self.normalizer = check_normalizer(normalizer)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return {
            "flip_indices": get_schema(cfg.MODEL.KEYPOINT.SCHEMA).flip_indices().tolist(),
            "encoding": cfg.MODEL.KEYPOINT.REGRESSION_ENCODING,
            "pixel_center": cfg.MODEL.CENTERNET.PIXEL_CENTER,
            "normalizer": cfg.MODEL.KEYPOINT.LOSS_NORMALIZER,
            "in_channels": in_channels,
            "head_channels": cfg.MODEL.CENTERNET.HEAD_CHANNELS,
            "loss_weight": cfg.MODEL.KEYPOINT.REGRESSION_WEIGHT,
        }

    def encode(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return image indices (P,), cells (P, 2), values (P, K, 2), and whether each is labeled (P, K)."""
        cells = targets.get_cells([4])[:, 0]
        keypoints = targets.fields["keypoints"]
        origin, scale = self._frame(cells, targets.boxes)
        return targets.image_index, cells, (keypoints[..., :2] - origin) / scale, keypoints[..., 2] > 0

    def pad(self, target: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        rows = round_up(len(target[0]))
        return tuple(pad_rows(x, rows) for x in target)  # not labeled

    def read(self, output: Tensor, image_index: Tensor, cells: Tensor, boxes: Tensor | None) -> Tensor:
        """Return keypoints (..., K, 2) in grid cells, regressed at ``cells`` (..., 2).

        Args:
            boxes: (..., 4) of the objects, in grid cells; only the encoding "box" reads them.
        """
        origin, scale = self._frame(cells, boxes)
        return origin + scale * read_at(output, image_index, cells).unflatten(-1, (-1, 2))

    def _frame(self, cells: Tensor, boxes: Tensor | None) -> tuple[Tensor, Tensor | int]:
        """Return the origin (..., 1, 2) and the unit (..., 1, 2) of the values, in grid cells."""
        if self.encoding == "cells":
            return cells[..., None, :], 1
        assert boxes is not None
        low, high = boxes[..., None, :].split(2, dim=-1)
        return low, high - low

    def loss(self, output: DeferredMap, target: tuple[Tensor, Tensor, Tensor, Tensor], num_objects: Tensor) -> Tensor:
        """Return the absolute difference, averaged over coordinates and as ``normalizer`` says."""
        image_index, cells, offsets, labeled = target
        difference = (output.read(image_index, cells).float().unflatten(-1, (-1, 2)) - offsets).abs().mean(dim=-1)
        if self.normalizer == "keypoints":
            return (difference * labeled).sum() / average_over_processes(labeled.sum().float())
        return ((difference * labeled).sum(dim=1) / labeled.sum(dim=1).clamp(min=1)).sum() / num_objects

    def encode_dense(self, targets: Targets) -> Tensor:
        image_index, cells, offsets, _ = self.encode(targets)
        maps = offsets.new_zeros(targets.num_images, *targets.grid_size, self.out_channels)
        area = (targets.boxes[:, 2:] - targets.boxes[:, :2]).prod(dim=1)
        for i in area.argsort(descending=True).tolist():
            maps[image_index[i], cells[i, 1], cells[i, 0]] = offsets[i].flatten()
        return maps.permute(0, 3, 1, 2).contiguous()

    def unflip(self, flipped: Tensor) -> Tensor:
        return unflip_offsets(flipped, self.flip_indices, self.pixel_center)


def unflip_offsets(flipped: Tensor, flip_indices: Sequence[int], pixel_center: float) -> Tensor:
    """Undo the flip of maps (N, 2 K, H, W) that hold x, y relative to the corners of cells."""
    x, y = select_channels(flipped.flip(-1).unflatten(1, (-1, 2)), 1, flip_indices).unbind(2)
    return torch.stack([2 * pixel_center - x, y], dim=2).flatten(1, 2)
