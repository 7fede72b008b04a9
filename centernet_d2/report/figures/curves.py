"""Losses and evaluation scores by iteration."""

from __future__ import annotations

import numpy as np

from centernet_d2.report.html import format_chart, make_axes
from centernet_d2.report.run_folder import RunFolder

# Of the moving average that is drawn over the losses, in points of metrics.json.
_WINDOW = 9
#: What is drawn of an evaluation, where it is there.
_MAIN_SCORES = ("AP", "AP50", "AP75", "AP-easy", "AP-medium", "AP-hard", "AUC8_inter_ocular", "MOTA", "IDF1")


def build_losses(run: RunFolder) -> str:
    """Return a chart for the sum of the losses, and one for each."""
    names = [name for name in run.metrics if name == "total_loss" or name.startswith("loss_")]
    names.sort(key=lambda name: (name != "total_loss", name))
    charts = [_draw_curve(name, run.metrics[name]) for name in names]
    if "lr" in run.metrics and charts:
        charts.append(_draw_curve("lr", run.metrics["lr"], smooth=False))
    return "\n".join(charts)


def build_scores_over_time(run: RunFolder) -> str:
    """Return a chart with the main scores of each task; "" unless the training was evaluated."""
    tasks: dict[str, dict[str, dict[int, float]]] = {}
    for name, curve in run.metrics.items():
        task, _, metric = name.rpartition("/")
        if task and metric in _MAIN_SCORES:
            tasks.setdefault(task, {})[metric] = curve
    charts = []
    for task, curves in tasks.items():
        figure, axes = make_axes()
        for metric, curve in curves.items():
            axes.plot(list(curve), list(curve.values()), marker="o", markersize=4, label=metric)
        axes.set(title=task, xlabel="iteration", ylim=(0, 101))
        axes.legend()
        charts.append(format_chart(figure, f"{task} by iteration"))
    return "\n".join(charts)


def smooth_curve(values: np.ndarray, window: int) -> np.ndarray:
    """Return (n,) the mean of up to ``window`` values around each of the (n,) values; fewer at the ends."""
    kernel, ones = np.ones(window), np.ones(len(values))
    offset = (window - 1) // 2
    total, count = (np.convolve(x, kernel)[offset : offset + len(values)] for x in (values, ones))
    return total / count


def _draw_curve(name: str, curve: dict[int, float], smooth: bool = True) -> str:
    x, y = np.array(list(curve)), np.array(list(curve.values()))
    figure, axes = make_axes(3.8, 2.5)
    axes.plot(x, y, alpha=0.35 if smooth else 1.0, linewidth=1)
    if smooth:
        axes.plot(x, smooth_curve(y, _WINDOW), color="#0072b2", linewidth=2)
        axes.set_ylim(0, max(float(np.percentile(y, 98)) * 1.15, 1e-6))
    axes.set(title=name, xlabel="iteration")
    return format_chart(figure, f"{name} by iteration")
