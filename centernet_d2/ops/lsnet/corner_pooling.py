"""Corner pooling (Law and Deng 2018, CornerNet, section 3.5): maxima over all cells to one side.

Maps and results are (N, C, H, W). The upper left corner of a box is found by :func:`pool_top` and :func:`pool_left`,
which look at the cells below and to the right of each one; the lower right corner by the other two.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool_top(x: Tensor) -> Tensor:
    """Return the maximum over each cell and all cells below it."""
    return _compute_running_maximum(x.flip(2), 2).flip(2)


def pool_left(x: Tensor) -> Tensor:
    """Return the maximum over each cell and all cells to the right of it."""
    return _compute_running_maximum(x.flip(3), 3).flip(3)


def pool_bottom(x: Tensor) -> Tensor:
    """Return the maximum over each cell and all cells above it."""
    return _compute_running_maximum(x, 2)


def pool_right(x: Tensor) -> Tensor:
    """Return the maximum over each cell and all cells to the left of it."""
    return _compute_running_maximum(x, 3)


def _compute_running_maximum(x: Tensor, dim: int) -> Tensor:
    if not torch.compiler.is_exporting():
        return x.cummax(dim).values
    # ONNX has no such operator: maxima over 2, 4, 8, ... cells. (Its gradient is many times slower.)
    step, length = 1, x.shape[dim]
    while step < length:
        later = torch.maximum(x.narrow(dim, step, length - step), x.narrow(dim, 0, length - step))
        x = torch.cat([x.narrow(dim, 0, step), later], dim=dim)
        step *= 2
    return x
