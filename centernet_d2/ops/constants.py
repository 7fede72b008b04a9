"""Short lists of numbers as tensors, without making the host wait for a device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def make_constant(values: Sequence[float], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return ``values`` as a tensor (n,) on the device and of the dtype of ``like``, unless ``dtype`` says another one;
    not to be written to.

    ``torch.tensor`` copies them from the host, which waits until a GPU has done all before. There they are made
    once, by kernels.
    """
    if like.device.type == "cpu":
        return torch.tensor(values, dtype=dtype or like.dtype)
    return _make_on_device(tuple(values), dtype or like.dtype, like.device)


def select_channels(maps: Tensor, dim: int, order: Sequence[int]) -> Tensor:
    """Return ``maps`` with the entries ``order`` of dimension ``dim``. (Indexing by a list makes the host wait.)"""
    return maps.index_select(dim, make_constant(order, maps, torch.int64))


@lru_cache(maxsize=256)
def _make_on_device(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return torch.stack([torch.full((), x, dtype=dtype, device=device) for x in values])
