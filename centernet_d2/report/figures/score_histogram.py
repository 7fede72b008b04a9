"""How well the score tells right from wrong."""

from __future__ import annotations

import numpy as np

from centernet_d2.report.html import COLORS, format_chart, make_axes
from centernet_d2.report.matching import MIN_IOU
from centernet_d2.report.run_folder import EvaluatedDataset

_NUM_BINS = 20


def build_score_histogram(dataset: EvaluatedDataset) -> str:
    """Return a chart of the numbers of right and wrong detections by score, all classes together."""
    right, wrong = [np.zeros(0)], [np.zeros(0)]
    for matches in dataset.matches:
        hits, counted = matches.hits[0], matches.counted[0]
        right.append(matches.scores[hits])
        wrong.append(matches.scores[counted & ~hits])
    bins = np.linspace(0, 1, _NUM_BINS + 1)
    counts = [np.histogram(np.concatenate(scores), bins)[0] for scores in (right, wrong)]
    if not np.sum(counts):
        return ""
    figure, axes = make_axes()
    centers, width = (bins[1:] + bins[:-1]) / 2, 0.9 / _NUM_BINS
    axes.bar(centers, counts[0], width, color=COLORS[2], label="right")
    axes.bar(centers, counts[1], width, bottom=counts[0], color=COLORS[1], label="wrong")
    # The many detections with hardly any score would hide the others.
    axes.set_ylim(0, 1.2 * max(1, int((counts[0] + counts[1])[2:].max())))
    axes.set(xlabel="score", ylabel="detections", xlim=(0, 1), title=f"IoU {MIN_IOU}; the first bars may be cut")
    axes.legend()
    return format_chart(figure, "right and wrong detections by score")
