"""Gaussian heatmap targets, kept sparse: only the cells inside the objects' windows are ever written."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from centernet_d2.ops.indexing import pad_rows, round_up

# Next to 1, but not a peak: the focal loss of such a cell is next to nothing, whatever the network says.
_IGNORED = 0.9999
# The smallest size of padded maps.
_LEAST_CELLS = 1 << 12


@dataclass
class SparseMaps:
    """Maps that are zero except at listed cells.

    Attributes:
        index: (E,) int64, sorted and unique but for :meth:`pad`, into the flattened maps.
        value: (E,) float32 in [0, 1].
        shape: (N, D, H, W).
    """

    index: Tensor
    value: Tensor
    shape: tuple[int, int, int, int]

    def pad(self) -> SparseMaps:
        """Return the same maps in one of a few sizes: one of the cells that are not listed is repeated."""
        listed = (self.index == torch.arange(len(self.index))).int()
        free = int(listed.cumprod(0).sum())
        if free == math.prod(self.shape):
            return self
        size = round_up(len(self.index), _LEAST_CELLS)
        return replace(self, index=pad_rows(self.index, size, free), value=pad_rows(self.value, size))

    def to_dense(self) -> Tensor:
        """Return (N, D, H, W) float32."""
        maps = self.value.new_zeros(self.shape)
        maps.view(-1)[self.index] = self.value
        return maps

    def to_logits(self) -> Tensor:
        """Return (N, D, H, W) float32 logits of the values as probabilities; within +-16 so that they are finite."""
        return self.to_dense().double().clamp(1e-7, 1 - 1e-7).logit().float()


def gaussian_radius(sizes: Tensor, min_overlap: float = 0.7, method: str = "cornernet") -> Tensor:
    """Return how far both corners of a box may move while its IoU with the original stays at least ``min_overlap``.

    Args:
        sizes: (..., 2) width and height, any unit.
        method: "cornernet" is what CornerNet's and CenterNet's code computes: its three "roots" lack a division, so the
            radius comes out about 3.3 times larger, and the third is always the smallest. "corrected" is the smallest
            of the three cases of CornerNet's appendix (box shrunk, grown, shifted), which is that of the shrunk box.

    Returns:
        (...) float64, the same unit.
    """
    width, height = np.moveaxis(_to_numpy(sizes).astype(np.float64), -1, 0)
    return torch.as_tensor(_compute_radius(width, height, min_overlap, method), device=sizes.device)


def _compute_radius(width: np.ndarray, height: np.ndarray, min_overlap: float, method: str) -> np.ndarray:
    """Return :func:`gaussian_radius` of float64 arrays."""
    total, area, o = width + height, width * height, min_overlap
    if method == "cornernet":
        # In the reference order of operations: the radius is cut to whole cells, where a last bit decides.
        return (-2 * o * total + np.sqrt((2 * o * total) ** 2 - 16 * o * ((o - 1) * area))) / 2
    if method != "corrected":
        raise ValueError(f"unknown Gaussian radius method {method!r}: 'cornernet' or 'corrected'")
    # The shrunk box is the worst of the three cases. Its r solves r total = 2 r^2 + (1 - o) area / 2, and as total^2 >=
    # 4 area, r^2 <= (1 - sqrt(o))^2 area / 4. With this r the shifted box has an IoU of at least o, because
    # r^2 - r total + area (1 - o) / (1 + o) = (1 - o)^2 area / (2 + 2 o) - r^2 >= 0, and the grown box, too, because
    # 4 o r^2 + 2 o r total - (1 - o) area = 8 o r^2 - (1 - o)^2 area <= 0.
    return (total - np.sqrt(total**2 - 4 * area * (1 - o))) / 4


def compute_window_radius(
    sizes: Tensor, min_overlap: float, method: str, elliptical: bool, alpha: float = 0.54, fixed: int = 1
) -> Tensor:
    """Return whole-cell radii of the windows to draw.

    Args:
        sizes: (P, 2) width and height in grid cells.
        method: "cornernet", "corrected" (:func:`gaussian_radius`); "ellipse": half of ``share`` of each side (TTFNet,
            section 3.2); "fixed".
        elliptical: one radius from the width and one from the height, each as if the box were square.
        fixed: the radius of "fixed".

    Returns:
        (P, 2) int64, at least 0: horizontal and vertical.
    """
    if method == "fixed":
        return torch.full_like(sizes, fixed, dtype=torch.int64)
    if method == "ellipse":
        return (sizes / 2 * alpha).long()
    sides = np.ceil(_to_numpy(sizes).astype(np.float64))
    if elliptical:
        radius = _compute_radius(sides, sides, min_overlap, method)
    else:
        radius = _compute_radius(sides[:, :1], sides[:, 1:], min_overlap, method).repeat(2, axis=1)
    return torch.from_numpy(np.maximum(radius, 0).astype(np.int64)).to(sizes.device)


def splat_gaussians(
    cells: Tensor,
    channel: Tensor,
    radius: Tensor,
    shape: tuple[int, int, int, int],
    points: Tensor | None = None,
) -> SparseMaps:
    """Draw a Gaussian at every cell; where windows overlap the larger value stays.

    sigma is (2 r + 1) / 6 in each direction, the peak exactly 1, the window +-r cells (CornerNet, section 3.2).

    Args:
        points: (P, K, 2) x, y in grid cells inside ``cells``: the Gaussians' centers, where they are not the centers of
            the cells (DARK, section 3.2). The cell itself is 1 all the same.
        cells: (P, K, 2) int64 x, y inside the grid.
        channel: (P, K) int64, the map to draw on: image * D + map of the image.
        radius: (P, 2) int64, horizontal and vertical.
        shape: (N, D, H, W).
    """
    middle = _flatten_points(cells)
    reach = _to_numpy(radius).T.repeat(cells.shape[1], axis=1)
    center = middle if points is None else _flatten_points(points.double()) - 0.5
    maps = _render(center, 2 * reach + 1, middle - reach, middle + reach, channel, shape)
    return maps if points is None else _add_peaks(maps, cells, channel)


def splat_in_boxes(cells: Tensor, channel: Tensor, boxes: Tensor, shape: tuple[int, int, int, int]) -> SparseMaps:
    """Render like :func:`splat_gaussians`, with the boxes' width and height, cut at their sides.

    sigma is 0.15 n + 0.35 in each direction, for boxes n cells wide and high: OpenCV's for n taps. (The TensorFlow
    CenterNets for faces and VOC draw them around the exact center, so that an object with an even number of cells has
    no peak; here it is the cell of the point, and exactly 1.)

    Args:
        boxes: (P, 4) in grid cells, inside the grid.
    """
    corners = _to_numpy(boxes).T.repeat(cells.shape[1], axis=1)
    first, last = np.floor(corners[:2]).astype(np.int64), np.ceil(corners[2:]).astype(np.int64) - 1
    span = 6 * (0.15 * (last - first + 1) + 0.35)
    # A point that stands for an object but lies outside its box has its peak.
    return _add_peaks(_render(_flatten_points(cells), span, first, last, channel, shape), cells, channel)


def _to_numpy(x: Tensor) -> np.ndarray:
    """Return ``x`` as a NumPy array on the CPU.

    Rendering takes some forty operations on few numbers, which are cheaper in NumPy than in PyTorch. The number of
    cells depends on them, so that a GPU would have to be waited for anyway.
    """
    return x.cpu().numpy()


def _flatten_points(xy: Tensor) -> np.ndarray:
    """Return (2, P * K) of ``xy`` (P, K, 2)."""
    return _to_numpy(xy).reshape(-1, 2).T


def _render(
    center: np.ndarray,
    span: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    channel: Tensor,
    shape: tuple[int, int, int, int],
) -> SparseMaps:
    """Render Gaussians, ``span`` = 6 sigma wide and high, in windows from cell ``first`` to cell ``last``; all (2, P *
    K) x, y. Windows are cut at the grid; none is completely outside."""
    height, width = shape[2:]
    first = np.maximum(first, 0)
    size = np.minimum(last, [[width - 1], [height - 1]]) - first + 1
    # A Gaussian is the product of one value per column and one per row: here of all columns, then of all rows.
    place = _concatenate_ranges(first.ravel(), size.ravel())
    away = (place - np.repeat(center.ravel(), size.ravel())) / np.repeat(span.ravel(), size.ravel())
    value = np.exp(-18 * away**2)
    start, rows = size[0].cumsum() - size[0], size[0].sum()
    # Row after row as they follow in the maps, so that the cells are almost sorted.
    begin = np.repeat(_to_numpy(channel).ravel() * height * width + first[0], size[1]) + place[rows:] * width
    order = begin.argsort(kind="stable")
    owner = np.repeat(np.arange(len(start)), size[1])[order]
    start, length = start[owner], size[0][owner]
    column = _concatenate_ranges(start, length)
    drawn = value[column]
    drawn *= np.repeat(value[rows:][order], length)
    column += np.repeat(begin[order] - start, length)
    return _reduce_duplicates(column, drawn.astype(np.float32), shape, channel.device)


def _concatenate_ranges(first: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the ranges first_i, first_i + 1, ... of count_i numbers, one i after the other."""
    numbers = np.repeat(first - count.cumsum() + count, count)
    numbers += np.arange(len(numbers))
    return numbers


