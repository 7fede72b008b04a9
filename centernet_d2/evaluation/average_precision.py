"""Parts of box AP: overlaps, hits, and the two summaries of Pascal VOC's curves."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_iou

# Tolerance for recalls, which are quotients: 3 of 10 must reach 0.3.
_ROUNDING = 1e-12


def compute_box_iou(a: np.ndarray, b: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Return IoU (A, B) of boxes (A, 4) and (B, 4), float64 x1, y1, x2, y2; 0 for empty boxes.

    Args:
        margin: added to all widths and heights, 1 where both ends are pixels inside.
    """
    widened = (np.asarray(x, dtype=np.float64) + np.array([0, 0, margin, margin]) for x in (a, b))
    boxes = (torch.from_numpy(x) for x in widened)
    return box_iou(*boxes).nan_to_num(0).numpy()


def mark_first_of_each(numbers: np.ndarray) -> np.ndarray:
    """Return (n,) bool: True at the first occurrence of each non-negative integer."""
    first = np.zeros(len(numbers), dtype=bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    return first & (numbers >= 0)


def compute_area_under_curve(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return VOC's AP since 2010, as in its development kit: the area below the best precisions at this recall or more.

    Args:
        recall: (n,) float64, ascending, 0 to 1; NaN gives NaN.
        precision: (n,) float64, 0 to 1.
    """
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * best).sum())


def compute_eleven_point_average(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return VOC's AP up to 2009 (Everingham et al. 2010, section 4.2).

    The mean of the best precisions at recalls of at least 0, 0.1, ..., 1; 0 where there is none.

    Args:
        recall, precision: as of ``compute_area_under_curve``; NaN gives NaN.
    """
    if np.isnan(recall).any():
        return float("nan")
    wanted = np.linspace(0, 1, 11) - _ROUNDING
    return float(np.mean([precision[recall >= level].max(initial=0.0) for level in wanted]))
