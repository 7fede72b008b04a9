"""The registry of necks."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.utils.registry import Registry

NECK_REGISTRY = Registry("NECK")
NECK_REGISTRY.__doc__ = """
Necks by name: called with a config and the backbone's ``output_shape()``. ``forward`` takes and gives a dict of maps,
``output_shape()`` describes what it gives, and input pictures must be multiples of ``size_divisibility``.
"""


def build_neck(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> Backbone:
    """The neck MODEL.NECK.NAME on top of maps of ``input_shape``: like a backbone, but that it takes maps."""
    return NECK_REGISTRY.get(cfg.MODEL.NECK.NAME)(cfg, input_shape)
