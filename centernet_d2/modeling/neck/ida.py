"""Iterative aggregation of all neighbouring maps (Yu et al. 2018, "Deep Layer Aggregation", section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from centernet_d2.modeling.neck.blocks import Fuse
from centernet_d2.modeling.neck.build import NECK_REGISTRY, PyramidNeck, neck_arguments, top_down_widths


@NECK_REGISTRY.register()
class IDANeck(PyramidNeck):
    """Gives "neck": (N, channels[-1], H / R, W / R), R the stride of the finest map.

    In each round every map but the coarsest is fused with the next coarser one, doubled, so that one map fewer is left,
    until it is one. Unlike DLAUpNeck, the maps of a round do not depend on each other.

    Args:
        input_shape: the backbone's maps, each of twice the stride of the one before.
        channels: width at each map but the coarsest, from coarse to fine, in all rounds.
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
        results = top_down_widths(self, channels)[::-1]
        given = self.channels
        self.rounds = nn.ModuleList()
        while results:
            pairs = zip(given[:-1], given[1:], results, strict=True)
            self.rounds.append(
                nn.ModuleList(Fuse([(fine, 1), (coarse, 2)], c, c, fusion, conv, norm) for fine, coarse, c in pairs)
            )
            given, results = results, results[:-1]

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return neck_arguments(cfg, input_shape, "channels", "fusion", "conv", "norm")

    def fuse(self, maps: list[Tensor]) -> Tensor:
        for fusions in self.rounds:
            maps = [fuse(*pair) for fuse, *pair in zip(fusions.children(), maps[:-1], maps[1:], strict=True)]
        return maps[0]
