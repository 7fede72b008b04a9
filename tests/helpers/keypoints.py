"""Objects with keypoints for tests."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances, Keypoints
from torch import Tensor

from centernet_d2.data.schemas import KeypointSchema
from centernet_d2.structures.keypoint_schema import get_schema
from tests.helpers.tiny import tiny_cfg


def keypoint_cfg(schema: str, task: str, *opts) -> CfgNode:
    classes = len(get_schema(schema).class_names)
    return tiny_cfg(
        *("MODEL.KEYPOINT.SCHEMA", schema, "MODEL.CENTERNET.TASK", task),
        *("MODEL.CENTERNET.NUM_CLASSES", classes, "DATASETS.TRAIN", (), "DATASETS.TEST", (), *opts),
    )


def objects(schema: KeypointSchema, boxes, classes, size=(128, 128), seed=0) -> Instances:
    """Keypoints at random in ``boxes`` (input pixels), which are then drawn tight around them."""
    instances = Instances(size)
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4).clone()
    keypoints = torch.zeros(len(boxes), len(schema), 3)
    for i, category in enumerate(classes):
        first, end = schema.ranges[category]
        inside = torch.rand(end - first, 2, generator=generator)
        keypoints[i, first:end, :2] = boxes[i, :2] + inside * (boxes[i, 2:] - boxes[i, :2])
        keypoints[i, first:end, 2] = 2
        boxes[i] = tight_box(keypoints[i, first:end])
    instances.gt_boxes = Boxes(boxes)
    instances.gt_classes = torch.as_tensor(classes, dtype=torch.int64)
    instances.gt_keypoints = Keypoints(keypoints)
    return instances


def tight_box(keypoints: Tensor) -> Tensor:
    return torch.cat([keypoints[:, :2].amin(dim=0), keypoints[:, :2].amax(dim=0)])


def sample(instances: Instances, seed=0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, *instances.image_size), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances}
