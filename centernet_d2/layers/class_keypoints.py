"""Keypoints of each class as a dense table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Tables:
    """See :class:`ClassKeypoints`."""

    index: Tensor
    used: Tensor


class ClassKeypoints(nn.Module):
    """Which keypoints belong to a class, as tables padded to L, the largest number.

    Attributes:
        index: (C, L) int64; padding repeats the class's first keypoint, or another where the class has none.
        used: (C, L) bool, False for padding.
    """

    index: Tensor
    used: Tensor

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        step = torch.arange(max(end - first for first, end in ranges))
        first, end = torch.tensor(ranges).unbind(1)
        used = first[:, None] + step < end[:, None]
        self.num_keypoints = max(end for _, end in ranges)
        index = torch.where(used, first[:, None] + step, first[:, None]).clamp(max=self.num_keypoints - 1)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("used", used, persistent=False)
        # On the host too, for targets. These are no buffers, which would move to the device.
        self._host = Tables(index.clone(), used.clone())

    def get_tables(self, device: torch.device) -> Tables:
        """Return ``index`` and ``used`` on the device of the model, or on the host."""
        return Tables(self.index, self.used) if device == self.index.device else self._host

    def gather(self, keypoints: Tensor, classes: Tensor) -> Tensor:
        """Return the keypoints (..., L, d) of each object's class, from ``keypoints`` (..., K, d); padding is zero.

        ``classes`` (...).
        """
        tables = self.get_tables(classes.device)
        index = tables.index[classes][..., None].expand(*classes.shape, -1, keypoints.shape[-1])
        return keypoints.gather(-2, index) * tables.used[classes][..., None]

    def scatter(self, own: Tensor, classes: Tensor) -> Tensor:
        """Invert :func:`gather`: return (..., K, d) with zeros for keypoints of other classes."""
        result = own.new_zeros(*classes.shape, self.num_keypoints, own.shape[-1])
        index = self.index[classes][..., None].expand(own.shape)
        return result.scatter_add(-2, index, own * self.used[classes][..., None])
