"""Whether covariances and scores of keypoints are what happens, and numbers for ``MODEL.KEYPOINT.CALIBRATION``.

``errors`` are (n, 7) of detected, labeled keypoints (``own.measure_errors``): x, y, the box's longer side, the score,
and xx, xy, yy of the covariance.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

#: Scores are to be the probability that the error is at most this fraction of the box's longer side (PCK10).
RIGHT = 0.1
#: The model's calibration with which its covariances are the heatmaps' shapes, and its scores their values.
UNCALIBRATED = (0.0, 0.0, 1.0, 0.0)
# Exponents of the score that are tried, and quantiles that are compared.
_EXPONENTS = np.linspace(-4, 1, 51)
_QUANTILES = np.linspace(0.05, 0.95, 19)
_BINS = 10


def compute_squared_distances(errors: np.ndarray) -> np.ndarray:
    """Return squared Mahalanobis distances (n,) of the errors."""
    (x, y), (xx, xy, yy) = errors[:, :2].T, errors[:, 4:7].T
    return (yy * x**2 - 2 * xy * x * y + xx * y**2) / np.maximum(xx * yy - xy**2, 1e-12)


def measure_calibration(errors: np.ndarray) -> dict[str, float]:
    """Return percentages: ``coverage1``, ``coverage2`` of errors within one and two Mahalanobis units (39.3 and 86.5 of
    a normal distribution), and ``ECE``, by how much scores and fractions of right keypoints differ (Guo et al. 2017,
    equation 3)."""
    squared = compute_squared_distances(errors)
    coverage = {f"coverage{k}": 100 * float((squared <= k**2).mean()) for k in (1, 2)}
    score, right, count = measure_reliability(errors).T
    return {**coverage, "ECE": 100 * float(np.sum(count * np.abs(score - right)) / count.sum())}


def measure_reliability(errors: np.ndarray) -> np.ndarray:
    """Return mean score, fraction of right keypoints, and number (b, 3) of the bins of scores that have any."""
    score, right = errors[:, 3], _find_right(errors)
    bins = np.minimum((score * _BINS).astype(int), _BINS - 1)
    chosen = [bins == k for k in np.unique(bins)]
    return np.array([[score[own].mean(), right[own].mean(), own.sum()] for own in chosen])


def _find_right(errors: np.ndarray) -> np.ndarray:
    return np.hypot(errors[:, 0], errors[:, 1]) <= RIGHT * errors[:, 2]


def fit_calibration(errors: np.ndarray) -> tuple[float, float, float, float]:
    """Return a, b, c, d for predictions that were made with 0, 0, 1, 0 (``KeypointTask.calibrate``)."""
    return (*_fit_covariance(errors), *_fit_score(errors))


def _fit_covariance(errors: np.ndarray) -> tuple[float, float]:
    """Return a, b with which the quantiles of the squared distances are nearest to those of a normal distribution (in
    the logarithm, so that no distant keypoint decides)."""
    wanted = np.log(-2 * np.log1p(-_QUANTILES))  # chi squared of two degrees of freedom
    squared, score = np.maximum(compute_squared_distances(errors), 1e-9), np.log(np.clip(errors[:, 3], 1e-6, 1))
    best = (np.inf, 0.0, 0.0)
    for b in _EXPONENTS:
        away = np.quantile(np.log(squared) - b * score, _QUANTILES) - wanted
        best = min(best, (float(away.var()), float(away.mean()), float(b)))
    return best[1:]


def _fit_score(errors: np.ndarray) -> tuple[float, float]:
    """Return c, d of the logistic regression of right keypoints on logit(score), by Newton's method; a weak prior keeps
    c at 1 and d at 0 where all or none are right."""
    score = np.clip(errors[:, 3], 1e-6, 1 - 1e-6)
    inputs = np.stack([np.log(score / (1 - score)), np.ones(len(score))], axis=1)
    right, start = _find_right(errors).astype(float), np.array([1.0, 0.0])
    weights = start.copy()
    for _ in range(50):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (probability - right) + (weights - start)
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + np.eye(2)
        weights = weights - np.clip(np.linalg.solve(curvature, gradient), -1, 1)
    return float(weights[0]), float(weights[1])


def plot_calibration(path: Path, errors: np.ndarray) -> None:
    """Plot the reliability of scores, and how many errors are within how many Mahalanobis units."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    score, fraction, count = measure_reliability(errors).T
    left.plot([0, 1], [0, 1], color="gray", linewidth=0.6)
    left.plot(score, fraction, marker="o", markersize=4)
    for x, y, n in zip(score, fraction, count, strict=True):
        left.annotate(f"{n:.0f}", (x, y), fontsize=6, xytext=(3, -8), textcoords="offset points")
    left.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="score", ylabel=f"error at most {RIGHT:.0%} of the box")
    units = np.linspace(0, 4, 81)
    distances = np.sqrt(np.maximum(compute_squared_distances(errors), 0))
    right.plot(units, 1 - np.exp(-(units**2) / 2), color="gray", linewidth=0.6, label="normal distribution")
    right.plot(units, [(distances <= unit).mean() for unit in units], label="errors")
    right.set(xlim=(0, 4), ylim=(0, 1.02), xlabel="Mahalanobis units", ylabel="keypoints within")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=110)
