"""Images with 3D boxes for tests: dataset dicts as KITTI's, and mapped samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.structures import BoxMode, Instances

from centernet_d2.data.dataset_mapper import CenterNetDatasetMapper
from centernet_d2.data.image_io import register_image_source
from centernet_d2.ops.box3d_geometry import convert_rotation_y_to_alpha, project
from centernet_d2.structures import Boxes3D
from tests.helpers.tiny import tiny_cfg

SIZE = (375, 1242)
# Of an image of KITTI.
P2 = torch.tensor(
    [[721.5377, 0, 609.5593, 44.85728], [0, 721.5377, 172.854, 0.2163791], [0, 0, 1, 0.002745884]], dtype=torch.float64
)
# Height, width, length, x, y, z, rotation_y; apart from each other in the image, one cut by its border.
STREET = torch.tensor(
    [
        [1.5, 1.6, 3.9, -7.0, 1.6, 15.0, 0.3],
        [1.7, 0.6, 0.8, 2.0, 1.7, 9.0, -2.9],
        [1.8, 0.7, 1.9, 7.0, 1.5, 22.0, 1.5],
        [1.4, 1.7, 4.3, 1.0, 1.7, 45.0, 3.1],
        [1.6, 1.8, 4.1, 7.6, 1.8, 8.0, -1.6],
    ],
    dtype=torch.float64,
)
CLASSES = [0, 1, 2, 0, 0]

register_image_source(
    "test-black", lambda dataset_dict: np.zeros((dataset_dict["height"], dataset_dict["width"], 3), np.uint8)
)


def box3d_cfg(*opts) -> CfgNode:
    return tiny_cfg(
        *("MODEL.CENTERNET.TASK", "Detection3DTask", "DATASETS.TRAIN", (), "DATASETS.TEST", ()),
        *("INPUT.SIZE_TRAIN", [128, 416], "INPUT.SIZE_TEST", [128, 416], "INPUT.AFFINE.MODE", "none"),
        *("INPUT.AFFINE.FLIP_PROB", 0.0, "INPUT.COLOR.JITTER", 0.0, "INPUT.COLOR.LIGHTING", 0.0, *opts),
    )


def boxes_of(table: torch.Tensor) -> Boxes3D:
    return Boxes3D(table[:, :3], table[:, 3:6], table[:, 6])


def dataset_dict_of(table=STREET, classes=CLASSES, calibration=P2, size=SIZE, **extra) -> dict[str, Any]:
    """A black image; boxes are those around the corners in the image."""
    boxes = boxes_of(table)
    corners = project(boxes.compute_corners(), calibration)[..., :2]
    center = boxes.locations - torch.stack([torch.zeros(len(table)), table[:, 0] / 2, torch.zeros(len(table))], dim=1)
    alpha = convert_rotation_y_to_alpha(boxes.rotation_y, project(center, calibration)[:, 0], calibration)
    annotations = [
        {
            "id": i,
            "category_id": category,
            "bbox": [*corners[i].amin(dim=0).tolist(), *corners[i].amax(dim=0).tolist()],
            "bbox_mode": BoxMode.XYXY_ABS,
            "dim": table[i, :3].tolist(),
            "location": table[i, 3:6].tolist(),
            "alpha": float(alpha[i]),
        }
        for i, category in enumerate(classes)
    ]
    size = {"height": size[0], "width": size[1]}
    image = {"file_name": "test-black://0", "image_id": 0, **size, "calib": calibration.numpy()}
    return {**image, "annotations": annotations, **extra}


def map_training_sample(dataset_dict: dict[str, Any], cfg: CfgNode | None = None) -> Instances:
    """Of the training sample."""
    return CenterNetDatasetMapper(cfg or box3d_cfg(), is_train=True)(dataset_dict)["instances"]


def assert_predictions(
    predictions: Instances, table: torch.Tensor = STREET, classes=CLASSES, tolerance: float = 1e-3
) -> None:
    """Assert that the predicted 3D boxes are those of ``table``, in meters and radians to ``tolerance``."""
    assert len(predictions) == len(table)
    distance = torch.cdist(predictions.pred_locations.double(), table[:, 3:6])
    order = distance.argmin(dim=0)
    assert sorted(order.tolist()) == list(range(len(table)))
    assert distance.min(dim=0).values.max() < tolerance
    assert (predictions.pred_dimensions[order] - table[:, :3]).abs().max() < tolerance
    turn = predictions.pred_rotation_y[order] - table[:, 6]
    assert torch.atan2(turn.sin(), turn.cos()).abs().max() < tolerance
    assert predictions.pred_classes[order].tolist() == list(classes)
