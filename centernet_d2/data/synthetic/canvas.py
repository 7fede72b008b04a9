"""A canvas of twice the resolution for drawn images, and smooth lines through points.

Points are (V, 2) x, y in continuous image coordinates, colors (3,) RGB in 0..255.
"""

from __future__ import annotations

import cv2
import numpy as np

_SCALE = 2
_FIXED_POINT_BITS = 4


class Canvas:
    """Draws anti-aliased on an image; :meth:`finish` gives it back at its own size."""

    def __init__(self, image: np.ndarray) -> None:
        """
        Args:
            image: (H, W, 3) uint8, what is there already; it is not changed.
        """
        self._size = (image.shape[1], image.shape[0])
        self._fine = cv2.resize(image, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_LINEAR)

    def draw_polygon(self, points: np.ndarray, color: np.ndarray) -> None:
        """Fill with one color."""
        cv2.fillPoly(self._fine, [_to_fixed_point(points)], color.tolist(), cv2.LINE_AA, _FIXED_POINT_BITS)

    def draw_textured_polygon(self, points: np.ndarray, texture: np.ndarray, inside: np.ndarray | None = None) -> None:
        """Fill with an image (h, w, 3) uint8 that is stretched to the box of ``points``.

        Args:
            inside: points of a second polygon; what lies outside of it is left as it is.
        """
        height, width = self._fine.shape[:2]
        x1, y1 = np.floor(points.min(axis=0) * _SCALE).astype(int).tolist()
        x2, y2 = (np.ceil(points.max(axis=0) * _SCALE).astype(int) + 1).tolist()
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
        if left >= right or top >= bottom:
            return
        mask = np.full((bottom - top, right - left), 255, np.uint8)
        for polygon in (points, inside) if inside is not None else (points,):
            part, corner = np.zeros_like(mask), np.array([left, top]) / _SCALE
            cv2.fillPoly(part, [_to_fixed_point(polygon - corner)], 255, cv2.LINE_8, _FIXED_POINT_BITS)
            mask &= part
        fill = cv2.resize(texture, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
        cv2.copyTo(fill[top - y1 : bottom - y1, left - x1 : right - x1], mask, self._fine[top:bottom, left:right])

    def draw_line(self, points: np.ndarray, color: np.ndarray, width: float, closed: bool = False) -> None:
        """Draw a line; ``width`` in image pixels, at least half of one."""
        thickness = max(1, round(width * _SCALE))
        cv2.polylines(
            self._fine, [_to_fixed_point(points)], closed, color.tolist(), thickness, cv2.LINE_AA, _FIXED_POINT_BITS
        )

    def draw_disc(self, center: np.ndarray, radius: float, color: np.ndarray) -> None:
        """Draw a disc; ``center`` (2,) and ``radius`` in image pixels."""
        angles = np.arange(16) * (np.pi / 8)
        self.draw_polygon(center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), color)

    def finish(self, noise: float, rng: np.random.Generator) -> np.ndarray:
        """Return the image, (H, W, 3) uint8, every value changed by up to ``noise``."""
        image = cv2.resize(self._fine, self._size, interpolation=cv2.INTER_AREA)
        return add_noise(image, noise, rng)


def add_noise(image: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W, 3) uint8, every value changed by up to ``noise``."""
    change = np.frombuffer(rng.bytes(image.size), dtype=np.uint8).reshape(image.shape)
    return cv2.addWeighted(image, 1.0, change, noise / 127.5, -noise)


def smooth(points: np.ndarray, closed: bool = False, steps: int = 4) -> np.ndarray:
    """Return a Catmull-Rom curve through ``points``, with ``steps`` points from each to the next."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = (padded[k : len(padded) - 3 + k, None] for k in range(4))
    t = (np.arange(steps) / steps)[:, None]
    curve = start + 0.5 * t * (
        end - before + t * (2 * before - 5 * start + 4 * end - after + t * (3 * (start - end) + after - before))
    )
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def _to_fixed_point(points: np.ndarray) -> np.ndarray:
    # cv2 has pixel centers at integers.
    return np.rint((points * _SCALE - 0.5) * 2**_FIXED_POINT_BITS).astype(np.int32)
