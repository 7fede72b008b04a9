"""Instance masks as contours over a feature pyramid."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor

from centernet_d2.modeling.lsnet.contour_masks import ContourMasks
from centernet_d2.modeling.lsnet.landmark_head import LandmarkTargets, choose_contour_points
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.lsnet_base import LSNetTask
from centernet_d2.structures import Candidates, Targets


@TASK_REGISTRY.register()
class LSNetContourTask(LSNetTask):
    """A mask is K points along the contour of its largest part; its box is theirs.

    Gives ``pred_contour`` (P, K, 3): x, y, score; and ``pred_masks``, drawn at the size of the image. MODEL.MASK_ON
    has them evaluated.
    """

    required_fields = ("crowd", "contour")

    @classmethod
    def configure_landmark_heads(cls, cfg: CfgNode) -> dict[str, dict[str, Any]]:
        count, settings = cfg.MODEL.LSNET.CONTOUR_POINTS, cfg.MODEL.LSNET
        head = {
            "num_landmarks": count,
            "kernel_landmarks": choose_contour_points(count),
            "loss_type": "polygon",
            "init_weight": settings.INIT_WEIGHT,
            "refine_weight": settings.REFINE_WEIGHT,
        }
        return {"contour": head}

    def encode_landmarks(self, name: str, objects: Targets) -> LandmarkTargets:
        contour = objects.fields["contour"][..., :2]
        low, high = contour.amin(dim=1), contour.amax(dim=1)
        landmarks = torch.cat([contour, (low + high)[:, None] / 2], dim=1)
        boxes = torch.cat([low, high], dim=1)
        return LandmarkTargets(landmarks, torch.ones_like(landmarks[..., 0]), boxes)

    def build_candidates(
        self, boxes: Tensor, scores: Tensor, classes: Tensor, landmarks: dict[str, Tensor]
    ) -> Candidates:
        points = {"contour": landmarks["contour"][:, :, :-1]}
        return Candidates(boxes, scores, classes, torch.zeros_like(classes[0]), points)

    def unflip_candidates(self, candidates: Candidates) -> Candidates:
        contour = candidates.points["contour"]
        # The first point, at the top, stays the first; the others run the other way round.
        candidates.points["contour"] = torch.cat([contour[:, :, :1], contour[:, :, 1:].flip(2)], dim=2)
        return candidates

    def finish(self, instances: Instances, sample: dict[str, Any]) -> Instances:
        instances = super().finish(instances, sample)
        instances.pred_masks = ContourMasks.from_contours(instances.pred_contour[..., :2], instances.pred_boxes.tensor)
        return instances
