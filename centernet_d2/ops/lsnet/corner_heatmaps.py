"""Heatmaps of corners and class maps over a feature pyramid, and what they correct in boxes.

They are LSNet's corner point verification (after RepPoints v2, Chen et al. 2020, section 4) and CenterNet++'s
heatmaps. A is the number of cells of all levels, finest level first, N of images, P of objects per image (rows are
padded to one length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from centernet_d2.ops.constants import make_constant
from centernet_d2.ops.focal_loss import penalty_reduced_focal
from centernet_d2.ops.lsnet.level_assignment import pair_distances, resolve_claims, split_objects

# IoU that a box keeps if both its corners move by the radius.
_MIN_OVERLAP = 0.7
_GAMMA, _ALPHA = 2.0, 0.25


@dataclass(frozen=True)
class CornerTargets:
    """What one corner's maps learn.

    Attributes:
        heatmap: (N, A) in [0, 1].
        positive: (N, A) bool, the cells whose heat is 1.
        offsets: (N, A, 2) x, y from a positive cell's point to the corner, in its stride; 0 elsewhere.
    """

    heatmap: Tensor
    positive: Tensor
    offsets: Tensor


@torch.no_grad()
def encode_corners(
    corners: Tensor,
    boxes: Tensor,
    valid: Tensor,
    points: Tensor,
    strides: Tensor,
    level_counts: Sequence[int],
    usable: Tensor | None = None,
) -> CornerTargets:
    """Draw a Gaussian around every object's corner on every level; where they overlap the larger value stays.

    Its radius is that of CornerNet's appendix for an IoU of 0.7, in input pixels on all levels, and sigma is
    (2 r + 1) / 6. The nearest cell of each level is 1, whatever its distance, and learns the offset to the corner that
    is nearest to it. (The reference takes that of the last object.)

    Args:
        corners: (N, P, 2) x, y of one corner, or of the center, of each object, input pixels.
        boxes: (N, P, 4), input pixels.
        valid: (N, P) bool: the row is an object.
        points, strides: (A, 2), (A,) of the cells, input pixels.
        level_counts: cells of each level, A in all.
        usable: (N, A) bool: the cell may be the nearest; None: all may.
    """
    corners, radius = corners.float(), compute_corner_radius(boxes)
    heats, claims, start = [], [], 0
    for count in level_counts:
        own = slice(start, start + count)
        heat = radius.new_zeros(len(corners), count)
        for corner, r, is_object in split_objects(count, corners, radius, valid):
            distance = pair_distances(corner, points[own].expand(len(corner), -1, -1).float())
            near = (distance < r[..., None]) & is_object[..., None]
            drawn = (-distance.square() / (2 * ((2 * r + 1) / 6).square()[..., None])).exp() * near
            heat = torch.cat([heat[:, None], drawn], dim=1).amax(dim=1)
            if usable is not None:
                distance = distance.masked_fill(~usable[:, None, own], torch.inf)
            nearest, cell = distance.topk(1, largest=False)
            claims.append((cell + start, nearest, is_object[..., None] & nearest.isfinite()))
        heats.append(heat)
        start += count
    return _mark_nearest(torch.cat(heats, dim=1), claims, corners, points, strides, len(level_counts))


def _mark_nearest(
    heatmap: Tensor,
    claims: list[tuple[Tensor, Tensor, Tensor]],
    corners: Tensor,
    points: Tensor,
    strides: Tensor,
    num_levels: int,
) -> CornerTargets:
    """Return the targets; ``claims`` are the cells (N, p, 1) nearest to the corners, their distances and whether they
    count: of parts of the objects, level after level."""
    cells, distance, claimed = (torch.cat(part, dim=1) for part in zip(*claims, strict=True))
    # (N, levels * P, 1) -> (N, P, levels): a claim of each object on each level.
    cells, distance, claimed = (
        x.view(len(corners), num_levels, corners.shape[1]).transpose(1, 2) for x in (cells, distance, claimed)
    )
    owner = resolve_claims(cells, distance, claimed, len(points))
    positive = owner >= 0
    if corners.shape[1] == 0:
        return CornerTargets(heatmap, positive, heatmap.new_zeros(*heatmap.shape, 2))
    own = corners.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, 2))
    offsets = (own - points) / strides[:, None] * positive[..., None]
    return CornerTargets(heatmap.masked_fill(positive, 1.0), positive, offsets)


def compute_corner_radius(boxes: Tensor) -> Tensor:
    """Return how far (...) both corners of boxes (..., 4) may move while the IoU stays 0.7, in their unit: the method
    "corrected" of ``ops.gaussian.gaussian_radius``, which runs on the host."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).double().clamp(min=0).unbind(-1)
    total, area = width + height, width * height
    return ((total - (total.square() - 4 * area * (1 - _MIN_OVERLAP)).sqrt()) / 4).float()


def corner_focal_loss(logits: Tensor, heatmap: Tensor) -> Tensor:
    """Return the sum of the penalty-reduced focal losses of logits and heat of the same shape, see
    ``ops.focal_loss.heatmap_focal_loss``; divide by the number of corners."""
    return penalty_reduced_focal(logits.to(torch.promote_types(logits.dtype, torch.float32)), heatmap).sum()


