"""KITTI's average precision and orientation similarity, as its development kit counts them (Geiger et al. 2012).

Differences from other benchmarks:

* Ground truth is ignored if it is too small, occluded or truncated for the difficulty; so are vans for cars and sitting
  persons for pedestrians. Detections matched to ignored objects do not count. Detections too small for the difficulty,
  *of any class*, can match an object, but never count.
* Objects choose in the order of the label file: first, to find the score thresholds, the detection with the highest
  score; then, at each threshold, the one with the largest IoU, small ones last.
* In the image, a detection is no false positive if a DontCare region covers it by the class's IoU threshold or more.
* Precision is read at no more than 41 scores, as near as possible to recalls 0, 1/40, ..., 1, and each is replaced by
  the best at this or a higher recall; scores without detections count as 0. So perfect detections of fewer
  than 41 objects score below 100. AP40 is the mean without recall 0 (Simonelli et al. 2019), AP11 that of every fourth.
* AOS replaces precision by the similarity of orientations: (1 + cos(difference)) / 2 for a hit, 0 for a false positive.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from centernet_d2.evaluation.average_precision import compute_box_iou
from centernet_d2.structures.boxes3d import Boxes3D, compute_iou_3d


class Difficulty(NamedTuple):
    """Minimum height (pixels), maximum occlusion and truncation of objects that count."""

    min_height: float
    max_occlusion: int
    max_truncation: float


DIFFICULTIES = {
    "easy": Difficulty(40, 0, 0.15),
    "moderate": Difficulty(25, 1, 0.30),
    "hard": Difficulty(25, 2, 0.50),
}
#: IoU thresholds: those of the benchmark, and the lower ones of many papers on monocular detection (CenterNet's, too)
#: for the bird's eye view and 3D.
OFFICIAL = {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
LOOSE = {"car": 0.5, "pedestrian": 0.25, "cyclist": 0.25}
_NEIGHBORS = {"car": "van", "pedestrian": "person_sitting"}
_RECALLS = 41


@dataclass(frozen=True)
class Objects:
    """True objects or detections of one image, float64.

    Attributes:
        types: (P,) str, lower case; of true ones also "van", "person_sitting" and "dontcare".
        boxes: (P, 4) x1, y1, x2, y2, image pixels.
        alpha: (P,) radians; None where not predicted.
        boxes_3d: camera coordinates; None where not predicted.
        scores: (P,), of detections.
        occluded, truncated: (P,), of true objects; in the order of the label file.
    """

    types: np.ndarray
    boxes: np.ndarray
    alpha: np.ndarray | None = None
    boxes_3d: Boxes3D | None = None
    scores: np.ndarray | None = None
    occluded: np.ndarray | None = None
    truncated: np.ndarray | None = None

    @property
    def heights(self) -> np.ndarray:
        return self.boxes[:, 3] - self.boxes[:, 1]


@dataclass(frozen=True)
class Image:
    gt: Objects
    predictions: Objects

    @functools.cached_property
    def overlaps(self) -> dict[str, np.ndarray]:
        """(true, predicted) IoU by "2d", "bev" and "3d"; "inside", the fraction of a detection inside a true box."""
        gt, predictions = self.gt.boxes, self.predictions.boxes
        result = {"2d": compute_box_iou(gt, predictions), "inside": _compute_fraction_inside(gt, predictions)}
        if self.gt.boxes_3d is not None and self.predictions.boxes_3d is not None:
            rows = Boxes3D(*(x[:, None] for x in self.gt.boxes_3d))
            columns = Boxes3D(*(x[None] for x in self.predictions.boxes_3d))
            result["bev"], result["3d"] = (x.numpy() for x in compute_iou_3d(rows, columns))
        return result


@dataclass(frozen=True)
class Scene:
    """The objects (G) and detections (D) of an image for one class, difficulty and kind of IoU.

    Attributes:
        overlaps: (G, D), zero where too small for a match.
        must: (G,) bool, False where ignored.
        small: (D,) bool, too small to count.
        excused: (D,) bool, no false positive if unmatched.
        scores: (D,).
        similarity: (G, D) of orientations, 0 to 1.
    """

    overlaps: np.ndarray
    must: np.ndarray
    small: np.ndarray
    excused: np.ndarray
    scores: np.ndarray
    similarity: np.ndarray


def average_precisions(
    images: Sequence[Image], kind: str, name: str, difficulty: Difficulty, min_overlap: float
) -> dict[str, float]:
    """Return "AP40" and "AP11" in percent; for "2d" with predicted alpha also "AOS40" and "AOS11".

    NaN if no object counts.

    Args:
        kind: of overlap: "2d", "bev" or "3d".
        name: of the class.
    """
    scenes = [select_scene(image, kind, name, difficulty, min_overlap) for image in images]
    with_angles = kind == "2d" and all(image.predictions.alpha is not None for image in images)
    measures = ("AP", "AOS") if with_angles else ("AP",)
    total = sum(int(one.must.sum()) for one in scenes)
    if not total:
        return {f"{measure}{count}": math.nan for measure in measures for count in (40, 11)}
    thresholds = select_recall_thresholds(np.concatenate([match_scores(one) for one in scenes]), total)
    hits, errors, similarity = sum((count(one, thresholds) for one in scenes), np.zeros((3, len(thresholds))))
    result: dict[str, float] = {}
    for measure, value in zip(measures, (hits, similarity), strict=False):
        curve = np.zeros(_RECALLS)
        curve[: len(thresholds)] = _divide(value, hits + errors)
        best = 100 * np.maximum.accumulate(curve[::-1])[::-1]
        result |= {f"{measure}40": float(best[1:].mean()), f"{measure}11": float(best[::4].mean())}
    return result


def select_scene(image: Image, kind: str, name: str, difficulty: Difficulty, min_overlap: float) -> Scene:
    """Return the part of ``image`` that counts."""
    gt, predictions, overlaps = image.gt, image.predictions, image.overlaps
    assert gt.occluded is not None and gt.truncated is not None and predictions.scores is not None
    small = predictions.heights < difficulty.min_height
    columns = np.flatnonzero(small | (predictions.types == name))
    rows = np.flatnonzero((gt.types == name) | (gt.types == _NEIGHBORS.get(name)))
    fitting = (
        (gt.types == name)
        & (gt.heights >= difficulty.min_height)
        & (gt.occluded <= difficulty.max_occlusion)
        & (gt.truncated <= difficulty.max_truncation)
    )
    chosen = overlaps[kind][np.ix_(rows, columns)]
    similarity = np.zeros(chosen.shape)
    if gt.alpha is not None and predictions.alpha is not None:
        similarity = (1 + np.cos(gt.alpha[rows, None] - predictions.alpha[columns])) / 2
    excused = overlaps["inside"][np.ix_(gt.types == "dontcare", columns)] > min_overlap
    return Scene(
        overlaps=np.where(chosen > min_overlap, chosen, 0),
        must=fitting[rows],
        small=small[columns],
        excused=excused.any(axis=0) & (kind == "2d"),
        scores=predictions.scores[columns],
        similarity=similarity,
    )


def match_scores(one: Scene) -> np.ndarray:
    """Return the scores of matched detections; each object takes the best remaining one."""
    left = np.ones(len(one.scores), dtype=bool)
    matched = []
    for overlaps, must in zip(one.overlaps, one.must, strict=True):
        free = left & (overlaps > 0)
        if free.any():
            taken = np.where(free, one.scores, -np.inf).argmax()
            left[taken] = False
            if must and not one.small[taken]:
                matched.append(one.scores[taken])
    return np.array(matched, dtype=np.float64)


def select_recall_thresholds(scores: np.ndarray, total: int) -> np.ndarray:
    """Return the scores (n,) of hits nearest to recalls 0, 1/40, ..., 1 of ``total`` objects, in descending order."""
    ordered = np.sort(scores)[::-1]
    chosen: list[float] = []
    wanted = 0.0
    for number, score in enumerate(ordered.tolist(), start=1):
        nearer_next = (number + 1) / total - wanted < wanted - number / total
        if number == len(ordered) or not nearer_next:
            chosen.append(score)
            wanted += 1 / (_RECALLS - 1)
    return np.array(chosen)


def count(one: Scene, thresholds: np.ndarray) -> np.ndarray:
    """Return (3, T) float64: hits, errors and the hits' sum of similarities with the detections of each threshold or
    above."""
    left = one.scores >= thresholds[:, None]
    every = np.arange(len(thresholds))
    hits, similarity = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    for row, must in enumerate(one.must):
        if not one.overlaps[row].any():
            continue
        free = left & (one.overlaps[row] > 0)
        tall = free & ~one.small
        taken = np.where(tall.any(axis=1), (tall * one.overlaps[row]).argmax(axis=1), free.argmax(axis=1))
        hit = tall.any(axis=1) & must
        # If no detection is free, argmax gives the first one; its value is kept.
        left[every, taken] &= ~free[every, taken]
        hits += hit
        similarity += hit * one.similarity[row, taken]
    errors = (left & ~one.small & ~one.excused).sum(axis=1)
    return np.stack([hits, errors, similarity])


def _compute_fraction_inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) intersection of boxes (A, 4) and (B, 4) over the area of b, as DontCare regions are matched: no IoU."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    return _divide((high - low).clip(min=0).prod(axis=2), (b[:, 2:] - b[:, :2]).prod(axis=1))


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ``part / whole``; 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)
