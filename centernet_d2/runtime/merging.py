"""Merging of the candidates of one object, in NumPy. ``centernet_d2.ops.soft_nms`` uses it on CPUs."""

from __future__ import annotations

import numpy as np

Predictions = dict[str, np.ndarray]

# Soft-NMS (Bodla et al. 2017, equation 3), and the overlap at which points vote for one box.
_SIGMA = 0.5
_MIN_SCORE = 0.001
_MIN_OVERLAP = 0.6
#: Method of :func:`merge` -> ``decay`` of :func:`pick_by_soft_nms`, where it is not "gaussian".
DECAYS = {"nms": "hard", "linear_soft_nms": "linear"}


def merge(candidates: Predictions, method: str, sources: int, limit: int, iou: float = _MIN_OVERLAP) -> Predictions:
    """Return at most ``limit`` objects, highest-scoring first.

    Args:
        method: "top", "soft_nms", "vote", "extreme_points", "nms" or "linear_soft_nms".
        iou: of "nms" and "linear_soft_nms".
    """
    if method == "vote":
        candidates = vote(candidates, sources, 2 * limit)
    if method == "top":
        return _select_rows(candidates, np.argsort(-candidates["scores"], kind="stable")[:limit])
    predictions = soft_nms(candidates, limit, DECAYS.get(method, "gaussian"), iou)
    return suppress_ghost_boxes(predictions) if method == "extreme_points" else predictions


def soft_nms(candidates: Predictions, limit: int, decay: str = "gaussian", iou: float = _MIN_OVERLAP) -> Predictions:
    """Return at most ``limit`` candidates with lowered scores, highest first; see :func:`pick_by_soft_nms`."""
    arrays = candidates["boxes"], candidates["scores"], candidates["classes"]
    index, scores = pick_by_soft_nms(*arrays, limit, _SIGMA, _MIN_SCORE, decay, iou)
    return {**_select_rows(candidates, index), "scores": scores}


