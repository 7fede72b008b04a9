"""Letterboxing in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def letterbox(size: tuple[int, int], metadata: dict[str, Any]) -> tuple[float, np.ndarray, tuple[int, int]]:
    """How an image of ``size`` (height, width) becomes the input: input = image * scale + shift (x, y), and the
    input's (height, width)."""
    step, kept = metadata["divisibility"], metadata["resize"] == "keep"
    base = size if kept else metadata["size"]
    extra = kept and metadata["pad_always"]
    rows, columns = ((side // step + 1 if extra else math.ceil(side / step)) * step for side in base)
    across = columns / size[1]
    fitting = across if metadata["fit_width"] else min(rows / size[0], across)
    scale = 1.0 if kept else fitting
    shift = np.array([columns - scale * size[1], rows - scale * size[0]]) / 2
    return scale, np.ceil(shift) if scale == 1 else shift, (rows, columns)


def warp(image: np.ndarray, scale: float, shift: np.ndarray, size: tuple[int, int], pixel_center: float) -> np.ndarray:
    """Bilinear, black outside: (rows, columns, 3) uint8 of ``size``; pixel i has its center at i + ``pixel_center``."""
    rows, columns = (
        (np.arange(count) + pixel_center - start) / scale - pixel_center
        for count, start in zip(size, shift[::-1], strict=True)
    )
    return np.rint(_between(_between(image, rows[:, None, None], 0), columns[:, None], 1)).astype(np.uint8)


def _between(image: np.ndarray, place: np.ndarray, axis: int) -> np.ndarray:
    """``image`` (H, W, 3) at positions along an axis, in pixels; 0 outside."""
    first = np.floor(place).astype(np.int64)
    fraction = (place - first).astype(np.float32)
    last = image.shape[axis] - 1

    def part(index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        inside = (index >= 0) & (index <= last)
        return image.take(index.clip(0, last).ravel(), axis) * (weight * inside)

    return part(first, 1 - fraction) + part(first + 1, fraction)
