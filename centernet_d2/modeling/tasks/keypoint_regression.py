"""Keypoints as offsets from the center of their object, refined by the peaks of a heatmap per keypoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads import KeypointRegressionHead
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.keypoint_base import KeypointTask, list_center_heads, list_keypoint_heads
from centernet_d2.ops.indexing import make_image_index
from centernet_d2.ops.keypoint_matching import compute_extreme_box, match_to_peaks
from centernet_d2.ops.peaks import compute_window_max
from centernet_d2.structures import Candidates


@TASK_REGISTRY.register()
class KeypointRegressionTask(KeypointTask):
    """Any number of objects: a center heatmap, and at each center the offsets of all keypoints (Objects as Points,
    section 4.2; Enhanced CenterNet's "keypoint").

    With the head ``landmark_heatmap``, each regressed keypoint moves to a peak that is probable and close
    (:func:`~centernet_d2.ops.keypoint_matching.match_to_peaks`). The score of a keypoint is then what its heatmap says
    at its place, else its object's.

    Args:
        peak_matching: "probable" or "nearest" (as in the reference).
    """

    task_heads = ("heatmap", "offset", "box_size", "keypoint_regression", "keypoint_heatmap", "keypoint_offset")

    @configurable
    def __init__(self, *, peak_matching: str = "probable", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if peak_matching not in ("probable", "nearest"):
            raise ValueError(f'MODEL.KEYPOINT.PEAK_MATCHING must be "probable" or "nearest", not {peak_matching!r}')
        if "box_size" not in self.heads and self.heads["keypoint_regression"].encoding == "box":
            raise ValueError('MODEL.KEYPOINT.REGRESSION_ENCODING "box" needs MODEL.KEYPOINT.BOX_SIZE True')
        self.nearest = peak_matching == "nearest"

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        names = {**list_center_heads(cfg), "keypoint_regression": "KeypointRegressionHead"}
        if cfg.MODEL.KEYPOINT.REFINE:
            names.update(list_keypoint_heads(cfg))
        return {"peak_matching": cfg.MODEL.KEYPOINT.PEAK_MATCHING, **cls.read_settings(cfg, in_channels, names)}

    def decode(self, outputs: dict[str, Tensor]) -> Candidates:
        score, classes, cells, centers = self.find_centers(outputs)
        boxes = self.decode_center_boxes(outputs, cells, centers) if "box_size" in self.heads else None
        regression = cast(KeypointRegressionHead, self.heads["keypoint_regression"])
        keypoints = regression.read(outputs["keypoint_regression"], make_image_index(score), cells, boxes)
        own = self.class_keypoints.gather(keypoints, classes)
        used = self.class_keypoints.used[classes]
        own_score = score[..., None].expand(own.shape[:-1])
        if "keypoint_heatmap" in self.heads:
            bounds = compute_extreme_box(own, used) if boxes is None else boxes
            own, own_score = self._refine(outputs, own, classes, bounds)
        return self.build_candidates(
            outputs, score, classes, cells, torch.cat([own, own_score[..., None]], dim=-1), boxes
        )

    def _refine(
        self, outputs: dict[str, Tensor], own: Tensor, classes: Tensor, bounds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return keypoints (N, M, L, 2) moved to peaks, and their heatmaps' probabilities (N, M, L)."""
        probability, _, positions = self.find_peaks(outputs, self.num_peaks)
        index = self.class_keypoints.index[classes]  # (N, M, L)
        image = make_image_index(index)
        points = match_to_peaks(own, positions[image, index], probability[image, index], bounds, self.nearest)
        return points, compute_window_max(outputs["keypoint_heatmap"], image, index, points).sigmoid()
