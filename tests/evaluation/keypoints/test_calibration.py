"""Calibration of keypoints: coverage and reliability of drawn errors, and numbers that fit them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from centernet_d2.evaluation.keypoints.calibration import (
    compute_squared_distances,
    fit_calibration,
    measure_calibration,
    measure_reliability,
    plot_calibration,
)
from centernet_d2.evaluation.keypoints.own import measure_errors
from tests.evaluation.keypoints.test_own import SCHEMA, annotation, predict


def sample_errors(count: int, a: float, b: float) -> np.ndarray:
    """Normal errors with the covariance exp(a) p^b S, of which S and the score p are reported."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(count, 2, 2)) + 1.5 * np.eye(2)
    shape, score = root @ root.transpose(0, 2, 1), rng.uniform(0.05, 0.98, count)
    scale = np.exp(a / 2) * score ** (b / 2)
    errors = scale[:, None] * np.einsum("nij,nj->ni", root, rng.normal(size=(count, 2)))
    return np.column_stack([errors, np.full(count, 30.0), score, shape[:, 0, 0], shape[:, 0, 1], shape[:, 1, 1]])


def test_errors_of_the_covariance_are_covered():
    results = measure_calibration(sample_errors(20000, 0, 0))
    # 1 - exp(-r^2 / 2) of a normal distribution in the plane.
    assert results["coverage1"] == pytest.approx(39.35, abs=1) and results["coverage2"] == pytest.approx(86.47, abs=1)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (-1.5, -2.0), (1.0, -0.5)])
def test_the_numbers_that_were_drawn_are_fitted(a, b):
    errors = sample_errors(20000, a, b)
    found_a, found_b, _, _ = fit_calibration(errors)
    assert found_a == pytest.approx(a, abs=0.15) and found_b == pytest.approx(b, abs=0.15)
    errors[:, 4:7] *= (np.exp(found_a) * errors[:, 3] ** found_b)[:, None]
    results = measure_calibration(errors)
    assert results["coverage1"] == pytest.approx(39.35, abs=1.5) and results["coverage2"] == pytest.approx(86.5, abs=1)


def test_distances_by_numpys_solver():
    errors = sample_errors(50, 0, 0)
    matrices = errors[:, [4, 5, 5, 6]].reshape(-1, 2, 2)
    expected = [e @ np.linalg.solve(m, e) for e, m in zip(errors[:, :2], matrices, strict=True)]
    np.testing.assert_allclose(compute_squared_distances(errors), expected)


def test_scores_become_the_probability_to_be_right():
    rng = np.random.default_rng(1)
    score = rng.uniform(0.02, 0.98, 20000)
    probability = 1 / (1 + np.exp(-(2.0 * np.log(score / (1 - score)) + 0.7)))
    away = np.where(rng.random(20000) < probability, 2.9, 3.1)  # a tenth of the side is 3
    errors = np.column_stack([away, 0 * away, 0 * away + 30, score, 1 + 0 * away, 0 * away, 1 + 0 * away])
    _, _, c, d = fit_calibration(errors)
    assert c == pytest.approx(2, abs=0.1) and d == pytest.approx(0.7, abs=0.1)
    before = measure_calibration(errors)["ECE"]
    errors[:, 3] = 1 / (1 + np.exp(-(c * np.log(score / (1 - score)) + d)))
    assert before > 5 and measure_calibration(errors)["ECE"] < 1.5


def test_few_scores_are_fitted_by_minimization():
    """SciPy finds the same minimum of the negative log-likelihood and the prior (c - 1)^2 / 2 + d^2 / 2."""
    rng = np.random.default_rng(3)
    score, right = rng.uniform(0.1, 0.9, 12), rng.random(12) < 0.3
    away, side, zero, one = np.where(right, 2.9, 3.1), np.full(12, 30.0), np.zeros(12), np.ones(12)
    errors = np.column_stack([away, zero, side, score, one, zero, one])

    def measure(weights):
        logits = weights[0] * np.log(score / (1 - score)) + weights[1]
        prior = ((weights - [1, 0]) ** 2).sum() / 2
        return np.log1p(np.exp(np.where(right, -logits, logits))).sum() + prior

    assert fit_calibration(errors)[2:] == pytest.approx(minimize(measure, [1.0, 0.0]).x, abs=1e-4)


