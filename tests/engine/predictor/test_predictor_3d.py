"""3D boxes through ``DefaultPredictor`` and the model: those that a perfect network would answer with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.data.transforms import TransformList
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.fields_3d import read_object_fields
from centernet_d2.data.transforms.affine import AffineTransform
from centernet_d2.geometry import build_letterbox_matrix, flip_matrix
from centernet_d2.structures import Targets
from tests.helpers.boxes3d import P2, SIZE, STREET, assert_predictions, box3d_cfg, dataset_dict_of


def perfect_network(model, record):
    """Stands in for ``model.run_network``: the maps of ``record``; every second call is of the flipped input."""
    calls = []

    def outputs(images):
        size, image = tuple(images.shape[-2:]), (record["height"], record["width"])
        matrix = build_letterbox_matrix(image, size, 1.0 if model.test_time_augmentation.resize == "keep" else None)
        flip = model.test_time_augmentation.flip and len(calls) % 2 == 1
        calls.append(flip)
        transform = AffineTransform(flip_matrix(matrix, size[1]) if flip else matrix, size)
        instances = Instances(size)
        boxes = transform.apply_box(convert_to_corner_boxes(record["annotations"]))
        instances.gt_boxes = Boxes(torch.from_numpy(boxes).float())
        instances.gt_classes = torch.tensor([a["category_id"] for a in record["annotations"]])
        for name, values in read_object_fields(record, record["annotations"], TransformList([transform])).items():
            instances.set(name, values)
        # Where resolution is kept, meters are learned from images that were not fitted in either.
        instances.gt_metric = torch.ones(len(instances), dtype=torch.bool)
        return model.task.encode_dense(Targets.from_instances([instances], 4, (size[0] // 4, size[1] // 4)))

    model.run_network = outputs
    return calls


def black(height, width):
    return np.zeros((height, width, 3), np.uint8)


@pytest.mark.parametrize("resize", ["fixed", "keep"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("factor", [1.0, 0.6])
def test_3d_boxes_come_back_from_a_image(factor, flip, resize):
    """Of KITTI's size, and resized, its calibration with it."""
    size = (round(SIZE[0] * factor), round(SIZE[1] * factor))
    calibration = P2 * torch.tensor([[size[1] / SIZE[1]], [size[0] / SIZE[0]], [1.0]])
    record = dataset_dict_of(calibration=calibration, size=size)
    cfg = box3d_cfg("INPUT.RESIZE_TEST", resize, "MODEL.BOX3D.CALIBRATION", calibration.flatten().tolist())
    cfg.TEST.AUG.ENABLED, cfg.TEST.DETECTIONS_PER_IMAGE = flip, len(STREET)
    predictor = DefaultPredictor(cfg)
    calls = perfect_network(predictor.model, record)
    predictions = predictor(black(*size))["instances"]
    assert len(calls) == 1 + flip
    assert_predictions(predictions)
    assert predictions.has("pred_alpha") and not predictions.has("pred_orientation")


def test_the_calibration_comes_with_the_image():
    """Three cameras, one image each in a batch, and the answer in pixels of another size."""
    model = DefaultPredictor(box3d_cfg("TEST.DETECTIONS_PER_IMAGE", len(STREET))).model
    for focal in (600.0, 721.0, 800.0):
        calibration = P2.clone()
        calibration[0, 0] = calibration[1, 1] = focal
        record = dataset_dict_of(calibration=calibration)
        perfect_network(model, record)
        image = torch.zeros(3, 375, 1242, dtype=torch.uint8)
        sample = {"image": image, "calib": calibration.numpy(), "height": 375, "width": 1242}
        (result,) = model([sample])
        assert_predictions(result["instances"])
        halved = {**sample, "calib": calibration.numpy() * [[2], [2], [1]], "height": 750, "width": 2484}
        (result,) = model([halved])
        assert_predictions(result["instances"])
        assert result["instances"].image_size == (750, 2484)
