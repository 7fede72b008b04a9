"""Images of elongated shapes that are rotated by any angle, with their rotated boxes.

All look the same after half a turn, as the boxes do, and fill their boxes to all four sides. Sides may be nearly equal,
where the boxes look the same after a quarter of a turn, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from centernet_d2.data.synthetic.canvas import add_noise
from centernet_d2.data.synthetic.shapes import (
    OUTLINES,
    SyntheticConfig,
    compute_bounds,
    compute_overlap,
    draw_clutter,
    paint,
    sample_contrasting_color,
)

#: Outline of each class around (0, 0), within [-1, 1].
ROTATED_OUTLINES: dict[str, np.ndarray] = {
    "plank": OUTLINES["rectangle"],
    "leaf": OUTLINES["ellipse"],
    "bow": np.array([[-1, -1], [0, -0.3], [1, -1], [1, 1], [0, 0.3], [-1, 1]], dtype=float),
}


@dataclass(frozen=True)
class RotatedConfig(SyntheticConfig):
    """Images of rotated shapes; sizes are those of the longer sides.

    Attributes:
        max_aspect: largest ratio of an object's sides.
        max_overlap: largest fraction of the smaller of two upright boxes that the other may cover.
        contrast: minimum distance (Euclid, RGB) of an object's color from what is behind its center.
    """

    min_size: float = 32.0
    max_aspect: float = 4.0
    max_overlap: float = 0.2
    contrast: float = 90.0


@dataclass(frozen=True)
class RotatedShape:
    """One object: class index, and x, y of the center, width, height, angle as in ``ops.rotated_boxes``."""

    category: int
    box: tuple[float, float, float, float, float]

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return image pixels (V, 2) of ``points`` (V, 2) in [-1, 1], which the box stretches and turns."""
        x, y, width, height, angle = self.box
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        stretched = points * (width / 2, height / 2)
        return stretched @ np.array([[cosine, -sine], [sine, cosine]]) + (x, y)


def sample_layout(config: RotatedConfig, seed: int, index: int) -> list[RotatedShape]:
    """Return the objects of image ``index`` in drawing order."""
    rng = np.random.default_rng([seed, index, 0])
    shapes: list[RotatedShape] = []
    for _ in range(int(rng.integers(config.min_objects, config.max_objects + 1))):
        for _ in range(10):
            shape = _sample_shape(config, rng)
            bounds = compute_bounds(shape.place(OUTLINES["rectangle"]))
            others = [compute_bounds(other.place(OUTLINES["rectangle"])) for other in shapes]
            if all(compute_overlap(bounds, other) <= config.max_overlap for other in others):
                shapes.append(shape)
                break
    return shapes


def _sample_shape(config: RotatedConfig, rng: np.random.Generator) -> RotatedShape:
    size = config.min_size * (config.max_size / config.min_size) ** rng.random()
    height, angle = size * config.max_aspect ** -rng.random(), rng.uniform(-90, 90)
    shape = RotatedShape(int(rng.integers(len(ROTATED_OUTLINES))), (0.0, 0.0, size, height, angle))
    x, y = shape.place(OUTLINES["rectangle"]).max(axis=0)
    center = [reach + rng.random() * (side - 2 * reach) for reach, side in ((x, config.width), (y, config.height))]
    return RotatedShape(shape.category, (*center, *shape.box[2:]))


def annotate(config: RotatedConfig, seed: int, index: int) -> list[dict[str, Any]]:
    """Return annotations: the corners of the rotated box are the outline, "bbox" is around them."""
    annotations = []
    for shape in sample_layout(config, seed, index):
        corners = shape.place(OUTLINES["rectangle"])
        box, outline = list(compute_bounds(corners)), [corners.ravel().tolist()]
        annotations.append({"bbox": box, "category_id": shape.category, "segmentation": outline})
    return annotations


def draw(config: RotatedConfig, seed: int, index: int) -> np.ndarray:
    """Return image ``index`` as (height, width, 3) uint8, RGB."""
    rng = np.random.default_rng([seed, index, 1])
    image, outlines = draw_clutter(config, rng), list(ROTATED_OUTLINES.values())
    for shape in sample_layout(config, seed, index):
        behind = image[int(shape.box[1]), int(shape.box[0])].astype(float)
        color = sample_contrasting_color(behind, config.contrast, rng)
        paint(image, shape.place(outlines[shape.category]), color)
    return add_noise(image, config.noise, rng)
