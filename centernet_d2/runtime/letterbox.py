"""Letterboxing in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def letterbox(size: tuple[int, int], metadata: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Return how an image of ``size`` (height, width) becomes the input: input = image * scale + shift (x, y), and the
    input's (height, width)."""
    step, resize = metadata["divisibility"], metadata["resize"]
    base: Any = metadata["size"] if resize == "fixed" else size
    scale = 1.0
    if resize == "short_side":
        short, long = metadata["size"]
        scale = min(short / min(size), long / max(size))
        base = [round(side * scale) for side in size]
    extra = resize == "keep" and metadata["pad_always"]
    rows, columns = ((side // step + 1 if extra else math.ceil(side / step)) * step for side in base)
    sides = np.array([columns / size[1], rows / size[0]])
    if resize == "stretch":
        return sides, np.zeros(2), (rows, columns)
    if resize == "fixed":
        scale = sides[0] if metadata["fit_width"] else sides.min()
    shift = np.array([columns - scale * size[1], rows - scale * size[0]]) / 2
    return np.array([scale, scale]), np.ceil(shift) if scale == 1 else shift, (rows, columns)


def warp_image(
    image: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    size: tuple[int, int],
    pixel_center: float,
    stretch: bool = False,
) -> np.ndarray:
    """Warp bilinearly, black outside, to (rows, columns, 3) uint8 of ``size``; pixel i has its center at i +
    ``pixel_center``.

    Args:
        stretch: the image fills the input: centers are at 0.5, and its border pixels continue.
    """
    if (scale == 1).all() and (shift == 0).all() and image.shape[:2] == size:
        return image
    center = 0.5 if stretch else pixel_center
    rows, columns = (
        (np.arange(count) + center - start) / zoom - center
        for count, start, zoom in zip(size, shift[::-1], scale[::-1], strict=True)
    )
    if stretch:
        rows, columns = rows.clip(0, image.shape[0] - 1), columns.clip(0, image.shape[1] - 1)
    return np.rint(_interpolate(_interpolate(image, rows[:, None, None], 0), columns[:, None], 1)).astype(np.uint8)


def _interpolate(image: np.ndarray, place: np.ndarray, axis: int) -> np.ndarray:
    """Return ``image`` (H, W, 3) at positions along an axis, in pixels; 0 outside."""
    first = np.floor(place).astype(np.int64)
    fraction = (place - first).astype(np.float32)
    last = image.shape[axis] - 1

    def take_part(index: np.ndarray, weight: np.ndarray) -> np.ndarray:
        inside = (index >= 0) & (index <= last)
        return image.take(index.clip(0, last).ravel(), axis) * (weight * inside)

    return take_part(first, 1 - fraction) + take_part(first + 1, fraction)
