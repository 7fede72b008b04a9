"""One side of CenterNet++: boxes from a corner to the center of the object, with classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from centernet_d2.modeling.lsnet.class_head import CLASS_PRIOR
from centernet_d2.modeling.lsnet.towers import KERNEL_POINTS, attenuate_gradient, build_tower, conv
from centernet_d2.ops.lsnet.pyramid_deform_conv import pyramid_deform_conv


class QuarterBoxHead(nn.Module):
    """Predicts a class and nine points at each cell of each level (CenterNet++, Duan et al. 2022, section 3.3).

    Points are y, x relative to the anchor point, in strides. Point 0 is the top-left and point 1 the bottom-right
    corner of the quarter box; all nine are where the second stage reads the map.

    Args:
        num_classes: C.
        channels: of the feature maps.
        tower: kinds of its convolutions.
        extra_channels: that the corner head adds to the maps of the second stage.
        deformable: read at the nine points; else a plain 3x3 convolution (CenterNet-RT).
    """

    def __init__(
        self, *, num_classes: int, channels: int, tower: Sequence[str], extra_channels: int = 0, deformable: bool = True
    ) -> None:
        super().__init__()
        self.num_classes, self.deformable = num_classes, deformable
        self.class_tower, self.box_tower = build_tower(tower, channels), build_tower(tower, channels)
        self.init = nn.Sequential(
            conv(channels, channels, 3), nn.ReLU(inplace=True), conv(channels, 2 * KERNEL_POINTS, 1)
        )
        width = channels + extra_channels
        self.class_conv, self.box_conv = (
            nn.Conv2d(width, channels, 3, padding=1, bias=not deformable) for _ in range(2)
        )
        for layer in (self.class_conv, self.box_conv):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.logits = conv(channels, num_classes, 1, bias=CLASS_PRIOR)
        self.refine = conv(channels, 2 * KERNEL_POINTS, 1)

    def predict_initial(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the points (N, 18, H, W) of the first stage, from the box tower's maps."""
        return [self.init(x) for x in maps]

    def predict_refined(
        self, class_maps: Sequence[Tensor], box_maps: Sequence[Tensor], initial: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits (N, C, H, W) and points (N, 18, H, W) of the second stage."""
        logits, points = [], []
        for class_map, box_map, first in zip(class_maps, box_maps, initial, strict=True):
            where = attenuate_gradient(first).unflatten(1, (KERNEL_POINTS, 2))
            logits.append(self.logits(self._read(self.class_conv, class_map, where)))
            points.append(self.refine(self._read(self.box_conv, box_map, where)))
        return logits, points

    def _read(self, layer: nn.Conv2d, x: Tensor, points: Tensor) -> Tensor:
        if self.deformable:
            return pyramid_deform_conv(x, points, layer.weight).relu()
        return layer(x).relu()


def decode_quarter_boxes(points: Tensor, anchors: Tensor, strides: Tensor) -> Tensor:
    """Return quarter boxes (..., 4), x1, y1, x2, y2 in input pixels; corners in the wrong order are exchanged.

    Args:
        points: (..., 18) y, x of nine points in strides.
        anchors: (..., 2) x, y, input pixels.
        strides: (...).
    """
    first, second = points[..., :4].unflatten(-1, (2, 2)).flip(-1).unbind(-2)
    corners = torch.minimum(first, second), torch.maximum(first, second)
    return torch.cat([anchors + strides[..., None] * corner for corner in corners], dim=-1)


def split_boxes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the top-left and the bottom-right quarter (P, 4) of boxes (P, 4)."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat([boxes[:, :2], middle], dim=1), torch.cat([middle, boxes[:, 2:]], dim=1)
