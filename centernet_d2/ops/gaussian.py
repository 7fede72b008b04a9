"""Gaussian heatmap targets, kept sparse: only the cells inside the objects' windows are ever written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Next to 1, but not a peak: the focal loss of such a cell is next to nothing, whatever the network says.
_IGNORED = 0.9999


@dataclass
class SparseMaps:
    """Maps that are zero except at listed cells.

    Attributes:
        index: (E,) int64, sorted and unique, into the flattened maps.
        value: (E,) float32 in (0, 1].
        shape: (N, D, H, W).
    """

    index: Tensor
    value: Tensor
    shape: tuple[int, int, int, int]

    def dense(self) -> Tensor:
        """(N, D, H, W) float32."""
        maps = self.value.new_zeros(self.shape)
        maps.view(-1)[self.index] = self.value
        return maps

    def logits(self) -> Tensor:
        """(N, D, H, W) float32, of the values as probabilities; within +-16 so that they are finite."""
        return self.dense().double().clamp(1e-7, 1 - 1e-7).logit().float()


def gaussian_radius(sizes: Tensor, min_overlap: float = 0.7, method: str = "published") -> Tensor:
    """How far both corners of a box may move while it keeps an IoU of ``min_overlap`` with itself.

    Args:
        sizes: (..., 2) width and height, any unit.
        method: "published" is what CornerNet's and CenterNet's code computes: its three "roots" lack a division, so the
            radius comes out about 3.3 times larger, and the third is always the smallest. "corrected" solves the
            three cases of CornerNet's appendix (box shrunk, grown, shifted).

    Returns:
        (...) float64, the same unit.
    """
    width, height = sizes.double().unbind(-1)
    total, area, o = width + height, width * height, min_overlap
    # In the published order of operations: the radius is cut to whole cells, where a last bit decides.
    third = (-2 * o * total + ((2 * o * total) ** 2 - 16 * o * ((o - 1) * area)).sqrt()) / 2
    if method == "published":
        return third
    if method != "corrected":
        raise ValueError(f"unknown Gaussian radius method {method!r}: 'published' or 'corrected'")
    first = (total - (total**2 - 4 * area * (1 - o) / (1 + o)).sqrt()) / 2
    second = (total - (total**2 - 4 * area * (1 - o)).sqrt()) / 4
    return torch.minimum(torch.minimum(first, second), third / (4 * o))


def window_radius(
    sizes: Tensor, min_overlap: float, method: str, elliptical: bool, share: float = 0.54, fixed: int = 1
) -> Tensor:
    """Whole-cell radii of the windows to draw.

    Args:
        sizes: (P, 2) width and height in grid cells.
        method: "published", "corrected" (:func:`gaussian_radius`); "ellipse": half of ``share`` of each side (TTFNet,
            section 3.2); "fixed".
        elliptical: one radius from the width and one from the height, each as if the box were square.
        fixed: the radius of "fixed".

    Returns:
        (P, 2) int64, at least 0: horizontal and vertical.
    """
    if method == "fixed":
        return torch.full_like(sizes, fixed, dtype=torch.int64)
    if method == "ellipse":
        return (sizes / 2 * share).long()
    sizes = sizes.ceil()
    if elliptical:
        radius = gaussian_radius(sizes[..., None].expand(*sizes.shape, 2), min_overlap, method)
    else:
        radius = gaussian_radius(sizes, min_overlap, method)[..., None].expand(*sizes.shape)
    return radius.clamp(min=0).long()


def window_cells(radius: Tensor) -> tuple[Tensor, Tensor]:
    """The E cells of all windows of ``radius`` (P, 2): owners (E,) int64, and places (E, 2) int64 x, y from the middle.

    Row by row, one window after the other.
    """
    spans = 2 * radius + 1
    counts = spans.prod(dim=1)
    owner = torch.repeat_interleave(counts)
    within = torch.arange(len(owner), device=radius.device) - (counts.cumsum(0) - counts)[owner]
    width = spans[owner, 0]
    return owner, torch.stack([within % width, within // width], dim=1) - radius[owner]


def gaussian_at(away: Tensor, span: Tensor) -> Tensor:
    """(...) float32 at ``away`` (..., 2) cells from the middle of a Gaussian ``span`` = 6 sigma wide and high."""
    return (-18 * (away.double() / span).square().sum(dim=-1)).exp().float()


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
        points: (P, K, 2) x, y in grid cells inside ``cells``: the Gaussians' centres, where they are not the middles of
            the cells (DARK, section 3.2). The cell itself is 1 all the same.
        cells: (P, K, 2) int64 x, y inside the grid.
        channel: (P, K) int64, the map to draw on: image * D + map of the image.
        radius: (P, 2) int64, horizontal and vertical.
        shape: (N, D, H, W).
    """
    owner, shift = window_cells(radius)
    span = (2 * radius + 1)[owner]
    if points is None:
        value = gaussian_at(shift, span)[:, None]
    else:
        value = gaussian_at(shift[:, None] - (points - cells - 0.5).double()[owner], span[:, None])  # (E, K)
        value = value.masked_fill((shift == 0).all(dim=1, keepdim=True), 1.0)
    x, y = (cells[owner] + shift[:, None]).unbind(-1)
    inside = (x >= 0) & (x < shape[3]) & (y >= 0) & (y < shape[2])
    return _drawn(x, y, channel[owner], value, inside, shape)


