"""Keypoints of classes that each have their own, peaks of their heatmaps, and which object a peak belongs to."""

from __future__ import annotations

import torch
from torch import Tensor

# A peak is taken for a regressed keypoint if it is at least this probable and, as a fraction of the box's longer side,
# this close (CenterNet's code for poses).
_MIN_PROBABILITY = 0.1
_REACH = 0.3
#: How far a peak is from where its object expects it, one standard deviation as a fraction of the box's longer side.
TOLERANCE = 0.1


def compute_extreme_box(points: Tensor, used: Tensor) -> Tensor:
    """Return (..., 4) x1, y1, x2, y2 around the ``used`` (..., L) ones of ``points`` (..., L, 2)."""
    low = points.masked_fill(~used[..., None], torch.inf).amin(dim=-2)
    return torch.cat([low, points.masked_fill(~used[..., None], -torch.inf).amax(dim=-2)], dim=-1)


def match_to_peaks(points: Tensor, peaks: Tensor, probability: Tensor, boxes: Tensor, nearest: bool) -> Tensor:
    """Return regressed keypoints (..., L, 2), moved to a peak of their heatmaps where one is probable and close.

    Args:
        points: (..., L, 2) x, y.
        peaks: (..., L, S, 2) x, y.
        probability: (..., L, S) of the peaks, in [0, 1].
        boxes: (..., 4) in the same unit.
        nearest: take the nearest probable peak, if it is inside the box (as in the reference), not the one with the
            largest log p - d^2 / (2 t^2), d the distance and t a tenth of the box's longer side.
    """
    distance = (peaks - points[..., None, :]).norm(dim=-1)
    low, high = boxes[..., None, None, :2], boxes[..., None, None, 2:]
    side = (high - low).amax(dim=-1)
    allowed = distance <= _REACH * side
    if nearest:
        allowed &= (peaks >= low).all(dim=-1) & (peaks <= high).all(dim=-1)
        merit = -distance
    else:
        merit = probability.clamp(min=1e-12).log() - (distance / (TOLERANCE * side)).square() / 2
        merit = merit.masked_fill(~allowed, -torch.inf)
    best, chosen = merit.masked_fill(probability < _MIN_PROBABILITY, -torch.inf).max(dim=-1, keepdim=True)
    matched = (best > -torch.inf) & allowed.gather(-1, chosen)
    taken = peaks.gather(-2, chosen[..., None].expand(*chosen.shape, 2))[..., 0, :]
    return torch.where(matched, taken, points)


def choose_peaks(
    votes: Tensor, peaks: Tensor, probability: Tensor, centers: Tensor, tolerance: Tensor
) -> tuple[Tensor, Tensor]:
    """Return, for each object, the peak of every keypoint that is probable and votes for the object's center.

    The peak with the largest log p - d^2 / (2 tolerance^2) is taken, d from the vote to the center.

    Args:
        votes: (..., L, S, 2) where each peak says its object's center is.
        peaks, probability: (..., L, S, 2) and (..., L, S).
        centers, tolerance: (..., 2) and (...).

    Returns:
        Keypoints (..., L, 2) and their probabilities (..., L).
    """
    away = (votes - centers[..., None, None, :]).square().sum(dim=-1) / (2 * tolerance[..., None, None].square())
    chosen = (probability.clamp(min=1e-12).log() - away).argmax(dim=-1, keepdim=True)
    taken = peaks.gather(-2, chosen[..., None].expand(*chosen.shape, 2))[..., 0, :]
    return taken, probability.gather(-1, chosen)[..., 0]
