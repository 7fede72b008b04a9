"""Merging detections of one object: soft-NMS and cluster voting, batched over images.

Both go from box to box, with little to compute for each. On a CPU NumPy does it, which starts small operations several
times faster, with the boxes of one class in one image alone; on a GPU all images take each step together, and the
host does not wait.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
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
    """IoU (N, M) of box ``index`` (N,) of each image with all boxes of its class; 0 with other classes.

    A row at a time: far fewer overlaps are needed than there are pairs.
    """
    overlap = pairwise_iou(boxes[row, index][:, None], boxes)[:, 0]
    return overlap * (classes == classes[row, index][:, None])


def soft_nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, limit: int, sigma: float = 0.5, threshold: float = 0.001
) -> tuple[Tensor, Tensor]:
    """Gaussian soft-NMS per class (Bodla et al. 2017, equation 3), all images at once.

    Boxes are taken from the highest score down, each lowering the others of its class by exp(-IoU^2 / sigma). Scores
    can only fall, so they come out in descending order and the first ``limit`` are the best ``limit``.

    Args:
        boxes, scores, classes: (N, M, 4), (N, M), (N, M).

    Returns:
        index (N, m) int64 into M, each at most once, and new scores (N, m), m = min(M, limit); scores below
        ``threshold`` become 0.
    """
    pick = _soft_nms_in_turn if boxes.device.type == "cpu" else _soft_nms_in_step
    index, new_scores = pick(boxes, scores, classes, min(limit, boxes.shape[1]), sigma, threshold)
    return index, new_scores.where(new_scores >= threshold, 0)


def _soft_nms_in_step(
    boxes: Tensor, scores: Tensor, classes: Tensor, limit: int, sigma: float, threshold: float
) -> tuple[Tensor, Tensor]:
    """All images together, on any device."""
    index = classes.new_zeros(len(boxes), limit)
    remaining, new_scores = scores.clone(), scores.new_zeros(index.shape)
    rows = torch.arange(len(boxes), device=boxes.device)
    for i in range(limit):
        new_scores[:, i], index[:, i] = remaining.max(dim=1)
        overlap = _overlap_with(rows, index[:, i], boxes, classes)
        remaining = remaining * (-(overlap**2) / sigma).exp()
        remaining[rows, index[:, i]] = -1.0
    return index, new_scores


def _soft_nms_in_turn(
    boxes: Tensor, scores: Tensor, classes: Tensor, limit: int, sigma: float, threshold: float
) -> tuple[Tensor, Tensor]:
    """One image after another, on the CPU."""
    picked, kept = classes.new_zeros(len(boxes), limit), scores.new_zeros(len(boxes), limit)
    for image, index, new_scores in zip(_images(boxes, scores, classes), picked.numpy(), kept.numpy(), strict=True):
        remaining, count = image.scores, 0
        while count < limit and remaining[best := int(remaining.argmax())] >= threshold:
            index[count], new_scores[count] = best, remaining[best]
            same, overlap = image.overlaps(best)
            remaining[same] *= np.exp(overlap * overlap / -sigma)
            remaining[best] = -np.inf
            count += 1
        # Of the rest, which are not told apart, any will do.
        index[count:] = np.flatnonzero(remaining > -np.inf)[: limit - count]
    return picked, kept


class _Image:
    """The boxes of one image; those of a class are kept side by side, from the highest score down.

    Attributes:
        scores: (M,), a copy.
    """

    def __init__(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> None:
        self.scores = scores.copy()
        self._order = np.lexsort((-scores, classes))
        self._place = self._order.argsort().tolist()
        self._reach = (boxes[self._order] * np.array([-1, -1, 1, 1], dtype=np.float32)).T.copy()  # to each side
        self._area = np.multiply(*(self._reach[:2] + self._reach[2:]))
        self._first, self._last = (classes[self._order].searchsorted(classes, x).tolist() for x in ("left", "right"))

    def overlaps(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Which boxes are of the class of box ``i``, itself too, and its IoU with each of them."""
        same, here = slice(self._first[i], self._last[i]), self._place[i]
        reach = np.minimum(self._reach[:, here, None], self._reach[:, same])
        width, height = np.maximum(reach[:2] + reach[2:], 0)
        shared = width * height
        return self._order[same], shared / np.maximum(self._area[here] + self._area[same] - shared, 1e-12)


def _images(*tensors: Tensor) -> Iterator[_Image]:
    """Of boxes (N, M, 4), scores (N, M) and classes (N, M)."""
    return map(_Image, *(x.detach().numpy() for x in tensors))


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
    find = _clusters_in_turn if boxes.device.type == "cpu" else _clusters_in_step
    index, members, weight = find(boxes, scores, classes, num_sources, min(limit, scores.shape[1]), min_overlap)
    own = boxes.gather(1, members.flatten(1)[..., None].expand(-1, -1, 4)).view(*weight.shape, 4)
    fused = (own * weight[..., None]).sum(dim=2) / weight.sum(dim=2, keepdim=True).clamp(min=1e-12)
    return index, fused, weight.mean(dim=2)


def _clusters_in_step(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_sources: int, limit: int, min_overlap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """First boxes (N, m), members (N, m, S) and their scores (N, m, S), 0 of sources without a vote."""
    count, total = scores.shape
    remaining = scores.clone()
    rows = torch.arange(count, device=boxes.device)
    first_of_source = torch.arange(num_sources, device=boxes.device) * (total // num_sources)
    seeds, members, weights = [], [], []
    for _ in range(limit):
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
    return torch.stack(seeds, dim=1), torch.stack(members, dim=1), torch.stack(weights, dim=1)


def _clusters_in_turn(
    boxes: Tensor, scores: Tensor, classes: Tensor, num_sources: int, limit: int, min_overlap: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, one image after another, on the CPU."""
    seeds = classes.new_zeros(len(boxes), limit)
    members, weights = (like.new_zeros(*seeds.shape, num_sources) for like in (classes, scores))
    results = zip(*(x.numpy() for x in (seeds, members, weights)), strict=True)
    for image, (seed, member, weight) in zip(_images(boxes, scores, classes), results, strict=True):
        remaining, count, source = image.scores, 0, np.arange(scores.shape[1]) // (scores.shape[1] // num_sources)
        for i in (-remaining).argsort(kind="stable").tolist():
            if count == limit:
                break
            if remaining[i] <= 0:
                continue
            same, overlap = image.overlaps(i)
            seed[count] = i
            for voter in same[(overlap >= min_overlap) & (remaining[same] > 0)].tolist():  # from the highest score down
                place = count, source[voter]
                if not weight[place]:
                    member[place], weight[place], remaining[voter] = voter, remaining[voter], 0
            count += 1
    return seeds, members, weights
