"""Class scores of every cell of a feature pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from centernet_d2.modeling.lsnet.towers import PyramidFusion, build_tower, conv

# Start value of the logits: every class has the probability 0.01 (RetinaNet, section 4.1).
CLASS_PRIOR = -math.log((1 - 0.01) / 0.01)


class LevelClassHead(nn.Module):
    """Predicts logits (N, C, H, W) on each level, reading each level where the landmarks say (LSNet, section 4.2).

    Args:
        num_classes: C.
        channels: of the feature maps.
        tower: kinds of its convolutions.
        extra_channels: that other heads add to the tower's maps.
        cumulative_offsets: see :class:`~centernet_d2.modeling.lsnet.towers.PyramidFusion`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int,
        tower: Sequence[str],
        extra_channels: int = 0,
        cumulative_offsets: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.tower = build_tower(tower, channels)
        self.fusion = PyramidFusion(channels + extra_channels, channels, cumulative_offsets)
        self.logits = conv(channels, num_classes, 1, bias=CLASS_PRIOR)

    def forward(self, maps: Sequence[Tensor], kernel_points: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of each level; arguments as of ``PyramidFusion``."""
        return [self.logits(x) for x in self.fusion(maps, kernel_points)]
