"""Darknet-53 (Redmon and Farhadi 2018, "YOLOv3: An Incremental Improvement", section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from centernet_d2.layers.conv_blocks import conv_norm, freeze_stages

_SLOPE = 0.1


class DarknetBlock(nn.Module):
    """A 1x1 convolution to half the width and a 3x3 one back, added to the input."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_norm(channels, channels // 2, 1, norm)
        self.conv2 = conv_norm(channels // 2, channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), _SLOPE)), _SLOPE)


class DarknetStage(nn.Module):
    """Half the size by a 3x3 convolution, then residual blocks."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, norm: str) -> None:
        super().__init__()
        self.down = conv_norm(in_channels, out_channels, 3, norm, stride=2)
        self.blocks = nn.Sequential(*[DarknetBlock(out_channels, norm) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c, H, W) to (N, d, H / 2, W / 2)."""
        return self.blocks(F.leaky_relu(self.down(x), _SLOPE))


class Darknet(Backbone):
    """(N, 3, H, W) becomes "stride4".."stride32": (N, c, H / R, W / R); H and W multiples of 32.

    The defaults are Darknet-53.

    Args:
        channels: widths at strides 1, 2, 4, 8, 16, 32.
        blocks: residual blocks at strides 2, 4, 8, 16, 32.
        norm: name of the normalization.
        freeze_at: what maps of strides up to 2 ** ``freeze_at`` depend on is not trained; 0: all is.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (32, 64, 128, 256, 512, 1024),
        blocks: Sequence[int] = (1, 2, 8, 8, 4),
        norm: str = "BN",
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.stem = conv_norm(3, channels[0], 3, norm)
        widths = zip(channels[:-1], channels[1:], blocks, strict=True)
        self.stages = nn.ModuleList(DarknetStage(*sizes, norm) for sizes in widths)
        first, *others = self.stages
        freeze_stages([(self.stem, first), *[(stage,) for stage in others]], freeze_at)
        self._out_feature_strides = {f"stride{2**i}": 2**i for i in range(2, 6)}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict(zip(self._out_features, channels[2:], strict=True))

    @property
    def size_divisibility(self) -> int:
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.leaky_relu(self.stem(x), _SLOPE)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return dict(zip(self._out_features, maps[1:], strict=True))


@BACKBONE_REGISTRY.register()
def build_darknet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Darknet:
    """Build Darknet-53 with MODEL.DARKNET.NORM and MODEL.BACKBONE.FREEZE_AT."""
    return Darknet(norm=cfg.MODEL.DARKNET.NORM, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
