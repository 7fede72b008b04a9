"""Layers that the necks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec

from centernet_d2.layers.fusion import Fuse
from centernet_d2.modeling.neck.base import PyramidNeck


class FusingNeck(PyramidNeck):
    """A neck of :class:`Fuse` nodes. Gives "neck": (N, channels[-1], H / R, W / R), R the stride of the finest map.

    Subclasses have :meth:`build` and ``fuse``.

    Args:
        input_shape: the backbone's maps, each of twice the stride of the one before.
        channels: widths, see the subclass.
        fusion, conv, norm: of every node.
    """

    @configurable
    def __init__(
        self,
        *,
        input_shape: dict[str, ShapeSpec],
        channels: Sequence[int] = (256, 128, 64),
        fusion: str = "sum",
        conv: str = "plain",
        norm: str = "BN",
    ) -> None:
        super().__init__(input_shape, channels[-1])
        self.build(list(channels), partial(Fuse, fusion=fusion, conv=conv, norm=norm))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "channels": cfg.MODEL.NECK.CHANNELS,
            "fusion": cfg.MODEL.NECK.FUSION,
        }

    def build(self, widths: list[int], node: Callable[..., Fuse]) -> None:
        """Make the layers; ``node`` is :class:`Fuse`, to be given its inputs, width and output channels."""
        raise NotImplementedError
