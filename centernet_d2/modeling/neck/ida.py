"""Iterative aggregation of all neighboring maps (Yu et al. 2018, "Deep Layer Aggregation", section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from centernet_d2.layers.fusion import Fuse
from centernet_d2.modeling.neck.base import NECK_REGISTRY, get_top_down_widths
from centernet_d2.modeling.neck.fusing_neck import FusingNeck


@NECK_REGISTRY.register()
class IDANeck(FusingNeck):
    """In each round every map but the coarsest is fused with the next coarser one, doubled, so that one map fewer is
    left, until it is one. ``channels`` has one width for each map but the coarsest, from coarse to fine, in all rounds.

    Unlike in DLAUpNeck, the maps of a round do not depend on each other.
    """

    def build(self, widths: list[int], node: Callable[..., Fuse]) -> None:
        results = get_top_down_widths(self, widths)[::-1]
        given = self.channels
        self.rounds = nn.ModuleList()
        while results:
            sizes = zip(given[:-1], given[1:], results, strict=True)
            self.rounds.append(nn.ModuleList(node([(fine, 1), (coarse, 2)], c, c) for fine, coarse, c in sizes))
            given, results = results, results[:-1]

    def fuse(self, maps: list[Tensor]) -> Tensor:
        for fusions in self.rounds:
            maps = [fuse(*pair) for fuse, *pair in zip(fusions.children(), maps[:-1], maps[1:], strict=True)]
        return maps[0]