def _add_peaks(maps: SparseMaps, cells: Tensor, channel: Tensor) -> SparseMaps:
    """Return ``maps`` with 1 at ``cells``."""
    height, width = maps.shape[2:]
    index = ((channel * height + cells[..., 1]) * width + cells[..., 0]).flatten()
    return _merge_maps(maps, SparseMaps(index, torch.ones_like(index, dtype=torch.float32), maps.shape))


def add_ignored_regions(maps: SparseMaps, ignored: SparseMaps) -> SparseMaps:
    """Return ``maps`` without the regions that ``ignored`` (of the same shape) covers; peaks of ``maps`` stay."""
    return _merge_maps(maps, replace(ignored, value=ignored.value.clamp(max=_IGNORED)))


def _merge_maps(a: SparseMaps, b: SparseMaps) -> SparseMaps:
    """Return the larger value of each cell."""
    index, value = torch.cat([a.index, b.index]), torch.cat([a.value, b.value])
    return _reduce_duplicates(_to_numpy(index), _to_numpy(value), a.shape, index.device)


def _reduce_duplicates(
    index: np.ndarray, value: np.ndarray, shape: tuple[int, int, int, int], device: torch.device
) -> SparseMaps:
    """Return the largest value of each cell.

    Bits of positive floats sort like the floats, so one sort of packed integers suffices. A merge sort is fast on data
    that is partly in order.
    """
    packed = index << 32
    packed |= value.view(np.int32)
    packed.sort(kind="stable")
    index = packed >> 32
    last = np.ones(len(index), dtype=bool)
    last[:-1] = index[1:] != index[:-1]
    packed = packed[last]
    index, value = packed >> 32, packed.astype(np.int32).view(np.float32)
    return SparseMaps(torch.from_numpy(index).to(device), torch.from_numpy(value).to(device), shape)
