"""How uncertain a keypoint's position is, from its heatmap around it."""

from __future__ import annotations

import torch
from torch import Tensor

from centernet_d2.ops.indexing import gather_cells

# Smallest variance in cells^2: a map may be zero beside one cell.
_SMALLEST = 1e-4


def compute_peak_covariance(
    maps: Tensor, image_index: Tensor, channel: Tensor, points: Tensor, radius: int = 2
) -> Tensor:
    """Return the second moments (..., 2, 2) of probability around each point's cell, in cells^2, about their mean.

    A sharp peak has those of the Gaussians that were learned; where the network hesitates between places, or no peak is
    near, they are larger, and longer in the direction in which it hesitates.

    Args:
        maps: (N, D, H, W) logits.
        image_index, channel: (...) int64.
        points: (..., 2) x, y in grid cells; those outside go to the nearest cell.
        radius: cells on each side of the point's own; those beyond the border do not count.
    """
    size = (maps.shape[-2], maps.shape[-1])
    near = torch.arange(-radius, radius + 1, device=maps.device)
    shift = torch.cartesian_prod(near, near).flip(-1)  # (A, 2) x, y
    places = gather_cells(points, size)[..., None, :] + shift
    cells = gather_cells(places, size)
    values = maps[image_index[..., None], channel[..., None], cells[..., 1], cells[..., 0]].sigmoid()
    weights = values * (places == cells).all(dim=-1) + 1e-12
    weights = weights / weights.sum(dim=-1, keepdim=True)
    offsets = shift.to(maps.dtype)
    middle = (weights[..., None] * offsets).sum(dim=-2)
    away = offsets - middle[..., None, :]
    covariance = ((weights[..., None] * away)[..., :, :, None] * away[..., :, None, :]).sum(dim=-3)
    return covariance + _SMALLEST * torch.eye(2, device=maps.device)


def compute_spread(covariance: Tensor) -> Tensor:
    """Return the vectors (..., 2, 2), one a row, whose outer products add up to ``covariance`` (..., 2, 2): the columns
    of its Cholesky factor."""
    width = covariance[..., 0, 0].sqrt()
    slope = covariance[..., 0, 1] / width
    height = (covariance[..., 1, 1] - slope**2).clamp(min=0).sqrt()
    return torch.stack([torch.stack([width, slope], dim=-1), torch.stack([0 * height, height], dim=-1)], dim=-2)
