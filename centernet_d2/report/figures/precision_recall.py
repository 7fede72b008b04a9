"""Curves of precision over recall."""

from __future__ import annotations

import numpy as np

from centernet_d2.report.html import format_chart, make_axes
from centernet_d2.report.matching import MIN_IOU
from centernet_d2.report.run_folder import EvaluatedDataset

_MAX_NAMED = 8


def build_precision_recall(dataset: EvaluatedDataset) -> str:
    """Return charts of precision over recall, and of both over the score, of each class.

    Of many classes those with the most objects are named.
    """
    objects = dataset.objects
    counts = np.bincount(objects.true_classes, minlength=len(objects.class_names))
    named = set(np.argsort(-counts, kind="stable")[:_MAX_NAMED].tolist())
    (by_recall, left), (by_score, right) = make_axes(), make_axes()
    for number, name in enumerate(objects.class_names.tolist()):
        matches = dataset.matches[number]
        recall, precision, scores = matches.compute_curve()
        if not matches.total or not len(scores):
            continue
        style = {"label": name} if number in named else {"color": "#bbbbbb", "linewidth": 0.7, "zorder": 1}
        left.plot(np.append(0, recall), np.append(precision[0], precision), **style)
        right.plot(scores, 2 * precision * recall / np.maximum(precision + recall, 1e-12), **style)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02), title=f"IoU {MIN_IOU}")
    right.set(xlabel="least score", ylabel="F1", xlim=(0, 1.01), ylim=(0, 1.02), title=f"IoU {MIN_IOU}")
    for axes in (left, right):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    return format_chart(by_recall, "precision over recall") + format_chart(by_score, "F1 over score")
