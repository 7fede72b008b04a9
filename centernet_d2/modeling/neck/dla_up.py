"""Upward aggregation of DLA (Yu et al. 2018, section 3), with deformable convolutions (CenterNet, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from centernet_d2.layers.fusion import conv3x3
from centernet_d2.modeling.neck.base import NECK_REGISTRY, PyramidNeck
from centernet_d2.modeling.neck.deconv import build_bilinear_kernel


class Fusion(nn.Module):
    """A coarse map, brought to the width and size of a finer one and added to it.

    Args:
        in_channels: of the coarse map.
        out_channels: of the finer map and of the result.
        factor: how much coarser.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int, conv: str, norm: str) -> None:
        super().__init__()
        self.proj = conv3x3(in_channels, out_channels, conv, norm)
        self.up = nn.ConvTranspose2d(
            out_channels, out_channels, 2 * factor, factor, factor // 2, groups=out_channels, bias=False
        )
        self.up.weight.data[:] = build_bilinear_kernel(2 * factor)
        self.node = conv3x3(out_channels, out_channels, conv, norm)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return F.relu(self.node(self.up(F.relu(self.proj(coarse))) + fine))


class Aggregation(nn.ModuleList):
    """Fuses a list of maps from the first to the last into the size of the first.

    Args:
        channels: of the maps; the results have those of the first.
        factors: how much coarser than the first each extra map is.
    """

    def __init__(self, channels: Sequence[int], factors: Sequence[int], conv: str, norm: str) -> None:
        super().__init__(
            Fusion(width, channels[0], factor, conv, norm) for width, factor in zip(channels[1:], factors, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return as many maps; the last one has aggregated all."""
        results = [maps[0]]
        for fusion, coarse in zip(self, maps[1:], strict=True):
            results.append(fusion(coarse, results[-1]))
        return results


@NECK_REGISTRY.register()
class DLAUpNeck(PyramidNeck):
    """DLA's up-sampling: "neck": (N, c, H / R, W / R) at the width c and stride R of the finest map it is given.

    Args:
        input_shape: the backbone's maps, each of twice the stride of the one before.
        conv: kind of its convolutions (:func:`conv3x3`); deformable in the reference DLA-34.
        norm: name of the normalization.
    """

    @configurable
    def __init__(self, *, input_shape: dict[str, ShapeSpec], conv: str = "deformable", norm: str = "BN") -> None:
        super().__init__(input_shape)
        channels = self.channels
        # Each pass starts one map further up, where all coarser maps have got the width of the pass before.
        self.dla_up = nn.ModuleList()
        for start in reversed(range(len(channels) - 1)):
            coarser = len(channels) - 1 - start
            widths = [channels[start]] + [channels[start + 1]] * coarser
            self.dla_up.append(Aggregation(widths, [2] * coarser, conv, norm))
        factors = [2**i for i in range(1, len(channels) - 1)]
        self.ida_up = Aggregation(channels[:-1], factors, conv, norm)

    def fuse(self, maps: list[Tensor]) -> Tensor:
        aggregated: list[Tensor] = []
        for i, aggregation in enumerate(self.dla_up):
            start = len(maps) - 2 - i
            maps[start:] = aggregation(maps[start:])
            aggregated.insert(0, maps[-1])
        return self.ida_up(aggregated)[-1]
