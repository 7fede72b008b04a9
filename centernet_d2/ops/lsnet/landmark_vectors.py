"""Landmarks as vectors of four numbers of at least 0 (Duan et al. 2021, LSNet, section 3.2).

Of a landmark's displacement from the anchor point, the numbers are how far it goes up, down, left and right. Of each
pair the larger one counts; the smaller one is learned as a fraction of it, ``alpha``.
"""

from __future__ import annotations

import torch
from torch import Tensor


def encode_vectors(displacements: Tensor, alpha: float = 0.2) -> Tensor:
    """Return the vectors (..., 4 L) of displacements (..., L, 2), x, y, in their unit.

    Numbers 4 l to 4 l + 3 are up, down, left, right of landmark l. A displacement of 0 is two zeros.
    """
    size = displacements.flip(-1).abs()  # y, x
    backward = displacements.flip(-1) < 0
    pairs = torch.stack([torch.where(backward, size, alpha * size), torch.where(backward, alpha * size, size)], dim=-1)
    return pairs.flatten(-3)


def decode_vectors(vectors: Tensor) -> Tensor:
    """Return the displacements (..., L, 2), x, y, of vectors (..., 4 L); the larger number of a pair is its size.

    The gradient goes into the larger number alone. Of two equal ones, up and left count.
    """
    pairs = vectors.unflatten(-1, (-1, 2, 2))
    first, second = pairs[..., 0], pairs[..., 1]
    return torch.where(second > first, second, -first).flip(-1)


def enclose_landmarks(landmarks: Tensor) -> Tensor:
    """Return the smallest boxes (..., 4), x1, y1, x2, y2, around landmarks (..., L, 2).

    Of extreme points, ``ops.extreme_points.compute_extreme_boxes`` takes each side from its own point.
    """
    return torch.cat([landmarks.amin(dim=-2), landmarks.amax(dim=-2)], dim=-1)
