"""Merging detections of one object: soft-NMS and cluster voting, batched over images.

On a GPU all images take each step together and the host does not wait. On a CPU the NumPy text of
``centernet_d2.runtime.merging`` goes through one image after another, which is several times faster there.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from centernet_d2.runtime.merging import find_clusters, pick_by_soft_nms


def compute_overlap_with(row: Tensor, index: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """Return IoU (N, M) of box ``index`` (N,) of each image with all boxes of its class; 0 with other classes, and of
    empty boxes.

    A row at a time: far fewer overlaps are needed than there are pairs.
    """
    overlap = box_iou(boxes[row, index][:, None], boxes)[:, 0].nan_to_num(0)
    return overlap * (classes == classes[row, index][:, None])


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    limit: int,
    sigma: float = 0.5,
    threshold: float = 0.001,
    decay: str = "gaussian",
    iou: float = 0.6,
) -> tuple[Tensor, Tensor]:
    """Apply soft-NMS per class (Bodla et al. 2017, equations 2 and 3), all images at once.

    Boxes are taken from the highest score down, each lowering the others of its class. Scores can only fall, so they
    come out in descending order and the first ``limit`` are the best ``limit``.

    Args:
        boxes, scores, classes: (N, M, 4), (N, M), (N, M).
        decay: the factor of a score: "gaussian": exp(-IoU^2 / ``sigma``); above an IoU of ``iou`` "linear": 1 - IoU, or
            "hard": 0 (plain NMS).

    Returns:
        index (N, m) int64 into M, each at most once, and new scores (N, m), m = min(M, limit); scores below
        ``threshold`` become 0.
    """
    pick = _soft_nms_in_turn if boxes.device.type == "cpu" else _soft_nms_in_step
    index, new_scores = pick(boxes, scores, classes, min(limit, boxes.shape[1]), sigma, threshold, decay, iou)
    return index, new_scores.where(new_scores >= threshold, 0)


def _soft_nms_in_step(
    boxes: Tensor, scores: Tensor, classes: Tensor, limit: int, sigma: float, threshold: float, decay: str, iou: float
) -> tuple[Tensor, Tensor]:
    """Process all images together, on any device."""
    index = classes.new_zeros(len(boxes), limit)
    remaining, new_scores = scores.clone(), scores.new_zeros(index.shape)
    rows = torch.arange(len(boxes), device=boxes.device)
    for i in range(limit):
        new_scores[:, i], index[:, i] = remaining.max(dim=1)
        overlap = compute_overlap_with(rows, index[:, i], boxes, classes)
        if decay == "gaussian":
            remaining = remaining * (-(overlap**2) / sigma).exp()
        else:
            remaining = remaining * torch.where(overlap > iou, 1 - overlap if decay == "linear" else 0, 1)
        remaining[rows, index[:, i]] = -1.0
    return index, new_scores


def _soft_nms_in_turn(
    boxes: Tensor, scores: Tensor, classes: Tensor, limit: int, sigma: float, threshold: float, decay: str, iou: float
) -> tuple[Tensor, Tensor]:
    """Process one image after another, on the CPU."""
    picked, kept = classes.new_zeros(len(boxes), limit), scores.new_zeros(len(boxes), limit)
    for image in range(len(boxes)):
        arrays = _to_numpy(boxes[image], scores[image], classes[image])
        index, lowered = map(torch.from_numpy, pick_by_soft_nms(*arrays, limit, sigma, threshold, decay, iou))
        kept[image, : len(index)] = lowered
        # The order of the remaining ones does not matter.
        rest = torch.ones(scores.shape[1], dtype=torch.bool).index_fill(0, index, False).nonzero()[:, 0]
        picked[image] = torch.cat([index, rest])[:limit]
    return picked, kept


def _to_numpy(boxes: Tensor, scores: Tensor, classes: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return boxes.detach().numpy(), scores.detach().numpy(), classes.detach().numpy()


def cluster_vote(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_sources: int, limit: int, min_overlap: float = 0.6
) -> tuple[Tensor, Tensor, Tensor]:
    """Return greedy clusters from the highest score down: each takes the best box of its class from every source.

    Args:
        boxes, scores, classes: (N, M, 4), (N, M), (N, M), M = num_sources x m, grouped by source.
        limit: clusters to build.
        min_overlap: IoU with the cluster's first box.

    Returns:
        index (N, m) int64 of each cluster's first box, m = min(M, limit); boxes (N, m, 4), the score-weighted mean of
        the members; scores (N, m), the mean over *all* sources, absent ones counting as 0.
    """
    find = _cluster_in_turn if boxes.device.type == "cpu" else _cluster_in_parallel
    index, members, weight = find(boxes, scores, classes, num_sources, min(limit, scores.shape[1]), min_overlap)
    own = boxes.gather(1, members.flatten(1)[..., None].expand(-1, -1, 4)).view(*weight.shape, 4)
    fused = (own * weight[..., None]).sum(dim=2) / weight.sum(dim=2, keepdim=True).clamp(min=1e-12)
    return index, fused, weight.mean(dim=2)


def _cluster_in_parallel(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_sources: int, limit: int, min_overlap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return first boxes (N, m), members (N, m, S) and their scores (N, m, S), 0 of sources without a vote."""
    count, total = scores.shape
    remaining = scores.clone()
    rows = torch.arange(count, device=boxes.device)
    first_of_source = torch.arange(num_sources, device=boxes.device) * (total // num_sources)
    seeds, members, weights = [], [], []
    for _ in range(limit):
        seed = remaining.argmax(dim=1)
        near = compute_overlap_with(rows, seed, boxes, classes) >= min_overlap
        weight, member = (remaining * near).view(count, num_sources, -1).max(dim=2)
        member = member + first_of_source
        # A source without a vote points at a candidate of no weight near by, or at one that keeps what it has.
        remaining.scatter_add_(1, member, -weight)
        remaining[rows, seed] = 0
        seeds.append(seed)
        members.append(member)
        weights.append(weight)
    return torch.stack(seeds, dim=1), torch.stack(members, dim=1), torch.stack(weights, dim=1)


def _cluster_in_turn(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_sources: int, limit: int, min_overlap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same, one image after another, on the CPU."""
    seeds = classes.new_zeros(len(boxes), limit)
    members, weights = (like.new_zeros(*seeds.shape, num_sources) for like in (classes, scores))
    for image in range(len(boxes)):
        arrays = _to_numpy(boxes[image], scores[image], classes[image])
        clusters = map(torch.from_numpy, find_clusters(*arrays, num_sources, limit, min_overlap))
        for batch, values in zip((seeds, members, weights), clusters, strict=True):
            batch[image, : len(values)] = values
    return seeds, members, weights
