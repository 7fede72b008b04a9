"""What a neck is, and the registry of necks."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.utils.registry import Registry

NECK_REGISTRY = Registry("NECK")
NECK_REGISTRY.__doc__ = "Necks by name: called with a config and the backbone's ``output_shape()``."


class Neck(Backbone):
    """Like a backbone, but that it takes maps: ``forward`` gets a dict of them and gives ``{"neck": map}``.

    Args:
        output_shape: of that map.
        size_divisibility: what both sides of the input picture are multiples of.
    """

    def __init__(self, output_shape: ShapeSpec, size_divisibility: int) -> None:
        super().__init__()
        self._output_shape, self._size_divisibility = output_shape, size_divisibility

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"neck": self._output_shape}


def build_neck(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> Neck:
    """The neck MODEL.NECK.NAME on top of maps of ``input_shape``."""
    return NECK_REGISTRY.get(cfg.MODEL.NECK.NAME)(cfg, input_shape)
