"""The top-down path of a feature pyramid (Lin et al. 2017, "Feature Pyramid Networks", section 3)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from centernet_d2.layers.fusion import Fuse
from centernet_d2.modeling.neck.base import NECK_REGISTRY, get_top_down_widths
from centernet_d2.modeling.neck.fusing_neck import FusingNeck


@NECK_REGISTRY.register()
class FPNNeck(FusingNeck):
    """The coarsest map is projected to ``channels[0]``; then each finer one in turn is fused with the doubled result so
    far at the width ``channels[i]``, and a convolution leads to the next width. ``channels`` has one width for each map
    but the coarsest.
    """

    def build(self, widths: list[int], node: Callable[..., Fuse]) -> None:
        widths = get_top_down_widths(self, widths)
        self.top = nn.Conv2d(self.channels[-1], widths[0], 1)
        sizes = zip(self.channels[-2::-1], widths, [*widths[1:], widths[-1]], strict=True)
        self.fusions = nn.ModuleList(node([(fine, 1), (width, 2)], width, after) for fine, width, after in sizes)

    def fuse(self, maps: list[Tensor]) -> Tensor:
        result = self.top(maps[-1])
        for fuse, fine in zip(self.fusions, maps[-2::-1], strict=True):
            result = fuse(fine, result)
        return result
