"""Up-sampling by transposed convolutions (Xiao et al. 2018), with deformable ones in between (CenterNet, section 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, get_norm
from torch import Tensor, nn

from centernet_d2.layers.fusion import conv3x3
from centernet_d2.modeling.neck.base import NECK_REGISTRY, Neck


def build_bilinear_kernel(size: int) -> Tensor:
    """Return weights (size, size) with which a transposed convolution of stride ``ceil(size / 2)`` interpolates
    bilinearly."""
    half = math.ceil(size / 2)
    center = (2 * half - 1 - half % 2) / (2 * half)
    row = 1 - (torch.arange(size) / half - center).abs()
    return row[:, None] * row


class UpStage(nn.Module):
    """Twice the size: a 3x3 convolution (unless ``conv`` is ""), then a transposed 4x4 convolution of stride 2."""

    def __init__(self, in_channels: int, out_channels: int, conv: str, norm: str) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, out_channels, conv, norm) if conv else None
        width = out_channels if conv else in_channels
        self.up = nn.ConvTranspose2d(width, out_channels, 4, stride=2, padding=1, bias=not norm)
        self.norm = get_norm(norm, out_channels) or nn.Identity()
        if conv:
            # Every channel starts as its own bilinear interpolation, with a little of the others.
            diagonal = torch.arange(out_channels)
            with torch.no_grad():
                self.up.weight[diagonal, diagonal] = build_bilinear_kernel(4)
        else:
            nn.init.normal_(self.up.weight, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c, H, W) to (N, d, 2H, 2W)."""
        if self.conv is not None:
            x = F.relu(self.conv(x))
        return F.relu(self.norm(self.up(x)))


@NECK_REGISTRY.register()
class DeconvNeck(Neck):
    """From the coarsest map up, by two per stage; "neck": (N, channels[-1], H / R, W / R).

    Args:
        input_shape: the backbone's maps; only the one with the largest stride is read.
        channels: width of each stage.
        conv: kind of the convolution in each stage (:func:`conv3x3`), deformable in the reference ResNet-DCN; "":
            transposed convolutions alone.
        norm: name of the normalization.
    """

    @configurable
    def __init__(
        self, *, input_shape: dict[str, ShapeSpec], channels: Sequence[int], conv: str = "deformable", norm: str = "BN"
    ) -> None:
        in_feature, shape = max(input_shape.items(), key=lambda item: item[1].stride)
        widths = [shape.channels, *channels]
        super().__init__(ShapeSpec(channels=widths[-1], stride=shape.stride // 2 ** len(channels)), shape.stride)
        self.in_feature = in_feature
        self.stages = nn.Sequential(*[UpStage(*pair, conv, norm) for pair in zip(widths, channels, strict=False)])

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return {**super().from_config(cfg, input_shape), "channels": cfg.MODEL.NECK.CHANNELS}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"neck": self.stages(features[self.in_feature])}
