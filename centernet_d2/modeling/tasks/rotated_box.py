"""Rotated (oriented) boxes: a box around the center, and the angle by which it is rotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances, RotatedBoxes
from torch import Tensor

from centernet_d2.modeling.heads import build_head
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.detection import DetectionTask
from centernet_d2.ops.rotated_boxes import convert_corners, enclose, suppress_rotated
from centernet_d2.structures import Candidates, Targets

# IoU above which the lower of two candidates of different test-time passes is removed.
_SAME_OBJECT = 0.5


@TASK_REGISTRY.register()
class RotatedBoxTask(DetectionTask):
    """Classic CenterNet, of boxes made upright by a rotation around their centers, and of its angle.

    Instances get ``pred_rotated_boxes``, Detectron2's ``RotatedBoxes`` in image pixels with angles in [-90, 90), and
    ``pred_boxes``, the upright boxes around them. Candidates, and so exported models, have the boxes before the turn
    and ``angle`` in degrees.

    Objects whose center is outside the input are not trained.
    """

    required_fields = ("corners",)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        """
        Raises:
            ValueError: the configuration does not go with this task.
        """
        if list(cfg.MODEL.CENTERNET.GRID_POINTS) != [4]:
            raise ValueError("RotatedBoxTask has one center per object: MODEL.CENTERNET.GRID_POINTS must be [4]")
        if cfg.INPUT.RESIZE_TEST == "stretch":
            raise ValueError('RotatedBoxTask needs angles that stay: INPUT.RESIZE_TEST must not be "stretch"')
        settings = super().from_config(cfg, in_channels)
        settings["heads"]["angle"] = build_head("AngleHead", cfg, in_channels)
        return settings

    def prepare(self, objects: Targets) -> Targets:
        rotated = convert_corners(objects.fields["corners"][..., :2])
        center, half = rotated[:, :2], rotated[:, 2:4] / 2
        boxes = torch.cat([center - half, center + half], dim=1)
        fields = {**objects.fields, "angle": rotated[:, 4]}
        inside = (center >= 0) & (center < center.new_tensor(objects.grid_size[::-1])) & (half > 0)
        return replace(objects, boxes=boxes, fields=fields).select(inside.all(dim=1))

    def merge_spec(self) -> str:
        return "top"

    def merge(self, candidates: Candidates, limit: int) -> Candidates:
        """Return the best candidates; of several test-time passes those that rotated NMS leaves."""
        if candidates.num_passes > 1:
            best = candidates.scores.topk(min(2 * limit, candidates.scores.shape[1])).indices
            candidates = candidates.select(best)
            rotated = _build_rotated_boxes(candidates.boxes, candidates.values["angle"])
            scores = suppress_rotated(rotated, candidates.scores, candidates.classes, _SAME_OBJECT)
            candidates = replace(candidates, scores=scores)
        return candidates.select(candidates.scores.topk(min(limit, candidates.scores.shape[1])).indices)

    def suppress(self, instances: Instances, threshold: float) -> Instances:
        rotated = _build_rotated_boxes(instances.pred_boxes.tensor, instances.pred_angle)
        one_class = torch.zeros_like(instances.pred_classes)
        return instances[suppress_rotated(rotated[None], instances.scores[None], one_class[None], threshold)[0] > 0]

    def finish(self, instances: Instances, sample: dict[str, Any]) -> Instances:
        rotated = _build_rotated_boxes(instances.pred_boxes.tensor, instances.pred_angle)
        instances.remove("pred_angle")
        instances.pred_rotated_boxes, instances.pred_boxes = RotatedBoxes(rotated), Boxes(enclose(rotated))
        return instances


def _build_rotated_boxes(boxes: Tensor, angle: Tensor) -> Tensor:
    """Return (..., 5) of boxes (..., 4) x1, y1, x2, y2 before they are rotated by ``angle`` (...)."""
    low, high = boxes.split(2, dim=-1)
    return torch.cat([(low + high) / 2, high - low, angle[..., None]], dim=-1)
