"""A complete task in one file, as a user would write it: boxes, and a weight for each object.

Every object has a "weight" in its annotation. The head learns it at the object's center.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads import HEAD_REGISTRY, Head, build_head
from centernet_d2.modeling.tasks import TASK_REGISTRY, DetectionTask
from centernet_d2.ops.indexing import read_at
from centernet_d2.structures import Targets


@HEAD_REGISTRY.register()
class WeightHead(Head):
    """The logarithm of the weight, at the cell of the center."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(out_channels=1, **kwargs)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        return {"in_channels": in_channels, "head_channels": cfg.MODEL.CENTERNET.HEAD_CHANNELS, "loss_weight": 1.0}

    def encode(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        return targets.image_index, targets.get_cells([4])[:, 0], targets.fields["weight"][:, None].log()

    def loss(self, output: Tensor, target: tuple[Tensor, Tensor, Tensor], num_objects: Tensor) -> Tensor:
        image_index, cells, values = target
        return F.l1_loss(read_at(output, image_index, cells).float(), values, reduction="sum") / num_objects

    def encode_dense(self, targets: Targets) -> Tensor:
        image_index, cells, values = self.encode(targets)
        maps = values.new_zeros(targets.num_images, 1, *targets.grid_size)
        maps[image_index, 0, cells[:, 1], cells[:, 0]] = values[:, 0]
        return maps

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
        return read_at(output, image_index, cells).exp()


@TASK_REGISTRY.register()
class WeightTask(DetectionTask):
    """Predictions get ``pred_weight`` (P, 1)."""

    required_fields = ("weight",)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        arguments = super().from_config(cfg, in_channels)
        arguments["heads"]["weight"] = build_head("WeightHead", cfg, in_channels)
        return arguments
