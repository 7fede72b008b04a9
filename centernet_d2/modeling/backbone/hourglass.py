"""Stacked hourglasses as in CornerNet (Law and Deng 2018, section 3.4): strided blocks in place of pooling."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from centernet_d2.layers.conv_blocks import TwoConvBlock, conv_norm, freeze_stages


class Residual(TwoConvBlock):
    """Block with a projected shortcut where it changes size or width."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: str) -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        if stride != 1 or in_channels != out_channels:
            self.shortcut = conv_norm(in_channels, out_channels, 1, norm, stride)
        else:
            self.shortcut = None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x if self.shortcut is None else self.shortcut(x))


class Hourglass(nn.Module):
    """Down and up again around a smaller hourglass, added to a path at full size. The names are the reference ones.

    Args:
        channels: width at each depth, from the outside.
        blocks: residual blocks of each path at each depth.
        norm: name of the normalization.
    """

    def __init__(self, channels: Sequence[int], blocks: Sequence[int], norm: str) -> None:
        super().__init__()
        here, below, count = channels[0], channels[1], blocks[0]
        self.up1 = nn.Sequential(*[Residual(here, here, 1, norm) for _ in range(count)])
        self.low1 = nn.Sequential(
            Residual(here, below, 2, norm), *[Residual(below, below, 1, norm) for _ in range(count - 1)]
        )
        if len(channels) > 2:
            self.low2: nn.Module = Hourglass(channels[1:], blocks[1:], norm)
        else:
            self.low2 = nn.Sequential(*[Residual(below, below, 1, norm) for _ in range(blocks[1])])
        self.low3 = nn.Sequential(
            *[Residual(below, below, 1, norm) for _ in range(count - 1)], Residual(below, here, 1, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels[0], H, W) to the same shape; H and W are divisible by 2 ** (len(channels) - 1)."""
        low = self.low3(self.low2(self.low1(x)))
        return self.up1(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class HourglassNet(Backbone):
    """(N, 3, H, W) becomes "stack1", "stack2", ...: (N, channels[0], H / 4, W / 4) each.

    The defaults are Hourglass-104. H and W must be multiples of :attr:`size_divisibility` (128 there).

    Args:
        num_stacks: hourglasses one after the other, each with an output.
        channels, blocks: of :class:`Hourglass`; two or more, as many of one as of the other.
        norm: name of the normalization.
        freeze_at: 0 to 2, layers of the stem that are not trained; what follows gives no map of one stage.
    """

    def __init__(
        self,
        *,
        num_stacks: int = 2,
        channels: Sequence[int] = (256, 256, 384, 384, 384, 512),
        blocks: Sequence[int] = (2, 2, 2, 2, 2, 4),
        norm: str = "BN",
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        if len(channels) != len(blocks) or len(channels) < 2 or min(blocks) < 1:
            raise ValueError(
                f"MODEL.HOURGLASS: CHANNELS {list(channels)} and BLOCKS {list(blocks)} must be of one length, "
                "at least 2, and no depth without blocks"
            )
        width, between = channels[0], range(num_stacks - 1)
        self.depth = len(channels) - 1
        self.stem = nn.Sequential(conv_norm(3, width // 2, 7, norm, 2), nn.ReLU(), Residual(width // 2, width, 2, norm))
        freeze_stages([[self.stem[0]], [self.stem[2]]], freeze_at)
        self.hourglasses = nn.ModuleList(Hourglass(channels, blocks, norm) for _ in range(num_stacks))
        self.outputs = nn.ModuleList(conv_norm(width, width, 3, norm) for _ in range(num_stacks))
        # The next stack reads both what this one read and what it gave.
        self.merge_input = nn.ModuleList(conv_norm(width, width, 1, norm) for _ in between)
        self.merge_output = nn.ModuleList(conv_norm(width, width, 1, norm) for _ in between)
        self.merge_block = nn.ModuleList(Residual(width, width, 1, norm) for _ in between)
        self._out_features = [f"stack{i + 1}" for i in range(num_stacks)]
        self._out_feature_channels = dict.fromkeys(self._out_features, width)
        self._out_feature_strides = dict.fromkeys(self._out_features, 4)

    @property
    def size_divisibility(self) -> int:
        return 4 * 2**self.depth

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        maps = {}
        for i, name in enumerate(self._out_features):
            maps[name] = F.relu(self.outputs[i](self.hourglasses[i](x)))
            if i < len(self.merge_block):
                merged = self.merge_input[i](x) + self.merge_output[i](maps[name])
                x = self.merge_block[i](F.relu(merged))
        return maps


@BACKBONE_REGISTRY.register()
def build_hourglass_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> HourglassNet:
    """Build MODEL.HOURGLASS, by default Hourglass-104, with MODEL.BACKBONE.FREEZE_AT (its stem)."""
    settings = cfg.MODEL.HOURGLASS
    return HourglassNet(
        num_stacks=settings.NUM_STACKS,
        channels=settings.CHANNELS,
        blocks=settings.BLOCKS,
        norm=settings.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
