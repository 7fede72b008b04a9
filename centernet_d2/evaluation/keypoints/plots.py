"""Curves and bars of landmark errors, as image files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from centernet_d2.evaluation.keypoints.metrics import (
    compute_area_under_curve,
    compute_cumulative_curve,
    compute_failure_rate,
)

_LIMIT = 10.0


def plot_cumulative_errors(path: Path, runs: Mapping[str, np.ndarray], normalizer: str) -> None:
    """Plot the percentage of faces whose error is at most x. The legend gives area and failure rate up to 10 %.

    Args:
        path: of the image; its suffix is the format.
        runs: name -> (F,) errors in percent, infinite for missed faces.
    """
    figure, axes = _make_figure(7, 5)
    for name, errors in runs.items():
        figures = f"AUC {compute_area_under_curve(errors, _LIMIT):.1f}, FR {compute_failure_rate(errors, _LIMIT):.1f} %"
        axes.step(*compute_cumulative_curve(errors, _LIMIT), where="post", label=f"{name}: {figures}", linewidth=2)
    axes.set(xlim=(-0.05, _LIMIT), ylim=(0, 101), ylabel="faces with at most this error, %")
    axes.set_xlabel(f"error, % of {normalizer.replace('_', ' ')}")
    figure.legend(loc="outside lower center")
    figure.savefig(path, dpi=120)


def plot_landmark_errors(path: Path, errors: np.ndarray, normalizer: str) -> None:
    """Plot a bar for each of the (K,) landmarks: its mean error in percent over the detected faces."""
    figure, axes = _make_figure(max(7.0, 0.16 * len(errors)), 4)
    axes.bar(np.arange(len(errors)), errors)
    axes.set(xlim=(-0.7, len(errors) - 0.3), xlabel="landmark, counted from 0")
    axes.set_ylabel(f"mean error, % of {normalizer.replace('_', ' ')}")
    figure.savefig(path, dpi=120)


def _make_figure(width: float, height: float) -> tuple[Figure, Axes]:
    # Not pyplot: it needs a display backend and keeps figures open.
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes
