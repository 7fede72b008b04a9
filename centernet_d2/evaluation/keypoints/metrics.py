"""Errors of face landmarks as in papers; pure functions of arrays.

The error of a face is the mean distance of its labeled landmarks, divided by a length of the true face (a
*normalizer*), in percent. Infinity is the error of a missed face: a failure at every limit. NaN is that of a face whose
normalizer is undefined: it does not count.
"""

from __future__ import annotations

import math

import numpy as np

from centernet_d2.data.schemas import KeypointSchema

#: Distance of the outer eye corners; of the pupils (the mean of an eye's landmarks, as 300W has none); diagonal of the
#: tight box of the labeled landmarks; sqrt(width * height) of the annotated box (AFLW's face size).
NORMALIZERS = ("inter_ocular", "inter_pupil", "box_diagonal", "box_size")
#: Of failure rates and areas under the curve, percent.
LIMITS = (8, 10)
# A prediction farther from a face than this fraction of its box size does not belong to it.
_SAME_FACE = 0.5


def compute_normalizers(landmarks: np.ndarray, box: np.ndarray, schema: KeypointSchema) -> dict[str, float]:
    """Return lengths of a true face, in pixels, by the names of ``NORMALIZERS``; NaN if undefined.

    Args:
        landmarks: (K, 3) x, y, visibility; those of visibility 0 are not labeled.
        box: (4,) x1, y1, x2, y2 as annotated.
    """
    corners = schema.outer_eye_corners
    labeled = landmarks[landmarks[:, 2] > 0, :2]
    lengths = {
        "inter_ocular": _measure_distance(landmarks, *((k,) for k in corners)) if corners else math.nan,
        "inter_pupil": _measure_distance(landmarks, *schema.pupils) if schema.pupils else math.nan,
        "box_diagonal": float(np.hypot(*np.ptp(labeled, axis=0))) if len(labeled) else math.nan,
        "box_size": math.sqrt(max(0.0, (box[2] - box[0]) * (box[3] - box[1]))),
    }
    return {name: length if length > 0 else math.nan for name, length in lengths.items()}


def compute_landmark_distances(predicted: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """Return distances (..., K) in pixels between (..., K, 2 or 3) and (..., K, 3) landmarks; NaN if not labeled."""
    distances = np.linalg.norm(predicted[..., :2] - gt[..., :2], axis=-1)
    return np.where(gt[..., 2] > 0, distances, np.nan)


def assign(predicted: np.ndarray, scores: np.ndarray, gt: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the prediction that each true face has, (P,) int64; -1 for none.

    A prediction belongs to the nearest face, with distances relative to the face's size, if its mean distance is at
    most half the size. A face takes the highest-scoring prediction that belongs to it. The others are dropped, so a
    second detection of a face is never assigned to a neighbor.

    Args:
        predicted: (M, K, 2 or 3).
        scores: (M,).
        gt: (P, K, 3), each with a labeled landmark.
        sizes: (P,) pixels, positive; sqrt(width * height) of the annotated boxes.
    """
    chosen = np.full(len(gt), -1)
    if len(predicted) and len(gt):
        errors = np.nanmean(compute_landmark_distances(predicted[:, None], gt[None]), axis=2) / sizes
        faces = errors.argmin(axis=1)
        for i in np.argsort(-scores, kind="stable"):
            if errors[i, faces[i]] <= _SAME_FACE and chosen[faces[i]] < 0:
                chosen[faces[i]] = i
    return chosen


def compute_mean_error(errors: np.ndarray) -> float:
    """Mean of (F,) errors; NaN of none."""
    return float(np.mean(errors)) if len(errors) else math.nan


def compute_failure_rate(errors: np.ndarray, limit: float) -> float:
    """Return the percentage of (F,) errors above ``limit`` (not equal to it); NaN for no errors."""
    return 100 * compute_mean_error(errors > limit)


def compute_area_under_curve(errors: np.ndarray, limit: float) -> float:
    """Return the area under the cumulative error curve from 0 to ``limit``, in percent of the whole; NaN for no errors.

    Exact: the integral of a step from e on is limit - e.
    """
    return 100 * compute_mean_error(np.maximum(0.0, 1.0 - errors / limit))


def compute_cumulative_curve(errors: np.ndarray, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return corners (x, percent of the (F,) errors that are at most x) of the step function from 0 to ``limit``."""
    x = np.sort(errors[errors <= limit])
    fraction = np.arange(len(x) + 1) / max(1, len(errors)) * 100
    return np.concatenate([[0.0], x, [limit]]), np.concatenate([fraction, fraction[-1:]])


def _measure_distance(landmarks: np.ndarray, first: tuple[int, ...], second: tuple[int, ...]) -> float:
    """Return the distance between the means of two groups of landmarks; NaN if one of them is not labeled."""
    if (landmarks[[*first, *second], 2] <= 0).any():
        return math.nan
    return float(np.linalg.norm(landmarks[list(first), :2].mean(axis=0) - landmarks[list(second), :2].mean(axis=0)))
