"""Tracking metrics: CLEAR MOT and IDF1 through ``motmetrics``, and HOTA, which its releases lack.

Objects are matched to tracks in three ways: frame by frame, keeping what was matched before (CLEAR, Bernardin and
Stiefelhagen 2008: MOTA and counts); as wholes (IDF1, Ristani et al. 2016); frame by frame, for the best association
(HOTA, Luiten et al. 2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from motmetrics import MOTAccumulator
from motmetrics.metrics import create
from scipy.optimize import linear_sum_assignment

from centernet_d2.evaluation.average_precision import compute_box_iou

#: Minimum IoU of a match for CLEAR, IDF1 and ignored regions.
OVERLAP = 0.5
#: IoU thresholds that HOTA is averaged over.
HOTA_OVERLAPS = np.arange(0.05, 0.99, 0.05)
_CLEAR = {
    "MOTA": "mota",
    "IDF1": "idf1",
    "IDSW": "num_switches",
    "FP": "num_false_positives",
    "FN": "num_misses",
    "MT": "mostly_tracked",
    "ML": "mostly_lost",
}
_EPSILON = float(np.finfo(np.float64).eps)


class Frame(NamedTuple):
    """T objects and F predictions of one class; track ids are unique in a frame.

    Attributes:
        true_ids: (T,) int64.
        pred_ids: (F,) int64.
        overlaps: (T, F) float64, 0 to 1.
    """

    true_ids: np.ndarray
    pred_ids: np.ndarray
    overlaps: np.ndarray


def compare_frame(
    true_ids: np.ndarray, true_boxes: np.ndarray, ignored: np.ndarray, pred_ids: np.ndarray, pred_boxes: np.ndarray
) -> Frame:
    """Remove ignored objects and the predictions matched to them.

    As in MOTChallenge, predictions are first matched to all objects for the largest sum of IoUs of at least
    ``OVERLAP``. A prediction near an ignored object that is matched to another object counts.

    Args:
        true_boxes: (T, 4) x1, y1, x2, y2.
        ignored: (T,) bool.
        pred_boxes: (F, 4).
    """
    overlaps = compute_box_iou(true_boxes, pred_boxes)
    matching = np.where(overlaps < OVERLAP - _EPSILON, 0, overlaps)
    rows, columns = linear_sum_assignment(-matching)
    removed = columns[ignored[rows] & (matching[rows, columns] > 0)]
    return Frame(true_ids[~ignored], np.delete(pred_ids, removed), np.delete(overlaps[~ignored], removed, axis=1))


def compute_scores(videos: Sequence[Sequence[Frame]]) -> dict[str, float]:
    """Return MOTA, IDF1, HOTA, DetA and AssA in percent, and counts of ID switches, false positives (FP), false
    negatives (FN), objects that are tracked in at least 80 % (MT) and in less than 20 % of their frames (ML).

    Track ids are separate for each video. NaN if undefined: MOTA and IDF1 without objects, HOTA without objects and
    predictions.
    """
    return {**clear_and_identity(videos), **hota(videos)}


def clear_and_identity(videos: Sequence[Sequence[Frame]]) -> dict[str, float]:
    """Return the metrics of ``compute_scores`` except HOTA, DetA and AssA."""
    host, partials = create(), []
    for frames in videos:
        events = MOTAccumulator(auto_id=True)
        for true_ids, pred_ids, overlaps in frames:
            events.update(true_ids, pred_ids, np.where(overlaps < OVERLAP - _EPSILON, np.nan, 1 - overlaps))
        wanted = [*_CLEAR.values(), "num_objects"]
        partials.append(host.compute(events, metrics=wanted, return_dataframe=False, return_cached=True))
    predictions = host.compute_overall(partials, metrics=[*_CLEAR.values(), "num_objects"], return_dataframe=False)
    values = {name: float(predictions[key]) for name, key in _CLEAR.items()}
    for name in ("MOTA", "IDF1"):
        values[name] = 100 * values[name] if predictions["num_objects"] else math.nan
    return values


def hota(videos: Sequence[Sequence[Frame]]) -> dict[str, float]:
    """Return HOTA, DetA and AssA in percent: means over ``HOTA_OVERLAPS``."""
    total = 0
    matches, associations = np.zeros_like(HOTA_OVERLAPS), np.zeros_like(HOTA_OVERLAPS)
    for frames in videos:
        total += sum(len(frame.true_ids) + len(frame.pred_ids) for frame in frames)
        pairs, overlaps, together = _match_frames(frames)
        for k, minimum in enumerate(HOTA_OVERLAPS):
            kinds, counts = np.unique(pairs[overlaps >= minimum - _EPSILON], return_counts=True)
            matches[k] += counts.sum()
            # Of the frames that either of the two has, the fraction in which they are matched; once for each match.
            associations[k] += (counts * counts / (together[kinds] - counts)).sum()
    if not total:
        return dict.fromkeys(("HOTA", "DetA", "AssA"), math.nan)
    detection, association = matches / (total - matches), associations / matches.clip(min=1)
    means = {"HOTA": np.sqrt(detection * association), "DetA": detection, "AssA": association}
    return {name: 100 * float(values.mean()) for name, values in means.items()}


def _match_frames(frames: Sequence[Frame]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return HOTA's matches of one video, whose (object, track) pairs count from 0.

    Returns:
        pairs: (M,) int64.
        overlaps: (M,) of these.
        together: of all pairs, frames of the object plus frames of the track.
    """
    true_ids, true_index = np.unique(np.concatenate([frame.true_ids for frame in frames]), return_inverse=True)
    pred_ids, pred_index = np.unique(np.concatenate([frame.pred_ids for frame in frames]), return_inverse=True)
    rows = np.split(true_index, np.cumsum([len(frame.true_ids) for frame in frames])[:-1])
    columns = np.split(pred_index, np.cumsum([len(frame.pred_ids) for frame in frames])[:-1])
    together = np.bincount(true_index, minlength=len(true_ids))[:, None] + np.bincount(
        pred_index, minlength=len(pred_ids)
    )
    potential = np.zeros(together.shape)
    for frame, row, column in zip(frames, rows, columns, strict=True):
        sums = frame.overlaps.sum(axis=0) + frame.overlaps.sum(axis=1)[:, None] - frame.overlaps
        potential[np.ix_(row, column)] += np.divide(
            frame.overlaps, sums, out=np.zeros_like(sums), where=sums > _EPSILON
        )
    alignment = potential / (together - potential)
    pairs, overlaps = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for frame, row, column in zip(frames, rows, columns, strict=True):
        i, j = linear_sum_assignment(-alignment[np.ix_(row, column)] * frame.overlaps)
        pairs.append(row[i] * len(pred_ids) + column[j])
        overlaps.append(frame.overlaps[i, j])
    return np.concatenate(pairs), np.concatenate(overlaps), together.reshape(-1)
