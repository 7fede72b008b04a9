"""Outlines of objects: octagons of extreme points, and contours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from centernet_d2.ops.extreme_points import build_octagons
from centernet_d2.visualization.primitives import Color, compute_line_width, draw_dot, draw_line

_RING: Color = (0, 0, 0)
_FIRST: Color = (255, 255, 255)


def draw_extreme_points(image: np.ndarray, points: np.ndarray, color: Color) -> None:
    """Draw the extreme points (4, 2), top, left, bottom, right, and their octagon into ``image``, pixels."""
    radius = 1.5 * compute_line_width(image)
    draw_polygon(image, build_octagons(torch.from_numpy(points)).numpy(), color)
    for point in points:
        draw_dot(image, point, radius + 1.5, _RING)
        draw_dot(image, point, radius, color)


def draw_contour(image: np.ndarray, points: np.ndarray, color: Color) -> None:
    """Draw the closed contour (K, 2) into ``image``, pixels; its first point is a white dot."""
    draw_polygon(image, points, color)
    draw_dot(image, points[0], 1.5 * compute_line_width(image), _FIRST)


def draw_polygon(image: np.ndarray, points: np.ndarray, color: Color) -> None:
    """Draw a closed line through points (V, 2) into ``image``, pixels."""
    for start, end in pairwise([*points, points[0]]):
        draw_line(image, start, end, color, compute_line_width(image))
