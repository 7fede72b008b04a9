"""Boxes from extreme points over a feature pyramid."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from centernet_d2.modeling.lsnet.landmark_head import LandmarkTargets
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.lsnet_base import LSNetTask
from centernet_d2.ops.extreme_points import exchange_left_right
from centernet_d2.structures import Candidates, Targets

#: Landmarks of a box: its extreme points (top, left, bottom, right).
NUM_EXTREME_POINTS = 4


@TASK_REGISTRY.register()
class LSNetBoxTask(LSNetTask):
    """A box is its four extreme points. Gives ``pred_extreme_points`` (P, 4, 3): x, y, score."""

    required_fields = ("crowd", "extreme_points")

    @classmethod
    def configure_landmark_heads(cls, cfg: CfgNode) -> dict[str, dict[str, Any]]:
        return {"box": get_box_head(cfg)}

    def encode_landmarks(self, name: str, objects: Targets) -> LandmarkTargets:
        return encode_box(objects, objects.fields["extreme_points"][..., :2])

    def build_candidates(
        self, boxes: Tensor, scores: Tensor, classes: Tensor, landmarks: dict[str, Tensor]
    ) -> Candidates:
        points = {"extreme_points": landmarks["box"][:, :, :-1]}
        return Candidates(boxes, scores, classes, torch.zeros_like(classes[0]), points)

    def unflip_candidates(self, candidates: Candidates) -> Candidates:
        candidates.points["extreme_points"] = exchange_left_right(candidates.points["extreme_points"])
        return candidates


def get_box_head(cfg: CfgNode, weight: float = 1.0) -> dict[str, Any]:
    """Return the arguments of a landmark head of boxes; ``weight`` multiplies its losses."""
    return {
        "num_landmarks": NUM_EXTREME_POINTS,
        "kernel_landmarks": range(NUM_EXTREME_POINTS + 1),
        "loss_type": "bbox",
        "init_weight": weight * cfg.MODEL.LSNET.INIT_WEIGHT,
        "refine_weight": weight * cfg.MODEL.LSNET.REFINE_WEIGHT,
    }


def encode_box(objects: Targets, extreme_points: Tensor) -> LandmarkTargets:
    """Return the targets of such a head from extreme points (P, 4, 2)."""
    centers = (objects.boxes[:, None, :2] + objects.boxes[:, None, 2:]) / 2
    landmarks = torch.cat([extreme_points, centers], dim=1)
    return LandmarkTargets(landmarks, torch.ones_like(landmarks[..., 0]), objects.boxes)


def compute_middle_points(boxes: Tensor) -> Tensor:
    """Return the middles of the sides (P, 4, 2), top, left, bottom, right, of boxes (P, 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return torch.stack([x, y1, x1, y, x, y2, x2, y], dim=-1).unflatten(-1, (4, 2))
