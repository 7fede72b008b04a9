"""Contours of a fixed number of points (Duan et al. 2021, LSNet; its ``unify_polygons``), in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Points of a contour before every so many-th is kept.
_OVERSAMPLING = 10
# Parts of an object below these do not count: sides and area, image pixels.
_MIN_SIDE, _MIN_AREA = 1.0, 5.0


def sample_contour(outlines: Sequence[np.ndarray], box: np.ndarray, num_points: int) -> np.ndarray:
    """Return points (K, 2), x, y, along the outline of an object's largest part.

    They run counterclockwise as seen on the screen (top, left, bottom, right) and start with the point that is nearest
    to the middle of the top side of the part's box.

    Args:
        outlines: (V, 2) each, the closed outlines of the object's parts.
        box: (4,) x1, y1, x2, y2, whose corners are the outline where there is no part of at least 1 pixel by 1 pixel
            and 5 square pixels.
        num_points: K.
    """
    parts = [outline for outline in outlines if _is_large(outline)]
    x1, y1, x2, y2 = box
    parts = parts or [np.array([[x1, y1], [x1, y2], [x2, y2], [x2, y1]], dtype=np.float64)]
    dense = [resample_outline(part, _OVERSAMPLING * num_points) for part in parts]
    points = max(dense, key=lambda part: abs(compute_signed_area(part)))[::_OVERSAMPLING]
    if compute_signed_area(points) > 0:
        points = points[::-1]
    low, high = points.min(axis=0), points.max(axis=0)
    distance = np.hypot(points[:, 0] - (low[0] + high[0]) / 2, points[:, 1] - low[1])
    return np.roll(points, -int(distance.argmin()), axis=0)


def reverse_contour(points: np.ndarray) -> np.ndarray:
    """Return contours (..., K, 2) of flipped objects in the order of :func:`sample_contour`: the first point stays, the
    others run the other way round."""
    return np.concatenate([points[..., :1, :], points[..., :0:-1, :]], axis=-2)


def compute_signed_area(outline: np.ndarray) -> float:
    """Return the area inside an outline (V, 2); it is negative if the outline runs counterclockwise on the screen."""
    x, y = outline.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def resample_outline(outline: np.ndarray, num_points: int) -> np.ndarray:
    """Return ``num_points`` points (n, 2) on a closed outline (V, 2), at about equal distances; its vertices are kept.

    Of more vertices than points, those with the longest edges after them remain.
    """
    edges = np.roll(outline, -1, axis=0) - outline
    lengths = np.hypot(*edges.T)
    if len(outline) > num_points:
        return outline[np.sort(np.argsort(-lengths, kind="stable")[:num_points])]
    counts = _share_points(lengths, num_points)
    owner = np.repeat(np.arange(len(outline)), counts)
    place = np.arange(num_points) - np.repeat(np.cumsum(counts) - counts, counts)
    return outline[owner] + (place / counts[owner])[:, None] * edges[owner]


def _share_points(lengths: np.ndarray, num_points: int) -> np.ndarray:
    """Return how many points each edge gets, at least 1, in proportion to its length.

    What rounding adds or loses is taken from the longest edges, one after the other, or given to the longest.
    """
    total = lengths.sum()
    fraction = lengths / total if total > 0 else np.full(len(lengths), 1 / len(lengths))
    counts = np.maximum(1, np.round(fraction * num_points)).astype(np.int64)
    surplus = int(counts.sum()) - num_points
    order = np.argsort(-lengths, kind="stable")
    if surplus < 0:
        counts[order[0]] -= surplus
    for edge in order:
        taken = min(max(surplus, 0), int(counts[edge]) - 1)
        counts[edge] -= taken
        surplus -= taken
    return counts


def _is_large(outline: np.ndarray) -> bool:
    return bool((np.ptp(outline, axis=0) >= _MIN_SIDE).all()) and abs(compute_signed_area(outline)) > _MIN_AREA