@torch.no_grad()
def encode_semantic(
    boxes: Tensor,
    classes: Tensor,
    valid: Tensor,
    num_classes: int,
    level_sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
) -> Tensor:
    """Return the weights (N, A, C) of the cells inside boxes of each class; 0 is background.

    A cell's weight is 1 / area of the smallest box of the class around it, in square input pixels. The map is drawn on
    the finest level, all cells that a box touches, and every other level takes the nearest of its cells.

    Args:
        boxes: (N, P, 4), input pixels.
        classes: (N, P) int64 in [0, C).
        valid: (N, P) bool: the row is an object.
        num_classes: C.
        level_sizes, strides: (height, width) and stride of each level.
    """
    height, width = level_sizes[0]
    maps = torch.zeros(len(boxes), num_classes, height * width, device=boxes.device)
    weight = valid / (boxes[..., 2:] - boxes[..., :2]).float().prod(dim=-1).clamp(min=1e-6)
    limits = (boxes / strides[0]).floor()
    for box, own_class, own_weight in split_objects(height * width, limits, classes, weight):
        x, y = (torch.arange(side, device=boxes.device) for side in (width, height))
        columns = (x >= box[..., :1]) & (x <= box[..., 2:3])
        rows = (y >= box[..., 1:2]) & (y <= box[..., 3:])
        drawn = (rows * own_weight[..., None])[..., None] * columns[:, :, None]
        index = own_class[..., None].expand(-1, -1, height * width)
        maps.scatter_reduce_(1, index, drawn.flatten(2), "amax")
    maps = maps.unflatten(2, (height, width))
    return torch.cat([F.interpolate(maps, size).flatten(2) for size in level_sizes], dim=2).transpose(1, 2)


def semantic_focal_loss(
    logits: Tensor, weights: Tensor, total_weight: Tensor | None = None, num_positives: Tensor | None = None
) -> Tensor:
    """Return the scalar focal loss (Lin et al. 2017; gamma 2, alpha 0.25) of class maps: the weighted mean of the
    cells inside objects, plus the sum of all others over the number of those inside.

    Finite for finite logits; without objects it is the sum of the background's.

    Args:
        logits, weights: (N, A, C); see :func:`encode_semantic`.
        total_weight, num_positives: what the two sums are divided by, where it is not this batch's (several processes).
    """
    x = logits.to(torch.promote_types(logits.dtype, torch.float32))
    inside, p = weights > 0, x.sigmoid()
    total_weight = weights.sum() if total_weight is None else total_weight
    num_positives = inside.sum() if num_positives is None else num_positives
    positive = (_ALPHA * weights * (1 - p) ** _GAMMA * F.softplus(-x)).sum()
    negative = ((1 - _ALPHA) * p**_GAMMA * F.softplus(x)).masked_fill(inside, 0).sum()
    return positive / total_weight.where(total_weight > 0, 1) + negative / num_positives.clamp(min=1)


def move_to_corners(
    corners: Tensor,
    levels: Tensor,
    scores: Sequence[Tensor],
    offsets: Sequence[Tensor],
    strides: Sequence[int],
    threshold: float = 0.0,
    point_offset: float = 0.0,
) -> Tensor:
    """Return the corners (N, M, 2) at the strongest of the four cells around each, plus that cell's offset.

    Boxes of levels 1 and 2 look at level 0, those of levels 3 and 4 at level 1, and so on; boxes of level 0 stay. The
    result is not clipped to the image.

    Args:
        corners: (N, M, 2) x, y of one corner of each box, input pixels.
        levels: (N, M) int64, from which a box comes.
        scores: (N, H, W) logits of that corner, of each level.
        offsets: (N, 2, H, W) x, y of each level, in its stride.
        strides: of each level.
        threshold: minimum probability; a weaker cell does not move the corner. 0 moves all, as the reference.
        point_offset: position of a cell's point in the cell.
    """
    moved = corners
    for source in range(len(strides) // 2):
        place, score = _find_strongest(corners / strides[source] - point_offset, scores[source], offsets[source])
        use = ((levels + 1) // 2 == source + 1) & (score.sigmoid() >= threshold)
        moved = torch.where(use[..., None], (place + point_offset) * strides[source], moved)
    return moved


def _find_strongest(places: Tensor, scores: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place (N, M, 2), with its offset, and the score (N, M) of the strongest cell around each of
    ``places`` (N, M, 2), x, y in cells."""
    height, width = scores.shape[1:]
    last = make_constant([width - 1, height - 1], places)
    first = torch.minimum(places.floor(), last - 1).clamp(min=0)
    around = make_constant([0, 0, 1, 0, 0, 1, 1, 1], places).view(4, 2)
    cells = torch.minimum(first[:, :, None] + around, last).long()  # (N, M, 4, 2)
    index = cells[..., 1] * width + cells[..., 0]
    score, best = scores.flatten(1).float().gather(1, index.flatten(1)).view(index.shape).max(dim=2)
    index = index.gather(2, best[..., None])[..., 0]
    offset = offsets.flatten(2).gather(2, index[:, None].expand(-1, 2, -1)).transpose(1, 2)
    return torch.stack([index % width, index // width], dim=-1) + offset.to(places.dtype), score
