"""Detectron2's feature pyramid on any backbone, with the two coarser levels of LSNet."""

from __future__ import annotations

import math
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import Backbone
from detectron2.modeling.backbone.fpn import FPN
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn

from centernet_d2.modeling.neck.base import NECK_REGISTRY, Neck


@NECK_REGISTRY.register()
class FeaturePyramidNeck(Neck):
    """Maps of strides 8, 16, 32, ... by a feature pyramid (Lin et al. 2017), all of one width.

    The levels of the backbone are Detectron2's ``FPN``. Coarser ones are 3x3 convolutions of stride 2, the first on the
    backbone's coarsest map, each with the norm and without an activation (LSNet, Duan et al. 2021, section 4.1).

    Args:
        input_shape: the backbone's maps; those finer than ``finest_stride`` are not used.
        num_levels: of the result.
        channels: of every level.
        norm: a name that Detectron2's ``get_norm`` takes; "" is none.
        finest_stride: of the first level, input pixels.

    Raises:
        ValueError: the backbone has more levels than ``num_levels``.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        num_levels: int = 5,
        channels: int = 256,
        norm: str = "GN",
        finest_stride: int = 8,
    ) -> None:
        shapes = sorted(input_shape.items(), key=lambda item: item[1].stride)
        used = {name: shape for name, shape in shapes if shape.stride >= finest_stride}
        if len(used) > num_levels:
            raise ValueError(f"MODEL.NECK.NUM_LEVELS is {num_levels}, but the backbone has {len(used)} levels")
        if used:
            extra = ExtraLevels(list(used)[-1], used, num_levels - len(used), channels, norm)
            top_block = extra if extra.num_levels else None
            pyramid: Backbone = FPN(_Features(used), list(used), channels, norm, top_block=top_block)
        else:
            pyramid = StridedPyramid(*shapes[-1], num_levels, channels, norm, finest_stride)
        super().__init__(ShapeSpec(channels=channels, stride=finest_stride), pyramid.size_divisibility)
        self.pyramid = pyramid

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the arguments of ``__init__``."""
        settings = cfg.MODEL.NECK
        if len(settings.CHANNELS) != 1:
            raise ValueError(f"MODEL.NECK.CHANNELS: FeaturePyramidNeck has one width, not {list(settings.CHANNELS)}")
        return {
            "input_shape": input_shape,
            "num_levels": settings.NUM_LEVELS,
            "channels": settings.CHANNELS[0],
            "norm": settings.NORM,
            "finest_stride": settings.FINEST_STRIDE,
        }

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return "p3" (N, c, H / 8, W / 8), "p4", ... in this order."""
        return self.pyramid(features)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self.pyramid.output_shape()


class ExtraLevels(nn.Module):
    """Levels that are coarser than the backbone's, as a ``top_block`` of Detectron2's ``FPN``."""

    def __init__(
        self, in_feature: str, shapes: dict[str, ShapeSpec], num_levels: int, channels: int, norm: str
    ) -> None:
        super().__init__()
        self.in_feature, self.num_levels = in_feature, num_levels
        widths = [shapes[in_feature].channels, *[channels] * num_levels]
        self.layers = nn.ModuleList(
            Conv2d(width, channels, 3, stride=2, padding=1, bias=not norm, norm=get_norm(norm, channels))
            for width in widths[:num_levels]
        )
        for layer in self.layers:
            c2_xavier_fill(layer)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the levels (N, c, H / 2, W / 2), (N, c, H / 4, W / 4), ... of ``x`` (N, c, H, W)."""
        results = []
        for layer in self.layers:
            x = layer(x)
            results.append(x)
        return results


class StridedPyramid(Backbone):
    """Levels p3, p4, ... by convolutions of stride 2, one after the other, from the backbone's map ``name``, whose
    ``shape`` is finer than the first level."""

    def __init__(
        self, name: str, shape: ShapeSpec, num_levels: int, channels: int, norm: str, finest_stride: int
    ) -> None:
        super().__init__()
        assert shape.stride is not None
        self.skipped = int(math.log2(finest_stride / shape.stride)) - 1
        self.levels = ExtraLevels(name, {name: shape}, self.skipped + num_levels, channels, norm)
        strides = [finest_stride << level for level in range(num_levels)]
        self._out_feature_strides = {f"p{int(math.log2(stride))}": stride for stride in strides}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, channels)

    @property
    def size_divisibility(self) -> int:
        return max(self._out_feature_strides.values())

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        levels = self.levels(features[self.levels.in_feature])[self.skipped :]
        return dict(zip(self._out_features, levels, strict=True))


class _Features(Backbone):
    """Stands for the backbone inside ``FPN``: returns the maps that it gets."""

    def __init__(self, shapes: dict[str, ShapeSpec]) -> None:
        super().__init__()
        self._out_features = list(shapes)
        self._out_feature_strides = {name: shape.stride for name, shape in shapes.items()}
        self._out_feature_channels = {name: shape.channels for name, shape in shapes.items()}

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features
