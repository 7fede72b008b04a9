"""How a network gets to see the previous frame, too."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

CHANNELS = (3, 3, 1)


class PreviousFrameStem(nn.Module):
    """Extra stems, the maps of which are added to that of a backbone's own stem (Zhou et al. 2020, "Tracking Objects
    as Points", section 4.1).

    The backbone then takes (N, 7, H, W): the frame, the previous frame, and a heatmap of what was tracked there. Its
    own parameters keep their names, so that those of a detector fit.

    Args:
        backbone: has a module ``stem``, which comes first and whose first layer is a convolution of three channels.

    Raises:
        ValueError: it has none.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        stem = getattr(backbone, "stem", None)
        if not isinstance(stem, nn.Module):
            raise ValueError(f"{type(backbone).__name__} has no module 'stem' that a previous frame could be added to")
        self.image_stem, self.heatmap_stem = (_copy_stem(stem, channels) for channels in CHANNELS[1:])
        self._extra: list[Tensor] = []
        # Methods, not functions of their own: a copy of the model has the copy's.
        stem.register_forward_pre_hook(self._split)
        stem.register_forward_hook(self._add)

    def _split(self, stem: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        frame, *self._extra = inputs[0].split(CHANNELS, dim=1)
        return (frame,)

    def _add(self, stem: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        image, heatmap = self._extra
        self._extra = []
        return output + self.image_stem(image) + self.heatmap_stem(heatmap)


def _copy_stem(stem: nn.Module, channels: int) -> nn.Module:
    """Return a copy of the stem for images with this number of channels."""
    stem = copy.deepcopy(stem)
    first = next(module for module in stem.modules() if isinstance(module, nn.Conv2d))
    first.in_channels = channels
    first.weight = nn.Parameter(first.weight.detach()[:, :channels].clone())
    return stem
