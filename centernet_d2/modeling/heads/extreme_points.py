"""Heads of extreme points: for each side a heatmap and a sub-pixel offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.box_size import PointOffsetHead
from centernet_d2.modeling.heads.class_heatmap import ClassHeatmapHead
from centernet_d2.ops.gaussian import SparseMaps
from centernet_d2.structures import Targets


def select_side(targets: Targets, side: int) -> Targets:
    """Select the objects whose extreme point of ``side`` is labeled, and make that point their center."""
    selected = targets.select(targets.fields["keypoints"][:, side, 2] > 0)
    return replace(selected, fields={**selected.fields, "center": selected.fields["keypoints"][:, side, :2]})


@HEAD_REGISTRY.register()
class ExtremeHeatmapHead(ClassHeatmapHead):
    """Logits of "the extreme point of one side of an object (of class c) lies in this cell".

    Args:
        side: index into ``ops.extreme_points.SIDES``.
    """

    @configurable
    def __init__(self, *, side: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.side = side

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        settings = super().from_config(cfg, in_channels)
        return {**settings, "num_classes": 1} if cfg.MODEL.EXTREME.CLASS_AGNOSTIC else settings

    def encode(self, targets: Targets) -> SparseMaps:
        targets = select_side(targets, self.side)
        if self.num_classes == 1:
            targets = replace(targets, classes=torch.zeros_like(targets.classes))
        return super().encode(targets)


@HEAD_REGISTRY.register()
class ExtremeOffsetHead(PointOffsetHead):
    """Offset of the extreme point of ``side`` inside its cell, x and y in [0, 1] of a cell."""

    @configurable
    def __init__(self, *, side: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.side = side

    def encode(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        return super().encode(select_side(targets, self.side))

    def encode_dense(self, targets: Targets) -> Tensor:
        return super().encode_dense(select_side(targets, self.side))
