"""Where inside its cell a peak lies, from the heatmap alone."""

from __future__ import annotations

import torch
from torch import Tensor

from centernet_d2.ops.indexing import gather_cells


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


def _read_window(maps: Tensor, image_index: Tensor, channel: Tensor, cells: Tensor) -> Tensor:
    """Return (..., 3, 3) rows, columns; the border repeats."""
    near = torch.arange(-1, 2, device=maps.device)
    shift = torch.stack(torch.meshgrid(near, near, indexing="xy"), dim=-1)
    around = gather_cells(cells[..., None, None, :] + shift, (maps.shape[-2], maps.shape[-1]))
    return maps[image_index[..., None, None], channel[..., None, None], around[..., 1], around[..., 0]]
