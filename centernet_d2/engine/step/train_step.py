"""One iteration of training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from centernet_d2.data.stopping import stop_together
from centernet_d2.engine.random_state import get_random_state, set_random_state
from centernet_d2.engine.step.anomaly import describe_images, describe_losses, make_non_finite_loss_error
from centernet_d2.engine.step.gradients import MOST_LEFT_OUT, GradientCheck
from centernet_d2.engine.step.host_copy import HostCopy
from centernet_d2.stop_signals import STOP, StopRequested


class TrainStep(SimpleTrainer):
    """Forward, backward, check, step: Detectron2's ``SimpleTrainer`` and ``AMPTrainer`` in one, on any device.

    Every iteration checks the losses of all processes, and the gradients. On a GPU they are copied while it works on
    what comes next, so that it does not run dry. float16 leaves steps with infinite gradients out, at most
    ``MOST_LEFT_OUT`` in a row.

    Args:
        precision: of autocast; None trains in float32. float16 scales the loss.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        precision: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.device_type = next(model.parameters()).device.type
        self.precision = precision
        self.grad_scaler = torch.amp.GradScaler(self.device_type, enabled=precision == torch.float16)
        may_skip = MOST_LEFT_OUT if self.grad_scaler.is_enabled() else 0
        self.gradients = GradientCheck(model, optimizer, may_skip)

    def run_step(self) -> None:
        """
        Raises:
            NonFiniteLossError: in all processes, before any weight has changed.
            NonFiniteGradientError: likewise; of the step before where the optimizer is a GPU's.
            StopRequested: in all processes, before the step.
        """
        start = time.perf_counter()
        batch = self._fetch_batch()
        data_time = time.perf_counter() - start
        with torch.autocast(self.device_type, dtype=self.precision, enabled=self.precision is not None):
            losses = self.model(batch)
        copied = HostCopy(_gather_losses(losses, data_time))
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        self._check_and_record(list(losses), copied.read(), batch)
        self._check_gradients(batch)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _check_gradients(self, batch: list[dict[str, Any]]) -> None:
        if self.gradients.is_deferred:
            self.gradients.check()
        self.grad_scaler.unscale_(self.optimizer)
        self.gradients.measure(self.iter, batch)
        if not self.gradients.is_deferred:
            self.gradients.check()

    def _fetch_batch(self) -> list[dict[str, Any]]:
        if not STOP.postponing:
            return next(self._data_loader_iter)
        batch, state = [], get_random_state()
        try:
            with STOP.interruptible():
                batch = next(self._data_loader_iter)
        except StopRequested:
            # The mapper may have been stopped between seeding them and putting them back.
            set_random_state(state)
        except Exception:
            # What stops a machine stops the loader's workers, too.
            if not STOP.received:
                raise
        stop_together()
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])

    def _check_and_record(self, names: list[str], everyone: Tensor, batch: list[dict[str, Any]]) -> None:
        """Check and write down the losses ``names``; ``everyone`` is of :func:`_gather_losses`, on the host."""
        values = everyone[:, :-1]
        if not values.isfinite().all():
            guilty = not values[comm.get_rank()].isfinite().all()
            images = comm.all_gather(describe_images(batch) if guilty else [])
            raise make_non_finite_loss_error(self.iter, describe_losses(names, values), list(chain(*images)))
        if comm.is_main_process():
            means = dict(zip(names, values.mean(dim=0).tolist(), strict=True))
            storage = get_event_storage()
            storage.put_scalar("data_time", float(everyone[:, -1].max()), cur_iter=self.iter)
            storage.put_scalar("total_loss", sum(means.values()), cur_iter=self.iter)
            storage.put_scalars(cur_iter=self.iter, **means)


def _gather_losses(losses: Mapping[str, Tensor], data_time: float) -> Tensor:
    """Return the losses, and last ``data_time``, of every process: (processes, terms + 1) float32, on the device."""
    values = torch.stack([x.detach().float() for x in losses.values()])
    row = torch.cat([values, values.new_full((1,), data_time)])
    rows = [row]
    if comm.get_world_size() > 1:
        rows = [torch.empty_like(row) for _ in range(comm.get_world_size())]
        torch.distributed.all_gather(rows, row)
    return torch.stack(rows)
