"""Batches that are on the GPU before they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from centernet_d2.structures.transfer import map_leaves

Batch = list[dict[str, Any]]


class Prefetcher:
    """Copies the images and targets of the next batch to a GPU, on a stream of its own, while it works on this one.

    On a CPU batches go through as they are.

    Args:
        loader: of batches, lists of the mapper's dicts.
        device: of the model.
    """

    def __init__(self, loader: Iterable[Batch], device: torch.device) -> None:
        self.loader, self.device = loader, device

    def __iter__(self) -> Iterator[Batch]:
        if self.device.type != "cuda":
            yield from self.loader
            return
        stream, moved = torch.cuda.Stream(self.device), None
        for batch in self.loader:
            following = self._start_copies(batch, stream)
            if moved is not None:
                yield moved
            # The next step waits for its copies; the host does not.
            torch.cuda.current_stream(self.device).wait_stream(stream)
            moved = following
        if moved is not None:
            yield moved

    def _start_copies(self, batch: Batch, stream: torch.cuda.Stream) -> Batch:
        current = torch.cuda.current_stream(self.device)

        def move(x: Tensor) -> Tensor:
            pinned = x if x.is_pinned() else x.pin_memory()
            copied = pinned.to(self.device, non_blocking=True)
            copied.record_stream(current)  # its memory is not given away before that stream is done with it
            return copied

        with torch.cuda.stream(stream):
            return [
                {key: map_leaves(x, Tensor, move) if key in _MOVED else x for key, x in one.items()} for one in batch
            ]


# What the network takes. All else is read on the host.
_MOVED = ("image", "previous_image", "targets")
