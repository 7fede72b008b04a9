"""Poses over a feature pyramid, with the box of the object or that of its keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.lsnet.landmark_head import LandmarkTargets, choose_joints
from centernet_d2.modeling.lsnet.reference import check_defects
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.lsnet_base import LSNetTask
from centernet_d2.modeling.tasks.lsnet_box import compute_middle_points, encode_box, get_box_head
from centernet_d2.structures import Candidates, Targets
from centernet_d2.structures.keypoint_schema import get_schema

POSE_BOXES = ("object", "keypoints")


@TASK_REGISTRY.register()
class LSNetPoseTask(LSNetTask):
    """A pose is K keypoints as vectors from a cell. Gives ``pred_keypoints`` (P, K, 3): x, y, score.

    The score of a keypoint is that of the object times the agreement of the two stages about the keypoint.

    Args:
        flip_indices: (K,) keypoint k of a flipped image is keypoint ``flip_indices[k]`` of the image.
        kwargs: of :class:`LSNetTask`. With a head "box" poses belong to the object's box, else to that of the labeled
            keypoints, and objects without any are ignored.
    """

    required_fields = ("crowd", "keypoints")

    flip_indices: Tensor

    @configurable
    def __init__(self, *, flip_indices: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("flip_indices", torch.tensor(list(flip_indices)), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        schema = get_schema(cfg.MODEL.KEYPOINT.SCHEMA)
        return {**super().from_config(cfg, in_channels), "flip_indices": schema.flip_indices().tolist()}

    @classmethod
    def configure_landmark_heads(cls, cfg: CfgNode) -> dict[str, dict[str, Any]]:
        schema, settings = get_schema(cfg.MODEL.KEYPOINT.SCHEMA), cfg.MODEL.LSNET
        if settings.POSE_BOX not in POSE_BOXES:
            raise ValueError(f"MODEL.LSNET.POSE_BOX must be one of {POSE_BOXES}, not {settings.POSE_BOX!r}")
        left_only = "left_joints" in check_defects(settings.REFERENCE_DEFECTS)
        pose = {
            "num_landmarks": len(schema),
            "kernel_landmarks": choose_joints(len(schema), schema.flip_pairs, left_only),
            "loss_type": "keypoint",
            "init_weight": settings.INIT_WEIGHT,
            "refine_weight": settings.REFINE_WEIGHT,
        }
        boxes = {"box": get_box_head(cfg, settings.POSE_BOX_WEIGHT)} if settings.POSE_BOX == "object" else {}
        return {**boxes, "pose": pose}

    def prepare(self, objects: Targets) -> Targets:
        """Replace the boxes by those of the labeled keypoints, where poses belong to them."""
        if "box" in self.heads:
            return objects
        keypoints = objects.fields["keypoints"]
        labeled = keypoints[..., 2:] > 0
        far = 1e7
        low = keypoints[..., :2].where(labeled, far).amin(dim=1)
        high = keypoints[..., :2].where(labeled, -far).amax(dim=1)
        kept = objects.ignore(~(high > low).all(dim=1))
        return replace(kept, boxes=torch.cat([low, high], dim=1)[(high > low).all(dim=1)])

    def encode_landmarks(self, name: str, objects: Targets) -> LandmarkTargets:
        if name == "box":
            return encode_box(objects, compute_middle_points(objects.boxes))
        keypoints = objects.fields["keypoints"]
        centers = (objects.boxes[:, None, :2] + objects.boxes[:, None, 2:]) / 2
        visible = (keypoints[..., 2] > 0).float()
        visible = torch.cat([visible, torch.ones_like(visible[:, :1])], dim=1)
        return LandmarkTargets(torch.cat([keypoints[..., :2], centers], dim=1), visible, objects.boxes)

    def build_candidates(
        self, boxes: Tensor, scores: Tensor, classes: Tensor, landmarks: dict[str, Tensor]
    ) -> Candidates:
        points = {"keypoints": landmarks["pose"][:, :, :-1]}
        return Candidates(boxes, scores, classes, torch.zeros_like(classes[0]), points)

    def unflip_candidates(self, candidates: Candidates) -> Candidates:
        candidates.points["keypoints"] = candidates.points["keypoints"].index_select(2, self.flip_indices)
        return candidates
