"""The penalty-reduced focal loss of heatmaps, from logits and sparse targets."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from centernet_d2.ops.gaussian import SparseMaps

# Of logits and targets (E,) each.
CellLoss = Callable[[Tensor, Tensor], Tensor]

# Cells worked on at a time: bounds the temporary memory; on a CPU they stay in the cache.
_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}
# A logit without loss.
_NOWHERE = -100.0


def heatmap_focal_loss(logits: Tensor, target: SparseMaps, fused: bool = False) -> Tensor:
    """Sum over cells; divide by the number of points.

    -(1 - p)^2 log p where the target is 1, elsewhere -(1 - y)^4 p^2 log(1 - p) (CenterNet, equation 1; alpha 2, beta
    4). float32 inside, whatever the logits are; finite for any finite logit, because the logarithms are softplus of the
    logits. (Reference code clamps p to 1e-4..0.9999 instead: beyond, a cell has no gradient there.)

    Args:
        logits: (N, D, H, W).
        target: of the same shape, values y.
        fused: compute value and gradient in one kernel, which ``torch.compile`` makes at the first call.
    """
    return _sum_cells(logits, target, penalty_reduced_focal, fused)


def quality_focal_loss(logits: Tensor, target: SparseMaps, fused: bool = False) -> Tensor:
    """Sum over cells; divide by the number of points.

    -(y - p)^2 (y log p + (1 - y) log(1 - p)): the target y is a probability to be met, 0 at p = y (Generalized Focal
    Loss, equation 5; beta 2). Precision, arguments and background (y = 0) as of :func:`heatmap_focal_loss`.
    """
    return _sum_cells(logits, target, _compute_quality_focal, fused)


HEATMAP_LOSSES = {"focal": heatmap_focal_loss, "quality": quality_focal_loss}


def penalty_reduced_focal(x: Tensor, y: Tensor) -> Tensor:
    """Return the loss of every cell, see :func:`heatmap_focal_loss`, of logits and targets of the same shape."""
    p = x.sigmoid()
    return torch.where(y == 1, (1 - p) ** 2 * F.softplus(-x), (1 - y) ** 4 * p**2 * F.softplus(x))


def _compute_quality_focal(x: Tensor, y: Tensor) -> Tensor:
    return (y - x.sigmoid()) ** 2 * F.binary_cross_entropy_with_logits(x, y, reduction="none")


def _sum_cells(logits: Tensor, target: SparseMaps, cell_loss: CellLoss, fused: bool) -> Tensor:
    if not torch.compiler.is_compiling():
        return _HeatmapLoss.apply(logits, target, cell_loss, fused)
    # Inside a compiled function; the compiler finds the kernels, and what to compute again in the backward pass.
    x = logits.reshape(-1)[target.index].float()
    listed = cell_loss(x, target.value) - cell_loss(x, torch.zeros_like(x))
    return (_compute_background(logits)[0] + listed.sum()).float()


class _HeatmapLoss(torch.autograd.Function):
    """Of maps of which nearly all cells have the target 0.

    The gradient is computed with the value and given away in the backward pass (computed again, should there be
    another): one copy of the logits in all, instead of the dozen that automatic differentiation keeps.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: SparseMaps, cell_loss: CellLoss, fused: bool) -> Tensor:
        ctx.save_for_backward(logits)
        ctx.target, ctx.cell_loss, ctx.fused = target, cell_loss, fused
        total, ctx.gradient = _compute_value_and_gradient(logits, target, cell_loss, logits.requires_grad, fused)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            (logits,) = ctx.saved_tensors
            _, gradient = _compute_value_and_gradient(logits, ctx.target, ctx.cell_loss, True, ctx.fused)
        return gradient.mul_(grad_output.to(gradient.dtype)), None, None, None


def _compute_value_and_gradient(
    logits: Tensor, target: SparseMaps, cell_loss: CellLoss, with_gradient: bool, fused: bool
) -> tuple[Tensor, Tensor | None]:
    """Sum of ``cell_loss`` over all cells, and its gradient."""
    exact = torch.float64 if logits.dtype == torch.float64 else torch.float32
    flat = logits.detach().reshape(-1)
    compute = (
        _compile_background() if fused and with_gradient else partial(_sum_background, with_gradient=with_gradient)
    )
    total, gradient = compute(flat)
    with torch.enable_grad():
        x = flat[target.index].to(exact).requires_grad_(with_gradient)
        cells = cell_loss(x, target.value.to(exact))
    # The background's sum has counted these cells, too, as if their target were 0. Of padding, it is 0.
    padding = target.value == 0
    background, _ = _sum_background(x.detach().masked_fill(padding, _NOWHERE), False)
    total = (total + cells.detach().masked_fill(padding, 0).sum() - background).to(exact)
    if gradient is None:
        return total, None
    gradient[target.index] = torch.autograd.grad(cells, x, torch.ones_like(cells))[0].to(gradient.dtype)
    return total, gradient.view(logits.shape)


def _sum_background(flat: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Sum of p^2 log(1 - p), negated: float64; and its gradient, in one pass over pieces of the logits."""
    gradient = torch.empty_like(flat) if with_gradient else None
    total = torch.zeros((), dtype=torch.float64, device=flat.device)
    chunk = _CHUNK.get(flat.device.type, 1 << 22)
    for start in range(0, len(flat), chunk):
        value, piece = _compute_background(flat[start : start + chunk])
        total += value
        if gradient is not None:
            gradient[start : start + chunk] = piece
    return total, gradient


def _compute_background(logits: Tensor) -> tuple[Tensor, Tensor]:
    x = logits if logits.dtype == torch.float64 else logits.float()
    p, log_term = x.sigmoid(), F.softplus(x)
    squared = p * p
    gradient = squared * (2 * (1 - p) * log_term + p)
    return (squared * log_term).sum(dtype=torch.float64), gradient.to(logits.dtype)


@cache
def _compile_background() -> Callable[[Tensor], tuple[Tensor, Tensor | None]]:
    return torch.compile(_compute_background, dynamic=True)
