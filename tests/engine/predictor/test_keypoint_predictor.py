"""``DefaultPredictor`` gives landmarks in pixels of the image: those that a perfect network would answer with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances, Keypoints

from centernet_d2.data.schemas import SCHEMAS
from centernet_d2.geometry import build_letterbox_matrix, flip_matrix, transform_points
from centernet_d2.structures import Targets
from tests.helpers.keypoints import keypoint_cfg, objects

HEIGHT, WIDTH = 150, 230


def perfect_network(model, gt: Instances, schema):
    """Stands in for ``model.run_network``: the maps of ``gt`` (image pixels), letterboxed; every second call is
    of the flipped input."""
    calls = []

    def outputs(images):
        size = tuple(images.shape[-2:])
        matrix = build_letterbox_matrix(
            (HEIGHT, WIDTH), size, 1.0 if model.test_time_augmentation.resize == "keep" else None
        )
        flip = model.test_time_augmentation.flip and len(calls) % 2 == 1
        calls.append(flip)
        matrix = flip_matrix(matrix, size[1]) if flip else matrix
        keypoints = gt.gt_keypoints.tensor.clone()
        keypoints[..., :2] = torch.from_numpy(transform_points(keypoints[..., :2].double().numpy(), matrix))
        corners = transform_points(gt.gt_boxes.tensor.double().numpy().reshape(-1, 2, 2), matrix)
        moved = Instances(size)
        moved.gt_boxes = Boxes(torch.from_numpy(np.hstack([corners.min(axis=1), corners.max(axis=1)])).float())
        moved.gt_classes = gt.gt_classes
        moved.gt_keypoints = Keypoints(keypoints[:, schema.flip_indices()] if flip else keypoints)
        targets = Targets.from_instances([moved], 4, (size[0] // 4, size[1] // 4))
        return model.task.encode_dense(targets)

    model.run_network = outputs
    return calls


@pytest.mark.parametrize("resize", ["fixed", "keep"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("face68", "KeypointRegressionTask"),
        ("face68", "KeypointHeatmapTask"),
        ("face19", "KeypointRegressionTask"),
        ("clothes294", "KeypointRegressionTask"),
    ],
)
def test_keypoints_come_back_in_pixels_of_the_image(name, task, flip, resize):
    schema = SCHEMAS[name]
    cfg = keypoint_cfg(name, task, "INPUT.SIZE_TEST", [128, 192], "INPUT.RESIZE_TEST", resize)
    cfg.TEST.AUG.ENABLED = flip
    cfg.TEST.DETECTIONS_PER_IMAGE = 2
    last = len(schema.class_names) - 1
    gt = objects(schema, [[12, 8, 110, 120], [120, 20, 229, 149]], [last, 0], (HEIGHT, WIDTH))
    predictor = DefaultPredictor(cfg)
    calls = perfect_network(predictor.model, gt, schema)
    predictions = predictor(np.zeros((HEIGHT, WIDTH, 3), np.uint8))["instances"]
    assert len(calls) == 1 + flip
    assert predictions.pred_keypoints.shape == (2, len(schema), 3)
    distance = (
        (predictions.pred_keypoints[:, None, :, :2] - gt.gt_keypoints.tensor[None, :, :, :2]).abs().amax(dim=(2, 3))
    )
    assert distance.min(dim=0).values.max() < 0.01
    order = distance.argmin(dim=0)
    assert torch.equal(predictions.pred_classes[order], gt.gt_classes)
    assert (predictions.pred_boxes.tensor[order] - gt.gt_boxes.tensor).abs().max() < 0.01
    labeled = gt.gt_keypoints.tensor[..., 2] > 0
    assert (predictions.pred_keypoints[order][labeled][:, 2] > 0.4).all()
    assert (predictions.pred_keypoints[order][~labeled] == 0).all()
