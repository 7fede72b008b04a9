"""Which detection is which object, and what follows from it: curves, confusion, a measure of an image. Pure functions.

Objects that are ignored take detections, which then count neither as right nor as wrong. A detection lies on an ignored
object by the part of the detection that is in it, as COCO has it for crowds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from centernet_d2.evaluation.average_precision import compute_box_iou
from centernet_d2.progress import track
from centernet_d2.report.objects import EvaluatedObjects, ImageObjects

#: IoU of a detection with its object, at least, and score that a shown detection has, at least.
MIN_IOU, MIN_SCORE = 0.5, 0.3
#: IoUs that COCO's AP averages over.
COCO_IOUS = tuple(np.arange(50, 100, 5) / 100)


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class in all images, by descending score.

    Attributes:
        scores: (D,).
        hits: (T, D) bool: right, at each of T IoUs.
        counted: (T, D) bool: right or wrong, and not ignored.
        total: number of true objects that are not ignored.
    """

    scores: np.ndarray
    hits: np.ndarray
    counted: np.ndarray
    total: int

    def compute_curve(self, level: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return recall, precision and score, (D',) each, after the 1, 2, ..., D' best detections that count.

        Recall is NaN without true objects.
        """
        counted = self.counted[level]
        hits = np.cumsum(self.hits[level][counted])
        recall = hits / self.total if self.total else np.full(len(hits), np.nan)
        return recall, hits / np.arange(1, len(hits) + 1), self.scores[counted]

    def compute_average_precision(self, level: int = 0) -> float:
        """COCO's AP, 0..1: the mean of the best precisions at recalls of at least 0, 0.01, ..., 1; NaN without true
        objects."""
        if not self.total:
            return float("nan")
        recall, precision, _ = self.compute_curve(level)
        best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        return float(best[np.searchsorted(recall, np.linspace(0, 1, 101), side="left")].mean())

    def find_best_score(self) -> tuple[float, float, float, float]:
        """Return the score with the highest F1, and F1, precision and recall there; NaN without detections or
        objects."""
        recall, precision, scores = self.compute_curve()
        if not len(scores) or not self.total:
            return (float("nan"),) * 4
        total = recall + precision
        f1 = np.divide(2 * recall * precision, total, out=np.zeros(len(total)), where=total > 0)
        i = int(f1.argmax())
        return float(scores[i]), float(f1[i]), float(precision[i]), float(recall[i])


def match_classes(objects: EvaluatedObjects, ious: Sequence[float] = COCO_IOUS) -> list[ClassMatches]:
    """Match the detections of each class as COCO does: from the highest score down, each takes the free object that it
    overlaps most."""
    count = len(objects.class_names)
    nothing = (np.zeros(0), *(np.zeros((2, len(ious), 0), dtype=bool)))
    parts: list[list[tuple[np.ndarray, ...]]] = [[nothing] for _ in range(count)]
    for image in track(objects.iterate_images(), "matched", total=len(objects)):
        for number in np.unique(image.pred_classes).tolist():
            mine, its = image.pred_classes == number, image.true_classes == number
            ignored = image.true_ignored[its]
            overlaps = _measure_overlaps(image.pred_boxes[mine], image.true_boxes[its], ignored)
            taken = match_by_score(overlaps, ignored, ious)
            on_ignored = (taken >= 0) & np.append(ignored, False)[taken]
            parts[number].append((image.pred_scores[mine], (taken >= 0) & ~on_ignored, ~on_ignored))
    totals = np.bincount(objects.true_classes[~objects.true_ignored], minlength=count).tolist()
    return [_join_matches(part, total) for part, total in zip(parts, totals, strict=True)]


def _join_matches(parts: list[tuple[np.ndarray, ...]], total: int) -> ClassMatches:
    scores, hits, counted = (np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    return ClassMatches(scores[order], hits[:, order], counted[:, order], total)


def match_by_score(overlaps: np.ndarray, ignored: np.ndarray, ious: Sequence[float]) -> np.ndarray:
    """Return (T, D) int64, the object that each detection takes at each of T IoUs; -1 for none.

    A detection takes the free object that it overlaps most, and an ignored one, which stays free, only if there is no
    other.

    Args:
        overlaps: (D, G), detections by descending score.
        ignored: (G,) bool.
    """
    taken = np.full((len(ious), len(overlaps)), -1)
    least, levels = np.minimum(ious, 1 - 1e-10), np.arange(len(ious))
    free = np.tile(~ignored, (len(ious), 1))
    last = overlaps.shape[1] - 1
    for d in np.flatnonzero(overlaps.max(axis=1, initial=0.0) >= least.min()):
        own, others = np.where(free, overlaps[d], -1.0), np.where(ignored, overlaps[d], -1.0)
        # The last of equals, as in pycocotools.
        best, other = last - own[:, ::-1].argmax(axis=1), last - int(others[::-1].argmax())
        right = own[levels, best] >= least
        taken[right, d] = best[right]
        free[levels[right], best[right]] = False
        taken[~right & (others[other] >= least), d] = other
    return taken


def match_one_to_one(overlaps: np.ndarray, least: float) -> np.ndarray:
    """Return (D,) int64, the object of each detection, -1 for none: pairs from the highest overlap down to
    ``least``."""
    matched = np.full(overlaps.shape[0], -1)
    free = np.ones(overlaps.shape[1], dtype=bool)
    rows, columns = np.nonzero(overlaps >= least)
    for i in np.argsort(-overlaps[rows, columns], kind="stable"):
        if matched[rows[i]] < 0 and free[columns[i]]:
            matched[rows[i]], free[columns[i]] = columns[i], False
    return matched


def count_confusions(objects: EvaluatedObjects) -> np.ndarray:
    """Return (C + 1, C + 1) int64: true class in rows, predicted class in columns, the background last in both.

    Detections of at least ``MIN_SCORE`` are matched to objects of any class, IoU at least ``MIN_IOU``, highest
    IoU first.
    """
    nothing = len(objects.class_names)
    table = np.zeros((nothing + 1, nothing + 1), dtype=np.int64)
    for image in map(select_shown, objects.iterate_images()):
        overlaps = _measure_overlaps(image.pred_boxes, image.true_boxes, image.true_ignored)
        matched = match_one_to_one(np.where(image.true_ignored, 0.0, overlaps), MIN_IOU)
        on_ignored = (np.where(image.true_ignored, overlaps, 0.0) >= MIN_IOU).any(axis=1)
        counted = (matched >= 0) | ~on_ignored
        true = np.append(image.true_classes, nothing)[matched]
        np.add.at(table, (true[counted], image.pred_classes[counted]), 1)
        missed = ~image.true_ignored
        missed[matched[matched >= 0]] = False
        np.add.at(table, (image.true_classes[missed], nothing), 1)
    return table


def measure_image(image: ImageObjects) -> float:
    """Return the mean IoU of the right detections times F1, 0..1; NaN for an image without objects and detections.

    That is the sum of the IoUs over (right + (wrong + missed) / 2), known as panoptic quality (Kirillov et al. 2019),
    of boxes: detections of at least ``MIN_SCORE`` are right on an object of their class with an IoU of
    ``MIN_IOU``.
    """
    image = select_shown(image)
    overlaps = _measure_overlaps(image.pred_boxes, image.true_boxes, image.true_ignored)
    overlaps = np.where(image.pred_classes[:, None] == image.true_classes, overlaps, 0.0)
    overlaps, on_ignored = overlaps[:, ~image.true_ignored], overlaps[:, image.true_ignored] >= MIN_IOU
    matched = match_one_to_one(overlaps, MIN_IOU)
    right = matched >= 0
    wrong, missed = int((~right & ~on_ignored.any(axis=1)).sum()), overlaps.shape[1] - int(right.sum())
    count = right.sum() + (wrong + missed) / 2
    return float(overlaps[np.flatnonzero(right), matched[right]].sum() / count) if count else float("nan")


def select_shown(image: ImageObjects) -> ImageObjects:
    """Return the image with the detections of at least ``MIN_SCORE``."""
    shown = image.pred_scores >= MIN_SCORE
    predicted = (image.pred_boxes[shown], image.pred_scores[shown], image.pred_classes[shown])
    return ImageObjects(*predicted, image.true_boxes, image.true_classes, image.true_ignored)


def _measure_overlaps(predicted: np.ndarray, true: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Return (D, G): IoU, or, with ignored objects, the part of the detection that is in them."""
    iou = compute_box_iou(predicted, true)
    # With intersection i and areas a, b: iou = i / (a + b - i).
    areas = [
        np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).astype(np.float64).prod(axis=1) for boxes in (predicted, true)
    ]
    both = iou * (areas[0][:, None] + areas[1]) / (1 + iou)
    inside = np.divide(both, areas[0][:, None], out=np.zeros_like(both), where=areas[0][:, None] > 0)
    return np.where(ignored, inside, iou)
