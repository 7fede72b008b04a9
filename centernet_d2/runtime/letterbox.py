"""Letterboxing in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def letterbox(size: tuple[int, int], about: dict[str, Any]) -> tuple[float, np.ndarray, tuple[int, int]]:
    """How a picture of ``size`` (height, width) becomes the input: input = picture * scale + shift (x, y), and the
    input's (height, width)."""
    step, kept = about["divisibility"], about["resize"] == "keep"
    base = size if kept else about["size"]
    extra = kept and about["pad_always"]
    rows, columns = ((side // step + 1 if extra else math.ceil(side / step)) * step for side in base)
    across = columns / size[1]
    fitting = across if about["fit_width"] else min(rows / size[0], across)
    scale = 1.0 if kept else fitting
    shift = np.array([columns - scale * size[1], rows - scale * size[0]]) / 2
    return scale, np.ceil(shift) if scale == 1 else shift, (rows, columns)


def warp(
    picture: np.ndarray, scale: float, shift: np.ndarray, size: tuple[int, int], pixel_center: float
) -> np.ndarray:
    """Bilinear, black outside: (rows, columns, 3) uint8 of ``size``; pixel i has its middle at i + ``pixel_center``."""
    rows, columns = (
        (np.arange(count) + pixel_center - start) / scale - pixel_center
        for count, start in zip(size, shift[::-1], strict=True)
    )
    return np.rint(_between(_between(picture, rows[:, None, None], 0), columns[:, None], 1)).astype(np.uint8)


def _between(picture: np.ndarray, place: np.ndarray, axis: int) -> np.ndarray:
    """``picture`` (H, W, 3) at places along an axis, in pixels; 0 outside."""
    first = np.floor(place).astype(np.int64)
    share = (place - first).astype(np.float32)
    last = picture.shape[axis] - 1

    def part(index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        inside = (index >= 0) & (index <= last)
        return picture.take(index.clip(0, last).ravel(), axis) * (weight * inside)

    return part(first, 1 - share) + part(first + 1, share)
