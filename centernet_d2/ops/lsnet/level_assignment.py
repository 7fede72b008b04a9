"""Which object each cell of a feature pyramid learns, for all images and objects of a batch at once.

A is the number of cells of all levels, N of images, P of objects per image (rows are padded to one length). Memory is
bounded: at most :data:`MAX_PAIRS` pairs of a cell and an object are worked on at a time, some 64 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Pairs of a cell and an object that are compared at a time.
MAX_PAIRS = 1 << 22

# The stride of an object's level is about its side divided by this (PointAssigner of RepPoints).
_SCALE = 4.0
# A proposal's center has to be this far inside the object, input pixels (ATSS).
_MARGIN = 0.01


@torch.no_grad()
def assign_centroid(
    points: Tensor,
    strides: Tensor,
    boxes: Tensor,
    valid: Tensor,
    extreme_points: Tensor | None = None,
    pos_num: int = 1,
    usable: Tensor | None = None,
) -> Tensor:
    """Return the index of each cell's object (N, A) int64; -1: none. (LSNet's CentroidAssigner.)

    An object's level has the stride 2^l, l = trunc((log2(w / 4) + log2(h / 4)) / 2), within those of the pyramid. On
    it, the ``pos_num`` cells whose points are nearest to its center, in widths and heights of its box, are its
    own. A cell that several objects claim is that of the nearest one, of the first one if they are as near; so an
    object may get no cell.

    Args:
        points: (A, 2) x, y of the cells, input pixels.
        strides: (A,), powers of 2.
        boxes: (N, P, 4), input pixels.
        valid: (N, P) bool: the row is an object.
        extreme_points: (N, P, 4, 2) x, y; the object's center is the centroid of their area. None: it is the box's.
        usable: (N, A) bool: the cell may be an object's; None: all may.
    """
    boxes = boxes.float()
    sizes = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)
    level = ((sizes / _SCALE).log2().sum(dim=-1) / 2).trunc()
    cell_level = strides.float().log2().round()
    level = torch.minimum(torch.maximum(level, cell_level.min()), cell_level.max())
    centers = (boxes[..., :2] + boxes[..., 2:]) / 2
    if extreme_points is not None:
        centers = compute_quadrilateral_centroids(extreme_points.float())
    count = min(pos_num, len(points))
    parts = []
    for center, size, own_level in split_objects(len(points), centers, sizes, level):
        x = (points[:, 0] - center[..., :1]) / size[..., :1]
        y = (points[:, 1] - center[..., 1:]) / size[..., 1:]
        distance = x.square_().add_(y.square_()).sqrt_()
        distance = distance.masked_fill_(cell_level != own_level[..., None], torch.inf)
        if usable is not None:
            distance = distance.masked_fill_(~usable[:, None], torch.inf)
        parts.append(distance.topk(count, largest=False))
    distance, cells = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return resolve_claims(cells, distance, valid[..., None] & distance.isfinite(), len(points))


@torch.no_grad()
def assign_atss(
    proposals: Tensor,
    level_counts: Sequence[int],
    boxes: Tensor,
    valid: Tensor,
    topk: int = 9,
    allow_zero_iou: bool = False,
    usable: Tensor | None = None,
) -> Tensor:
    """Return the index of each cell's object (N, A) int64; -1: none. (ATSS, Zhang et al. 2020, algorithm 1.)

    Candidates of an object are, on each level, the ``topk`` proposals whose centers are nearest to its own. Those with
    an IoU of at least the mean plus the standard deviation of all its candidates, and with the center inside the
    object, become positive. A proposal that several objects claim is that of the largest IoU.

    Args:
        proposals: (N, A, 4), one box for each cell, finest level first.
        level_counts: cells of each level, A in all.
        boxes: (N, P, 4), in the unit of the proposals (input pixels).
        valid: (N, P) bool: the row is an object.
        allow_zero_iou: as the reference: if no candidate meets the object, all with the center inside are positive.
        usable: (N, A) bool: the cell may be a candidate; None: all may.
    """
    proposals, boxes = proposals.float(), boxes.float()
    centers, own = (proposals[..., :2] + proposals[..., 2:]) / 2, (boxes[..., :2] + boxes[..., 2:]) / 2
    parts, start = [], 0
    for cells_of_level in level_counts:
        stop = start + cells_of_level
        allowed = None if usable is None else usable[:, None, start:stop]
        distance, cells = _find_nearest(centers[:, start:stop], own, min(topk, stop - start), allowed)
        parts.append((distance, cells + start))
        start = stop
    distance, cells = (torch.cat(part, dim=2) for part in zip(*parts, strict=True))  # (N, P, candidates)
    is_candidate = distance.isfinite()
    iou = _pair_iou(_gather_rows(proposals, cells), boxes[:, :, None]) * is_candidate
    count = is_candidate.sum(dim=2, keepdim=True)
    mean = iou.sum(dim=2, keepdim=True) / count.clamp(min=1)
    variance = ((iou - mean).square() * is_candidate).sum(dim=2, keepdim=True) / (count - 1).clamp(min=1)
    center = _gather_rows(centers, cells)
    inside = ((center - boxes[:, :, None, :2]).amin(dim=-1) > _MARGIN) & (
        (boxes[:, :, None, 2:] - center).amin(dim=-1) > _MARGIN
    )
    positive = is_candidate & inside & (iou >= mean + variance.sqrt()) & valid[..., None]
    if not allow_zero_iou:
        positive &= iou > 0
    return resolve_claims(cells, -iou, positive, proposals.shape[1])


def find_cells_in_regions(points: Tensor, regions: Tensor, valid: Tensor) -> Tensor:
    """Return (N, A) bool: the cell's point lies in a region of its image, such as a crowd, that nothing is learned of.

    Args:
        points: (A, 2) x, y of the cells, input pixels.
        regions: (N, R, 4), input pixels.
        valid: (N, R) bool: the row is a region.
    """
    inside = torch.zeros(len(regions), len(points), dtype=torch.bool, device=points.device)
    for part, is_region in split_objects(len(points), regions, valid):
        within = (points[:, 0] >= part[..., :1]) & (points[:, 0] < part[..., 2:3])
        within &= (points[:, 1] >= part[..., 1:2]) & (points[:, 1] < part[..., 3:])
        inside |= (within & is_region[..., None]).any(dim=1)
    return inside


def compute_quadrilateral_centroids(corners: Tensor) -> Tensor:
    """Return the centroids (..., 2) of the areas of quadrilaterals (..., 4, 2), such as those of extreme points; of one
    without an area, the mean of its corners."""
    mean = corners.mean(dim=-2)
    start = corners - mean[..., None, :]
    end = start.roll(-1, dims=-2)
    cross = start[..., 0] * end[..., 1] - start[..., 1] * end[..., 0]
    area = cross.sum(dim=-1, keepdim=True)  # twice
    shift = ((start + end) * cross[..., None]).sum(dim=-2) / (3 * area)
    return mean + shift.where(area.abs() > 1e-6, 0)


def split_objects(num_cells: int, *values: Tensor) -> list[tuple[Tensor, ...]]:
    """Return parts of ``values`` (N, P, ...) along P, such that no part has more than :data:`MAX_PAIRS` pairs."""
    length = max(MAX_PAIRS // max(num_cells * len(values[0]), 1), 1)
    return list(zip(*(value.split(length, dim=1) for value in values), strict=True))


def pair_distances(points: Tensor, others: Tensor) -> Tensor:
    """Return the distances (N, P, A) of points (N, P, 2) and others (N, A, 2). (By a matrix product, which is PyTorch's
    default, they would be wrong by hundredths of a pixel.)"""
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist")


def _find_nearest(centers: Tensor, own: Tensor, count: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return distance and cell (N, P, count) of those of ``centers`` (N, A, 2) that are nearest to ``own`` (N, P, 2);
    the distance is infinite where a cell is not ``allowed`` (N, 1, A)."""
    parts = []
    for (part,) in split_objects(centers.shape[1], own):
        distance = pair_distances(part, centers)
        if allowed is not None:
            distance = distance.masked_fill_(~allowed, torch.inf)
        parts.append(distance.topk(count, largest=False))
    distances, cells = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return distances, cells


