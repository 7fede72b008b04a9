"""Exponential moving average (EMA) of the weights during training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.engine import HookBase
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class ModelEma(HookBase):
    """Exponential moving average of a model's weights and floating-point buffers (those of normalizations, too).

    After each step it moves by 1 - d towards the model, where d is ``decay``, but after n steps at most
    (1 + n) / (10 + n), so that early weights decay fast (as in TensorFlow's ExponentialMovingAverage).

    Its checkpoint holds the trained weights; the checkpointer's "model" is the average.

    Args:
        model: the trained model, not wrapped. All processes have the same weights.
        decay: in [0, 1); 0 means no average.

    Raises:
        ValueError: another decay.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"SOLVER.EMA.DECAY must be from 0 to below 1, not {decay}")
        self.model, self.decay = model, decay
        self._average = AveragedModel(model, multi_avg_fn=self._move, use_buffers=True).requires_grad_(False)

    @property
    def averaged(self) -> nn.Module:
        """The model with the average."""
        return self._average.module

    def follow_loaded(self) -> None:
        """Start training from the averaged weights. Not for resumed runs, which load both."""
        if not self._average.n_averaged:
            self.model.load_state_dict(self.averaged.state_dict())

    def after_step(self) -> None:
        self._average.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": int(self._average.n_averaged), "model": self.model.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._average.n_averaged.fill_(state_dict["steps"])
        self.model.load_state_dict(state_dict["model"])

    def _move(self, averaged: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            for mine, new in zip(averaged, current, strict=True):
                mine.copy_(new)
            return
        steps = int(self._average.n_averaged)  # the value is on the GPU: reading it waits
        get_ema_multi_avg_fn(min(self.decay, (1 + steps) / (10 + steps)))(averaged, current, steps)
