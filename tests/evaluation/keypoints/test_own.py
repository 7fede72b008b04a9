"""Errors of own keypoints against numbers counted by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils import comm

from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.evaluation.build import build_evaluator
from centernet_d2.evaluation.keypoints.own import OwnKeypointEvaluator, measure_errors, summarize_errors
from centernet_d2.structures.keypoint_schema import make_own_schema
from tests.data.datasets.test_own_keypoints import CAT, HAMMER, NAME, annotate, resolve_own, write

SCHEMA = make_own_schema(["a", "b", "c"], ["two", "one"], [(0, 2), (2, 3)], [], [], False)


def annotation(points, label, **changes):
    box = {"bbox": [0, 0, 100, 50], "bbox_mode": BoxMode.XYXY_ABS, "category_id": label}
    return {**box, "keypoints": [x for point in points for x in point], **changes}


def predict(*objects):
    """(class, score, K points) each."""
    instances = Instances((100, 100))
    instances.pred_classes = torch.tensor([label for label, _, _ in objects])
    instances.scores = torch.tensor([score for _, score, _ in objects])
    points = torch.tensor([points for _, _, points in objects], dtype=torch.float64)
    instances.pred_keypoints = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    instances.pred_boxes = Boxes(torch.tensor([[0.0, 0, 100, 50]] * len(objects)))
    return instances


def test_errors_by_hand():
    """The first object is found 3 pixels right and 4 below, the second's class has no detection, the third is a
    crowd."""
    annotations = [
        annotation([(10, 10, 2), (90, 40, 1), (0, 0, 0)], 0),
        annotation([(0, 0, 0), (0, 0, 0), (50, 20, 2)], 1),
        annotation([(10, 10, 2), (90, 40, 2), (0, 0, 0)], 0, iscrowd=1),
    ]
    better = (0, 0.9, [(13, 14), (98, 40), (0, 0)])
    worse = (0, 0.3, [(10, 10), (90, 40), (0, 0)])
    errors = measure_errors(predict(worse, better), annotations, SCHEMA)
    assert errors.shape == (2, 3, 3)
    assert errors[0, :2].tolist() == [[3, 4, 100], [8, 0, 100]] and np.isnan(errors[0, 2]).all()
    assert errors[1, 2].tolist() == [math.inf, math.inf, 100] and np.isnan(errors[1, :2]).all()
    third = 100 / 3
    assert summarize_errors(errors) == pytest.approx(
        {"PCK5": third, "PCK10": 2 * third, "PCK20": 2 * third, "error_px": 6.5, "error": 6.5, "missed": third}
    )


@pytest.mark.parametrize("corrupt", ["keypoints", "scores"])
def test_what_is_not_finite_finds_nothing(corrupt):
    points = [(10.0, 10), (90, 40), (0, 0)]
    found = predict((0, 0.9, points), (0, 0.3, [(x + 3, y) for x, y in points]))
    if corrupt == "keypoints":
        found.pred_keypoints[0, 1, 0] = math.nan
    else:
        found.scores[0] = math.inf
    errors = measure_errors(found, [annotation([(10, 10, 2), (90, 40, 1), (0, 0, 0)], 0)], SCHEMA)
    assert errors[0, :2, :2].tolist() == [[3, 0], [3, 0]]


def test_nothing_to_find_and_nothing_found():
    assert measure_errors(predict((0, 0.9, [(0, 0)] * 3)), [], SCHEMA).shape == (0, 3, 3)
    empty = predict((0, 0.9, [(0, 0)] * 3))[[False]]
    errors = measure_errors(empty, [annotation([(1, 1, 2), (0, 0, 0), (0, 0, 0)], 0)], SCHEMA)
    assert summarize_errors(errors)["missed"] == 100 and math.isnan(summarize_errors(errors)["error_px"])


@pytest.mark.parametrize("covariance", [False, True])
def test_results_have_similarity_and_errors(tmp_path, covariance):
    """Of two classes with keypoints of their own; the truth as a prediction, but for one keypoint of four moved."""
    hammer = annotate(2, 9, (50, 50, 2, 80, 50, 1), num_keypoints=2, bbox=[48, 40, 40, 20])
    write(tmp_path, [annotate(), hammer], [CAT, HAMMER])
    cfg = resolve_own(tmp_path, "OUTPUT_DIR", str(tmp_path / "out"))
    evaluator = build_evaluator(cfg, NAME)
    evaluator.reset()
    (dataset_dict,) = load_dataset_dicts(NAME)
    objects = dataset_dict["annotations"]
    found = Instances((100, 120), scores=torch.tensor([0.9, 0.8]), pred_classes=torch.tensor([0, 1]))
    boxes = torch.tensor([a["bbox"] for a in objects], dtype=torch.float32)
    found.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
    found.pred_keypoints = torch.tensor([a["keypoints"] for a in objects]).reshape(2, -1, 3)
    found.pred_keypoints[1, 4, 0] += 20  # the hammer's tail, half its box away
    if covariance:
        found.pred_keypoint_covariance = torch.eye(2).expand(*found.pred_keypoints.shape[:2], 2, 2).contiguous()
    evaluator.process([dataset_dict], [{"instances": found}])
    results = evaluator.evaluate()
    # Similarity of the hammer: (1 + exp(-20^2 / (2 * 800 * 0.1^2))) / 2 = 0.5, so it counts at one of ten thresholds.
    assert results["keypoints"]["AP"] == pytest.approx((100 + 10) / 2, abs=0.1)
    assert results["keypoint_errors"] == pytest.approx(
        {"PCK5": 80, "PCK10": 80, "PCK20": 80, "error_px": 4, "error": 100 * 20 / 40 / 5, "missed": 0}
    )
    data = json.loads((tmp_path / "out/inference" / NAME / "keypoint_errors.json").read_text())
    assert data["keypoints"]["hammer.tail"]["error_px"] == pytest.approx(20)
    assert (tmp_path / "out/inference" / NAME / "keypoint_errors.png").stat().st_size > 5000
    assert ("keypoint_calibration" in results) == covariance
    if covariance:  # four of five are where they should be, the other is 20 units away
        assert results["keypoint_calibration"]["coverage1"] == results["keypoint_calibration"]["coverage2"] == 80
        data = json.loads((tmp_path / "out/inference" / NAME / "keypoint_calibration.json").read_text())
        assert "calibration" not in data, "the model gave none"
        assert sum(row[2] for row in data["reliability"]) == 5


def test_folders_are_made_and_numbers_for_the_config_are_given(tmp_path, monkeypatch):
    """Also where they are there already; nothing without objects, and nothing in other processes."""
    write(tmp_path, [annotate()], [CAT])
    resolve_own(tmp_path)
    evaluator = OwnKeypointEvaluator(NAME, tmp_path / "a" / "b", (0.0, 0.0, 1.0, 0.0))
    (dataset_dict,) = load_dataset_dicts(NAME)
    points = torch.tensor([a["keypoints"] for a in dataset_dict["annotations"]]).reshape(1, -1, 3)
    found = Instances((100, 120), scores=torch.tensor([0.9]), pred_classes=torch.tensor([0]), pred_keypoints=points)
    found.pred_keypoint_covariance = torch.eye(2).expand(*points.shape[:2], 2, 2).contiguous()
    assert evaluator.evaluate() == {}
    for _ in range(2):
        evaluator.reset()
        evaluator.process([dataset_dict], [{"instances": found}])
        assert evaluator.evaluate()["keypoint_errors"]["PCK5"] == 100
    data = json.loads((tmp_path / "a" / "b" / "keypoint_calibration.json").read_text())
    assert len(data["calibration"]) == 4 and all(round(x, 4) == x for x in data["calibration"])
    assert any(round(x, 3) != x for x in data["calibration"])
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert evaluator.evaluate() == {}
