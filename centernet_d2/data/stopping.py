"""All processes of a training stop after the same step, also while they wait for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.utils import comm

from centernet_d2.stop_signals import STOP, StopRequested

_POLL_SECONDS = 0.0005


def stop_together() -> None:
    """Raise ``StopRequested`` in all processes if one of them was told to stop; to be called in all of them.

    Costs an exchange of one number between the processes' CPUs, and nothing in a single process.
    """
    together = STOP.postponing and comm.get_world_size() > 1
    if _share_greatest(STOP.received) if together else STOP.received:
        # Once more: the signal may have come after the process had given its number.
        raise StopRequested(_share_greatest(STOP.received) if together else STOP.received)


def _share_greatest(number: int) -> int:
    shared = torch.tensor([number])
    group = comm._get_global_gloo_group()
    work = torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, group=group, async_op=True)
    # Waiting inside the operation would keep signals from being handled.
    while not work.is_completed():
        time.sleep(_POLL_SECONDS)
    work.wait()
    return int(shared)


class StoppableLoader:
    """A loader of a dataset to evaluate on. Told to stop, it ends, and raises ``StopRequested`` in all processes."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.dataset = getattr(loader, "dataset", None)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while not STOP.received:
            try:
                with STOP.interruptible():
                    batch = next(batches)
            except (StopIteration, StopRequested):
                break
            yield batch
        stop_together()
