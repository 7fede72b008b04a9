"""Peaks of heatmaps: cells that no cell of their 3x3 neighbourhood exceeds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from centernet_d2.ops.gather import cells_of

# Rows looked at per wanted peak: enough for nearly every map, and checked.
_ROWS_PER_PEAK = 4


def neighbourhood_maximum(maps: Tensor) -> Tensor:
    """Maximum over 3x3 cells of (..., H, W) maps, the same shape; cells outside do not count.

    On a CPU shifted slices are an order of magnitude faster than PyTorch's pooling, with the same result.
    """
    if maps.is_cuda or _recorded():
        return F.max_pool2d(maps.flatten(0, -3), 3, 1, 1).view_as(maps)
    rows = maps.clone()
    torch.maximum(rows[..., 1:], maps[..., :-1], out=rows[..., 1:])
    torch.maximum(rows[..., :-1], maps[..., 1:], out=rows[..., :-1])
    result = rows.clone()
    torch.maximum(result[..., 1:, :], rows[..., :-1, :], out=result[..., 1:, :])
    torch.maximum(result[..., :-1, :], rows[..., 1:, :], out=result[..., :-1, :])
    return result


def top_peaks(maps: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` highest peaks over all classes, for each image and point.

    Args:
        maps: (N, C, K, H, W) logits.

    Returns:
        logits (N, K, k) in descending order, -inf where there are fewer peaks; classes (N, K, k) int64; cells
        (N, K, k, 2) int64 x, y. Of equal peaks any may come first.
    """
    found = None if maps.is_cuda or _recorded() else _top_of_best_rows(maps, k)
    values, classes, cells = found if found is not None else _top_of_all(maps, k)
    missing = k - values.shape[-1]
    return F.pad(values, (0, missing), value=-torch.inf), F.pad(classes, (0, missing)), F.pad(cells, (0, 0, 0, missing))


def _recorded() -> bool:
    """Whether a graph is made that other pictures will go through: no step may depend on this one's values."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def _top_of_all(maps: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    height, width = maps.shape[-2:]
    peaks = maps.masked_fill(maps != neighbourhood_maximum(maps), -torch.inf).transpose(1, 2).flatten(2)
    values, index = peaks.topk(min(k, peaks.shape[-1]))
    # Of sizes that are not known in advance, ONNX's exporter has no remainders.
    row = index // width
    classes = row // height
    return values, classes, torch.stack([index - row * width, row - classes * height], dim=-1)


def _top_of_best_rows(maps: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """The same from the rows with the highest maxima alone; None where they may not be enough.

    A peak outside those rows cannot exceed the lowest of their maxima, so peaks above it are the highest of all.
    """
    images, classes, points, height, width = maps.shape
    count = min(_ROWS_PER_PEAK * k, classes * height)
    maxima, row = maps.amax(-1).transpose(1, 2).flatten(2).topk(count)  # (N, K, count)
    category, y = row // height, row % height
    image = torch.arange(images, device=maps.device)[:, None, None]
    point = torch.arange(points, device=maps.device)[:, None]
    first = ((image * classes + category) * points + point) * height
    flat = maps.reshape(-1, width)

    rows = flat[first + y]  # (N, K, count, W)
    tall = rows
    for step in (-1, 1):
        beside = y + step
        outside = (beside < 0) | (beside >= height)
        row_beside = flat[first + beside.clamp(0, height - 1)]
        tall = torch.maximum(tall, row_beside.masked_fill(outside[..., None], -torch.inf))
    padded = F.pad(tall, (1, 1), value=-torch.inf)
    window = torch.maximum(torch.maximum(padded[..., :-2], padded[..., 2:]), tall)
    values, index = rows.masked_fill(rows != window, -torch.inf).flatten(2).topk(min(k, count * width))
    if count < classes * height and not (values[..., -1] >= maxima[..., -1]).all():
        return None
    chosen = index // width
    return values, category.gather(-1, chosen), torch.stack([index % width, y.gather(-1, chosen)], dim=-1)


def maximum_near(maps: Tensor, image_index: Tensor, channel: Tensor, points: Tensor) -> Tensor:
    """The largest of 3x3 cells around the cell that holds each point; points outside go to the nearest cell.

    Args:
        maps: (N, D, H, W).
        image_index, channel: (...) int64.
        points: (..., 2) x, y in grid cells.
    """
    size = (maps.shape[-2], maps.shape[-1])
    near = torch.tensor([-1, 0, 1], device=maps.device)
    shift = torch.cartesian_prod(near, near)
    # Cells beyond the border become border cells, which the neighbourhood holds anyway.
    cells = cells_of(cells_of(points, size)[..., None, :] + shift, size)
    return maps[image_index[..., None], channel[..., None], cells[..., 1], cells[..., 0]].amax(dim=-1)
