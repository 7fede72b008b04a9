"""3D boxes drawn into the image, and seen from above.

Images are (H, W, 3) uint8, BGR; boxes are those of ``ops.box3d_geometry``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from centernet_d2.ops.box3d_geometry import project
from centernet_d2.structures import Boxes3D
from centernet_d2.visualization.primitives import Color, compute_line_width, draw_line, write_text

# Pairs of corners (``Boxes3D.compute_corners``): the front, with a cross that shows which it is, then the other edges.
_FRONT = ((0, 1), (1, 5), (5, 4), (4, 0), (0, 5), (1, 4))
_OTHERS = ((2, 3), (3, 7), (7, 6), (6, 2), (0, 3), (1, 2), (4, 7), (5, 6))
# Edges are cut where they come closer to the camera than this, meters.
_NEAR = 0.1
_GROUND, _LINES, _WORDS, _PAPER = (32, 32, 32), (70, 70, 70), (140, 140, 140), (180, 180, 180)
# Up to this reach, meters, there is an arc each 5 m, not each 10 m.
_CLOSE = 32.0


def draw_boxes_3d(image: np.ndarray, boxes: Boxes3D, calibration: Tensor, colors: Sequence[Color]) -> None:
    """Draw the edges of P boxes into ``image``, the farthest first; a cross marks the front.

    Args:
        calibration: (3, 4), in pixels of ``image``.
        colors: of each box.
    """
    width = compute_line_width(image)
    corners = boxes.compute_corners().detach().cpu().double().numpy()
    matrix = calibration.detach().cpu().double()
    for i in np.argsort(-corners[..., 2].mean(axis=-1)).tolist():
        for edges, thickness in ((_OTHERS, width), (_FRONT, width + 1)):
            for a, b in edges:
                _draw_edge(image, corners[i, [a, b]], matrix, colors[i], thickness)


def draw_birds_eye_view(
    boxes: Boxes3D,
    colors: Sequence[Color],
    *,
    size: int = 384,
    reach: float = 64.0,
    sight: tuple[float, float] | None = None,
    gt: Boxes3D | None = None,
) -> np.ndarray:
    """Draw a square of the ground from above: the camera at the center of the lower side, looking up; arcs with meters.

    P boxes are outlined; the thick side is the front. What is out of reach is left out.

    Args:
        colors: of each box.
        size: side of the result, pixels.
        reach: side of the square, meters.
        sight: x / z of what is seen farthest to the left and to the right; lines are drawn there.
        gt: drawn in gray below them.
    """
    image = np.full((size, size, 3), _GROUND, np.uint8)
    scale = size / reach
    step = 10 if reach > _CLOSE else 5
    for meters in range(step, math.ceil(reach), step):
        radius = round(meters * scale)
        cv2.circle(image, (size // 2, size - 1), radius, _LINES, 1, cv2.LINE_AA)
        write_text(image, (size // 2 + 3, size - radius), f"{meters} m", _WORDS, max(10, size // 36))
    for slope in sight or ():
        draw_line(image, (size / 2, size), (size / 2 + slope * size, 0), _LINES)
    known = [] if gt is None else [(box, _PAPER) for box in _compute_outlines(gt)]
    for outline, color in [*known, *zip(_compute_outlines(boxes), colors, strict=True)]:
        points = outline * [scale, -scale] + [size / 2, size]
        for k in range(4):
            thickness = max(1, size // 200) * (2 if k == 0 else 1)
            draw_line(image, points[k], points[(k + 1) % 4], color, thickness)
    return image


def _compute_outlines(boxes: Boxes3D) -> np.ndarray:
    """Return (P, 4, 2) x, z of the bottoms; the first two are the front."""
    return boxes.compute_corners()[:, :4, [0, 2]].detach().cpu().double().numpy()


def _draw_edge(image: np.ndarray, ends: np.ndarray, matrix: Tensor, color: Color, thickness: int) -> None:
    """Draw ``ends`` (2, 3) in camera coordinates; what lies behind the camera is cut off."""
    first, second = ends if ends[0, 2] <= ends[1, 2] else ends[::-1]
    if not np.isfinite(ends).all() or second[2] <= _NEAR:
        return
    if first[2] < _NEAR:
        first = first + (_NEAR - first[2]) / (second[2] - first[2]) * (second - first)
    seen = project(torch.from_numpy(np.stack([first, second])), matrix)[:, :2].numpy()
    draw_line(image, seen[0], seen[1], color, thickness)
