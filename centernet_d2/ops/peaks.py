"""Peaks of heatmaps: cells that no cell of their 3x3 neighborhood exceeds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from centernet_d2.ops.indexing import gather_cells


def compute_neighborhood_max(maps: Tensor) -> Tensor:
    """Return the maximum over 3x3 cells of (..., H, W) maps, the same shape; cells outside do not count.

    On a CPU shifted slices are an order of magnitude faster than PyTorch's pooling, with the same result.
    """
    if maps.is_cuda or _is_exporting():
        return F.max_pool2d(maps.flatten(0, -3), 3, 1, 1).view_as(maps)
    rows = maps.clone()
    torch.maximum(rows[..., 1:], maps[..., :-1], out=rows[..., 1:])
    torch.maximum(rows[..., :-1], maps[..., 1:], out=rows[..., :-1])
    result = rows.clone()
    torch.maximum(result[..., 1:, :], rows[..., :-1, :], out=result[..., 1:, :])
    torch.maximum(result[..., :-1, :], rows[..., 1:, :], out=result[..., :-1, :])
    return result


def find_top_peaks(maps: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ``k`` highest peaks over all classes, for each image and point.

    Args:
        maps: (N, C, K, H, W) logits.

    Returns:
        logits (N, K, k) in descending order, -inf where there are fewer peaks; classes (N, K, k) int64; cells
        (N, K, k, 2) int64 x, y. Of equal peaks any may come first.
    """
    top = None if maps.is_cuda or _is_exporting() else _select_top_by_rows(maps, k)
    if top is not None:
        return top
    values, classes, cells = _select_top(maps, k)
    missing = k - values.shape[-1]
    return F.pad(values, (0, missing), value=-torch.inf), F.pad(classes, (0, missing)), F.pad(cells, (0, 0, 0, missing))


def _is_exporting() -> bool:
    """Whether a graph is made that other images will go through: no step may depend on this one's values."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def _select_top(maps: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    height, width = maps.shape[-2:]
    peaks = maps.masked_fill(maps != compute_neighborhood_max(maps), -torch.inf).transpose(1, 2).flatten(2)
    values, index = peaks.topk(min(k, peaks.shape[-1]))
    # Of sizes that are not known in advance, ONNX's exporter has no remainders.
    row = index // width
    classes = row // height
    return values, classes, torch.stack([index - row * width, row - classes * height], dim=-1)


def _select_top_by_rows(maps: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return the same, but read most rows once, for their maxima; None if these are not sufficient.

    The maximum of a row is a peak if those of the rows beside it are no higher. So the k best peaks are at least as
    high as the k-th of these, and lie among the few cells that are.
    """
    images, classes, points, height, width = maps.shape
    if k > classes * height:
        return None
    # (N, K, C * H); a class's first row counts as being beside another's last one, which can only lower the bound.
    maxima = maps.amax(-1).transpose(1, 2).flatten(2)
    crests = maxima.masked_fill(maxima < F.max_pool1d(maxima.flatten(0, 1), 3, 1, 1).view_as(maxima), -torch.inf)
    highest, place = crests.topk(k)
    minimum = highest[..., -1:]
    if minimum.isneginf().any():
        return None
    # Of rows that are just as high, these will do: a map may be flat.
    image, point, row = (maxima > minimum).scatter(-1, place, True).nonzero().unbind(1)
    category, y, owner = row // height, row % height, image * points + point
    row = ((image * classes + category) * points + point) * height + y
    flat = maps.reshape(-1, width)
    lines = flat[row]
    line, x = (lines >= torch.maximum(F.max_pool1d(lines, 3, 1, 1), minimum.view(-1, 1)[owner])).nonzero().unbind(1)
    if 9 * len(line) > maps.numel():  # slopes that are level along the rows
        return None

    # Windows of 3x3 cells: those beyond the border become border cells, which the window holds anyway.
    beside = torch.tensor([-1, 0, 1])
    near_row = row[line, None] + ((y[:, None] + beside).clamp(0, height - 1) - y[:, None])[line]
    near_x = (x[:, None] + beside).clamp(0, width - 1)
    value = lines[line, x]
    peak = (value == flat[near_row[:, :, None], near_x[:, None]].amax((1, 2))).nonzero()[:, 0]

    best = peak[_select_best_class(value[peak], owner[line[peak]], images * points, k)].view(images, points, k)
    line = line[best]
    return value[best], category[line], torch.stack([x[best], y[line]], dim=-1)


def _select_best_class(values: Tensor, owner: Tensor, owners: int, k: int) -> Tensor:
    """Return indices (owners, k) int64 into ``values`` (E,), descending; each owner 0, 1, ...

    has at least ``k`` values.
    """
    order = values.argsort(descending=True)
    order = order[owner[order].argsort(stable=True)]
    first = torch.searchsorted(owner[order], torch.arange(owners))
    return order[first[:, None] + torch.arange(k)]


def compute_window_max(maps: Tensor, image_index: Tensor, channel: Tensor, points: Tensor) -> Tensor:
    """Return the largest of 3x3 cells around the cell that holds each point; points outside go to the nearest cell.

    Args:
        maps: (N, D, H, W).
        image_index, channel: (...) int64.
        points: (..., 2) x, y in grid cells.
    """
    size = (maps.shape[-2], maps.shape[-1])
    near = torch.arange(-1, 2, device=maps.device)
    shift = torch.cartesian_prod(near, near)
    # Cells beyond the border become border cells, which the neighborhood holds anyway.
    cells = gather_cells(gather_cells(points, size)[..., None, :] + shift, size)
    return maps[image_index[..., None], channel[..., None], cells[..., 1], cells[..., 0]].amax(dim=-1)
