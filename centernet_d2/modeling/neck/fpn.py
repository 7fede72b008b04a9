"""The top-down path of a feature pyramid (Lin et al. 2017, "Feature Pyramid Networks", section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from centernet_d2.modeling.neck.blocks import Fuse
from centernet_d2.modeling.neck.build import NECK_REGISTRY, PyramidNeck, neck_arguments, top_down_widths


@NECK_REGISTRY.register()
class FPNNeck(PyramidNeck):
    """Gives "neck": (N, channels[-1], H / R, W / R), R the stride of the finest map.

    The coarsest map is projected to ``channels[0]``; then each finer one in turn is fused with the doubled result so
    far at the width ``channels[i]``, and a convolution leads to the next width.

    Args:
        input_shape: the backbone's maps, each of twice the stride of the one before.
        channels: width at each map but the coarsest, from coarse to fine.
        fusion, conv, norm: of :class:`Fuse`.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        channels: Sequence[int] = (256, 128, 64),
        fusion: str = "sum",
        conv: str = "plain",
        norm: str = "BN",
    ) -> None:
        super().__init__(input_shape, channels[-1])
        widths = top_down_widths(self, channels)
        self.top = nn.Conv2d(self.channels[-1], widths[0], 1)
        self.fusions = nn.ModuleList(
            Fuse([(fine, 1), (width, 2)], width, out_channels, fusion, conv, norm)
            for fine, width, out_channels in zip(
                reversed(self.channels[:-1]), widths, [*widths[1:], widths[-1]], strict=True
            )
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return neck_arguments(cfg, input_shape, "channels", "fusion", "conv", "norm")

    def fuse(self, maps: list[Tensor]) -> Tensor:
        result = self.top(maps[-1])
        for fuse, fine in zip(self.fusions, reversed(maps[:-1]), strict=True):
            result = fuse(fine, result)
        return result
