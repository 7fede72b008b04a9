"""Heads with many channels. Training computes only the cells and channels that the loss reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from centernet_d2.modeling.heads.base import Head
from centernet_d2.ops.indexing import read_at


@dataclass
class DeferredMap:
    """A map (N, D, H, W) before its last 1x1 convolution, which is applied only where the map is read.

    Attributes:
        hidden: (N, h, H, W).
        weight, bias: (D, h) and (D,) of the convolution.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor

    def to_dense(self) -> Tensor:
        """Compute the whole map (N, D, H, W)."""
        return F.conv2d(self.hidden, self.weight[:, :, None, None], self.bias)

    def read(self, image_index: Tensor, cells: Tensor) -> Tensor:
        """Return all channels (..., D) at ``cells`` (..., 2) of images ``image_index`` (...)."""
        return F.linear(read_at(self.hidden, image_index, cells), self.weight, self.bias)

    def read_channels(self, image_index: Tensor, cells: Tensor, channels: Tensor) -> Tensor:
        """Return ``channels`` (E, d) at S ``cells`` (E, S, 2) of each of E points: (E, S, d); ``image_index`` (E,)."""
        hidden = read_at(self.hidden, image_index[:, None], cells)
        return torch.bmm(hidden, self.weight[channels].transpose(1, 2).to(hidden.dtype)) + self.bias[channels][:, None]

    def select_maps(self, image_index: Tensor, channels: Tensor) -> Tensor:
        """Return whole maps (Q, L, H, W) of ``channels`` (Q, L) of images ``image_index`` (Q,)."""
        hidden = self.hidden[image_index]
        maps = torch.bmm(self.weight[channels].to(hidden.dtype), hidden.flatten(2)) + self.bias[channels][..., None]
        return maps.unflatten(2, hidden.shape[2:])


class SparseHead(Head):
    """A head that returns :class:`DeferredMap` in training and dense maps otherwise."""

    def forward(self, features: Sequence[Tensor]) -> list[Any]:
        if not self.training:
            return super().forward(features)
        stacks = list(self.layers)[-len(features) :]
        return [_defer(layers, feature) for layers, feature in zip(stacks, features, strict=True)]


def _defer(layers: nn.Module, feature: Tensor) -> DeferredMap:
    assert isinstance(layers, nn.Sequential)
    last = layers[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    return DeferredMap(layers[:-1](feature), last.weight.flatten(1), last.bias)


NORMALIZERS = ("objects", "keypoints")


def check_normalizer(name: str) -> str:
    """Return ``name`` if it is valid.

    Raises:
        ValueError: it is none of :data:`NORMALIZERS`.
    """
    if name not in NORMALIZERS:
        raise ValueError(f"the normalizer of keypoint losses must be one of {NORMALIZERS}, not {name!r}")
    return name


def average_per_object(errors: Tensor, object_index: Tensor, num_objects: int) -> Tensor:
    """Return the mean of each object's ``errors`` (E,) as (num_objects,), 0 for objects without any."""
    total = errors.new_zeros(num_objects).index_add(0, object_index, errors)
    count = errors.new_zeros(num_objects).index_add(0, object_index, torch.ones_like(errors))
    return total / count.clamp(min=1)
