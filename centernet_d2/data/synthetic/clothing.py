"""Drawn clothing items of 13 categories with the exact landmarks of DeepFashion2: a dataset that needs no download.

A clothing item (``centernet_d2.data.synthetic.clothing_model``) is bent, rotated and painted; as with the shapes of
``centernet_d2.data.synthetic.shapes``, an image is a pure function of (config, seed, index), and the landmarks of a
whole set cost no drawing. Patches lie over some clothing items; what is under one is labeled as occluded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from centernet_d2.data.schemas import CLOTHES294
from centernet_d2.data.synthetic.canvas import Canvas
from centernet_d2.data.synthetic.clothing_model import list_parts, place_landmarks, sample_shape
from centernet_d2.data.synthetic.shapes import (
    Box,
    SyntheticConfig,
    compute_bounds,
    compute_overlap,
    draw_clutter,
    fit_outline,
    place,
)


@dataclass(frozen=True)
class ClothingConfig(SyntheticConfig):
    """Images of clothing items; sizes are the longer sides of the outlines' boxes.

    Attributes:
        rotation: largest turn in degrees.
        occlusion: fraction of the clothing items with a patch over them.
    """

    height: int = 192
    width: int = 192
    max_objects: int = 2
    min_size: float = 72.0
    max_size: float = 176.0
    noise: float = 8.0
    rotation: float = 15.0
    occlusion: float = 0.3


@dataclass(frozen=True)
class ClothingItem:
    """One clothing item.

    Attributes:
        category: index into ``CLOTHES294.class_names``.
        points: (n, 2) x, y of the category's own landmarks, image pixels.
        patch: (V, 2), a polygon over it; without points where there is none.
        visible: (n,) bool; False under a patch.
    """

    category: int
    points: np.ndarray
    patch: np.ndarray
    visible: np.ndarray

    @property
    def box(self) -> Box:
        """x1, y1, x2, y2 of the outline, all of whose corners are landmarks."""
        return compute_bounds(self.points)

    def make_keypoints(self) -> np.ndarray:
        """Return (294, 3) x, y and visibility: 2, or 1 where occluded; 0, 0, 0 for the
        landmarks of other categories."""
        result = np.zeros((len(CLOTHES294), 3))
        first, end = CLOTHES294.ranges[self.category]
        result[first:end] = np.column_stack([self.points, 1 + self.visible])
        return result


def sample_layout(config: ClothingConfig, seed: int, index: int) -> list[ClothingItem]:
    """Return the clothing items of image ``index``, in the image and beside each other."""
    rng = np.random.default_rng([seed, index, 0])
    positioned: list[tuple[int, np.ndarray]] = []
    for _ in range(int(rng.integers(config.min_objects, config.max_objects + 1))):
        category = int(rng.integers(len(CLOTHES294.class_names)))
        worn = _deform(place_landmarks(CLOTHES294.class_names[category], sample_shape(rng)), config.rotation, rng)
        for _ in range(10):
            points = place(config, worn, compute_bounds(worn), rng)
            if all(compute_overlap(compute_bounds(points), compute_bounds(other)) == 0 for _, other in positioned):
                positioned.append((category, points))
                break
    patches = [_sample_patch(compute_bounds(points), config.occlusion, rng) for _, points in positioned]
    return [
        ClothingItem(category, points, patch, ~np.any([find_occluded_by(points, other) for other in patches], axis=0))
        for (category, points), patch in zip(positioned, patches, strict=True)
    ]


def find_occluded_by(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Return (n,) bool: which of (n, 2) points lie in the polygon (V, 2), which may be empty."""
    if not len(polygon):
        return np.zeros(len(points), dtype=bool)
    outline = polygon.astype(np.float32)
    return np.array([cv2.pointPolygonTest(outline, point, measureDist=False) >= 0 for point in points.tolist()])


