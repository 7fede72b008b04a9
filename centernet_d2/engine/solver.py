"""The optimizer and the schedule that the config names."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier, get_default_optimizer_params
from detectron2.solver import build_lr_scheduler as build_detectron2_scheduler
from detectron2.solver.build import maybe_add_gradient_clipping
from fvcore.common.param_scheduler import CompositeParamScheduler, CosineParamScheduler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from centernet_d2.data.build import load_training_dicts

_logger = logging.getLogger(__name__)
_NAMES = ("Adam", "AdamW", "SGD")
# A value of SOLVER.CLIP_GRADIENTS.CLIP_TYPE beside Detectron2's "value" and "norm", which clip each parameter alone.
_FULL_MODEL = "full_model"


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build ``SOLVER.OPTIMIZER`` over the model's parameters, with Detectron2's rules for norms, biases and clipping;
    the backbone's rate is ``SOLVER.BACKBONE_LR_FACTOR`` times that of the rest.

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
        lr_factor_func=lambda name: solver.BACKBONE_LR_FACTOR if name.startswith("backbone.") else 1.0,
    )
    momentum = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV} if solver.OPTIMIZER == "SGD" else {}
    kind = {"fused": True} if _can_fuse(cfg, model) else {}
    optimizer = getattr(torch.optim, solver.OPTIMIZER)(parameters, lr=solver.BASE_LR, **momentum, **kind)
    optimizer.register_load_state_dict_pre_hook(_keep_kind)
    clipping = solver.CLIP_GRADIENTS
    if clipping.ENABLED and clipping.CLIP_TYPE == _FULL_MODEL:
        _clip_full_model(optimizer, clipping.CLIP_VALUE, clipping.NORM_TYPE)
        return optimizer
    return maybe_add_gradient_clipping(cfg, optimizer)


def _can_fuse(cfg: CfgNode, model: nn.Module) -> bool:
    """Return whether the optimizer is to be of the kind that takes one kernel, and that can leave out a step on its own
    (see ``gradients``). Not with float16's scaler: SGD starts its momentum wrongly after a first step left out."""
    amp = cfg.SOLVER.AMP
    return next(model.parameters()).is_cuda and not (amp.ENABLED and amp.PRECISION == "float16")


def _keep_kind(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Let an optimizer that loads ``state`` stay fused, or not: that is its device's, not the checkpoint's."""
    kind = {"fused": optimizer.param_groups[0].get("fused")}
    return {**state, "param_groups": [{**group, **kind} for group in state["param_groups"]]}


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


def check_batch_size(cfg: CfgNode, processes: int) -> None:
    """Check that ``processes`` can share a batch, after ``SOLVER.REFERENCE_WORLD_SIZE`` has scaled it.

    Raises:
        ValueError: they cannot.
    """
    batch, reference = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE
    if batch <= 0 or batch % (reference or processes):
        text = f"SOLVER.IMS_PER_BATCH is {batch}, which {reference or processes} processes cannot share evenly"
        if reference:
            text += (
                "; they are those of SOLVER.REFERENCE_WORLD_SIZE, for which the schedule was made. With "
                "SOLVER.REFERENCE_WORLD_SIZE=0 batch, rate and steps are used as they are"
            )
        raise ValueError(text)


def resolve_epochs(cfg: CfgNode) -> CfgNode:
    """Return a frozen copy of ``cfg`` whose keys in epochs have become iterations of ``SOLVER.IMS_PER_BATCH`` images.

    ``SOLVER.EPOCHS`` gives ``MAX_ITER``, ``WARMUP_EPOCHS`` gives ``WARMUP_ITERS``, ``STEPS`` are fractions of the
    schedule, and ``TEST.EVAL_EPOCHS`` gives ``EVAL_PERIOD``; all of them grow alike where the schedule would be shorter
    than ``SOLVER.MIN_ITER``. With ``SOLVER.EPOCHS`` 0 ``cfg`` itself is returned.

    Raises:
        ValueError: a step is no fraction, or the warm-up is as long as the schedule.
    """
    solver = cfg.SOLVER
    if not solver.EPOCHS:
        return cfg
    if not all(0 < step < 1 for step in solver.STEPS):
        raise ValueError(f"with SOLVER.EPOCHS, SOLVER.STEPS are fractions of the schedule, not {tuple(solver.STEPS)}")
    if solver.WARMUP_EPOCHS >= solver.EPOCHS:
        raise ValueError(f"SOLVER.WARMUP_EPOCHS, {solver.WARMUP_EPOCHS}, must be less than EPOCHS, {solver.EPOCHS}")
    images, shortest = len(load_training_dicts(cfg)), solver.MIN_ITER / solver.EPOCHS
    epoch = images / solver.IMS_PER_BATCH
    if epoch < shortest:
        text = "%d images: SOLVER.EPOCHS %g would be %d iterations and become %g, for SOLVER.MIN_ITER %d"
        stretched = solver.EPOCHS * shortest / epoch
        _logger.info(text, images, solver.EPOCHS, math.ceil(solver.EPOCHS * epoch), stretched, solver.MIN_ITER)
        epoch = shortest
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.MAX_ITER = math.ceil(solver.EPOCHS * epoch)
    cfg.SOLVER.WARMUP_ITERS = round(solver.WARMUP_EPOCHS * epoch)
    cfg.SOLVER.STEPS = tuple(round(step * cfg.SOLVER.MAX_ITER) for step in solver.STEPS)
    if cfg.TEST.EVAL_EPOCHS:
        cfg.TEST.EVAL_PERIOD = max(1, round(cfg.TEST.EVAL_EPOCHS * epoch))
    cfg.SOLVER.EPOCHS = 0.0
    cfg.freeze()
    return cfg
