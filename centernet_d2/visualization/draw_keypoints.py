"""Landmarks drawn with their skeleton, predicted against true, and many small images in one image.

Images are (H, W, 3) uint8, BGR; landmarks are (K, 3) x, y (continuous image pixels) and score or visibility, of
which keypoints with 0 are not drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from centernet_d2.structures import keypoint_schema
from centernet_d2.structures.keypoint_schema import KeypointSchema
from centernet_d2.visualization.primitives import Color, draw_dot, draw_line

TRUE_COLOR: Color = (80, 220, 60)
PREDICTED_COLOR: Color = (40, 60, 255)
# Of the parts of an object, in the order of the schema's chains.
_PART_COLORS: tuple[Color, ...] = (
    *((255, 190, 60), (60, 200, 255), (90, 255, 130), (60, 140, 255), (255, 120, 220), (80, 80, 255)),
    (230, 240, 120),
)
_GAP_COLOR: Color = (0, 210, 230)
_LOOSE_COLOR: Color = (240, 240, 240)
_BACKGROUND = 32


def find_schema(cfg: CfgNode) -> KeypointSchema | None:
    """Return the schema that ``MODEL.KEYPOINT.SCHEMA`` names, or that of the first dataset; None if there is none."""
    predictions = [
        MetadataCatalog.get(name).get("keypoint_schema") for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)
    ]
    return keypoint_schema.find_schema(next(filter(None, (cfg.MODEL.KEYPOINT.SCHEMA, *predictions)), ""))


def draw_keypoints(
    image: np.ndarray, landmarks: np.ndarray, schema: KeypointSchema, label: int = 0, color: Color | None = None
) -> None:
    """Draw one object's landmarks and lines into ``image``; of a class, only its own.

    Line width depends on the size of the object, not of the image.

    Args:
        label: the object's class, an index into ``schema.class_names``.
        color: of all parts; None gives each part its own color, and flip pairs the same.
    """
    first, end = schema.get_class_range(label)
    drawn = [k for k in range(first, end) if landmarks[k, 2] > 0]
    if not drawn:
        return
    size = float(np.ptp(landmarks[drawn, :2], axis=0).max())
    width, radius = max(1, round(size / 150)), max(0.7, size / 110)
    colors = dict.fromkeys(drawn, color or _LOOSE_COLOR)
    for line, part_color in _color_chains(schema, first, end):
        for k in set(line) & set(drawn):
            colors[k] = color or part_color
        for a, b in pairwise(line):
            if a in colors and b in colors:
                draw_line(image, landmarks[a], landmarks[b], color or part_color, width)
    for k in drawn:
        draw_dot(image, landmarks[k], radius, colors[k])


def draw_comparison(
    image: np.ndarray, predicted: np.ndarray | None, gt: np.ndarray, schema: KeypointSchema, label: int = 0
) -> None:
    """Draw true landmarks (green), predicted ones (red, with any score), and lines between them."""
    if predicted is not None:
        for k in np.flatnonzero(gt[:, 2] > 0):
            draw_line(image, predicted[k], gt[k], _GAP_COLOR)
    draw_keypoints(image, gt, schema, label, TRUE_COLOR)
    if predicted is not None:
        draw_keypoints(image, set_full_scores(predicted), schema, label, PREDICTED_COLOR)


def set_full_scores(predicted: np.ndarray) -> np.ndarray:
    """Return predicted landmarks (..., K, 3) with score 1, so that those without a peak (score 0) are drawn, too."""
    return np.concatenate([predicted[..., :2], np.ones_like(predicted[..., 2:])], axis=-1)


def crop_square(image: np.ndarray, box: np.ndarray, size: int, margin: float = 0.25) -> tuple[np.ndarray, np.ndarray]:
    """Return the square around a box, resized, and the (2, 3) matrix from image coordinates to it.

    Args:
        box: x1, y1, x2, y2, pixels.
        size: side of the result, pixels.
        margin: added on each side, as a fraction of the box's longer side; what is outside the image is dark.
    """
    side = max(box[2] - box[0], box[3] - box[1], 1.0) * (1 + 2 * margin)
    scale = size / side
    corner = (box[:2] + box[2:]) / 2 - side / 2
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    # OpenCV's coordinates have pixel centers at integers.
    moved = matrix.copy()
    moved[:, 2] += 0.5 * scale - 0.5
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    border = (_BACKGROUND,) * 3
    return cv2.warpAffine(image, moved, (size, size), flags=flags, borderValue=border), matrix


def move_landmarks(landmarks: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return (K, 3) landmarks mapped by a (2, 3) matrix."""
    return np.concatenate([landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2], landmarks[:, 2:3]], axis=1)


def make_contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 5) -> np.ndarray:
    """Return images of one size in a grid, row by row, each above its caption; captions too long are cut.

    Raises:
        ValueError: no images.
    """
    if not images:
        raise ValueError("a contact sheet needs images")
    height, width = images[0].shape[:2]
    strip, gap = max(14, width // 10), 4
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    shape = (rows * (height + strip + gap) + gap, columns * (width + gap) + gap, 3)
    canvas = np.full(shape, _BACKGROUND, dtype=np.uint8)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        y, x = (i // columns) * (height + strip + gap) + gap, (i % columns) * (width + gap) + gap
        canvas[y : y + height, x : x + width] = image
        _write(canvas[y + height : y + height + strip, x : x + width], caption)
    return canvas


def _write(strip: np.ndarray, text: str) -> None:
    scale = strip.shape[0] / 46
    while text and cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] > strip.shape[1] - 4:
        text = text[:-1]
    origin = (2, round(strip.shape[0] * 0.7))
    cv2.putText(strip, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _color_chains(schema: KeypointSchema, first: int, end: int) -> list[tuple[tuple[int, ...], Color]]:
    """Return the chains among landmarks ``first`` to ``end``; a flip pair shares a color."""
    flip_pairs = schema.flip_indices()
    colors: dict[frozenset[int], Color] = {}
    result = []
    for line in schema.chains:
        if not first <= line[0] < end:
            continue
        part, flipped = frozenset(line), frozenset(int(flip_pairs[k]) for k in line)
        if flipped not in colors:
            colors[part] = _PART_COLORS[len(colors) % len(_PART_COLORS)]
        result.append((line, colors[flipped] if flipped in colors else colors[part]))
    return result
