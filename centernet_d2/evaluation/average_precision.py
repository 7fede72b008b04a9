"""What average precisions of boxes are made of: overlaps, hits, and the two measures of Pascal VOC's curves."""

from __future__ import annotations

import numpy as np

# Recalls are quotients of integers: 3 of 10 reach 0.3, whatever rounding says.
_ROUNDING = 1e-12


def box_overlaps(a: np.ndarray, b: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """(A, B) intersection over union of boxes (A, 4) and (B, 4), float64 x1, y1, x2, y2.

    Args:
        margin: added to all widths and heights, 1 where both ends are pixels inside.
    """
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    shared = (high - low + margin).clip(min=0).prod(axis=2)
    areas = [(x[:, 2:] - x[:, :2] + margin).prod(axis=1) for x in (a, b)]
    union = areas[0][:, None] + areas[1] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def first_of_each(numbers: np.ndarray) -> np.ndarray:
    """(n,) bool: where a number of the (n,) integers occurs for the first time; never for a negative one."""
    first = np.zeros(len(numbers), dtype=bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    return first & (numbers >= 0)


def area_under_curve(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC's measure since 2010, of its development kit: the area below the best precisions at this recall or more.

    Args:
        recall: (n,) float64, ascending, 0 to 1; NaN gives NaN.
        precision: (n,) float64, 0 to 1.
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())


def eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC's measure to 2009 (Everingham et al. 2010, section 4.2).

    The mean of the best precisions at recalls of at least 0, 0.1, ..., 1; 0 where there is none.

    Args:
        recall, precision: as of ``area_under_curve``; NaN gives NaN.
    """
    if np.isnan(recall).any():
        return float("nan")
    wanted = np.linspace(0, 1, 11) - _ROUNDING
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in wanted]))
