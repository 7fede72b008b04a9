"""The confusion matrix."""

from __future__ import annotations

from html import escape

import numpy as np

from centernet_d2.report.matching import MIN_IOU, MIN_SCORE, count_confusions
from centernet_d2.report.run_folder import EvaluatedDataset

_NOTE = (
    f"Rows are true classes, columns predicted ones, with scores of at least {MIN_SCORE}, matched at an IoU of at "
    f"least {MIN_IOU}. The last row counts detections where nothing is, the last column objects that were missed. "
    "The color is the part of the row."
)


def build_confusion(dataset: EvaluatedDataset) -> str:
    """Return the table of ``matching.count_confusions``."""
    names = [*dataset.objects.class_names.tolist(), "background"]
    table = count_confusions(dataset.objects)
    fractions = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = [
        f"<tr><th>{escape(name)}</th>{''.join(map(_format_cell, table[i].tolist(), fractions[i].tolist()))}</tr>"
        for i, name in enumerate(names)
    ]
    return (
        f'<p class="note">{_NOTE}</p><div class="scroll"><table class="matrix">'
        f"<thead><tr><th>true \\ predicted</th>{head}"
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _format_cell(count: int, fraction: float) -> str:
    text = "#fff" if fraction > 0.55 else "#1c1c1c"
    style = f"background: rgba(0, 90, 160, {fraction:.2f}); color: {text}"
    return f'<td style="{style}" title="{fraction:.1%} of the row">{count:,}</td>'
