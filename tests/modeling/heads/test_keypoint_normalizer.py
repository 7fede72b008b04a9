"""Keypoint losses as the reference divides them: by peaks and by labeled coordinates, counted by loops."""

from __future__ import annotations

import math

import pytest
import torch
from detectron2.modeling import build_model

from centernet_d2.structures import Targets
from tests.helpers.keypoints import keypoint_cfg, objects

REFERENCE = (
    *("MODEL.KEYPOINT.LOSS_NORMALIZER", "keypoints", "MODEL.KEYPOINT.OFFSET_PER_KEYPOINT", False),
    *("MODEL.KEYPOINT.OFFSET_RADIUS", 0, "MODEL.KEYPOINT.HEATMAP_RADIUS", -1),
)


@pytest.fixture
def batch():
    """A task with the reference's settings, and 3 persons in 2 images, one of them with two unlabeled joints."""
    torch.manual_seed(0)
    task = build_model(keypoint_cfg("pose17", "KeypointRegressionTask", *REFERENCE)).task.train()
    from centernet_d2.data.schemas import POSE17

    first = objects(POSE17, [[8, 8, 60, 100], [50, 20, 110, 120]], [0, 0], seed=1)
    second = objects(POSE17, [[20, 30, 90, 110]], [0], seed=2)
    first.gt_keypoints.tensor[0, 3:5, 2] = 0
    targets = Targets.from_instances([first, second], 4, (32, 32))
    features = [torch.randn(2, channels, 32, 32) for channels in (32,)]
    return task, targets, features


def test_losses_equal_the_reference_formulas(batch):
    task, targets, features = batch
    losses = task.losses(features, task.encode(targets), torch.tensor(3.0))
    maps = {name: head.eval()([features[0]])[-1].detach().double() for name, head in task.items()}
    heatmap = task.heads["keypoint_heatmap"].encode(targets).maps.to_dense().double()
    p = maps["keypoint_heatmap"].sigmoid()
    focal, peaks = 0.0, 0
    for value, probability in zip(heatmap.flatten().tolist(), p.flatten().tolist(), strict=True):
        if value == 1:
            peaks += 1
            focal -= (1 - probability) ** 2 * math.log(probability)
        else:
            focal -= (1 - value) ** 4 * probability**2 * math.log(1 - probability)
    regression, offset, coordinates = 0.0, 0.0, 0
    centers = targets.get_cells([4])[:, 0]
    for i, points in enumerate(targets.fields["keypoints"]):
        n, (cx, cy) = int(targets.image_index[i]), centers[i].tolist()
        for k, (x, y, visible) in enumerate(points.tolist()):
            if visible == 0:
                continue
            coordinates += 2
            predicted = maps["keypoint_regression"][n, 2 * k : 2 * k + 2, cy, cx]
            regression += abs(float(predicted[0]) - (x - cx)) + abs(float(predicted[1]) - (y - cy))
            ix, iy = int(x), int(y)
            inside = maps["keypoint_offset"][n, :, iy, ix]
            offset += abs(float(inside[0]) - (x - ix)) + abs(float(inside[1]) - (y - iy))
    assert 60 < coordinates < 2 * 17 * 3 and peaks <= coordinates // 2
    weights = {name: head.loss_weight for name, head in task.items()}
    expected = {"heatmap": focal / peaks, "regression": regression / coordinates, "offset": offset / coordinates}
    for name, value in expected.items():
        found = float(losses[f"loss_keypoint_{name}"]) / weights[f"keypoint_{name}"]
        assert found == pytest.approx(value, rel=1e-4), name


def test_an_unknown_normalizer_is_named():
    with pytest.raises(ValueError, match="'objects', 'keypoints'"):
        build_model(keypoint_cfg("pose17", "KeypointRegressionTask", "MODEL.KEYPOINT.LOSS_NORMALIZER", "images"))
