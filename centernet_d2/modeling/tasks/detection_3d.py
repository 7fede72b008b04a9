"""3D boxes from one image: what CenterNet calls 3D detection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Instances
from torch import Tensor

from centernet_d2.modeling.heads import build_head
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.detection import DetectionTask
from centernet_d2.ops.box3d_geometry import convert_alpha_to_rotation_y, unproject
from centernet_d2.structures.boxes3d import get_calibration


@TASK_REGISTRY.register()
class Detection3DTask(DetectionTask):
    """Boxes in the image, and at their centers depth, dimensions and alpha of 3D boxes (Objects as Points,
    section 4.1). A calibration positions them: "calib" (3, 4) of an image, in pixels of its "height" and "width".

    Instances get ``pred_depth`` (P,), ``pred_dimensions`` (P, 3) height, width, length, ``pred_alpha`` (P,),
    ``pred_locations`` (P, 3) of the center of the bottom and ``pred_rotation_y`` (P,): meters, radians in [-pi, pi),
    camera coordinates of ``ops.box3d_geometry``.

    Args:
        calibration: (3, 4), of images that have none.
    """

    required_fields = ("box3d",)

    @configurable
    def __init__(self, *, calibration: Sequence[Sequence[float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # No buffer: 3D boxes are placed on the host.
        self.calibration = torch.tensor(calibration, dtype=torch.float64)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        """
        Raises:
            ValueError: the configuration does not go with this task.
        """
        _check(cfg)
        settings = super().from_config(cfg, in_channels)
        names = {"depth": "Box3DDepthHead", "dimensions": "Box3DDimensionsHead", "orientation": "Box3DOrientationHead"}
        if cfg.MODEL.BOX3D.CENTER_OFFSET:
            names["center_offset"] = "Box3DCenterOffsetHead"
        settings["heads"] |= {key: build_head(name, cfg, in_channels) for key, name in names.items()}
        values = cfg.MODEL.BOX3D.CALIBRATION
        return {**settings, "calibration": [values[:4], values[4:8], values[8:]]}

    def finish(self, instances: Instances, sample: dict[str, Any]) -> Instances:
        """Place the 3D boxes.

        Raises:
            ValueError: "calib" of ``sample`` is not a 3x4 matrix.
        """
        boxes = instances.pred_boxes.tensor
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        if instances.has("pred_center_offset"):
            center = center + instances.pred_center_offset * (boxes[:, 2:] - boxes[:, :2])
            instances.remove("pred_center_offset")
        instances.pred_alpha = instances.pred_orientation
        instances.remove("pred_orientation")
        calibration = self._get_calibration(instances.image_size, sample).to(boxes)
        locations = unproject(torch.cat([center, instances.pred_depth[:, None]], dim=1), calibration)
        # From the center of the box to its bottom.
        locations[:, 1] += instances.pred_dimensions[:, 0] / 2
        instances.pred_locations = locations
        instances.pred_rotation_y = convert_alpha_to_rotation_y(instances.pred_alpha, center[:, 0], calibration)
        return instances

    def _get_calibration(self, image_size: tuple[int, int], sample: dict[str, Any]) -> Tensor:
        """Return (3, 4) float64 in pixels of ``image_size`` (height, width)."""
        known = sample.get("calib") is not None
        calibration = (get_calibration(sample) if known else self.calibration).clone()
        height, width = image_size
        calibration[0] *= width / sample.get("width", width)
        calibration[1] *= height / sample.get("height", height)
        return calibration


def _check(cfg: CfgNode) -> None:
    if cfg.MODEL.CENTERNET.HEATMAP_LOSS == "quality":
        raise ValueError("HEATMAP_LOSS 'quality' has no values for ignored regions, which Detection3DTask has")
    if list(cfg.MODEL.CENTERNET.GRID_POINTS) != [4]:
        raise ValueError("Detection3DTask has one center per object: MODEL.CENTERNET.GRID_POINTS must be [4]")
    if cfg.TEST.AUG.ENABLED and list(cfg.TEST.AUG.SCALES) != [1.0]:
        raise ValueError("Detection3DTask knows meters at one scale only: TEST.AUG.SCALES must be [1.0]")
    if len(cfg.MODEL.BOX3D.CALIBRATION) != 12:
        count = len(cfg.MODEL.BOX3D.CALIBRATION)
        raise ValueError(f"MODEL.BOX3D.CALIBRATION must be the 12 numbers of a 3x4 matrix, not {count}")
