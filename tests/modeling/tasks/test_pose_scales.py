"""Multi-scale test of poses: passes of all scales, flipped too, give every person once, with the joints of a perfect
network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from centernet_d2.data.schemas import SCHEMAS
from tests.engine.predictor.test_keypoint_predictor import HEIGHT, WIDTH, perfect_network
from tests.helpers.keypoints import keypoint_cfg, objects

SCALES = [0.5, 1.0, 1.5]
PERSONS = [[12, 8, 110, 120], [120, 20, 229, 149]]


def predicted(scales, flip, *opts):
    """What a perfect network finds in an image of two persons, the persons, and the number of calls."""
    schema = SCHEMAS["pose17"]
    cfg = keypoint_cfg("pose17", "KeypointRegressionTask", "INPUT.SIZE_TEST", [128, 192], *opts)
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.FLIP, cfg.TEST.AUG.SCALES = True, flip, scales
    gt = objects(schema, PERSONS, [0, 0], (HEIGHT, WIDTH))
    predictor = DefaultPredictor(cfg)
    calls = perfect_network(predictor.model, gt, schema)
    return predictor(np.zeros((HEIGHT, WIDTH, 3), np.uint8))["instances"], gt, calls


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("peak_matching", ["probable", "nearest"])
@pytest.mark.parametrize("soft_nms", [True, False])
def test_every_person_once_with_its_joints(soft_nms, peak_matching, flip):
    opts = ("MODEL.KEYPOINT.SOFT_NMS", soft_nms, "MODEL.KEYPOINT.PEAK_MATCHING", peak_matching)
    predictions, gt, calls = predicted(SCALES, flip, *opts)
    assert len(calls) == len(SCALES) * (1 + flip)
    predictions = predictions[predictions.scores > 0.3]
    assert len(predictions) == 2
    away = (predictions.pred_keypoints[:, None, :, :2] - gt.gt_keypoints.tensor[None, ..., :2]).abs().amax(dim=(2, 3))
    order = away.argmin(dim=0)
    assert away.min(dim=0).values.max() < 0.1 and sorted(order.tolist()) == [0, 1]
    assert (predictions.pred_boxes.tensor[order] - gt.gt_boxes.tensor).abs().max() < 0.1
    assert (predictions.pred_keypoints[..., 2] > 0.4).all()


def test_other_scales_lower_each_other_by_the_overlap_alone():
    """The same box from every scale: of three scores of 1 are left 1, exp(-2) and exp(-4)."""
    predictions, gt, _ = predicted(SCALES, False)
    for box in gt.gt_boxes.tensor:
        same = (predictions.pred_boxes.tensor - box).abs().amax(dim=1) < 0.1
        expected = torch.tensor([0.0, -2.0, -4.0]).exp()
        assert torch.allclose(predictions.scores[same] / predictions.scores[same][0], expected, rtol=1e-2)
