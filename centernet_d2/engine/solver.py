"""The optimizer and the schedule that the config names."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, get_default_optimizer_params
from detectron2.solver import build_lr_scheduler as build_detectron2_scheduler
from detectron2.solver.build import maybe_add_gradient_clipping
from fvcore.common.param_scheduler import CompositeParamScheduler, CosineParamScheduler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

_NAMES = ("Adam", "AdamW", "SGD")
# A value of SOLVER.CLIP_GRADIENTS.CLIP_TYPE beside Detectron2's "value" and "norm", which clip each parameter alone.
_FULL_MODEL = "full_model"


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build ``SOLVER.OPTIMIZER`` over the model's parameters, with Detectron2's rules for norms, biases and clipping.

    Raises:
        ValueError: there is no such optimizer here.
    """
    solver = cfg.SOLVER
    if solver.OPTIMIZER not in _NAMES:
        raise ValueError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}, not one of {', '.join(_NAMES)}")
    parameters = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    momentum = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV} if solver.OPTIMIZER == "SGD" else {}
    optimizer = getattr(torch.optim, solver.OPTIMIZER)(parameters, lr=solver.BASE_LR, **momentum)
    clipping = solver.CLIP_GRADIENTS
    if clipping.ENABLED and clipping.CLIP_TYPE == _FULL_MODEL:
        _clip_full_model(optimizer, clipping.CLIP_VALUE, clipping.NORM_TYPE)
        return optimizer
    return maybe_add_gradient_clipping(cfg, optimizer)


def _clip_full_model(optimizer: torch.optim.Optimizer, largest: float, norm_type: float) -> None:
    """Scale the gradients before each step so that the norm of all of them together is at most ``largest``."""

    def clip(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, largest, norm_type)

    optimizer.register_step_pre_hook(clip)


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build one of Detectron2's schedules, or "OneCycleLR".

    One cycle (Smith 2018, "Super-Convergence", with cosines for lines as in PyTorch's, without its cycle of momentum):
    over ``WARMUP_ITERS`` from ``WARMUP_FACTOR * BASE_LR`` up to ``BASE_LR``, and over all others down to
    ``BASE_LR_END``.

    Raises:
        ValueError: there is no such schedule, or all of it would be warm-up.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "OneCycleLR":
        return build_detectron2_scheduler(cfg, optimizer)
    fraction = solver.WARMUP_ITERS / solver.MAX_ITER
    if not 0 < fraction < 1:
        raise ValueError(
            f"OneCycleLR climbs for SOLVER.WARMUP_ITERS, {solver.WARMUP_ITERS}: make it more than 0 and less than "
            f"SOLVER.MAX_ITER, {solver.MAX_ITER} (a third of it is usual)"
        )
    up = CosineParamScheduler(solver.WARMUP_FACTOR, 1)
    down = CosineParamScheduler(1, solver.BASE_LR_END / solver.BASE_LR)
    cycle = CompositeParamScheduler([up, down], [fraction, 1 - fraction], ["rescaled", "rescaled"])
    return LRMultiplier(optimizer, cycle, solver.MAX_ITER)
