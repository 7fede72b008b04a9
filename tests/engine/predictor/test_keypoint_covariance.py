"""The covariance of keypoints is in pixels of the image, whatever the network's input, and of the object's class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from centernet_d2.data.schemas import SCHEMAS
from tests.engine.predictor.test_keypoint_predictor import HEIGHT, WIDTH, perfect_network
from tests.helpers.keypoints import keypoint_cfg, objects

KEY = "MODEL.KEYPOINT.CALIBRATION"
TASKS = ("KeypointRegressionTask", "KeypointHeatmapTask")


def predict(task: str, *opts, flip: bool = False, schema: str = "clothes294"):
    """Two objects of different classes, from the maps of a perfect network."""
    cfg = keypoint_cfg(schema, task, "INPUT.SIZE_TEST", [128, 192], *opts)
    cfg.TEST.AUG.ENABLED = flip
    torch.manual_seed(0)
    predictor = DefaultPredictor(cfg)
    classes = [0, 3] if schema == "clothes294" else [0, 0]
    boxes = [[20, 20, 100, 120], [130, 30, 210, 130]]
    gt = objects(SCHEMAS[schema], boxes, classes, size=(HEIGHT, WIDTH))
    perfect_network(predictor.model, gt, SCHEMAS[schema])
    instances = predictor(np.zeros((HEIGHT, WIDTH, 3), np.uint8))["instances"]
    return instances[instances.scores > 0.5]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_covariance_is_that_of_the_heatmap_in_pixels(task, flip):
    found = predict(task, KEY, (0.0, 0.0, 1.0, 0.0), flip=flip, schema="face68")
    zoom = min(128 / HEIGHT, 192 / WIDTH)
    assert found.pred_keypoint_covariance.shape == (2, 68, 2, 2)
    # A Gaussian of radius 2 in a window of 5x5 cells: its sigma is 5 / 6 cells.
    near = torch.arange(-2.0, 3.0)
    weights = (-(near**2) / 2 / (5 / 6) ** 2).exp()
    variance = float((weights * near**2).sum() / weights.sum()) * (4 / zoom) ** 2
    middle = found.pred_keypoint_covariance.diagonal(dim1=-2, dim2=-1).median()
    assert float(middle) == pytest.approx(variance, rel=0.1)
    assert not any(name.startswith("pred_keypoint_spread") for name in found.get_fields())


def test_calibration_scales_the_covariance_and_the_score():
    plain = predict(TASKS[0], KEY, (0.0, 0.0, 1.0, 0.0), schema="face68")
    other = predict(TASKS[0], KEY, (np.log(4.0).item(), -1.0, 0.5, -0.3), schema="face68")
    score = plain.pred_keypoints[..., 2].double()
    expected = plain.pred_keypoint_covariance * (4 / score)[..., None, None]
    torch.testing.assert_close(other.pred_keypoint_covariance.double(), expected.double(), rtol=1e-2, atol=1e-3)
    calibrated = (0.5 * score.clamp(1e-6, 1 - 1e-6).logit() - 0.3).sigmoid()
    torch.testing.assert_close(other.pred_keypoints[..., 2].double(), calibrated, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(other.pred_keypoints[..., :2], plain.pred_keypoints[..., :2])


def test_keypoints_of_other_classes_have_none():
    found = predict(TASKS[0], KEY, (0.0, 0.0, 1.0, 0.0))
    own = found.pred_keypoints[..., 2] > 0
    assert 0 < own.sum() < own.numel()
    assert (torch.linalg.det(found.pred_keypoint_covariance[own]) > 0).all()
    assert not found.pred_keypoint_covariance[~own].any()


def test_without_the_key_there_is_no_covariance():
    found = predict(TASKS[0], schema="face68")
    assert not found.has("pred_keypoint_covariance")


@pytest.mark.parametrize("opts", [(KEY, (0.0, 1.0)), (KEY, (0.0, 0.0, 1.0, 0.0), "MODEL.KEYPOINT.REFINE", False)])
def test_what_cannot_be_calibrated_is_refused(opts):
    with pytest.raises(ValueError, match="four numbers, for keypoint heatmaps"):
        build_model(keypoint_cfg("face68", TASKS[0], *opts))