def _deform(points: np.ndarray, rotation: float, rng: np.random.Generator) -> np.ndarray:
    """Return the points wider or narrower, sheared to one side, slightly waved and rotated."""
    x, y = (points * [rng.uniform(0.85, 1.2), 1.0]).T
    height = np.ptp(y)
    sway, wave, phase = rng.uniform(-0.16, 0.16), rng.uniform(0, 0.05), rng.uniform(0, 2 * math.pi)
    x = x + sway * height * (y / height) ** 2 + wave * np.sin(2 * math.pi * y / height + phase)
    angle = math.radians(rng.uniform(-rotation, rotation))
    return np.stack([x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)], axis=1)


def _sample_patch(box: Box, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Return a polygon (V, 2), or (0, 2) for none."""
    x, y, fraction_x, fraction_y = rng.uniform([0, 0, 0.15, 0.15], [1, 1, 0.4, 0.4])
    angles = np.arange(8) * (math.pi / 4)
    outline = rng.uniform(0.7, 1.0, size=8)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if rng.random() >= probability:
        return np.zeros((0, 2))
    width, height = box[2] - box[0], box[3] - box[1]
    left, top = box[0] + (x - fraction_x / 2) * width, box[1] + (y - fraction_y / 2) * height
    return fit_outline(outline, (left, top, left + fraction_x * width, top + fraction_y * height), 0.0)


def draw(config: ClothingConfig, seed: int, index: int) -> np.ndarray:
    """Return image ``index`` as (height, width, 3) uint8, RGB."""
    rng = np.random.default_rng([seed, index, 1])
    canvas = Canvas(draw_clutter(config, rng))
    clothing = sample_layout(config, seed, index)
    for one in clothing:
        draw_clothing_item(canvas, CLOTHES294.class_names[one.category], one.points, sample_cloth(rng))
    for one in clothing:
        color = rng.uniform(0, 255, size=3)
        if len(one.patch):
            canvas.draw_polygon(one.patch, color)
    return canvas.finish(config.noise, rng)


def sample_cloth(rng: np.random.Generator) -> np.ndarray:
    """Return a texture (32, 32, 3) uint8: plain, striped, checked or dotted."""
    color, other = rng.uniform(20, 240, size=(2, 3))
    y, x = np.mgrid[0:32, 0:32]
    period = int(rng.integers(4, 11))
    stripes = [y % period < period / 2, x % period < period / 2]
    dots = (x % period - period / 2) ** 2 + (y % period - period / 2) ** 2 < (period / 3) ** 2
    plain = np.zeros((32, 32), dtype=bool)
    pattern = [plain, plain, *stripes, stripes[0] ^ stripes[1], dots][rng.integers(6)]
    shading = 1 + rng.uniform(-0.2, 0.2) * (x / 16 - 1) + rng.uniform(-0.2, 0.2) * (y / 16 - 1)
    cloth = np.where(pattern[..., None], 0.5 * (color + other), color) * shading[..., None]
    return np.clip(cloth, 0, 255).astype(np.uint8)


def draw_clothing_item(canvas: Canvas, category: str, points: np.ndarray, cloth: np.ndarray) -> None:
    """Paint the clothing item of ``points`` (n, 2) out of ``cloth`` (h, w, 3) uint8."""
    shapes = list_parts(category)
    mean = cloth.mean(axis=(0, 1))
    # Seams show on dark cloth and on light.
    seam = mean * 0.45 if mean.mean() > 80 else 0.6 * mean + 90
    width = 0.008 * float(np.ptp(points, axis=0).max())
    if shapes.lining:
        canvas.draw_polygon(points[shapes.lining], mean * 0.55)
        canvas.draw_line(points[shapes.lining], seam, width, closed=True)
    for panel in shapes.panels:
        canvas.draw_textured_polygon(points[panel], cloth)
        canvas.draw_line(points[panel], seam, 1.5 * width, closed=True)
    for line in shapes.seams:
        canvas.draw_line(points[line], seam, width)
