"""Pairing of corners by the centers that they predict (Duan et al. 2022, CenterNet++, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

# Above this area, square pixels, the central region of a box is smaller.
_LARGE = 3500.0
# Sides of the central region as a fraction of the box's: large boxes, others.
_CENTRAL = 1 / 4, 1 / 5
# Largest product of the distances of both centers in x and y, as a fraction of the central region's area.
_CENTER_DISTANCE = 0.5


def pair_quarter_boxes(
    first: Tensor,
    first_scores: Tensor,
    first_classes: Tensor,
    second: Tensor,
    second_scores: Tensor,
    second_classes: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pair the upper left quarters of boxes with the lower right ones.

    A pair is a box if both are of one class, its corners are in order, both predicted centers are inside its central
    region and close to each other. Its score is the mean of both.

    Args:
        first, first_scores, first_classes: (N, P, 4) x1, y1, center x, center y; (N, P); (N, P).
        second, second_scores, second_classes: (N, Q, 4) center x, center y, x2, y2; (N, Q); (N, Q).

    Returns:
        boxes (N, P Q, 4), scores (N, P Q), 0 where a pair is no box, and classes (N, P Q).
    """
    first, second = first[:, :, None], second[:, None]
    low, high = torch.broadcast_tensors(first[..., :2], second[..., 2:])
    sides = high - low
    area = sides.prod(dim=-1)
    fraction = torch.where(area > _LARGE, _CENTRAL[0], _CENTRAL[1])[..., None]
    reach, middle = fraction * sides / 2, (low + high) / 2
    inside = [((center - middle).abs() < reach).all(dim=-1) for center in (first[..., 2:], second[..., :2])]
    apart = (first[..., 2:] - second[..., :2]).abs().prod(dim=-1)
    close = apart <= _CENTER_DISTANCE * (2 * reach).prod(dim=-1)
    same = first_classes[:, :, None] == second_classes[:, None]
    valid = same & (sides > 0).all(dim=-1) & inside[0] & inside[1] & close
    scores = (first_scores[:, :, None] + second_scores[:, None]) / 2
    scores = scores * valid * (first_scores > 0)[:, :, None] * (second_scores > 0)[:, None]
    classes = first_classes[:, :, None].expand_as(same)
    return torch.cat([low, high], dim=-1).flatten(1, 2), scores.flatten(1), classes.flatten(1)
