"""The optimizer that the config names."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

_NAMES = ("Adam", "AdamW", "SGD")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """``SOLVER.OPTIMIZER`` over the model's parameters, with Detectron2's rules for norms, biases and clipping.

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
    return maybe_add_gradient_clipping(cfg, optimizer)
