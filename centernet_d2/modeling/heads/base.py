"""What a head is: one quantity read at points of a dense map."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import Tensor, nn

from centernet_d2.registry import HEAD_REGISTRY
from centernet_d2.structures import Targets


class Head(nn.Module, ABC):
    """One quantity, with the four things that must agree: layers, target, loss and decoding.

    There is one such pair per stack: 3x3 convolution, ReLU, 1x1 convolution.

    Args:
        in_channels: width of each stack's map.
        out_channels: D, channels of the output map.
        head_channels: width of the 3x3 convolution.
        loss_weight: factor of the loss, which is averaged over stacks.
        bias: start value of the last convolution's bias.

    Attributes:
        decodes_points: what :meth:`decode` gives are points (N, M, K, 3), x, y in grid cells and a score.
    """

    decodes_points = False

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        out_channels: int,
        head_channels: int,
        loss_weight: float,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.loss_weight = loss_weight
        self.layers = nn.ModuleList(_build_layers(width, head_channels, out_channels, bias) for width in in_channels)

    def forward(self, features: Sequence[Tensor]) -> list[Any]:
        """(N, D, H, W) for each of the last ``len(features)`` stacks. (In training, heads may give what their loss
        needs instead: :mod:`~centernet_d2.modeling.heads.sparse`.)"""
        stacks = list(self.layers)[-len(features) :]
        return [layers(feature) for layers, feature in zip(stacks, features, strict=True)]

    @abstractmethod
    def encode(self, targets: Targets) -> Any:
        """What :meth:`loss` compares with, computed once for all stacks."""

    @abstractmethod
    def loss(self, output: Any, target: Any, num_objects: Tensor) -> Tensor:
        """Scalar float32 loss of what :meth:`forward` gave for one stack, divided by ``num_objects`` ()."""

    @abstractmethod
    def encode_dense(self, targets: Targets) -> Tensor:
        """The output (N, D, H, W) of a perfect network; of two objects in one cell the smaller one stays."""

    def merge_flipped(self, output: Tensor, flipped: Tensor) -> Tensor:
        """One map from those of an image and of its flipped image, both (N, D, H, W)."""
        return (output + self.unflip(flipped)) / 2

    def unflip(self, flipped: Tensor) -> Tensor:
        """The map of a flipped image as if it had not been flipped."""
        return flipped.flip(-1)

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor | None:
        """Values of a *further* head (MODEL.CENTERNET.EXTRA_HEADS) at (N, M) candidates, (N, M, ...), or None.

        Args:
            image_index: (N, M) int64.
            cells: (N, M, 2) int64 x, y.
        """
        return None


def _build_layers(in_channels: int, head_channels: int, out_channels: int, bias: float) -> nn.Sequential:
    first, last = nn.Conv2d(in_channels, head_channels, 3, padding=1), nn.Conv2d(head_channels, out_channels, 1)
    assert first.bias is not None
    assert last.bias is not None
    # A regression starts near zero. A heatmap must keep weights of both signs (PyTorch's, as in the reference): from
    # near zero the background turns all of them negative in a few steps, and a peak is then where no unit is active, no
    # higher than the bias, which climbs by one learning rate a step.
    if bias == 0:
        nn.init.normal_(last.weight, std=0.001)
    nn.init.constant_(last.bias, bias)
    nn.init.zeros_(first.bias)
    return nn.Sequential(first, nn.ReLU(inplace=True), last)


def build_head(name: str, cfg: CfgNode, in_channels: Sequence[int]) -> Head:
    """The registered head ``name``."""
    return HEAD_REGISTRY.get(name)(cfg, in_channels)


def build_extra_heads(cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Head]:
    """The heads of ``MODEL.CENTERNET.EXTRA_HEADS`` by the name in losses, checkpoints and predictions, such as
    "displacement" for ``DisplacementHead``."""
    return {head_name(name): build_head(name, cfg, in_channels) for name in cfg.MODEL.CENTERNET.EXTRA_HEADS}


def head_name(class_name: str) -> str:
    """In snake case, without the "Head" at the end."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name.removesuffix("Head")).lower()
