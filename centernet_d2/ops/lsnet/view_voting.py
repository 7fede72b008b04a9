"""Boxes and landmarks of one object in several views of an image become one (ATSS, Zhang et al. 2020; LSNet)."""

from __future__ import annotations

import torch
from torch import Tensor

from centernet_d2.ops.soft_nms import compute_overlap_with


def vote_boxes(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    vectors: Tensor,
    limit: int,
    min_overlap: float = 0.66,
    min_score: float = 0.05,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Group boxes of one class from the highest score down and replace each group by its mean, weighted by scores.

    The mean has the highest score of its group. Each other member remains, too, with its score times (1 - its IoU with
    the first member), if this is at least ``min_score``. A box alone stays as it is. All images take each step
    together, and the host does not wait for the device.

    Args:
        boxes, scores, classes: (N, M, 4), (N, M), (N, M); a score of 0 marks an empty slot.
        vectors: (N, M, D), averaged with the boxes.
        limit: results per image.
        min_overlap: IoU of a group's members with its first box.

    Returns:
        index (N, m) int64 of a box of each result's group, boxes (N, m, 4), scores (N, m) in descending order, vectors
        (N, m, D); m = min(``limit``, 2 M).
    """
    count, total = scores.shape
    rows = torch.arange(count, device=boxes.device)
    everything = torch.cat([boxes, vectors], dim=2)
    remaining, lowered = scores.clone(), torch.zeros_like(scores)
    seeds, means, best = [classes[:, :0]], [everything[:, :0]], [scores[:, :0]]
    # A later group cannot be among the first ``limit`` results.
    for _ in range(min(limit, total)):
        top, seed = remaining.max(dim=1)
        overlap = compute_overlap_with(rows, seed, boxes, classes)
        overlap[rows, seed] = 1.0
        member = (overlap >= min_overlap) & (remaining > 0)
        weight = remaining * member
        mean = torch.einsum("nm,nmd->nd", weight, everything) / weight.sum(dim=1, keepdim=True).clamp(min=1e-12)
        again = weight * (1 - overlap)
        lowered = torch.where(member, again.where(again >= min_score, 0), lowered)
        remaining = remaining.where(~member, 0)
        seeds.append(seed[:, None])
        means.append(mean[:, None])
        best.append(top[:, None])
    index = torch.cat([*seeds, torch.arange(total, device=boxes.device).expand(count, -1)], dim=1)
    results = torch.cat([*means, everything], dim=1)
    kept, order = torch.cat([*best, lowered], dim=1).sort(dim=1, descending=True, stable=True)
    kept, order = kept[:, :limit], order[:, :limit]
    results = results.gather(1, order[..., None].expand(-1, -1, results.shape[2]))
    return index.gather(1, order), results[..., :4], kept, results[..., 4:]
