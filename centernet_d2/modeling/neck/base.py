"""What a neck is, and the registry of necks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor

from centernet_d2.registry import NECK_REGISTRY


class Neck(Backbone):
    """Like a backbone, but that it takes maps: ``forward`` gets a dict of them and gives ``{"neck": map}``.

    Args:
        output_shape: of that map.
        size_divisibility: what both sides of the input image are multiples of.
    """

    def __init__(self, output_shape: ShapeSpec, size_divisibility: int) -> None:
        super().__init__()
        self._output_shape, self._size_divisibility = output_shape, size_divisibility

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Return the arguments that every neck takes; subclasses with ``channels`` or others add them."""
        return {"input_shape": input_shape, "conv": cfg.MODEL.NECK.CONV, "norm": cfg.MODEL.NECK.NORM}

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"neck": self._output_shape}


class PyramidNeck(Neck):
    """A neck that reads all maps: "neck" has the stride of the finest. Subclasses have :meth:`fuse`.

    Args:
        input_shape: the backbone's maps, each of twice the stride of the one before.
        channels: of the result; None: those of the finest map.

    Attributes:
        channels: of the maps, from the finest to the coarsest.

    Raises:
        ValueError: the strides do not double.
    """

    def __init__(self, input_shape: dict[str, ShapeSpec], channels: int | None = None) -> None:
        shapes = sorted(input_shape.items(), key=lambda item: item[1].stride)
        strides = [shape.stride for _, shape in shapes]
        if strides != [strides[0] * 2**i for i in range(len(strides))]:
            raise ValueError(f"{type(self).__name__} needs maps whose strides double, not {strides}")
        self.channels = [shape.channels for _, shape in shapes]
        super().__init__(ShapeSpec(channels=channels or self.channels[0], stride=strides[0]), strides[-1])
        self.in_features = [name for name, _ in shapes]

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"neck": self.fuse([features[name] for name in self.in_features])}

    def fuse(self, maps: list[Tensor]) -> Tensor:
        """Return (N, c, H / R, W / R) of all maps, given from the finest to the coarsest."""
        raise NotImplementedError


def get_top_down_widths(neck: PyramidNeck, widths: Sequence[int]) -> list[int]:
    """Return ``widths``, one for each map but the coarsest.

    Raises:
        ValueError: there are more or fewer.
    """
    if len(widths) != len(neck.channels) - 1:
        raise ValueError(
            f"MODEL.NECK.CHANNELS: {type(neck).__name__} needs {len(neck.channels) - 1} widths for "
            f"{len(neck.channels)} maps, not {list(widths)}"
        )
    return list(widths)


def build_neck(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> Neck:
    """Build the neck MODEL.NECK.NAME on top of maps of ``input_shape``."""
    return NECK_REGISTRY.get(cfg.MODEL.NECK.NAME)(cfg, input_shape)
