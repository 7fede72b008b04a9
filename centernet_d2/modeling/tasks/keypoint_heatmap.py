"""Keypoints as the peaks of a heatmap each, for one object in an image or for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads import KeypointGroupingHead
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.keypoint_base import KeypointTask, list_center_heads, list_keypoint_heads
from centernet_d2.ops.indexing import make_image_index
from centernet_d2.ops.keypoint_matching import TOLERANCE, choose_peaks
from centernet_d2.structures import Candidates


@TASK_REGISTRY.register()
class KeypointHeatmapTask(KeypointTask):
    """One object (Enhanced CenterNet's "direct heatmap regression"): every keypoint is the highest peak of its map, the
    object's score their mean probability. Many objects: every peak says where its object's center is, and each center
    takes, for every keypoint, the peak that is probable and points at it.

    Args:
        single_instance: the image shows one object of the only class.
    """

    task_heads = ("heatmap", "offset", "box_size", "keypoint_heatmap", "keypoint_offset", "keypoint_grouping")

    @configurable
    def __init__(self, *, single_instance: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if single_instance and len(self.class_keypoints.index) > 1:
            raise ValueError("MODEL.KEYPOINT.SINGLE_INSTANCE needs keypoints of a single class")
        if not single_instance and "box_size" not in self.heads:
            raise ValueError("several objects are distinguished by their size: set MODEL.KEYPOINT.BOX_SIZE to True")
        self.single_instance = single_instance

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        single_instance = cfg.MODEL.KEYPOINT.SINGLE_INSTANCE
        grouping = {} if single_instance else {**list_center_heads(cfg), "keypoint_grouping": "KeypointGroupingHead"}
        settings = cls.read_settings(cfg, in_channels, {**list_keypoint_heads(cfg), **grouping})
        return {"single_instance": single_instance, **settings}

    def decode(self, outputs: dict[str, Tensor]) -> Candidates:
        return self._decode_single_instance(outputs) if self.single_instance else self._decode_grouped(outputs)

    def merge(self, candidates: Candidates, limit: int) -> Candidates:
        """Return, for a single instance, the test-time pass with the highest score."""
        return super().merge(candidates, min(limit, 1) if self.single_instance else limit)

    def _decode_single_instance(self, outputs: dict[str, Tensor]) -> Candidates:
        probability, cells, positions = (x[:, None, :, 0] for x in self.find_peaks(outputs, 1))
        score = probability.mean(dim=-1)
        own = torch.cat([positions, probability[..., None]], dim=-1)
        return self.build_candidates(outputs, score, torch.zeros_like(cells[:, :, 0, 0]), cells[:, :, 0], own, None)

    def _decode_grouped(self, outputs: dict[str, Tensor]) -> Candidates:
        score, classes, cells, centers = self.find_centers(outputs)
        boxes = self.decode_center_boxes(outputs, cells, centers)
        probability, peak_cells, positions = self.find_peaks(outputs, self.num_peaks)
        keypoint = torch.arange(probability.shape[1], device=score.device)[:, None].expand(probability.shape)
        grouping = cast(KeypointGroupingHead, self.heads["keypoint_grouping"])
        votes = grouping.read(outputs["keypoint_grouping"], make_image_index(probability), keypoint, peak_cells)
        index = self.class_keypoints.index[classes]  # (N, M, L)
        image = make_image_index(index)
        tolerance = 1 + TOLERANCE * (boxes[..., 2:] - boxes[..., :2]).amax(dim=-1)
        own, own_score = choose_peaks(
            votes[image, index], positions[image, index], probability[image, index], centers, tolerance
        )
        return self.build_candidates(
            outputs, score, classes, cells, torch.cat([own, own_score[..., None]], dim=-1), boxes
        )
