"""A top-down path of 2x2 transposed convolutions ("CenterFace", Xu et al. 2019, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, get_norm
from torch import Tensor, nn

from centernet_d2.layers.conv_blocks import conv_norm
from centernet_d2.layers.fusion import conv3x3
from centernet_d2.modeling.neck.base import NECK_REGISTRY, PyramidNeck, get_top_down_widths


@NECK_REGISTRY.register()
class DeconvFPNNeck(PyramidNeck):
    """From the coarsest map on, the result so far is doubled by a transposed convolution; then the next finer map,
    brought to its width by a 1x1 convolution, is added. A 3x3 convolution comes last. ``norm`` and ReLU follow each of
    these layers.

    Args:
        input_shape: the backbone's maps, each of twice the stride of the one before.
        channels: the width at each map but the coarsest, from coarse to fine; the coarsest has the first of them.
        conv: kind of the last convolution (:func:`conv3x3`).
        norm: name of the normalization.

    Raises:
        ValueError: ``channels`` are more or fewer.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        channels: Sequence[int] = (24, 24, 24),
        conv: str = "plain",
        norm: str = "BN",
    ) -> None:
        super().__init__(input_shape, channels[-1])
        widths = get_top_down_widths(self, channels)
        given = [widths[0], *widths[:-1]]
        laterals = zip(self.channels[::-1], [widths[0], *widths], strict=True)
        self.laterals = nn.ModuleList(conv_norm(c, width, 1, norm) for c, width in laterals)
        self.ups = nn.ModuleList(_build_up(*pair, norm) for pair in zip(given, widths, strict=True))
        self.output = conv3x3(widths[-1], widths[-1], conv, norm)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return {**super().from_config(cfg, input_shape), "channels": cfg.MODEL.NECK.CHANNELS}

    def fuse(self, maps: list[Tensor]) -> Tensor:
        result, *finer = (F.relu(lateral(x)) for lateral, x in zip(self.laterals, maps[::-1], strict=True))
        for up, fine in zip(self.ups, finer, strict=True):
            result = F.relu(up(result)) + fine
        return F.relu(self.output(result))


def _build_up(in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=not norm)
    return nn.Sequential(up, get_norm(norm, out_channels) or nn.Identity())
