"""Images of simple shapes, drawn on demand: a dataset that needs no download and is the same on every machine.

An image is a pure function of (config, seed, index). The layout (:func:`sample_layout`) and the look (:func:`draw`) use
separate random streams, so that a dataset's annotations need no drawing. Color does not depend on the class: a network
has to learn the outlines.

In the *occluded* mode an opaque patch lies on the center of every object. All classes differ in their outline, not in
their inside, so an object can be recognized by what shows around the patch, and not by its center. Patches of the same
kind lie in the background of every image, so that a patch alone says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from centernet_d2.data.synthetic.canvas import add_noise

Box = tuple[float, float, float, float]

_SUPERSAMPLING = 4
_FIXED_POINT_BITS = 4


def _make_circle(start: float, end: float, radius: float = 1.0, center_x: float = 0.0, steps: int = 48) -> np.ndarray:
    angles = np.radians(np.linspace(start, end, steps))
    return np.stack([center_x + radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _make_star(points: int, inner: float) -> np.ndarray:
    angles = np.arange(2 * points) * math.pi / points - math.pi / 2
    radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


_ARM = 0.36
#: Outline of each class, (V, 2) x, y around (0, 0); the box of an object stretches it.
OUTLINES: dict[str, np.ndarray] = {
    "ellipse": _make_circle(0, 360),
    "rectangle": np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float),
    "triangle": np.array([[0, -1], [1, 1], [-1, 1]], dtype=float),
    "cross": np.array(
        [
            *[(-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)],
            *[(_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)],
        ]
    ),
    "star": _make_star(5, 0.4),
    "crescent": np.concatenate([_make_circle(60, 300), _make_circle(270, 90, radius=math.sqrt(0.75), center_x=0.5)]),
}
CLASS_NAMES = tuple(OUTLINES)


@dataclass(frozen=True)
class SyntheticConfig:
    """What the images of any drawn set are like. Lengths are pixels of the image.

    Attributes:
        height, width: of the image.
        min_objects, max_objects: how many are tried; one that finds no free place is left out.
        min_size, max_size: of an object's sides, log-uniform.
        clutter: lines and irregular patches in the background, at most.
        noise: largest change of a pixel's value.
    """

    height: int = 256
    width: int = 256
    min_objects: int = 1
    max_objects: int = 10
    min_size: float = 24.0
    max_size: float = 112.0
    clutter: int = 12
    noise: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.min_size <= self.max_size <= min(self.height, self.width):
            raise ValueError(f"need 0 < min_size <= max_size <= image, got {self}")
        if not 0 <= self.min_objects <= self.max_objects:
            raise ValueError(f"need 0 <= min_objects <= max_objects, got {self}")


@dataclass(frozen=True)
class ShapesConfig(SyntheticConfig):
    """Images of shapes.

    Attributes:
        max_aspect: largest ratio of an object's sides.
        rotation: outlines are rotated by up to this many degrees before they are stretched into the box.
        max_overlap: largest fraction of the smaller of two boxes that the other may cover.
        contrast: minimum distance (Euclid, RGB) of an object's color from what is behind its center.
        occluded: put an opaque patch on every object's center.
        cover_size: (smallest, largest) sides of that patch as a fraction of the object's.
        crowds: probability that an object is annotated as a crowd ("iscrowd"), which is to be ignored.
    """

    max_aspect: float = 2.0
    rotation: float = 25.0
    max_overlap: float = 0.2
    contrast: float = 90.0
    occluded: bool = False
    cover_size: tuple[float, float] = (0.4, 0.55)
    crowds: float = 0.0


@dataclass(frozen=True)
class ExtremesConfig(ShapesConfig):
    """Images of shapes, annotated with their extreme points and outlines."""


@dataclass(frozen=True)
class Shape:
    """One object: class index, exact box (x1, y1, x2, y2) in image pixels, and its turn in degrees."""

    category: int
    box: Box
    angle: float

    def compute_outline(self) -> np.ndarray:
        """Return the outline (V, 2) x, y; its extremes are the box."""
        return fit_outline(OUTLINES[CLASS_NAMES[self.category]], self.box, self.angle)


def fit_outline(outline: np.ndarray, box: Box, angle: float) -> np.ndarray:
    """Turn ``outline`` (V, 2) by ``angle`` degrees and stretch it so that it touches all sides of ``box``."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rotated = outline @ np.array([[cosine, sine], [-sine, cosine]])
    low, high = rotated.min(axis=0), rotated.max(axis=0)
    corner, opposite = np.array(box[:2]), np.array(box[2:])
    return corner + (rotated - low) / (high - low) * (opposite - corner)


