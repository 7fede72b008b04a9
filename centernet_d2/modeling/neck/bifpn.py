"""Layers that lead down and up the pyramid again (Tan et al. 2020, "EfficientDet", section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from centernet_d2.modeling.neck.blocks import Fuse
from centernet_d2.modeling.neck.build import NECK_REGISTRY, PyramidNeck, neck_arguments


class BiFPNLayer(nn.Module):
    """As many maps as before, all of width ``width``.

    Args:
        channels: of the maps, from the finest to the coarsest.
        width: of the results.
        last: nothing but the finest result is read, so that the way up again does not exist.
        fusion, conv, norm: of :class:`Fuse`.
    """

    def __init__(self, channels: Sequence[int], width: int, last: bool, fusion: str, conv: str, norm: str) -> None:
        super().__init__()

        def fused(*inputs: tuple[int, float]) -> Fuse:
            return Fuse(inputs, width, width, fusion, conv, norm)

        *finer, coarsest = channels
        # From fine to coarse. The coarsest map has no way down of its own, the finest none up.
        self.top_down = nn.ModuleList(
            fused((c, 1), (coarsest if i == len(finer) - 1 else width, 2)) for i, c in enumerate(finer)
        )
        self.bottom_up = nn.ModuleList()
        if not last:
            self.bottom_up.extend(fused((c, 1), (width, 1), (width, 0.5)) for c in finer[1:])
            self.bottom_up.append(fused((coarsest, 1), (width, 0.5)))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """From the finest to the coarsest; of the last layer the finest alone."""
        down = [maps[-1]]
        for fuse, x in zip(reversed(self.top_down), reversed(maps[:-1]), strict=True):
            down.insert(0, fuse(x, down[0]))
        results = down[:1]
        for i, fuse in enumerate(self.bottom_up, start=1):
            inner = down[i : i + 1] if i < len(maps) - 1 else []
            results.append(fuse(maps[i], *inner, results[-1]))
        return results


@NECK_REGISTRY.register()
class BiFPNNeck(PyramidNeck):
    """Gives "neck": (N, channels[-1], H / R, W / R), R the stride of the finest map.

    Args:
        input_shape: the backbone's maps, each of twice the stride of the one before.
        channels: width of each layer; the first projects the backbone's maps.
        fusion, conv, norm: of :class:`Fuse`; weighted in EfficientDet.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        channels: Sequence[int] = (64, 64, 64),
        fusion: str = "weighted",
        conv: str = "plain",
        norm: str = "BN",
    ) -> None:
        super().__init__(input_shape, channels[-1])
        given, self.layers = self.channels, nn.ModuleList()
        for i, width in enumerate(channels):
            self.layers.append(BiFPNLayer(given, width, i == len(channels) - 1, fusion, conv, norm))
            given = [width] * len(given)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return neck_arguments(cfg, input_shape, "channels", "fusion", "conv", "norm")

    def fuse(self, maps: list[Tensor]) -> Tensor:
        for layer in self.layers:
            maps = layer(maps)
        return maps[0]