def pick_by_soft_nms(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    limit: int,
    sigma: float,
    threshold: float,
    decay: str = "gaussian",
    iou: float = _MIN_OVERLAP,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply soft-NMS per class of one image (Bodla et al. 2017, equations 2 and 3).

    Args:
        boxes, scores, classes: (M, 4) x1, y1, x2, y2; (M,); (M,) integers.
        threshold: boxes whose score falls below it are dropped.
        decay: how overlap lowers a score: "gaussian" (equation 3, with ``sigma``), or above an IoU of ``iou`` "linear"
            (equation 2) or "hard" (to 0: plain NMS).

    Returns:
        index (m,) int64 into M and new scores (m,), in descending order, m <= ``limit``.
    """
    image = _GroupedBoxes(boxes, scores, classes)
    remaining = scores.copy()
    picked: list[int] = []
    lowered: list[float] = []
    for _ in range(min(limit, len(remaining))):
        best = int(remaining.argmax())
        if remaining[best] < threshold:
            break
        picked.append(best)
        lowered.append(remaining[best])
        same, overlap = image.compute_class_iou(best)
        if decay == "gaussian":
            remaining[same] *= np.exp(overlap * overlap / -sigma)
        else:
            lowered_to = 1 - overlap if decay == "linear" else 0
            remaining[same] *= np.where(overlap > iou, lowered_to, 1).astype(scores.dtype)
        remaining[best] = -np.inf
    return np.array(picked, dtype=np.int64), np.array(lowered, dtype=scores.dtype)


def suppress_ghost_boxes(predictions: Predictions) -> Predictions:
    """Halve the score of a box if the boxes of its class inside it sum to more than three times its score."""
    low, high = predictions["boxes"][:, :2], predictions["boxes"][:, 2:]
    inside = (low >= low[:, None]).all(axis=-1) & (high <= high[:, None]).all(axis=-1)
    inside &= predictions["classes"] == predictions["classes"][:, None]
    np.fill_diagonal(inside, False)
    scores = predictions["scores"]
    lowered = np.where((inside * scores).sum(axis=1) > 3 * scores, scores / 2, scores)
    return _select_rows({**predictions, "scores": lowered}, np.argsort(-lowered, kind="stable"))


def vote(candidates: Predictions, sources: int, limit: int) -> Predictions:
    """Return at most ``limit`` clusters of candidates, see :func:`find_clusters`.

    A cluster's box is the mean of its members, weighted by their scores; its score is their mean, 0 for sources
    without a member.
    """
    boxes = candidates["boxes"]
    seeds, members, weights = find_clusters(boxes, candidates["scores"], candidates["classes"], sources, limit)
    total = np.maximum(weights.sum(axis=1, keepdims=True), np.float32(1e-12))
    fused = (boxes[members] * weights[..., None]).sum(axis=1) / total
    return {**_select_rows(candidates, seeds), "boxes": fused, "scores": weights.mean(axis=1)}


def find_clusters(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    sources: int,
    limit: int,
    min_overlap: float = _MIN_OVERLAP,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return clusters of one image, from the highest score down: each takes the best box of its class from every
    source.

    Args:
        boxes, scores, classes: (M, 4), (M,), (M,), M = sources x m, grouped by source.
        min_overlap: IoU with the cluster's first box.

    Returns:
        index (k,) int64 of each cluster's first box, k <= ``limit``; its members (k, sources) int64; and their scores
        (k, sources), 0 (with member 0) for a source without a vote.
    """
    image = _GroupedBoxes(boxes, scores, classes)
    remaining, source = scores.copy(), np.arange(len(scores)) // max(len(scores) // sources, 1)
    seeds: list[int] = []
    members, weights = np.zeros((limit, sources), np.int64), np.zeros((limit, sources), scores.dtype)
    for i in (-remaining).argsort(kind="stable").tolist():
        if len(seeds) == limit:
            break
        if remaining[i] <= 0:
            continue
        same, overlap = image.compute_class_iou(i)
        for voter in same[(overlap >= min_overlap) & (remaining[same] > 0)].tolist():  # from the highest score down
            cell = len(seeds), source[voter]
            if not weights[cell]:
                members[cell], weights[cell], remaining[voter] = voter, remaining[voter], 0
        seeds.append(i)
    return np.array(seeds, dtype=np.int64), members[: len(seeds)], weights[: len(seeds)]


def suppress(predictions: Predictions, threshold: float) -> Predictions:
    """Apply NMS over all classes: drop predictions whose IoU with a higher-scoring one is above ``threshold``."""
    kept: list[int] = []
    for i, box in enumerate(predictions["boxes"]):  # from the highest score down
        if not (compute_iou(box, predictions["boxes"][kept]) > threshold).any():
            kept.append(i)
    return _select_rows(predictions, np.array(kept, dtype=np.int64))


def compute_iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return IoU (M,) of ``box`` (4,) with ``boxes`` (M, 4)."""
    sides = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(min=0)
    shared = sides.prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum(area + areas - shared, np.float32(1e-12))


class _GroupedBoxes:
    """The boxes of one image; those of a class are stored side by side, from the highest score down."""

    def __init__(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> None:
        self._order = np.lexsort((-scores, classes))
        self._position = self._order.argsort().tolist()
        self._reach = (boxes[self._order] * np.array([-1, -1, 1, 1], dtype=np.float32)).T.copy()  # to each side
        self._area = np.multiply(*(self._reach[:2] + self._reach[2:]))
        self._first, self._last = (classes[self._order].searchsorted(classes, x).tolist() for x in ("left", "right"))

    def compute_class_iou(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes of the class of box ``i``, including itself, and its IoU with each of them."""
        same, here = slice(self._first[i], self._last[i]), self._position[i]
        reach = np.minimum(self._reach[:, here, None], self._reach[:, same])
        width, height = np.maximum(reach[:2] + reach[2:], 0)
        shared = width * height
        return self._order[same], shared / np.maximum(self._area[here] + self._area[same] - shared, 1e-12)


def _select_rows(predictions: Predictions, rows: np.ndarray) -> Predictions:
    return {name: values[rows] for name, values in predictions.items()}
