"""Extreme points (Zhou et al. 2019, "Bottom-up Object Detection by Grouping Extreme and Center Points").

The four sides of an object come in the order top, left, bottom, right everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from centernet_d2.ops.constants import make_constant
from centernet_d2.ops.indexing import gather_cells

# How far an octagon's segments reach from their extreme point, as a fraction of the box's side (section 4.4).
_REACH = 1 / 8
#: Order of an object's extreme points.
SIDES = ("top", "left", "bottom", "right")


def aggregate_edges(maps: Tensor, dim: int, weight: float) -> Tensor:
    """Add to every cell ``weight`` times the cells on both sides, along ``dim``, over which the values only rise (or
    stay) on the way to it (section 4.3): an edge that runs along the map answers along its whole length, weakly.

    Args:
        maps: any shape, values of at least 0.
    """
    return maps + weight * (_sum_rising_before(maps, dim) + _sum_rising_before(maps.flip(dim), dim).flip(dim))


def _sum_rising_before(maps: Tensor, dim: int) -> Tensor:
    """Sum over the cells before each one, along ``dim``, from where the values last fell: a scan whose steps double."""
    values = maps.movedim(dim, 0).contiguous()  # slices in one piece are several times faster
    # After each step: sums over the last ``step`` cells of the run, and whether it goes on before these.
    total, goes_on = values.clone(), torch.zeros_like(values)
    goes_on[1:] = values[1:] >= values[:-1]
    step = 1
    while step < len(values):
        total[step:] += goes_on[step:] * total[:-step]
        goes_on[step:] *= goes_on[:-step].clone()
        step *= 2
    return (total - values).movedim(0, dim)


def group_extreme_points(
    probability: Tensor,
    classes: Tensor,
    cells: Tensor,
    positions: Tensor,
    center: Tensor,
    limit: int,
    point_threshold: float,
    center_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Return the best of all K^4 groups of one peak per side that form an object (algorithm 1), in memory of order K^3.

    All four are of one class, none is less probable than ``point_threshold`` or farther out to a side than that side's
    own, and the center map has at least ``center_threshold`` in the center of the group. The score is the mean of the
    four probabilities and twice that of the center.

    Args:
        probability, classes: (N, 4, K), in [0, 1] and int64.
        cells: (N, 4, K, 2) int64 x, y of the peaks.
        positions: (N, 4, K, 2) float x, y in grid cells, between which the center is.
        center: (N, C, H, W) probabilities, C larger than all classes.

    Returns:
        scores (N, G) in descending order, 0 where there are no more groups, and the members (N, G, 4) int64 into K;
        G = min(limit, K^4).
    """
    count, _, k = probability.shape
    live, pairs = probability >= point_threshold, {}
    # (N, 4, K, 4): how far each peak lies towards each side.
    outward = torch.cat([-cells.flip(-1), cells.flip(-1)], dim=-1)
    for a in range(4):
        for b in range(a + 1, 4):
            same = (classes[:, a, :, None] == classes[:, b, None]) & live[:, a, :, None] & live[:, b, None]
            inside_a = outward[:, b, None, :, a] <= outward[:, a, :, None, a]
            pairs[a, b] = same & inside_a & (outward[:, a, :, None, b] <= outward[:, b, None, :, b])
    without_top = pairs[1, 2][:, :, :, None] & pairs[1, 3][:, :, None] & pairs[2, 3][:, None]

    height, width = center.shape[-2:]
    x = ((positions[:, 1, :, None, 0] + positions[:, 3, None, :, 0]) / 2).floor().long().clamp(0, width - 1)
    y = ((positions[:, 0, :, None, 1] + positions[:, 2, None, :, 1]) / 2).floor().long().clamp(0, height - 1)
    row = (classes[:, 0, :, None] * height + y) * width  # (N, top, bottom)
    best, member = probability.new_zeros(count, 0), classes.new_zeros(count, 0)
    top, left, bottom, right = probability.unbind(1)
    for t in range(k):
        middle = center.flatten(1).gather(1, (row[:, t, None, :, None] + x[:, :, None]).flatten(1)).view(-1, k, k, k)
        fits = without_top & pairs[0, 1][:, t, :, None, None] & pairs[0, 2][:, t, None, :, None]
        fits &= pairs[0, 3][:, t, None, None] & (middle >= center_threshold)
        total = (top[:, t, None] + left)[:, :, None, None] + bottom[:, None, :, None] + right[:, None, None]
        score, index = ((total + 2 * middle) / 6 * fits).flatten(1).topk(min(limit, k**3))
        best, kept = torch.cat([best, score], dim=1).topk(min(limit, best.shape[1] + score.shape[1]))
        member = torch.cat([member, index + t * k**3], dim=1).gather(1, kept)
    return best, torch.stack([member // k**power % k for power in (3, 2, 1, 0)], dim=-1)


def find_center_cells(positions: Tensor, grid_size: Sequence[int]) -> Tensor:
    """Return the cells (..., 2) int64 x, y in the center of four extreme points ``positions`` (..., 4, 2) in grid
    cells; ``grid_size`` is (height, width)."""
    top, left, bottom, right = positions.unbind(-2)
    center = torch.stack([left[..., 0] + right[..., 0], top[..., 1] + bottom[..., 1]], dim=-1) / 2
    return gather_cells(center, (grid_size[0], grid_size[1]))


def compute_extreme_boxes(points: Tensor) -> Tensor:
    """Return (..., 4) x1, y1, x2, y2 of ``points`` (..., 4, 2)."""
    top, left, bottom, right = points.unbind(-2)
    return torch.stack([left[..., 0], top[..., 1], right[..., 0], bottom[..., 1]], dim=-1)


def suppress_ghost_boxes(boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """Return ``scores`` (N, M), halved for ghost boxes: boxes of the same class inside them have more than three times
    their score in total. Objects in a row have extreme points that frame the one in the center (section 4.3).

    Args:
        boxes: (N, M, 4) x1, y1, x2, y2.
        scores: (N, M), with which all are compared.
        classes: (N, M) int64.
    """
    outer, inner = boxes[:, :, None], boxes[:, None]
    inside = (inner[..., :2] >= outer[..., :2]).all(-1) & (inner[..., 2:] <= outer[..., 2:]).all(-1)
    inside &= classes[:, :, None] == classes[:, None]
    inside.diagonal(dim1=1, dim2=2).fill_(False)
    ghost = (inside * scores[:, None]).sum(dim=2) > 3 * scores
    return torch.where(ghost, scores / 2, scores)


def exchange_left_right(points: Tensor) -> Tensor:
    """Return points (..., 4, D) in the order top, right, bottom, left."""
    return torch.stack([points.select(-2, side) for side in (0, 3, 2, 1)], dim=-2)


def order_left_right(points: Tensor) -> Tensor:
    """Return (..., 4, d) x, y, ...: left and right are exchanged where left lies to the right, as after flipping."""
    swapped = points[..., 1, :1] > points[..., 3, :1]
    return torch.where(swapped[..., None], exchange_left_right(points), points)


def build_octagons(points: Tensor) -> Tensor:
    """Return (..., 8, 2) x, y of the octagons of ``points`` (..., 4, 2), in the order top, left, bottom, right.

    Each extreme point becomes a segment of a quarter of its box's side, cut at the box's corners (section 4.4).
    """
    boxes = compute_extreme_boxes(points)
    low, high = boxes[..., None, :2], boxes[..., None, 2:]
    along = make_constant([1.0, 0.0, 0.0, -1.0, -1.0, 0.0, 0.0, 1.0], points).view(4, 2) * (high - low) * _REACH
    ends = torch.stack([points + along, points - along], dim=-2).flatten(-3, -2)
    return torch.minimum(torch.maximum(ends, low), high)


def make_octagon_masks(points: Tensor, boxes: Tensor, size: int = 56) -> Tensor:
    """Return masks of octagons as Detectron2 pastes them: values over the boxes that cross 0.5 at the octagons' edges.

    Args:
        points: (P, 4, 2) x, y of the extreme points.
        boxes: (P, 4) x1, y1, x2, y2 in the same unit, of positive area: the octagons' own, or parts of them.

    Returns:
        (P, 1, size, size) float in [0, 1].
    """
    corner, scale = boxes[:, None, :2], size / (boxes[:, None, 2:] - boxes[:, None, :2])
    ends = (build_octagons(points) - corner) * scale
    start, end = ends[:, 1::2], ends.roll(-1, dims=1)[:, 1::2]  # the edges that cut the box's corners
    along, place = end - start, torch.arange(size, device=points.device) + 0.5
    from_x, from_y = place - start[..., 0, None], place - start[..., 1, None]  # (P, 4, size)
    across = along[..., 1, None, None] * from_x[:, :, None] - along[..., 0, None, None] * from_y[..., None]
    length = along.norm(dim=-1)[..., None, None]
    distance = torch.where(length > 0, across / length, torch.inf).amin(dim=1, keepdim=True)
    return (0.5 + distance / 2).clamp(0, 1)
