"""Counts over all processes."""

from __future__ import annotations

import torch.distributed
from detectron2.utils import comm
from torch import Tensor


def average_over_processes(count: Tensor, minimum: float = 1.0) -> Tensor:
    """Return ``count`` () summed over all processes, at least ``minimum`` in all, divided by the number of processes.

    Gradients are averaged over processes, so dividing a loss by this equals one process with the whole batch.
    """
    world = comm.get_world_size()
    if world > 1:
        count = count.clone()
        torch.distributed.all_reduce(count)
    return count.clamp(min=minimum) / world
