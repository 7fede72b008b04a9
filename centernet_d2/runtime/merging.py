"""Merging of the candidates of one object, in NumPy."""

from __future__ import annotations

import numpy as np

Found = dict[str, np.ndarray]

# Soft-NMS (Bodla et al. 2017, equation 3), and the overlap at which points vote for one box.
_SIGMA = 0.5
_MIN_SCORE = 0.001
_MIN_OVERLAP = 0.6


def merge(candidates: Found, method: str, sources: int, limit: int) -> Found:
    """At most ``limit`` objects, the surest first, by "top", "soft_nms", "vote" or "extreme_points"."""
    if method == "vote":
        candidates = vote(candidates, sources, 2 * limit)
    if method == "top":
        return _rows(candidates, np.argsort(-candidates["scores"], kind="stable")[:limit])
    predictions = soft_nms(candidates, limit)
    return suppress_ghost_boxes(predictions) if method == "extreme_points" else predictions


def soft_nms(candidates: Found, limit: int) -> Found:
    """From the highest score down, each lowers the others of its class by exp(-IoU^2 / sigma)."""
    boxes, classes = candidates["boxes"], candidates["classes"]
    remaining, picked, scores = candidates["scores"].copy(), [], []
    for _ in range(min(limit, len(remaining))):
        best = int(remaining.argmax())
        if remaining[best] < _MIN_SCORE:
            break
        picked.append(best)
        scores.append(remaining[best])
        remaining *= np.exp(-((overlaps(boxes[best], boxes) * (classes == classes[best])) ** 2) / _SIGMA)
        remaining[best] = -1
    return {**_rows(candidates, np.array(picked, dtype=np.int64)), "scores": np.array(scores, dtype=np.float32)}


def suppress_ghost_boxes(predictions: Found) -> Found:
    """Scores are halved where the boxes of the same class inside one have more than three times its score together."""
    low, high = predictions["boxes"][:, :2], predictions["boxes"][:, 2:]
    inside = (low >= low[:, None]).all(axis=-1) & (high <= high[:, None]).all(axis=-1)
    inside &= predictions["classes"] == predictions["classes"][:, None]
    np.fill_diagonal(inside, False)
    scores = predictions["scores"]
    lowered = np.where((inside * scores).sum(axis=1) > 3 * scores, scores / 2, scores)
    return _rows({**predictions, "scores": lowered}, np.argsort(-lowered, kind="stable"))


def vote(candidates: Found, sources: int, limit: int) -> Found:
    """Clusters from the highest score down: each takes the best box of its class from every source. Its box is their
    mean, weighted by their scores; its score their mean, of sources without a vote 0."""
    boxes, classes = candidates["boxes"], candidates["classes"]
    remaining = candidates["scores"].copy()
    first = np.arange(sources) * (len(remaining) // sources)
    seeds, fused, scores = [], [], []
    for _ in range(min(limit, len(remaining))):
        seed = int(remaining.argmax())
        if remaining[seed] <= 0:
            break
        near = (overlaps(boxes[seed], boxes) >= _MIN_OVERLAP) & (classes == classes[seed])
        votes = (remaining * near).reshape(sources, -1)
        member, weight = votes.argmax(axis=1) + first, votes.max(axis=1)
        remaining[member] -= weight
        remaining[seed] = 0
        seeds.append(seed)
        fused.append((boxes[member] * weight[:, None]).sum(axis=0) / max(weight.sum(), 1e-12))
        scores.append(weight.mean())
    predictions = _rows(candidates, np.array(seeds, dtype=np.int64))
    return {**predictions, "boxes": np.reshape(fused, (-1, 4)), "scores": np.array(scores, dtype=np.float32)}


def suppress(predictions: Found, threshold: float) -> Found:
    """Without those whose IoU with one of a higher score, of any class, is above ``threshold``."""
    kept: list[int] = []
    for i, box in enumerate(predictions["boxes"]):  # from the highest score down
        if not (overlaps(box, predictions["boxes"][kept]) > threshold).any():
            kept.append(i)
    return _rows(predictions, np.array(kept, dtype=np.int64))


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU (M,) of ``box`` (4,) with ``boxes`` (M, 4)."""
    sides = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(min=0)
    shared = sides.prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum(area + areas - shared, np.float32(1e-12))


def _rows(predictions: Found, rows: np.ndarray) -> Found:
    return {name: values[rows] for name, values in predictions.items()}
