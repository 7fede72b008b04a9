"""Counts over all processes."""

from __future__ import annotations

import torch.distributed
from detectron2.utils import comm
from torch import Tensor


def mean_over_processes(count: Tensor) -> Tensor:
    """``count`` () per process, summed over all of them, at least one in all, divided by their number.

    Gradients are averaged over processes, so dividing a loss by this equals one process with the whole batch.
    """
    world = comm.get_world_size()
    if world > 1:
        count = count.clone()
        torch.distributed.all_reduce(count)
    return count.clamp(min=1) / world