def sample_layout(config: ShapesConfig, seed: int, index: int) -> list[Shape]:
    """Return the objects of image ``index`` in drawing order."""
    rng = np.random.default_rng([seed, index, 0])
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(config.min_objects, config.max_objects + 1))):
        for _ in range(10):
            box = _sample_box(config, rng)
            if all(compute_overlap(box, other.box) <= config.max_overlap for other in shapes):
                angle = float(rng.uniform(-config.rotation, config.rotation))
                shapes.append(Shape(int(rng.integers(len(CLASS_NAMES))), box, angle))
                break
    return shapes


def _sample_box(config: ShapesConfig, rng: np.random.Generator) -> Box:
    log_size, log_aspect, x, y = rng.random(4)
    size = config.min_size * (config.max_size / config.min_size) ** log_size
    shorter = max(size * config.max_aspect ** -abs(2 * log_aspect - 1), config.min_size)
    width, height = (size, shorter) if log_aspect < 0.5 else (shorter, size)
    left, top = x * (config.width - width), y * (config.height - height)
    return left, top, left + width, top + height


def compute_bounds(points: np.ndarray) -> Box:
    """Return x1, y1, x2, y2 around (N, 2) points."""
    (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return x1, y1, x2, y2


def compute_overlap(a: Box, b: Box) -> float:
    """Intersection over the smaller area, not over the union: a small box inside a large one overlaps fully."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def place(
    config: SyntheticConfig, points: np.ndarray, box: Box, rng: np.random.Generator, border: float = 0
) -> np.ndarray:
    """Scale and shift points (N, 2) so that ``box``, which goes with them, has a random size and lies in the image.

    Args:
        border: probability that the box touches a side of the image.
    """
    size = config.min_size * (config.max_size / config.min_size) ** rng.random()
    corner, sides = np.array(box[:2]), np.subtract(box[2:], box[:2])
    scale = size / sides.max()
    fraction = rng.random(2)
    if border and rng.random() < border:
        fraction[rng.integers(2)] = rng.integers(2)
    return scale * (points - corner) + fraction * ([config.width, config.height] - scale * sides)


def draw(config: ShapesConfig, seed: int, index: int) -> np.ndarray:
    """Return image ``index`` as (height, width, 3) uint8, RGB."""
    rng = np.random.default_rng([seed, index, 1])
    background = _draw_background(config, rng)
    image = background.copy()
    for shape in sample_layout(config, seed, index):
        outline = shape.compute_outline()
        behind = image[_find_center_pixel(shape.box)].astype(float)
        paint(image, outline, sample_contrasting_color(behind, config.contrast, rng))
        if config.occluded:
            _draw_patch(image, background, sample_cover_box(config, shape, rng), rng)
    return add_noise(image, config.noise, rng)


def sample_cover_box(config: ShapesConfig, shape: Shape, rng: np.random.Generator) -> Box:
    """Return the box of the patch on the center of ``shape``."""
    x1, y1, x2, y2 = shape.box
    fraction_x, fraction_y = rng.uniform(*config.cover_size, size=2) / 2
    x, y, width, height = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    return x - fraction_x * width, y - fraction_y * height, x + fraction_x * width, y + fraction_y * height


def paint(image: np.ndarray, outline: np.ndarray, fill: np.ndarray) -> None:
    """Fill ``outline`` (V, 2) in ``image`` (H, W, 3) in place, anti-aliased.

    Args:
        fill: a color (3,), or an image of the size of ``image`` that shows inside the outline.
    """
    height, width = image.shape[:2]
    low = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, (width, height))
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int), 0, (width, height))
    if (high <= low).any():
        return
    (x1, y1), (x2, y2) = low, high
    fine = np.zeros(((y2 - y1) * _SUPERSAMPLING, (x2 - x1) * _SUPERSAMPLING), dtype=np.uint8)
    # cv2 has pixel centers at integers and fills up to half a pixel beyond the line.
    vertices = ((outline - low) * _SUPERSAMPLING - 0.5) * 2**_FIXED_POINT_BITS
    cv2.fillPoly(fine, [np.rint(vertices).astype(np.int32)], 255, shift=_FIXED_POINT_BITS)
    alpha = cv2.resize(fine, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
    window = image[y1:y2, x1:x2]
    source = fill if fill.ndim == 1 else fill[y1:y2, x1:x2]
    window[:] = np.rint(window + alpha * (source.astype(np.float32) - window)).astype(np.uint8)


def _find_center_pixel(box: Box) -> tuple[int, int]:
    return int((box[1] + box[3]) / 2), int((box[0] + box[2]) / 2)


def sample_contrasting_color(behind: np.ndarray, contrast: float, rng: np.random.Generator) -> np.ndarray:
    """Return a color (3,) that is ``contrast`` away from ``behind`` (3,), or the farthest of eight."""
    candidates = rng.uniform(0, 255, size=(8, 3))
    distances = np.linalg.norm(candidates - behind, axis=1)
    far_enough = np.flatnonzero(distances >= contrast)
    return candidates[far_enough[0] if len(far_enough) else distances.argmax()]


def draw_clutter(config: SyntheticConfig, rng: np.random.Generator) -> np.ndarray:
    """Return a background (height, width, 3) uint8; the size of its patches does not depend on the objects."""
    side = min(config.height, config.width)
    shapes = ShapesConfig(config.height, config.width, min_size=side / 12, max_size=side / 2, clutter=config.clutter)
    return _draw_background(shapes, rng)


def _draw_background(config: ShapesConfig, rng: np.random.Generator) -> np.ndarray:
    base = rng.uniform(40, 215, size=3)
    coarse = np.clip(base + rng.uniform(-50, 50, size=(4, 4, 3)), 0, 255).astype(np.uint8)
    image = cv2.resize(coarse, (config.width, config.height), interpolation=cv2.INTER_CUBIC)
    clean = image.copy()
    for _ in range(int(rng.integers(config.clutter + 1))):
        if rng.random() < 0.5:
            ends = rng.uniform(0, 1, size=(2, 2)) * (config.width, config.height)
            (start, end), thickness = np.rint(ends).astype(int).tolist(), int(rng.integers(1, 4))
            cv2.line(image, start, end, rng.uniform(0, 255, size=3).tolist(), thickness, cv2.LINE_AA)
        else:
            _draw_patch(image, clean, _sample_box(config, rng), rng)
    return image


def _draw_patch(image: np.ndarray, background: np.ndarray, box: Box, rng: np.random.Generator) -> None:
    """Draw an irregular opaque patch inside ``box``, around its center: one color, or
    background from another position."""
    angles = np.arange(9) * (2 * math.pi / 9)
    radii = rng.uniform(0.6, 1.0, size=9)
    outline = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    if rng.random() < 0.5:
        fill = rng.uniform(0, 255, size=3)
    else:
        shift_y, shift_x = rng.integers(0, background.shape[:2])
        fill = np.roll(background, (int(shift_y), int(shift_x)), axis=(0, 1))
    paint(image, fit_outline(outline, box, float(rng.uniform(0, 360))), fill)
