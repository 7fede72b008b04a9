"""DLA-34: iterative and hierarchical aggregation of residual blocks (Yu et al. 2018, "Deep Layer Aggregation")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from centernet_d2.layers.conv_blocks import TwoConvBlock, conv_norm, freeze_stages


class Tree(nn.Module):
    """A binary tree of blocks; its root merges the last block with everything that was handed down.

    Only the innermost trees project their shortcut. The reference networks hold a projection in the outer ones too, the
    result of which nothing reads.

    Args:
        levels: depth of the tree, 2 ** levels blocks.
        in_channels, out_channels, stride: of the whole tree.
        keep_input: hand the (pooled) input down to the root.
        inherited: channels that the caller hands down.
        norm: name of the normalization.
    """

    def __init__(
        self,
        levels: int,
        in_channels: int,
        out_channels: int,
        stride: int,
        keep_input: bool,
        inherited: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.levels, self.stride, self.keep_input = levels, stride, keep_input
        inherited += in_channels if keep_input else 0
        if levels > 1:
            self.tree1: nn.Module = Tree(levels - 1, in_channels, out_channels, stride, False, 0, norm)
            self.tree2: nn.Module = Tree(
                levels - 1, out_channels, out_channels, 1, False, inherited + out_channels, norm
            )
            return
        self.tree1 = TwoConvBlock(in_channels, out_channels, stride, norm)
        self.tree2 = TwoConvBlock(out_channels, out_channels, 1, norm)
        self.root = conv_norm(2 * out_channels + inherited, out_channels, 1, norm)
        if in_channels != out_channels:
            self.project = conv_norm(in_channels, out_channels, 1, norm)
        else:
            self.project = None

    def forward(self, x: Tensor, inherited: Sequence[Tensor] = ()) -> Tensor:
        """Map (N, c, H, W) to (N, d, H / stride, W / stride); ``inherited`` has the size of the result."""
        bottom = F.max_pool2d(x, self.stride) if self.stride > 1 else x
        if self.keep_input:
            inherited = [*inherited, bottom]
        if self.levels > 1:
            first = self.tree1(x)
            return self.tree2(first, [*inherited, first])
        first = self.tree1(x, bottom if self.project is None else self.project(bottom))
        second = self.tree2(first, first)
        return F.relu(self.root(torch.cat([second, first, *inherited], dim=1)))


class DLA(Backbone):
    """DLA-34. (N, 3, H, W) becomes "dla2".."dla5": (N, c, H / R, W / R) with R = 4, 8, 16, 32; H and W multiples of 32.

    Args:
        channels: widths at strides 1, 2, 4, 8, 16, 32.
        norm: name of the normalization.
        freeze_at: what maps of strides up to 2 ** ``freeze_at`` depend on is not trained; 0: all is.
    """

    def __init__(
        self, *, channels: Sequence[int] = (16, 32, 64, 128, 256, 512), norm: str = "BN", freeze_at: int = 0
    ) -> None:
        super().__init__()
        self.stem = conv_norm(3, channels[0], 7, norm)
        self.stem.activation = F.relu
        self.level0 = conv_norm(channels[0], channels[0], 3, norm)
        self.level1 = conv_norm(channels[0], channels[1], 3, norm, stride=2)
        self.level2 = Tree(1, channels[1], channels[2], 2, False, 0, norm)
        self.level3 = Tree(2, channels[2], channels[3], 2, True, 0, norm)
        self.level4 = Tree(2, channels[3], channels[4], 2, True, 0, norm)
        self.level5 = Tree(1, channels[4], channels[5], 2, True, 0, norm)
        levels = (self.level2, self.level3, self.level4, self.level5)
        freeze_stages([(self.stem, self.level0, self.level1), *[(level,) for level in levels]], freeze_at)
        self._out_features = ["dla2", "dla3", "dla4", "dla5"]
        self._out_feature_channels = dict(zip(self._out_features, channels[2:], strict=True))
        self._out_feature_strides = dict(zip(self._out_features, (4, 8, 16, 32), strict=True))

    @property
    def size_divisibility(self) -> int:
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        for layer in (self.level0, self.level1):
            x = F.relu(layer(x))
        maps = {}
        for name, level in zip(self._out_features, (self.level2, self.level3, self.level4, self.level5), strict=True):
            x = maps[name] = level(x)
        return maps


@BACKBONE_REGISTRY.register()
def build_dla_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DLA:
    """Build DLA-34 with MODEL.DLA.NORM and MODEL.BACKBONE.FREEZE_AT."""
    return DLA(norm=cfg.MODEL.DLA.NORM, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)
