"""Reading dense maps at cells, and writing them."""

from __future__ import annotations

import torch
from torch import Tensor

from centernet_d2.ops.constants import make_constant


def make_image_index(like: Tensor) -> Tensor:
    """Return (N, ...) int64: which image each entry of ``like`` (N, ...) belongs to."""
    index = torch.arange(len(like), device=like.device)
    return index.view(-1, *[1] * (like.dim() - 1)).expand(like.shape)


def read_at(maps: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
    """Return values (..., D) of (N, D, H, W) ``maps`` at ``cells`` (..., 2) int64 x, y of
    images ``image_index`` (...)."""
    return maps[image_index, :, cells[..., 1], cells[..., 0]]


def gather_cells(points: Tensor, grid_size: tuple[int, int]) -> Tensor:
    """Return the cells (..., 2) int64 that hold ``points`` (..., 2) x, y in grid cells, float or int64.

    Outside points go to the nearest cell.
    """
    height, width = grid_size
    # Cutting off what is behind the point rounds up only what is below 0.
    cells = points.long().clamp(min=0)
    return torch.minimum(cells, make_constant([width - 1, height - 1], cells))
