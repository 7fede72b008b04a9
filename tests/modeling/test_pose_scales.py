"""Multi-scale test of poses: passes of all scales, mirrored too, give every person once, with the joints of a perfect
network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from centernet_d2.data.schemas import SCHEMES
from tests.engine.test_keypoint_predictor import HEIGHT, WIDTH, perfect_network
from tests.helpers.keypoints import landmark_cfg, objects

SCALES = [0.5, 1.0, 1.5]
PERSONS = [[12, 8, 110, 120], [120, 20, 229, 149]]


def predicted(scales, flip, *opts):
    """What a perfect network finds in a picture of two persons, the persons, and how often it was asked."""
    scheme = SCHEMES["pose17"]
    cfg = landmark_cfg("pose17", "LandmarkRegressionTask", "INPUT.SIZE_TEST", [128, 192], *opts)
    cfg.TEST.AUG.ENABLED, cfg.TEST.AUG.FLIP, cfg.TEST.AUG.SCALES = True, flip, scales
    truth = objects(scheme, PERSONS, [0, 0], (HEIGHT, WIDTH))
    predictor = DefaultPredictor(cfg)
    calls = perfect_network(predictor.model, truth, scheme)
    return predictor(np.zeros((HEIGHT, WIDTH, 3), np.uint8))["instances"], truth, calls


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("snap", ["probable", "nearest"])
@pytest.mark.parametrize("soft_nms", [True, False])
def test_every_person_once_with_its_joints(soft_nms, snap, flip):
    opts = ("MODEL.LANDMARK.SOFT_NMS", soft_nms, "MODEL.LANDMARK.SNAP", snap)
    found, truth, calls = predicted(SCALES, flip, *opts)
    assert len(calls) == len(SCALES) * (1 + flip)
    found = found[found.scores > 0.3]
    assert len(found) == 2
    away = (found.pred_keypoints[:, None, :, :2] - truth.gt_keypoints.tensor[None, ..., :2]).abs().amax(dim=(2, 3))
    order = away.argmin(dim=0)
    assert away.min(dim=0).values.max() < 0.1 and sorted(order.tolist()) == [0, 1]
    assert (found.pred_boxes.tensor[order] - truth.gt_boxes.tensor).abs().max() < 0.1
    assert (found.pred_keypoints[..., 2] > 0.4).all()


def test_other_scales_lower_each_other_by_the_overlap_alone():
    """The same box from every scale: of three scores of 1 are left 1, exp(-2) and exp(-4)."""
    found, truth, _ = predicted(SCALES, False)
    for box in truth.gt_boxes.tensor:
        same = (found.pred_boxes.tensor - box).abs().amax(dim=1) < 0.1
        expected = torch.tensor([0.0, -2.0, -4.0]).exp()
        assert torch.allclose(found.scores[same] / found.scores[same][0], expected, rtol=1e-2)
