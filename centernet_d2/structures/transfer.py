"""Nested values with many small tensors, moved between host and device in a single copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
# Bytes that every tensor's place in the block is a multiple of.
_ALIGNMENT = 16


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in a block."""

    start: int
    num_bytes: int
    shape: torch.Size
    dtype: torch.dtype

    def read(self, block: Tensor) -> Tensor:
        return block[self.start : self.start + self.num_bytes].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class Packed:
    """A nested value whose tensors lie in one block of bytes.

    Attributes:
        block: (B,) uint8.
        value: the nested value, with a place in the block instead of each tensor.
    """

    block: Tensor
    value: Any

    def pin_memory(self) -> Packed:
        """Return the same in memory that a GPU reads by itself. PyTorch's loader calls it."""
        return replace(self, block=self.block.pin_memory())

    def unpack(self, device: torch.device) -> Any:
        """Return the nested value on ``device``; its tensors share the memory of one block.

        Copies to a device do not wait for it; those to the host do.
        """
        to_host = device.type == "cpu"
        block = self.block.to(device, non_blocking=not to_host)
        return map_leaves(self.value, _Place, lambda place: place.read(block))


def pack(value: Any, pinned: bool = False) -> Packed:
    """Pack dataclasses, tuples, lists and dicts of tensors that are all on one device.

    Gradients do not go through it.

    Args:
        pinned: the block is in memory that a GPU reads by itself.
    """
    parts: list[Tensor] = []
    end = 0

    def place(x: Tensor) -> _Place:
        nonlocal end
        flat = x.detach().contiguous().view(-1)
        # A single number may have any stride, bytes need 1.
        start, raw = end, flat.as_strided(flat.shape, (1,)).view(torch.uint8)
        padding = -len(raw) % _ALIGNMENT
        parts.extend([raw, raw.new_zeros(padding)] if padding else [raw])
        end = start + len(raw) + padding
        return _Place(start, len(raw), x.shape, x.dtype)

    places = map_leaves(value, Tensor, place)
    if not parts:
        return Packed(torch.zeros(0, dtype=torch.uint8), places)
    block = torch.empty(end, dtype=torch.uint8, device=parts[0].device, pin_memory=pinned)
    return Packed(torch.cat(parts, out=block), places)


def move(value: T, device: torch.device) -> T:
    """Return ``value``, as of :func:`pack`, on ``device``, in one copy; without any if it is there."""
    places = {x.device for x in list_tensors(value)}
    if places <= {device}:
        return value
    return pack(value, pinned=device.type == "cuda").unpack(device)


def list_tensors(value: Any) -> Iterator[Tensor]:
    """Return the tensors of a nested value."""
    found: list[Tensor] = []
    map_leaves(value, Tensor, found.append)
    return iter(found)


def map_leaves(value: Any, kind: type, f: Callable[[Any], Any]) -> Any:
    """Return a nested value with ``f`` of each part of the class ``kind`` instead of it; other parts stay."""
    if isinstance(value, kind):
        return f(value)
    if is_dataclass(value) and not isinstance(value, type):
        own = [x.name for x in fields(value) if x.init]
        return replace(value, **{name: map_leaves(getattr(value, name), kind, f) for name in own})
    if isinstance(value, dict):
        return {key: map_leaves(x, kind, f) for key, x in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [map_leaves(x, kind, f) for x in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
