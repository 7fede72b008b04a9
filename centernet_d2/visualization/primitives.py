"""Lines, dots and words in images, (H, W, 3) uint8, BGR.

Coordinates are continuous: pixel (x, y) covers [x, x + 1) x [y, y + 1). Non-finite points are not drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Place = Sequence[float] | np.ndarray

# Fractional bits of the coordinates that OpenCV draws at; integers are pixel centers there.
_SHIFT = 4
# Coordinates are clipped to this: OpenCV uses 32-bit integers.
_FARTHEST = 2**24
# Margin around text, as a fraction of its height; opacity of the background.
_MARGIN, _SEEN_BEHIND = 0.2, 0.35


def compute_line_width(image: np.ndarray) -> int:
    """Return the line width in pixels for an image of this size."""
    return max(1, round(min(image.shape[:2]) / 250))


def draw_line(image: np.ndarray, start: Place, end: Place, color: Color, width: int = 1) -> None:
    """Draw into ``image``."""
    if np.isfinite([*start[:2], *end[:2]]).all():
        cv2.line(image, _to_fixed_point(start), _to_fixed_point(end), color, width, cv2.LINE_AA, _SHIFT)


def draw_dot(image: np.ndarray, center: Place, radius: float, color: Color) -> None:
    """Draw a filled circle into ``image``."""
    if np.isfinite(center[:2]).all():
        cv2.circle(image, _to_fixed_point(center), round(radius * (1 << _SHIFT)), color, -1, cv2.LINE_AA, _SHIFT)


def write_labels(
    image: np.ndarray, texts: Sequence[str], boxes: np.ndarray, colors: Sequence[Color], height: int
) -> None:
    """Write a text to each of P boxes into ``image``, without overlaps if possible: inside the box at
    its upper left, else (small boxes) above or below it. The first texts choose first.

    Args:
        boxes: (P, 4) x1, y1, x2, y2, pixels of ``image``.
        height: of capital letters with what is below and above them, pixels.
    """
    font, margin = _load_font(height), max(1, round(height * _MARGIN))
    taken = np.zeros((0, 4))
    positions = []
    for text, box in zip(texts, boxes, strict=True):
        size = (round(font.getlength(text)) + 2 * margin, height + 2 * margin)
        place = _find_free_position(box, size, taken, image.shape) if text and np.isfinite(box).all() else None
        positions.append(place)
        if place is not None:
            taken = np.concatenate([taken, [[*place, place[0] + size[0], place[1] + size[1]]]])
    for x1, y1, x2, y2 in taken.astype(int).tolist():
        image[y1:y2, x1:x2] = (image[y1:y2, x1:x2] * _SEEN_BEHIND).astype(np.uint8)
    # PIL, because OpenCV writes ASCII only. Colors stay in the order of the image.
    written = Image.fromarray(image)
    pen = ImageDraw.Draw(written)
    for text, place, color in zip(texts, positions, colors, strict=True):
        if place is not None:
            bright = tuple(255 - (255 - value) // 2 for value in color)
            pen.text((place[0] + margin, place[1] + margin), text, bright, font)
    image[:] = np.asarray(written)


def write_text(image: np.ndarray, place: tuple[int, int], text: str, color: Color, height: int) -> None:
    """Write into ``image``; ``place`` is the upper left corner, pixels."""
    written = Image.fromarray(image)
    ImageDraw.Draw(written).text(place, text, color, _load_font(height))
    image[:] = np.asarray(written)


@lru_cache(maxsize=32)
def _load_font(height: int) -> ImageFont.FreeTypeFont:
    """Load Matplotlib's font: Detectron2 requires Matplotlib."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), round(height * 0.85))


def _find_free_position(
    box: np.ndarray, size: tuple[int, int], taken: np.ndarray, shape: tuple[int, ...]
) -> tuple[int, int] | None:
    """Return x, y of the upper left corner of ``size`` (width, height): the position that overlaps ``taken`` (T, 4)
    least."""
    x1, y1, x2, y2 = box.round()
    width, height = size
    inside, outside = [(x1, y1), (x2 - width, y1), (x1, y2 - height)], [(x1, y1 - height), (x1, y2)]
    tight = y2 - y1 < 3 * height or x2 - x1 < width
    wanted = np.array(outside + inside if tight else inside + outside)
    low = wanted.clip(0, np.maximum([shape[1] - width, shape[0] - height], 0))
    shared = np.minimum(low[:, None] + size, taken[:, 2:]) - np.maximum(low[:, None], taken[:, :2])
    hidden = shared.clip(0).prod(axis=-1).sum(axis=-1)
    x, y = low[hidden.argmin()].astype(int).tolist()
    return x, y


def _to_fixed_point(point: Place) -> tuple[int, int]:
    values = [round(min(max((float(value) - 0.5) * (1 << _SHIFT), -_FARTHEST), _FARTHEST)) for value in point[:2]]
    return values[0], values[1]
