"""The penalty-reduced focal loss of heatmaps, from logits and sparse targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from centernet_d2.ops.gaussian import SparseMaps

# Cells worked on at a time: bounds the temporary memory; on a CPU they stay in the cache.
_CHUNK = {"cpu": 1 << 18, "cuda": 1 << 24}


class _BackgroundLoss(torch.autograd.Function):
    """Sum over all cells of p^2 log(1 - p), negated: the whole loss where the target is zero.

    The gradient is computed with the value, so that nothing but itself is kept: one copy of the logits instead of the
    dozen that automatic differentiation keeps.
    """

    @staticmethod
    def forward(ctx, logits: Tensor) -> Tensor:
        flat = logits.detach().reshape(-1)
        gradient = torch.empty_like(flat) if logits.requires_grad else None
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        chunk = _CHUNK.get(logits.device.type, 1 << 22)
        for start in range(0, len(flat), chunk):
            x = flat[start : start + chunk]
            x = x if x.dtype == torch.float64 else x.float()
            p, log_term = x.sigmoid(), F.softplus(x)
            squared = p * p
            total += (squared * log_term).sum(dtype=torch.float64)
            if gradient is not None:
                gradient[start : start + chunk] = squared * (2 * (1 - p) * log_term + p)
        if gradient is not None:
            ctx.save_for_backward(gradient.view(logits.shape))
        return total.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> Tensor:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output.to(gradient.dtype)


def heatmap_focal_loss(logits: Tensor, target: SparseMaps) -> Tensor:
    """Sum over cells; divide by the number of points.

    -(1 - p)^2 log p where the target is 1, elsewhere -(1 - y)^4 p^2 log(1 - p) (CenterNet, equation 1; alpha 2, beta
    4). float32 inside, whatever the logits are; finite for any finite logit, because the logarithms are softplus of the
    logits. (Published code clamps p to 1e-4..0.9999 instead: beyond, a cell has no gradient there.)

    Args:
        logits: (N, D, H, W).
        target: of the same shape, values y.
    """
    x, y, p, background = _at_targets(logits, target)
    cells = torch.where(y == 1, (1 - p) ** 2 * F.softplus(-x), (1 - y) ** 4 * background)
    return _BackgroundLoss.apply(logits) + (cells - background).sum()


def quality_focal_loss(logits: Tensor, target: SparseMaps) -> Tensor:
    """Sum over cells; divide by the number of points.

    -(y - p)^2 (y log p + (1 - y) log(1 - p)): the target y is a probability to be met, 0 at p = y (Generalized Focal
    Loss, equation 5; beta 2). Precision, arguments and background (y = 0) as of :func:`heatmap_focal_loss`.
    """
    x, y, p, background = _at_targets(logits, target)
    cells = (y - p) ** 2 * F.binary_cross_entropy_with_logits(x, y, reduction="none")
    return _BackgroundLoss.apply(logits) + (cells - background).sum()


def _at_targets(logits: Tensor, target: SparseMaps) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, targets and probabilities of the cells with a target, (E,) each, and the loss that the background sum
    has counted there, as if the target were 0."""
    x = logits.reshape(-1)[target.index]
    x = x if x.dtype == torch.float64 else x.float()
    p = x.sigmoid()
    return x, target.value.to(x.dtype), p, p**2 * F.softplus(x)


HEATMAP_LOSSES = {"focal": heatmap_focal_loss, "quality": quality_focal_loss}
