"""The cells of all levels of a feature pyramid as one list of anchor points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """The geometry of a feature pyramid. A is the number of cells of all levels, row by row, finest level first.

    Attributes:
        sizes: (height, width) of each level, cells.
        strides: of each level, input pixels.
        point_offset: position of a cell's anchor point in the cell: 0 is its corner (as in LSNet), 0.5 its center.
    """

    sizes: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    point_offset: float = 0.0

    @classmethod
    def from_maps(cls, maps: Sequence[Tensor], strides: Sequence[int], point_offset: float = 0.0) -> Levels:
        """Return the levels of feature maps (N, c, H, W), finest first."""
        sizes = tuple((int(x.shape[-2]), int(x.shape[-1])) for x in maps)
        return cls(sizes, tuple(strides), point_offset)

    @classmethod
    def from_input_size(cls, size: tuple[int, int], strides: Sequence[int], point_offset: float = 0.0) -> Levels:
        """Return the levels of an input of (height, width) pixels."""
        sizes = tuple((-(-size[0] // stride), -(-size[1] // stride)) for stride in strides)
        return cls(sizes, tuple(strides), point_offset)

    @property
    def counts(self) -> list[int]:
        """The number of cells of each level."""
        return [height * width for height, width in self.sizes]

    def get_cells(self, device: torch.device) -> Tensor:
        """Return the cells (A, 2), x, y, float32."""
        grids = []
        for height, width in self.sizes:
            y, x = torch.meshgrid(
                torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
            )
            grids.append(torch.stack([x, y], dim=-1).flatten(0, 1))
        return torch.cat(grids).float()

    def repeat_strides(self, device: torch.device) -> Tensor:
        """Return the stride of each cell's level (A,), float32."""
        return torch.cat(
            [torch.full((count,), float(s), device=device) for count, s in zip(self.counts, self.strides, strict=True)]
        )

    def get_points(self, device: torch.device) -> Tensor:
        """Return the anchor points (A, 2), x, y in input pixels."""
        return (self.get_cells(device) + self.point_offset) * self.repeat_strides(device)[:, None]

    def inside(self, image_sizes: Tensor, multiple: int) -> Tensor:
        """Return the cells (N, A) bool that belong to each image rather than to the padding of the batch.

        Args:
            image_sizes: (N, 2) width, height, input pixels.
            multiple: each image's own sides are padded to multiples of this.
        """
        padded = (image_sizes / multiple).ceil() * multiple
        cells, strides = self.get_cells(image_sizes.device), self.repeat_strides(image_sizes.device)
        return (cells < (padded[:, None] / strides[:, None]).ceil()).all(dim=-1)


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """Return the maps (N, c, H, W) of all levels as (N, A, c)."""
    return torch.cat([x.flatten(2) for x in maps], dim=2).transpose(1, 2)


def split_levels(values: Tensor, levels: Levels) -> list[Tensor]:
    """Return the reverse of :func:`flatten_levels`: (N, A, c) as (N, c, H, W) of each level."""
    parts = values.transpose(1, 2).split(levels.counts, dim=2)
    return [part.unflatten(2, size) for part, size in zip(parts, levels.sizes, strict=True)]
