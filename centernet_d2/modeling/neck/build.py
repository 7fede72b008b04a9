"""Necks by name."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry
from torch import nn

NECK_REGISTRY = Registry("NECK")
NECK_REGISTRY.__doc__ = "Necks by name: modules that turn a backbone's maps into maps of the output stride."


def build_neck(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """The neck ``cfg.MODEL.NECK.NAME``: ``forward(dict of maps) -> dict of maps`` and ``output_shape()``."""
    return NECK_REGISTRY.get(cfg.MODEL.NECK.NAME)(cfg, input_shape)
