"""Semantic embedding heads (Zhang et al. 2018, "ExFuse", section 3.2) and transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from centernet_d2.layers.fusion import conv3x3
from centernet_d2.modeling.neck.base import NECK_REGISTRY, PyramidNeck, get_top_down_widths
from centernet_d2.modeling.neck.deconv import UpStage


class SemanticEmbedding(nn.Module):
    """A fine map times what a convolution makes of the next coarser one: meaning where there are only edges.

    It starts near a factor of one, so that it disturbs no pretrained map.
    """

    def __init__(self, fine_channels: int, coarse_channels: int, out_channels: int, conv: str, norm: str) -> None:
        super().__init__()
        self.embed = nn.Conv2d(coarse_channels, fine_channels, 3, padding=1)
        nn.init.normal_(self.embed.weight, std=0.001)
        nn.init.ones_(self.embed.get_parameter("bias"))
        self.conv = conv3x3(fine_channels, out_channels, conv, norm)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map (N, c, 2H, 2W) and (N, d, H, W) to (N, ``out_channels``, 2H, 2W)."""
        factor = F.interpolate(self.embed(coarse), scale_factor=2, mode="bilinear", align_corners=False)
        return F.relu(self.conv(fine * factor))


@NECK_REGISTRY.register()
class SEBNeck(PyramidNeck):
    """Gives "neck": (N, channels[-1], H / R, W / R), R the stride of the finest map.

    Each map but the coarsest is embedded with the backbone's next coarser one, and added to what a transposed
    convolution makes of the result so far.

    Args:
        input_shape: the backbone's maps, each of twice the stride of the one before.
        channels: width at each map but the coarsest, from coarse to fine.
        conv: kind of the convolution after each product (:func:`conv3x3`).
        norm: name of the normalization.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        channels: Sequence[int] = (256, 128, 64),
        conv: str = "plain",
        norm: str = "BN",
    ) -> None:
        super().__init__(input_shape, channels[-1])
        widths = get_top_down_widths(self, channels)
        self.up = nn.ModuleList(
            UpStage(before, width, "", norm)
            for before, width in zip([self.channels[-1], *widths], widths, strict=False)
        )
        pairs = zip(self.channels[-2::-1], self.channels[:0:-1], widths, strict=True)
        self.embeddings = nn.ModuleList(SemanticEmbedding(*pair, conv, norm) for pair in pairs)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return {**super().from_config(cfg, input_shape), "channels": cfg.MODEL.NECK.CHANNELS}

    def fuse(self, maps: list[Tensor]) -> Tensor:
        result = maps[-1]
        for up, embedding, fine, coarse in zip(self.up, self.embeddings, maps[-2::-1], maps[:0:-1], strict=True):
            result = up(result) + embedding(fine, coarse)
        return result
