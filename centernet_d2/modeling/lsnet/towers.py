"""Convolutions in front of the heads of a pyramid detector, shared by all levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from centernet_d2.layers.deform_conv import ModulatedDeformConv2d
from centernet_d2.ops.lsnet.pyramid_deform_conv import pyramid_deform_conv

TOWER_CONVS = ("deformable", "plain")
#: Kernel points of a 3x3 convolution.
KERNEL_POINTS = 9


def count_groups(channels: int) -> int:
    """Return the groups of GroupNorm in heads of so many channels: 8 channels each, as 32 groups of the published 256.

    (Of 32 groups in a narrow head each has one or two channels, whose norm on a small map hides what was found.)
    """
    return max(channels // 8, 1)


def conv_norm_relu(kind: str, in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Sequential:
    """Return a convolution, GroupNorm (groups as of the input's width) and ReLU; (N, in, H, W) becomes (N, out, H, W).

    Args:
        kind: "plain", or "deformable" (modulated, 3x3, with a bias).

    Raises:
        ValueError: unknown ``kind``.
    """
    if kind not in TOWER_CONVS:
        raise ValueError(f"MODEL.LSNET.TOWER must be a list of {TOWER_CONVS}, not {kind!r}")
    norm = nn.GroupNorm(count_groups(in_channels), out_channels)
    if kind == "deformable":
        conv = ModulatedDeformConv2d(in_channels, out_channels)
        nn.init.normal_(conv.weight, std=0.01)
        return nn.Sequential(conv, norm, nn.ReLU(inplace=True))
    plain = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.normal_(plain.weight, std=0.01)
    return nn.Sequential(plain, norm, nn.ReLU(inplace=True))


def build_tower(kinds: Sequence[str], channels: int) -> nn.Sequential:
    """Return one :func:`conv_norm_relu` for each of ``kinds``."""
    return nn.Sequential(*(conv_norm_relu(kind, channels, channels) for kind in kinds))


def conv(in_channels: int, out_channels: int, kernel_size: int, bias: float = 0.0) -> nn.Conv2d:
    """Return a convolution with weights from N(0, 0.01) and the given start value of its bias."""
    layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
    return layer


def attenuate_gradient(x: Tensor, factor: float = 0.1) -> Tensor:
    """Return ``x`` with its gradient multiplied by ``factor``."""
    return (1 - factor) * x.detach() + factor * x


class PyramidFusion(nn.Module):
    """Reads three neighboring levels at the kernel points of each cell and fuses them (LSNet, section 4.2).

    One weight is shared by all levels. The result is ReLU(norm(ReLU(reduce(three levels)) + shortcut(own level))).

    Args:
        in_channels: of the tower's maps.
        channels: of the result.
        cumulative_offsets: scale the kernel points of the third level by the factors of the second and the third, as
            the reference does by mistake.
    """

    def __init__(self, in_channels: int, channels: int, cumulative_offsets: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, in_channels, 3, 3))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.reduce = conv(3 * channels, channels, 1)
        self.shortcut = conv(in_channels, channels, 3)
        self.norm = nn.GroupNorm(count_groups(channels), channels)
        self.cumulative_offsets = cumulative_offsets

    def forward(self, maps: Sequence[Tensor], kernel_points: Sequence[Tensor]) -> list[Tensor]:
        """Return (N, channels, H, W) of each level.

        Args:
            maps: (N, in_channels, H, W) of each level.
            kernel_points: (N, 9, 2, H, W) of each level, y, x relative to the cell, in its cells.
        """
        results = []
        for level, points in enumerate(kernel_points):
            read = torch.cat(self._read(maps, level, points), dim=1)
            fused = self.reduce(read).relu() + self.shortcut(maps[level])
            results.append(self.norm(fused).relu())
        return results

    def _read(self, maps: Sequence[Tensor], level: int, points: Tensor) -> list[Tensor]:
        read, product = [], (1.0, 1.0)
        for other in get_neighboring_levels(level, len(maps)):
            own, theirs = maps[level].shape[-2:], maps[other].shape[-2:]
            product = (product[0] * theirs[0] / own[0], product[1] * theirs[1] / own[1])
            scale = product if self.cumulative_offsets else None
            read.append(pyramid_deform_conv(maps[other], points, self.weight, scale))
        return read


def get_neighboring_levels(level: int, num_levels: int) -> tuple[int, int, int]:
    """Return the three levels that are read for ``level``, in the order of their channels.

    Raises:
        ValueError: there are fewer than three levels.
    """
    if num_levels < 3:
        raise ValueError(f"a pyramid convolution reads three levels, but there are {num_levels}")
    if level == 0:
        return (0, 1, 2)
    if level == num_levels - 1:
        return (level, level - 1, level - 2)
    return (level, level - 1, level + 1)
