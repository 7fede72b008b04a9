"""Average precision of each class, and the score at which its detections are best."""

from __future__ import annotations

from centernet_d2.report.html import format_table
from centernet_d2.report.matching import COCO_IOUS
from centernet_d2.report.run_folder import EvaluatedDataset

_HEADER = ("class", "objects", "detections", "AP", "AP50", "AP75", "best F1", "at score", "precision", "recall")
_NOTE = (
    "AP of boxes, in percent, by COCO's rules on the objects of the dataset: the mean over IoUs of 0.50, 0.55, ..., "
    "0.95. F1 is that at an IoU of 0.5, with the score above which it is highest."
)


def build_class_table(dataset: EvaluatedDataset) -> str:
    """Return a table of the classes."""
    rows = []
    for name, matches in zip(dataset.objects.class_names.tolist(), dataset.matches, strict=True):
        levels = [100 * matches.compute_average_precision(level) for level in range(len(COCO_IOUS))]
        score, f1, precision, recall = matches.find_best_score()
        means = (sum(levels) / len(levels), levels[0], levels[5])
        rows.append((name, matches.total, len(matches.scores), *means, f1, score, precision, recall))
    return f'<p class="note">{_NOTE}</p>{format_table(_HEADER, rows)}'