def _gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Return rows (N, P, k, d) of ``values`` (N, A, d) at ``index`` (N, P, k)."""
    flat = index.flatten(1)[..., None].expand(-1, -1, values.shape[2])
    return values.gather(1, flat).view(*index.shape, values.shape[2])


def _pair_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU (...) of ``boxes`` and ``others`` (..., 4), which are broadcast; 0 of boxes without an area."""
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(x[..., 2:] - x[..., :2]).clamp(min=0).prod(dim=-1) for x in (boxes, others)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-6)


def resolve_claims(cells: Tensor, cost: Tensor, claimed: Tensor, num_cells: int) -> Tensor:
    """Return the object of each cell (N, A); -1: none. The claim of the lowest cost wins, of the first object if equal.

    Args:
        cells, cost, claimed: (N, P, k): a claim of object p on a cell, if ``claimed``.
    """
    count, num_objects = cells.shape[:2]
    owner = torch.arange(num_objects, device=cells.device).view(1, -1, 1).expand_as(cells).flatten(1)
    flat, cost = cells.flatten(1), cost.where(claimed, torch.inf).flatten(1)
    best = cost.new_full((count, num_cells), torch.inf).scatter_reduce(1, flat, cost, "amin")
    wins = claimed.flatten(1) & (cost == best.gather(1, flat))
    first = owner.new_full((count, num_cells), num_objects)
    first = first.scatter_reduce(1, flat, owner.where(wins, num_objects), "amin")
    return first.where(first < num_objects, -1)
