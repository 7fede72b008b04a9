"""The results of the last evaluation, as the evaluators gave them."""

from __future__ import annotations

from html import escape

from centernet_d2.report.html import format_table
from centernet_d2.report.run_folder import RunFolder

_MAX_COLUMNS = 12


def build_results(run: RunFolder) -> str:
    """Return a table for each dataset and task; results by class are in the table of classes."""
    parts = []
    for dataset, tasks in run.results.items():
        for task, metrics in tasks.items():
            if not isinstance(metrics, dict):
                continue
            names = [name for name in metrics if not name.startswith(("AP-", "AP50-")) or len(metrics) <= _MAX_COLUMNS]
            rows = [names[i : i + _MAX_COLUMNS] for i in range(0, len(names), _MAX_COLUMNS)]
            parts.append(f"<h3>{escape(dataset)}: {escape(task)}</h3>")
            parts += [format_table(row, [[metrics[name] for name in row]]) for row in rows]
    return "\n".join(parts)
