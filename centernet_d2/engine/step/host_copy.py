"""Reading numbers of a GPU without letting it run dry."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """A tensor on its way to the host. :meth:`read` waits for the copy, not for what a GPU was given to do since."""

    def __init__(self, x: Tensor) -> None:
        self._event = None
        self._copy = torch.empty(x.shape, dtype=x.dtype, pin_memory=x.is_cuda).copy_(x, non_blocking=x.is_cuda)
        if x.is_cuda:
            self._event = torch.cuda.Event()
            self._event.record()

    def read(self) -> Tensor:
        if self._event is not None:
            self._event.synchronize()
        return self._copy
