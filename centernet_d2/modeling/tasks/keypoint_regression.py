"""Landmarks as offsets from the centre of their object, refined by the peaks of a heatmap per landmark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads import LandmarkOffsets
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.keypoint_base import LandmarkTask, center_branches, landmark_branches
from centernet_d2.ops.indexing import image_index_of
from centernet_d2.ops.keypoint_matching import extreme_box, snap_to_peaks
from centernet_d2.ops.peaks import maximum_near
from centernet_d2.structures import Candidates


@TASK_REGISTRY.register()
class LandmarkRegressionTask(LandmarkTask):
    """Any number of objects: a centre heatmap, and at each centre the offsets of all landmarks (Objects as Points,
    section 4.2; Enhanced CenterNet's "landmark").

    With the branch ``landmark_heatmap``, each regressed landmark moves to a peak that is probable and close
    (:func:`~centernet_d2.ops.keypoint_matching.snap_to_peaks`). The score of a landmark is then what its heatmap says at its
    place, else its object's.

    Args:
        snap: "probable" or "nearest" (as published).
    """

    own = ("heatmap", "offset", "box_size", "landmark_offsets", "landmark_heatmap", "landmark_subcell")

    @configurable
    def __init__(self, *, snap: str = "probable", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if snap not in ("probable", "nearest"):
            raise ValueError(f'MODEL.LANDMARK.SNAP must be "probable" or "nearest", not {snap!r}')
        self.nearest = snap == "nearest"

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        names = {**center_branches(cfg), "landmark_offsets": "LandmarkOffsets"}
        if cfg.MODEL.LANDMARK.REFINE:
            names.update(landmark_branches(cfg))
        return {"snap": cfg.MODEL.LANDMARK.SNAP, **cls.settings(cfg, in_channels, names)}

    def candidates(self, outputs: dict[str, Tensor]) -> Candidates:
        score, classes, cells, centers = self.centers(outputs)
        offsets = cast(LandmarkOffsets, self.branches["landmark_offsets"])
        landmarks = offsets.read(outputs["landmark_offsets"], image_index_of(score), cells)
        own = self.own_landmarks.gather(landmarks, classes)
        used = self.own_landmarks.used[classes]
        boxes = self.regressed_boxes(outputs, cells, centers) if "box_size" in self.branches else None
        own_score = score[..., None].expand(own.shape[:-1])
        if "landmark_heatmap" in self.branches:
            bounds = extreme_box(own, used) if boxes is None else boxes
            own, own_score = self._refined(outputs, own, classes, bounds)
        return self.proposed(outputs, score, classes, cells, torch.cat([own, own_score[..., None]], dim=-1), boxes)

    def _refined(
        self, outputs: dict[str, Tensor], own: Tensor, classes: Tensor, bounds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Landmarks (N, M, L, 2) moved to peaks, and what their heatmaps say there, (N, M, L)."""
        probability, _, places = self.peaks(outputs, self.num_peaks)
        index = self.own_landmarks.index[classes]  # (N, M, L)
        image = image_index_of(index)
        points = snap_to_peaks(own, places[image, index], probability[image, index], bounds, self.nearest)
        return points, maximum_near(outputs["landmark_heatmap"], image, index, points).sigmoid()
