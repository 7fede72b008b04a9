"""EfficientNet-Lite: EfficientNet (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excitation and with ReLU6
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from centernet_d2.layers.conv_blocks import freeze_stages

# Kernel size, stride, expansion, width and number of blocks of each stage of Lite0.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
# Factors of width and depth.
_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
# Stages whose last map is the last one of its stride: 4, 8, 16, 32.
_LAST = (1, 2, 4, 6)
# TensorFlow's, with which the published weights were trained.
_EPSILON = 1e-3


class _Conv(nn.Conv2d):
    """A convolution without bias. With stride 2 it is padded as TensorFlow pads even sizes: one more at the right and
    below."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = 0 if stride == 2 else kernel // 2
        super().__init__(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        before, after = (kernel - 2) // 2, (kernel - 1) // 2
        self.extra = (before, after, before, after) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.extra) if self.extra else x)


class _Block(nn.Module):
    """Inverted residual: 1x1 expansion (but in the first block), depthwise convolution, 1x1 projection."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        depthwise = _Conv(inner, inner, kernel, stride, groups=inner)
        if expansion == 1:
            self.layers = ["conv_dw", "conv_pw"]
            self.conv_dw, self.conv_pw = depthwise, _Conv(inner, out_channels, 1)
        else:
            self.layers = ["conv_pw", "conv_dw", "conv_pwl"]
            self.conv_pw = _Conv(in_channels, inner, 1)
            self.conv_dw, self.conv_pwl = depthwise, _Conv(inner, out_channels, 1)
        for i, layer in enumerate(self.layers, start=1):
            self.add_module(f"bn{i}", nn.BatchNorm2d(getattr(self, layer).out_channels, eps=_EPSILON))
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, layer in enumerate(self.layers, start=1):
            y = getattr(self, f"bn{i}")(getattr(self, layer)(y))
            if i < len(self.layers):
                y = F.relu6(y, inplace=True)
        return x + y if self.residual else y


class EfficientNetLite(Backbone):
    """(N, 3, H, W) becomes "stride4".."stride32": (N, c, H / R, W / R); H and W multiples of 32.

    Parameters have timm's names.

    Args:
        size: 0 to 4, of Lite0 to Lite4.
        depths: number of blocks of each of the seven stages; empty: the published ones. The published weights fit the
            blocks that stay.
        freeze_at: number of stages (strides 2, 4, 8, ...) that are not trained.

    Raises:
        ValueError: there is no such size or stage, or not a depth of at least 1 for each stage.
    """

    def __init__(self, size: int = 0, depths: Sequence[int] = (), freeze_at: int = 0) -> None:
        super().__init__()
        if not 0 <= size < len(_SCALES):
            raise ValueError(f"MODEL.EFFICIENTNET_LITE.SIZE must be 0 to {len(_SCALES) - 1}, not {size}")
        width, depth = _SCALES[size]
        # The first and the last stage have the same depth in all sizes.
        published = [count if count == 1 else math.ceil(count * depth) for *_, count in _STAGES]
        depths = list(depths) or published
        if len(depths) != len(_STAGES) or min(depths) < 1:
            raise ValueError(
                f"MODEL.EFFICIENTNET_LITE.DEPTHS must have at least 1 for each of the {len(_STAGES)} stages, such as "
                f"{published}, not {depths}"
            )
        channels = 32
        self.conv_stem = _Conv(3, channels, 3, 2)
        self.bn1: nn.Module = nn.BatchNorm2d(channels, eps=_EPSILON)
        stages: list[nn.Sequential] = []
        for (kernel, stride, expansion, base, _), count in zip(_STAGES, depths, strict=True):
            out = _round_width(base * width)
            blocks = [_Block(out if j else channels, out, kernel, 1 if j else stride, expansion) for j in range(count)]
            stages.append(nn.Sequential(*blocks))
            channels = out
        self.blocks = nn.Sequential(*stages)
        self._out_feature_strides = {f"stride{4 * 2**i}": 4 * 2**i for i in range(len(_LAST))}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = {
            name: _round_width(_STAGES[i][3] * width) for name, i in zip(self._out_features, _LAST, strict=True)
        }
        groups = [stages[a + 1 : b + 1] for a, b in pairwise((0, *_LAST))]
        freeze_stages([[self.conv_stem, stages[0]], *groups], freeze_at)
        if freeze_at:
            self.bn1 = FrozenBatchNorm2d.convert_frozen_batchnorm(self.bn1.requires_grad_(False))

    @property
    def size_divisibility(self) -> int:
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.relu6(self.bn1(self.conv_stem(x)))
        maps = []
        for i, stage in enumerate(self.blocks):
            x = stage(x)
            if i in _LAST:
                maps.append(x)
        return dict(zip(self._out_features, maps, strict=True))


def _round_width(width: float) -> int:
    """Return the nearest multiple of 8, which is not more than 10 % less."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


@BACKBONE_REGISTRY.register()
def build_efficientnet_lite_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> EfficientNetLite:
    """Build MODEL.EFFICIENTNET_LITE with MODEL.BACKBONE.FREEZE_AT."""
    options = cfg.MODEL.EFFICIENTNET_LITE
    return EfficientNetLite(options.SIZE, options.DEPTHS, cfg.MODEL.BACKBONE.FREEZE_AT)
