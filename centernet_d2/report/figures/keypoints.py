"""Errors of each keypoint."""

from __future__ import annotations

import numpy as np

from centernet_d2.report.html import format_chart, format_table, make_axes
from centernet_d2.report.matching import MIN_IOU
from centernet_d2.report.run_folder import EvaluatedDataset

#: Errors of at most this part of the object's size count as right (PCK).
_RIGHT = 0.1
_MAX_LISTED = 30
_NOTE = (
    "Distances from the true keypoint in percent of the object's size, the square root of its box's area, of objects "
    f"that a detection overlaps with an IoU of at least {MIN_IOU}; PCK is the part of them below "
    f"{100 * _RIGHT:.0f} %."
)


def summarize_keypoints(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (K,) the number, the mean error and the part of errors below ``_RIGHT``; NaN where the number is 0.

    Args:
        errors: (G, K), NaN where there is none.
    """
    there = ~np.isnan(errors)
    count = there.sum(axis=0)
    totals = (np.where(there, errors, 0).sum(axis=0), (np.where(there, errors, np.inf) < _RIGHT).sum(axis=0))
    mean, right = (np.divide(x, count, out=np.full(len(count), np.nan), where=count > 0) for x in totals)
    return count, mean, right


def build_keypoint_errors(dataset: EvaluatedDataset) -> str:
    """Return the mean error, a chart with the mean of each keypoint, and a table unless there are many."""
    errors, names = dataset.objects.keypoint_errors, dataset.objects.keypoint_names.tolist()
    if np.isnan(errors).all():
        return ""
    count, mean, right = summarize_keypoints(errors)
    total = 100 * float(np.nansum(mean * count) / count.sum())
    pck = 100 * float(np.nansum(right * count) / count.sum())
    figure, axes = make_axes(min(11.0, max(5.0, 0.16 * len(names))), 3.0)
    axes.bar(np.arange(len(names)), np.nan_to_num(100 * mean))
    axes.set(xlabel="keypoint, counted from 0", ylabel="mean error, % of size", xlim=(-0.7, len(names) - 0.3))
    detected = int((~np.isnan(errors)).any(axis=1).sum())
    text = f"<p>{detected:,} objects, mean error {total:.2f} %, PCK {pck:.1f} %.</p>"
    rows = list(zip(names, count.tolist(), (100 * mean).tolist(), (100 * right).tolist(), strict=True))
    table = format_table(("keypoint", "labeled", "mean error, %", "PCK, %"), rows) if len(rows) <= _MAX_LISTED else ""
    return f'<p class="note">{_NOTE}</p>{text}{format_chart(figure, "mean error of each keypoint")}{table}'
