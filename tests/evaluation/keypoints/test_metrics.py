"""Each metric by hand, and against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from centernet_d2.data.schemas import CLOTHES294, FACE19, FACE68
from centernet_d2.evaluation.keypoints.metrics import (
    assign,
    compute_area_under_curve,
    compute_cumulative_curve,
    compute_failure_rate,
    compute_landmark_distances,
    compute_mean_error,
    compute_normalizers,
)


def face(seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """(68, 3), all visible, in a box of about 100 pixels."""
    points = np.random.default_rng(seed).uniform(0, 100, (68, 2)) + shift
    return np.concatenate([points, np.full((68, 1), 2.0)], axis=1)


def test_normalizers_by_hand():
    landmarks = np.zeros((68, 3))
    landmarks[36], landmarks[45] = (30, 40, 2), (60, 80, 1)
    lengths = compute_normalizers(landmarks, np.array([10.0, 20.0, 50.0, 110.0]), FACE68)
    assert lengths["inter_ocular"] == lengths["box_diagonal"] == 50 and lengths["box_size"] == 60
    assert math.isnan(lengths["inter_pupil"]), "five landmarks of each eye are not labeled"
    landmarks[36:42] = [(x, y, 1) for x in (0, 6, 12) for y in (-4, 4)]
    landmarks[42:48] = [(x + 30, y + 40, 1) for x in (0, 6, 12) for y in (-4, 4)]
    assert compute_normalizers(landmarks, np.zeros(4), FACE68)["inter_pupil"] == pytest.approx(50)


def test_aflw_has_a_keypoint_for_each_pupil():
    landmarks = np.zeros((19, 3))
    landmarks[[6, 7, 10, 11]] = [(0, 0, 1), (10, 0, 1), (40, 0, 1), (52, 0, 1)]
    lengths = compute_normalizers(landmarks, np.array([0, 0, 30, 30]), FACE19)
    assert (lengths["inter_ocular"], lengths["inter_pupil"]) == (52, 30)


def test_what_cannot_be_measured_is_not_a_number():
    landmarks = face()
    landmarks[45, 2] = 0
    lengths = compute_normalizers(landmarks, np.array([0, 0, 0, 30]), FACE68)
    assert [name for name, length in lengths.items() if math.isnan(length)] == [
        *("inter_ocular", "inter_pupil", "box_size")
    ]
    landmarks[:, 2] = 0
    landmarks[7, 2] = 1
    assert math.isnan(compute_normalizers(landmarks, np.zeros(4), FACE68)["box_diagonal"])
    clothing_item = compute_normalizers(np.ones((294, 3)), np.array([0, 0, 1, 1]), CLOTHES294)
    assert math.isnan(clothing_item["inter_ocular"]) and clothing_item["box_size"] == 1


def test_distances_of_labeled_keypoints():
    gt = np.array([[0, 0, 2], [10, 10, 0], [5, 5, 1]], dtype=float)
    predicted = np.array([[3, 4, 0.1], [0, 0, 1], [5, 5, 0.1]])
    assert compute_landmark_distances(predicted, gt)[[0, 2]].tolist() == [5, 0]
    assert np.isnan(compute_landmark_distances(predicted, gt)[1])


def test_failures_are_above_the_limit_not_at_it():
    errors = np.array([8.0, 8.1, 10.0, math.inf])
    assert compute_failure_rate(errors, 8) == 75 and compute_failure_rate(errors, 10) == 25


def test_area_by_hand():
    assert compute_area_under_curve(np.array([0.0, 5.0, 20.0, math.inf]), 10) == pytest.approx(100 * (1 + 0.5) / 4)
    assert compute_area_under_curve(np.zeros(3), 8) == 100 and compute_area_under_curve(np.full(2, 8.0), 8) == 0


@pytest.mark.parametrize("limit", [8, 10])
def test_area_is_the_integral_of_the_share_below(limit):
    """The midpoint rule is exact for steps at multiples of its own step."""
    step = 1 / 64
    errors = np.random.default_rng(limit).integers(0, 1000, 57) * step
    errors[:4] = math.inf
    area = 0.0
    for i in range(limit * 64):
        area += step * sum(1 for error in errors if error <= (i + 0.5) * step) / len(errors)
    assert compute_area_under_curve(errors, limit) == pytest.approx(100 * area / limit, abs=1e-9)


def test_cumulative_curve_counts():
    errors = np.random.default_rng(1).gamma(2, 3, 40)
    errors[0] = math.inf
    x, fraction = compute_cumulative_curve(errors, 10)
    assert (x[0], x[-1]) == (0, 10) and (np.diff(x) >= 0).all()
    for at in np.linspace(0, 10, 33):
        counted = 100 * sum(1 for error in errors if error <= at) / 40
        assert fraction[np.searchsorted(x, at, side="right") - 1] == pytest.approx(counted)


def test_nothing_to_average():
    none = np.zeros(0)
    assert all(
        math.isnan(x)
        for x in (compute_mean_error(none), compute_failure_rate(none, 8), compute_area_under_curve(none, 8))
    )
    assert compute_cumulative_curve(none, 10)[1].tolist() == [0, 0]


def test_each_face_has_its_best_prediction():
    gt = np.stack([face(0), face(1, 90)])
    predicted = np.stack([gt[1] + 3, gt[0] + 1, gt[0] + 5, gt[1] + 1])
    sizes = np.array([100.0, 100.0])
    assert assign(predicted, np.array([0.1, 0.2, 0.9, 0.3]), gt, sizes).tolist() == [2, 3]
    # Without a prediction of its own, the neighbor's second one is not taken.
    assert assign(predicted[:1], np.array([0.9]), gt, sizes).tolist() == [-1, 0]
    assert assign(predicted[[1, 2]], np.array([0.9, 0.8]), gt, sizes).tolist() == [0, -1]


def test_what_is_far_from_every_face_is_another_object():
    gt, sizes = face()[None], np.array([100.0])
    near, far = (gt + np.array([x, 0, 0]) for x in (49.9, 50.1))
    assert assign(near, np.ones(1), gt, sizes).tolist() == [0]
    assert assign(far, np.ones(1), gt, sizes).tolist() == [-1]
    assert assign(far[:0], np.zeros(0), gt, sizes).tolist() == [-1]
    assert len(assign(far, np.ones(1), gt[:0], sizes[:0])) == 0


def test_a_small_face_before_a_large_one():
    large = face(0)
    small = face(1) * [0.1, 0.1, 1] + [45, 45, 0]
    gt, sizes = np.stack([large, small]), np.array([100.0, 10.0])
    assert assign(np.stack([small, large]), np.array([0.9, 0.5]), gt, sizes).tolist() == [1, 0]
