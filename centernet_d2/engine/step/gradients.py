"""Gradients that are infinite or NaN change no weight."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor, nn

from centernet_d2.engine.step.anomaly import describe_images, make_non_finite_gradient_error
from centernet_d2.engine.step.host_copy import HostCopy

#: Steps in a row that float16 may leave out while it looks for the scale of the loss.
MOST_LEFT_OUT = 20


class GradientCheck:
    """Looks at the gradients of a model between its backward pass and the optimizer's step.

    An optimizer of the "fused" kind, which is for GPUs, leaves a step out by itself: it is told by a number on the GPU,
    and the host reads that number one step later, when it is there already. Any other waits for :meth:`check`.

    Args:
        may_skip: how many steps in a row may be left out; the scaler of float16 leaves them out.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, may_skip: int = 0) -> None:
        self.model, self.optimizer, self.may_skip = model, optimizer, may_skip
        self.is_deferred = all(group.get("fused") for group in optimizer.param_groups)
        self.skipped = 0
        self._pending: tuple[int, list[str], HostCopy, list[str]] | None = None

    def measure(self, iteration: int, batch: Sequence[dict[str, Any]]) -> None:
        """Begin to copy the norms of the gradients, as the optimizer will see them, to the host."""
        named = [(name, p.grad) for name, p in self.model.named_parameters() if p.grad is not None]
        norms = torch.stack([x.float() for x in torch._foreach_norm([grad for _, grad in named])])
        if self.is_deferred:
            # Where it is not 0 the step changes nothing, as under GradScaler.
            self.optimizer.found_inf = find_non_finite(norms)  # type: ignore[attr-defined]
        names = [name.removeprefix("module.") for name, _ in named]
        self._pending = iteration, names, HostCopy(norms), describe_images(batch)

    def check(self) -> None:
        """Check what was measured last, if it was not yet.

        Raises:
            NonFiniteGradientError: in all processes. The step has changed no weight, or must not be taken.
        """
        if self._pending is None:
            return
        (iteration, names, copied, images), self._pending = self._pending, None
        finite = copied.read().isfinite().tolist()
        self.skipped = 0 if all(finite) else self.skipped + 1
        if self.skipped > self.may_skip:
            guilty = [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]
            everyone = list(chain(*comm.all_gather(images)))
            raise make_non_finite_gradient_error(iteration, guilty, everyone, self.skipped)


def find_non_finite(x: Tensor) -> Tensor:
    """Return 1 if an element is infinite or NaN, else 0: () float32, without waiting for a GPU."""
    return x.isfinite().all().logical_not().float()
