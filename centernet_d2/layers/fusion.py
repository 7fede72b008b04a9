"""Layers of necks: 3x3 convolutions by kind, and the fusion of maps of different strides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, DepthwiseSeparableConv2d, get_norm
from torch import Tensor, nn

from centernet_d2.layers.deform_conv import ModulatedDeformConv2d

#: How fused maps become one; see :class:`Fuse`.
FUSIONS = ("sum", "weighted", "concat")


def conv3x3(in_channels: int, out_channels: int, kind: str, norm: str) -> nn.Module:
    """Return a 3x3 convolution with ``norm``; (N, c, H, W) becomes (N, d, H, W).

    Args:
        kind: "plain", "deformable" (:class:`ModulatedDeformConv2d`) or "separable" (depthwise with normalization and
            ReLU, then pointwise: Howard et al. 2017, "MobileNets", section 3.1).
        norm: name of the normalization.

    Raises:
        ValueError: there is no such kind.
    """
    if kind == "plain":
        return Conv2d(in_channels, out_channels, 3, padding=1, bias=not norm, norm=get_norm(norm, out_channels))
    if kind == "deformable":
        return ModulatedDeformConv2d(in_channels, out_channels, get_norm(norm, out_channels))
    if kind == "separable":
        return DepthwiseSeparableConv2d(in_channels, out_channels, norm1=norm, activation1=F.relu, norm2=norm)
    raise ValueError(f"MODEL.NECK.CONV must be 'plain', 'separable' or 'deformable' here, not {kind!r}")


class Fuse(nn.Module):
    """Maps of several sizes and widths become one of (N, d, H, W).

    Args:
        inputs: for each map its channels and how much finer the result is: 1, 2 (up-sampled, nearest) or 0.5 (pooled).
        width: of the maps while they are fused; those of another width are projected by a 1x1 convolution first.
        out_channels: d, of the 3x3 convolution after it.
        fusion: "sum"; "weighted", their mean with weights max(w, 0) that are learned, 1 at first (the fast normalized
            fusion of Tan et al. 2020, "EfficientDet", section 3.3); "concat" of the channels.
        conv, norm: of :func:`conv3x3`.

    Raises:
        ValueError: there is no such fusion.
    """

    def __init__(
        self, inputs: Sequence[tuple[int, float]], width: int, out_channels: int, fusion: str, conv: str, norm: str
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"MODEL.NECK.FUSION must be one of {FUSIONS}, not {fusion!r}")
        self.inputs = nn.ModuleList(_build_resampler(channels, width, scale) for channels, scale in inputs)
        self.weights = nn.Parameter(torch.ones(len(inputs))) if fusion == "weighted" else None
        self.concat = fusion == "concat"
        self.conv = conv3x3(width * len(inputs) if self.concat else width, out_channels, conv, norm)

    def forward(self, *maps: Tensor) -> Tensor:
        brought = [layer(x) for layer, x in zip(self.inputs, maps, strict=True)]
        if self.concat:
            return F.relu(self.conv(torch.cat(brought, dim=1)))
        if self.weights is not None:
            weights = F.relu(self.weights)
            weights = weights / (weights.sum() + 1e-4)
            brought = [w * x for w, x in zip(weights.unbind(), brought, strict=True)]
        return F.relu(self.conv(reduce(torch.add, brought)))


def _build_resampler(channels: int, width: int, scale: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 1)] if channels != width else []
    if scale == 2:
        layers.append(nn.Upsample(scale_factor=2))
    elif scale == 0.5:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