def splat_in_boxes(cells: Tensor, channel: Tensor, boxes: Tensor, shape: tuple[int, int, int, int]) -> SparseMaps:
    """As :func:`splat_gaussians`, of the boxes' width and height and cut at their sides.

    sigma is 0.15 n + 0.35 in each direction, for boxes n cells wide and high: OpenCV's for n taps. (The TensorFlow
    CenterNets for faces and VOC draw them around the exact middle, so that an object with an even number of cells has
    no peak; here it is the cell of the point, and exactly 1.)

    Args:
        boxes: (P, 4) in grid cells, inside the grid.
    """
    first, last = boxes[:, :2].floor().long(), boxes[:, 2:].ceil().long() - 1
    reach = torch.maximum(cells - first[:, None], last[:, None] - cells).amax(dim=1).clamp(min=0)
    owner, shift = window_cells(reach)
    span = 6 * (0.15 * (last - first + 1).double() + 0.35)[owner]
    place = cells[owner] + shift[:, None]  # (E, K, 2)
    inside = ((place >= first[owner, None]) & (place <= last[owner, None])).all(dim=-1)
    # A point that stands for an object but lies outside its box has its peak.
    inside |= (shift == 0).all(dim=1, keepdim=True)
    return _drawn(place[..., 0], place[..., 1], channel[owner], gaussian_at(shift, span)[:, None], inside, shape)


def _drawn(
    x: Tensor, y: Tensor, channel: Tensor, value: Tensor, inside: Tensor, shape: tuple[int, int, int, int]
) -> SparseMaps:
    """Maps of ``value`` (E, K or 1) at (E, K) places, those that are ``inside``."""
    index = (channel * shape[2] + y) * shape[3] + x
    kept = inside.flatten().nonzero()[:, 0]
    return _maximum(index.flatten()[kept], value.expand(index.shape).flatten()[kept], shape)


def with_ignored(maps: SparseMaps, ignored: SparseMaps) -> SparseMaps:
    """``maps`` where what ``ignored`` (of the same shape) shows is neither right nor wrong; peaks of ``maps`` stay."""
    value = torch.cat([maps.value, ignored.value.clamp(max=_IGNORED)])
    return _maximum(torch.cat([maps.index, ignored.index]), value, maps.shape)


def _maximum(index: Tensor, value: Tensor, shape: tuple[int, int, int, int]) -> SparseMaps:
    """The largest value of each cell. Bits of positive floats sort like the floats, so one sort of packed integers
    does."""
    packed = (index << 32) | value.view(torch.int32).long()
    # NumPy's sort of integers is several times faster than PyTorch's, which keeps the order as well.
    packed = packed.sort().values if packed.is_cuda else torch.from_numpy(np.sort(packed.numpy()))
    index = packed >> 32
    last = torch.ones_like(index, dtype=torch.bool)
    last[:-1] = index[1:] != index[:-1]
    packed = packed[last]
    return SparseMaps(packed >> 32, (packed & 0xFFFFFFFF).int().view(torch.float32), shape)
