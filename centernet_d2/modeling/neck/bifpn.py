"""Layers that lead down and up the pyramid again (Tan et al. 2020, "EfficientDet", section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from centernet_d2.layers.fusion import Fuse
from centernet_d2.modeling.neck.base import NECK_REGISTRY
from centernet_d2.modeling.neck.fusing_neck import FusingNeck


class BiFPNLayer(nn.Module):
    """As many maps as before, all of width ``width``.

    Args:
        channels: of the maps, from the finest to the coarsest.
        width: of the results.
        last: nothing but the finest result is read, so that the way up again does not exist.
        node: see :meth:`FusingNeck.build`.
    """

    def __init__(self, channels: Sequence[int], width: int, last: bool, node: Callable[..., Fuse]) -> None:
        super().__init__()

        def make_fusion(*inputs: tuple[int, float]) -> Fuse:
            return node(inputs, width, width)

        *finer, coarsest = channels
        # From fine to coarse. The coarsest map has no way down of its own, the finest none up.
        self.top_down = nn.ModuleList(
            make_fusion((c, 1), (coarsest if i == len(finer) - 1 else width, 2)) for i, c in enumerate(finer)
        )
        self.bottom_up = nn.ModuleList()
        if not last:
            self.bottom_up.extend(make_fusion((c, 1), (width, 1), (width, 0.5)) for c in finer[1:])
            self.bottom_up.append(make_fusion((coarsest, 1), (width, 0.5)))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the maps from the finest to the coarsest; the last layer returns the finest only."""
        down = [maps[-1]]
        for fuse, x in zip(reversed(self.top_down), reversed(maps[:-1]), strict=True):
            down.insert(0, fuse(x, down[0]))
        results = down[:1]
        for i, fuse in enumerate(self.bottom_up, start=1):
            inner = down[i : i + 1] if i < len(maps) - 1 else []
            results.append(fuse(maps[i], *inner, results[-1]))
        return results


@NECK_REGISTRY.register()
class BiFPNNeck(FusingNeck):
    """As many layers as ``channels`` has widths; the first projects the backbone's maps. Weighted in EfficientDet."""

    def build(self, widths: list[int], node: Callable[..., Fuse]) -> None:
        given, self.layers = self.channels, nn.ModuleList()
        for i, width in enumerate(widths):
            self.layers.append(BiFPNLayer(given, width, i == len(widths) - 1, node))
            given = [width] * len(given)

    def fuse(self, maps: list[Tensor]) -> Tensor:
        for layer in self.layers:
            maps = layer(maps)
        return maps[0]
