"""Layers that the backbones share."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d, get_norm
from fvcore.nn import weight_init
from torch import Tensor, nn


def conv_norm(in_channels: int, out_channels: int, kernel_size: int, norm: str, stride: int = 1) -> Conv2d:
    """Return a convolution that keeps the size (divided by ``stride``), followed by ``norm``."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
    )
    weight_init.c2_msra_fill(conv)
    return conv


class TwoConvBlock(nn.Module):
    """Two 3x3 convolutions whose result is added to a shortcut that the caller gives."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_norm(in_channels, out_channels, 3, norm, stride)
        self.conv2 = conv_norm(out_channels, out_channels, 3, norm)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu(self.conv1(x))) + shortcut)


def freeze_stages(stages: Sequence[Sequence[nn.Module]], freeze_at: int) -> None:
    """Freeze weights and statistics of the first ``freeze_at`` stages.

    Args:
        stages: layers whose maps have strides 2, 4, 8, ...

    Raises:
        ValueError: there are not so many.
    """
    if not 0 <= freeze_at <= len(stages):
        raise ValueError(
            f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, and this backbone has {len(stages)} stages that can be frozen"
        )
    for stage in stages[:freeze_at]:
        for module in stage:
            FrozenBatchNorm2d.convert_frozen_batchnorm(module.requires_grad_(False))
