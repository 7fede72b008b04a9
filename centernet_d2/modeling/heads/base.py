"""The base class of heads. A head predicts one quantity as a dense map."""

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
    """Predicts one quantity. Holds everything that must agree: layers, targets, loss and decoding.

    The methods, in the order of use:

    * :meth:`forward`: feature maps to output maps (N, D, H, W);
    * :meth:`encode`: ground truth to what the loss compares with (sparse where possible);
    * :meth:`pad`: that in one of a few sizes, where losses are compiled;
    * :meth:`loss`: output of one stack and encoded ground truth to a scalar;
    * :meth:`encode_dense`: ground truth to the output of a perfect network (tests decode it again);
    * :meth:`merge_flipped`: maps of an image and of its flipped copy to one map;
    * ``read``: output to the raw numbers at chosen cells, where a subclass needs it;
    * :meth:`decode`: output to values at the candidates, for extra heads.

    Each stack has its own layers: 3x3 convolution, ReLU, 1x1 convolution; or the last alone.

    Args:
        in_channels: width of each stack's map.
        out_channels: D, channels of the output map.
        head_channels: width of the 3x3 convolution; 0: there is none.
        loss_weight: factor of the loss, which is averaged over stacks.
        bias: start value of the last convolution's bias.

    Attributes:
        decodes_points: whether :meth:`decode` returns points (N, M, K, 3): x, y in grid cells and a score.
        fused_loss: compiled heads have heatmap losses in one kernel.
    """

    decodes_points = False
    fused_loss = False

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

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the layers in place, see ``nn.Module.compile``, and the heatmap loss."""
        super().compile(*args, **kwargs)
        self.fused_loss = True

    def forward(self, features: Sequence[Tensor]) -> list[Any]:
        """Return (N, D, H, W) for each of the last ``len(features)`` stacks.

        In training, a head may return what its loss needs instead (:mod:`~centernet_d2.modeling.heads.sparse`).
        """
        stacks = list(self.layers)[-len(features) :]
        return [layers(feature) for layers, feature in zip(stacks, features, strict=True)]

    @abstractmethod
    def encode(self, targets: Targets) -> Any:
        """Return what :meth:`loss` compares with. Computed once for all stacks."""

    def pad(self, target: Any) -> Any:
        """Return what :meth:`encode` returned in one of a few sizes (``ops.indexing.round_up``), with rows
        that the loss does not count. By default it stays as it is, and losses are compiled for each of its sizes."""
        return target

    @abstractmethod
    def loss(self, output: Any, target: Any, num_objects: Tensor) -> Tensor:
        """Return the scalar float32 loss of one stack's output, divided by ``num_objects`` ()."""

    @abstractmethod
    def encode_dense(self, targets: Targets) -> Tensor:
        """Return the output (N, D, H, W) of a perfect network. If two objects share a cell, the smaller one wins."""

    def merge_flipped(self, output: Tensor, flipped: Tensor) -> Tensor:
        """Merge the maps of an image and of its flipped copy, both (N, D, H, W)."""
        return (output + self.unflip(flipped)) / 2

    def unflip(self, flipped: Tensor) -> Tensor:
        """Convert the map of a flipped image to the frame of the original image."""
        return flipped.flip(-1)

    def decode(self, output: Tensor, image_index: Tensor, cells: Tensor) -> Tensor | None:
        """Return the values (N, M, ...) of an extra head (MODEL.CENTERNET.EXTRA_HEADS) at (N, M) candidates, or None.

        Args:
            image_index: (N, M) int64.
            cells: (N, M, 2) int64 x, y.
        """
        return None


def _build_layers(in_channels: int, head_channels: int, out_channels: int, bias: float) -> nn.Sequential:
    hidden: list[nn.Module] = []
    if head_channels:
        first = nn.Conv2d(in_channels, head_channels, 3, padding=1)
        assert first.bias is not None
        nn.init.zeros_(first.bias)
        hidden = [first, nn.ReLU(inplace=True)]
    last = nn.Conv2d(head_channels or in_channels, out_channels, 1)
    assert last.bias is not None
    # Regression heads start near zero. Heatmap heads keep PyTorch's initial weights, as in the reference. Near-zero
    # heatmap weights would all turn negative within a few steps, because most cells are background. No ReLU unit would
    # then raise a peak, and only the bias could, by one learning rate per step.
    if bias == 0:
        nn.init.normal_(last.weight, std=0.001)
    nn.init.constant_(last.bias, bias)
    return nn.Sequential(*hidden, last)


def build_head(name: str, cfg: CfgNode, in_channels: Sequence[int]) -> Head:
    """Build the registered head ``name``."""
    return HEAD_REGISTRY.get(name)(cfg, in_channels)


def read_common_arguments(cfg: CfgNode, in_channels: Sequence[int], loss_weight: float) -> dict[str, Any]:
    """Return the arguments that every head takes from the config."""
    return {
        "in_channels": in_channels,
        "head_channels": cfg.MODEL.CENTERNET.HEAD_CHANNELS,
        "loss_weight": loss_weight,
    }


def build_extra_heads(cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Head]:
    """Build the heads of ``MODEL.CENTERNET.EXTRA_HEADS``.

    The keys are the names in losses, checkpoints and predictions, such as "displacement" for ``DisplacementHead``.
    """
    return {get_head_name(name): build_head(name, cfg, in_channels) for name in cfg.MODEL.CENTERNET.EXTRA_HEADS}


def get_head_name(class_name: str) -> str:
    """Return ``class_name`` in snake case, without the final "Head"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name.removesuffix("Head")).lower()