@pytest.mark.parametrize("b", [-4.0, -2.5, 1.0])
def test_exact_quantiles_are_fitted_exactly(b):
    """Squared distances exp(a) p^b q, of which the q are those of a normal distribution in the plane, in any order."""
    rng = np.random.default_rng(0)
    score, share = rng.uniform(0.1, 0.9, 4000), (np.arange(4000) + 0.5) / 4000
    squared = np.exp(0.7) * score**b * rng.permutation(-2 * np.log(1 - share))
    zero, one = np.zeros(4000), np.ones(4000)
    errors = np.column_stack([np.sqrt(squared), zero, 30 * one, score, one, zero, one])
    assert fit_calibration(errors)[:2] == pytest.approx((0.7, b), abs=0.01)


def test_few_covariances_are_fitted_by_a_loop():
    """The least variance of the differences of 19 quantiles, of exponents in steps of a tenth."""
    errors = sample_errors(9, 0.5, -1)
    errors[0, :2] = 0  # a squared distance counts as at least 1e-9
    shares = [0.05 * k for k in range(1, 20)]
    squared, score = compute_squared_distances(errors).clip(1e-9), np.log(errors[:, 3])
    found = []
    for step in range(51):
        b = -4 + 0.1 * step
        quantiles = np.quantile(np.log(squared) - b * score, shares)
        away = [q - np.log(-2 * np.log(1 - share)) for q, share in zip(quantiles, shares, strict=True)]
        found.append((np.var(away), np.mean(away), b))
    assert fit_calibration(errors)[:2] == pytest.approx(min(found)[1:], abs=1e-9)


def test_scores_are_in_ten_bins():
    """0.81 and 0.89 in one, 0.91 and 1 in another; what is right is at most a tenth of the side away."""
    rows = [[3, 0, 30, 0.81], [0, 3.1, 30, 0.89], [0, 0, 30, 0.91], [0, 0, 30, 1.0], [9, 9, 30, 0.09]]
    errors = np.array([[*row, 1, 0, 1] for row in rows], dtype=float)
    np.testing.assert_allclose(measure_reliability(errors), [[0.09, 0, 1], [0.85, 0.5, 2], [0.955, 1, 2]])


def test_reliability_by_hand(tmp_path):
    rows = [[1, 0, 30, 0.91, 1, 0, 1], [0, 9, 30, 0.95, 1, 0, 1], [0, 9, 30, 0.12, 1, 0, 1]]
    errors = np.array(rows, dtype=float)
    np.testing.assert_allclose(measure_reliability(errors), [[0.12, 0, 1], [0.93, 0.5, 2]])
    assert measure_calibration(errors)["ECE"] == pytest.approx(100 * (0.12 + 2 * 0.43) / 3)
    assert measure_calibration(errors)["coverage1"] == pytest.approx(100 / 3)  # on the circle, too
    plot_calibration(tmp_path / "a.png", errors)
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_all_or_none_right_keeps_the_scores_finite():
    errors = sample_errors(50, -8, 0)
    for side in (1e6, 1e-6):
        errors[:, 2] = side
        assert np.isfinite(fit_calibration(errors)).all()


def test_scores_and_covariances_go_with_their_object():
    points = [[[10.0, 10], [20, 10], [0, 0]], [[60.0, 10], [70, 10], [0, 0]]]
    instances = predict((0, 0.4, points[0]), (0, 0.9, points[1]))
    instances.pred_keypoint_covariance = torch.zeros(2, 3, 2, 2)
    instances.pred_keypoint_covariance[1, 0] = torch.tensor([[1.0, 2], [2, 5]])
    instances.pred_keypoints[1, 0, 2] = 0.6
    truth = annotation([(61, 10, 2), (70, 12, 0), (0, 0, 0)], 0)
    errors = measure_errors(instances, [truth], SCHEMA)
    assert errors.shape == (1, 3, 7)
    np.testing.assert_allclose(errors[0, 0], [-1, 0, 100, 0.6, 1, 2, 5], rtol=1e-6)
    assert np.isnan(errors[0, 1]).all()
    json.dumps(measure_calibration(errors[:, 0]))
