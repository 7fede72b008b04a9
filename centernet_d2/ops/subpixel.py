"""Where inside its cell a peak lies, and how uncertain that is, from the heatmap alone."""

from __future__ import annotations

import torch
from torch import Tensor

from centernet_d2.ops.indexing import gather_cells

# Smallest variance in cells^2: a map may be zero beside one cell.
_SMALLEST = 1e-4


def find_dark_position(maps: Tensor, image_index: Tensor, channel: Tensor, cells: Tensor) -> Tensor:
    """Return the top of the parabola through the logarithms of the cells around a peak (DARK, Zhang et al.

    2020, equations 3 to 7, without its smoothing): exact for a Gaussian.

    Args:
        maps: (N, D, H, W) logits.
        image_index, channel: (...) int64.
        cells: (..., 2) int64 x, y of peaks.

    Returns:
        (..., 2) x, y in [0, 1] from the cell's corner; 0.5, the center, in a direction without a maximum.
    """
    log = torch.nn.functional.logsigmoid(_read_window(maps, image_index, channel, cells))
    left, right = log[..., 1, 0], log[..., 1, 2]
    above, below, center = log[..., 0, 1], log[..., 2, 1], log[..., 1, 1]
    gradient = torch.stack([right - left, below - above], dim=-1) / 2
    curvature = torch.stack([left + right - 2 * center, above + below - 2 * center], dim=-1)
    mixed = (log[..., 2, 2] - log[..., 2, 0] - log[..., 0, 2] + log[..., 0, 0]) / 4
    determinant = curvature.prod(dim=-1) - mixed**2
    # -inverse(Hessian) @ gradient, written out.
    step = (mixed[..., None] * gradient.flip(-1) - curvature.flip(-1) * gradient) / determinant[..., None]
    convex = (determinant > 1e-6) & (curvature < 0).all(dim=-1)
    return 0.5 + torch.where(convex[..., None], step, torch.zeros_like(step)).clamp(-0.5, 0.5)


def find_soft_argmax_position(maps: Tensor, image_index: Tensor, channel: Tensor, cells: Tensor) -> Tensor:
    """Return the mean of the centers of the 3x3 cells around a peak, weighted by probability; otherwise as above."""
    probability = _read_window(maps, image_index, channel, cells).sigmoid()
    step = torch.arange(-1.0, 2.0, device=maps.device)
    total = probability.sum(dim=(-2, -1)).clamp(min=1e-12)
    x, y = (probability.sum(dim=-2) * step).sum(dim=-1), (probability.sum(dim=-1) * step).sum(dim=-1)
    return 0.5 + torch.stack([x / total, y / total], dim=-1)


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


def _read_window(maps: Tensor, image_index: Tensor, channel: Tensor, cells: Tensor) -> Tensor:
    """Return (..., 3, 3) rows, columns; the border repeats."""
    near = torch.arange(-1, 2, device=maps.device)
    shift = torch.stack(torch.meshgrid(near, near, indexing="xy"), dim=-1)
    around = gather_cells(cells[..., None, None, :] + shift, (maps.shape[-2], maps.shape[-1]))
    return maps[image_index[..., None, None], channel[..., None, None], around[..., 1], around[..., 0]]
