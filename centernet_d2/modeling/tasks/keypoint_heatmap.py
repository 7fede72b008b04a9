"""Landmarks as the peaks of a heatmap each, for one object in a picture or for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads import LandmarkGrouping
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.keypoint_base import LandmarkTask, center_branches, landmark_branches
from centernet_d2.ops.indexing import image_index_of
from centernet_d2.ops.keypoint_matching import TOLERANCE, choose_peaks
from centernet_d2.structures import Candidates


@TASK_REGISTRY.register()
class LandmarkHeatmapTask(LandmarkTask):
    """One object (Enhanced CenterNet's "direct heatmap regression"): every landmark is the highest peak of its map, the
    object's score their mean probability. Many objects: every peak says where its object's centre is, and each centre
    takes, for every landmark, the peak that is probable and points at it.

    Args:
        one_object: the picture shows one object of the only class.
    """

    own = ("heatmap", "offset", "box_size", "landmark_heatmap", "landmark_subcell", "landmark_grouping")

    @configurable
    def __init__(self, *, one_object: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if one_object and len(self.own_landmarks.index) > 1:
            raise ValueError("MODEL.LANDMARK.ONE_OBJECT needs landmarks of a single class")
        if not one_object and "box_size" not in self.branches:
            raise ValueError("several objects are told apart by their size: set MODEL.LANDMARK.BOX_SIZE to True")
        self.one_object = one_object

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        one_object = cfg.MODEL.LANDMARK.ONE_OBJECT
        grouping = {} if one_object else {**center_branches(cfg), "landmark_grouping": "LandmarkGrouping"}
        settings = cls.settings(cfg, in_channels, {**landmark_branches(cfg), **grouping})
        return {"one_object": one_object, **settings}

    def candidates(self, outputs: dict[str, Tensor]) -> Candidates:
        return self._only_one(outputs) if self.one_object else self._grouped(outputs)

    def _only_one(self, outputs: dict[str, Tensor]) -> Candidates:
        probability, cells, places = (x[:, None, :, 0] for x in self.peaks(outputs, 1))
        score = probability.mean(dim=-1)
        own = torch.cat([places, probability[..., None]], dim=-1)
        return self.proposed(outputs, score, torch.zeros_like(cells[:, :, 0, 0]), cells[:, :, 0], own, None)

    def _grouped(self, outputs: dict[str, Tensor]) -> Candidates:
        score, classes, cells, centers = self.centers(outputs)
        boxes = self.regressed_boxes(outputs, cells, centers)
        probability, peak_cells, places = self.peaks(outputs, self.num_peaks)
        landmark = torch.arange(probability.shape[1], device=score.device)[:, None].expand(probability.shape)
        grouping = cast(LandmarkGrouping, self.branches["landmark_grouping"])
        votes = grouping.read(outputs["landmark_grouping"], image_index_of(probability), landmark, peak_cells)
        index = self.own_landmarks.index[classes]  # (N, M, L)
        image = image_index_of(index)
        tolerance = 1 + TOLERANCE * (boxes[..., 2:] - boxes[..., :2]).amax(dim=-1)
        own, own_score = choose_peaks(
            votes[image, index], places[image, index], probability[image, index], centers, tolerance
        )
        return self.proposed(outputs, score, classes, cells, torch.cat([own, own_score[..., None]], dim=-1), boxes)
