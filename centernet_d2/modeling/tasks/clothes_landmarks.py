"""Clothes: boxes of several categories, each with landmarks of its own."""

from __future__ import annotations

from typing import Any

from detectron2.config import configurable

from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.keypoint_regression import KeypointRegressionTask


@TASK_REGISTRY.register()
class ClothesLandmarkTask(KeypointRegressionTask):
    """Landmarks by regression where each category has its own range of them, as in DeepFashion2 (Enhanced CenterNet's
    "cloth"): only a clothing item's own are learned, read and given; the others are zero.

    Unlike the reference, a landmark without an acceptable peak stays where it was regressed.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if "box_size" not in self.heads:
            raise ValueError("clothing items have boxes of their own: set MODEL.KEYPOINT.BOX_SIZE to True")
