"""Reading dense maps at cells; lists of cells in few sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from centernet_d2.ops.constants import make_constant

#: Image index of a row of padding. (As an index it is the last image: what is read there counts as nothing.)
NO_IMAGE = -1


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


def round_up(count: int, least: int = 64) -> int:
    """Return the smallest power of two that is at least ``count`` and ``least``, itself one."""
    return max(least, 1 << (count - 1).bit_length()) if count else least


def pad_rows(x: Tensor, rows: int, value: float = 0) -> Tensor:
    """Return ``x`` (P, ...) with ``value`` in the rows from P to ``rows``."""
    return F.pad(x, (0, 0) * (x.dim() - 1) + (0, rows - len(x)), value=value)
