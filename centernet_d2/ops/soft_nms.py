"""Merging detections of one object: soft-NMS and cluster voting, batched over pictures."""

from __future__ import annotations

import torch
from torch import Tensor


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU (..., A, B) of boxes (..., A, 4) and (..., B, 4); 0 where both are empty."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=-1)
    area_a = (a[..., 2:] - a[..., :2]).prod(dim=-1)[..., :, None]
    area_b = (b[..., 2:] - b[..., :2]).prod(dim=-1)[..., None, :]
    return overlap / (area_a + area_b - overlap).clamp(min=1e-12)


def _overlap_with(row: Tensor, index: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """IoU (N, M) of box ``index`` (N,) of each picture with all boxes of its class; 0 with other classes.

    A row at a time: far fewer overlaps are needed than there are pairs.
    """
    overlap = pairwise_iou(boxes[row, index][:, None], boxes)[:, 0]
    return overlap * (classes == classes[row, index][:, None])


def soft_nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, limit: int, sigma: float = 0.5, threshold: float = 0.001
) -> tuple[Tensor, Tensor]:
    """Gaussian soft-NMS per class (Bodla et al. 2017, equation 3), all pictures at once.

    Boxes are taken from the highest score down, each lowering the others of its class by exp(-IoU^2 / sigma). Scores
    can only fall, so they come out in descending order and the first ``limit`` are the best ``limit``.

    Args:
        boxes, scores, classes: (N, M, 4), (N, M), (N, M).

    Returns:
        index (N, m) int64 into M, each at most once, and new scores (N, m), m = min(M, limit); scores below
        ``threshold`` become 0.
    """
    remaining = scores.clone()
    picked, kept = [], []
    rows = torch.arange(len(boxes), device=boxes.device)
    for _ in range(min(limit, boxes.shape[1])):
        best, index = remaining.max(dim=1)
        picked.append(index)
        kept.append(best)
        remaining = remaining * (-(_overlap_with(rows, index, boxes, classes) ** 2) / sigma).exp()
        remaining[rows, index] = -1.0
    if not picked:
        return classes.new_zeros(len(boxes), 0), scores.new_zeros(len(boxes), 0)
    new_scores = torch.stack(kept, dim=1)
    return torch.stack(picked, dim=1), new_scores.where(new_scores >= threshold, 0)


def cluster_vote(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_sources: int, limit: int, min_overlap: float = 0.6
) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy clusters from the highest score down: each takes the best box of its class from every source.

    Args:
        boxes, scores, classes: (N, M, 4), (N, M), (N, M), M = num_sources x m, grouped by source.
        limit: clusters to build.
        min_overlap: IoU with the cluster's first box.

    Returns:
        index (N, m) int64 of each cluster's first box, m = min(M, limit); boxes (N, m, 4), the score-weighted mean of
        the members; scores (N, m), the mean over *all* sources, absent ones counting as 0.
    """
    count, total = scores.shape
    remaining = scores.clone()
    rows = torch.arange(count, device=boxes.device)
    first_of_source = torch.arange(num_sources, device=boxes.device) * (total // num_sources)
    seeds, members, weights = [], [], []
    for _ in range(min(limit, total)):
        seed = remaining.argmax(dim=1)
        near = _overlap_with(rows, seed, boxes, classes) >= min_overlap
        weight, member = (remaining * near).view(count, num_sources, -1).max(dim=2)
        member = member + first_of_source
        # A source without a vote points at a candidate of no weight near by, or at one that keeps what it has.
        remaining.scatter_add_(1, member, -weight)
        remaining[rows, seed] = 0
        seeds.append(seed)
        members.append(member)
        weights.append(weight)
    index, weight = torch.stack(seeds, dim=1), torch.stack(weights, dim=1)  # (N, m), (N, m, S)
    own = boxes.gather(1, torch.stack(members, dim=1).flatten(1)[..., None].expand(-1, -1, 4)).view(*weight.shape, 4)
    fused = (own * weight[..., None]).sum(dim=2) / weight.sum(dim=2, keepdim=True).clamp(min=1e-12)
    return index, fused, weight.mean(dim=2)
