"""Boxes as the mean of what several cells of an object predict (box voting: Gidaris and Komodakis 2015,
arXiv:1505.01749, section 5; there of detections after NMS)."""

from __future__ import annotations

import torch
from torch import Tensor

from centernet_d2.ops.constants import make_constant
from centernet_d2.ops.indexing import gather_cells

# Cells of each side that vote, and the IoU with the box of the peak below which a cell sees another object.
# Chosen with images held out of training: docs/ablations.md.
_SIDE = 5
_MIN_OVERLAP = 0.7


def list_voting_cells(boxes: Tensor, cells: Tensor, grid_size: tuple[int, int], alpha: float) -> Tensor:
    """Return the cells (25, ..., 2) int64 around ``cells`` (..., 2) that vote on ``boxes`` (..., 4) in grid cells.

    They cover two standard deviations of TTFNet's Gaussian, ``alpha`` / 6 of the box's sides: where the box is learned
    with most weight. Small boxes have the same cell several times.
    """
    steps = [alpha / 3 * (2 * i / (_SIDE - 1) - 1) for i in range(_SIDE)]
    fractions = make_constant([number for y in steps for x in steps for number in (x, y)], boxes)
    shift = fractions.view(-1, *[1] * (boxes.dim() - 1), 2) * (boxes[..., 2:] - boxes[..., :2])
    return gather_cells(cells + shift.round(), grid_size)


def average_votes(boxes: Tensor, votes: Tensor) -> Tensor:
    """Return the mean (..., 4) of ``votes`` (V, ..., 4) that overlap ``boxes`` (..., 4) with an IoU of at least 0.7;
    ``boxes`` where none does."""
    sides = torch.minimum(votes[..., 2:], boxes[..., 2:]) - torch.maximum(votes[..., :2], boxes[..., :2])
    shared = sides.clamp(min=0).prod(dim=-1)
    areas = [(x[..., 2:] - x[..., :2]).prod(dim=-1) for x in (votes, boxes)]
    near = (shared >= _MIN_OVERLAP * (areas[0] + areas[1] - shared))[..., None]
    count = near.sum(dim=0)
    return torch.where(count > 0, votes.where(near, 0).sum(dim=0) / count.clamp(min=1), boxes)
