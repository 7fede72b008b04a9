"""Synthetic street scenes with shaded boxes of KITTI's three classes: a dataset for 3D boxes that needs no download.

A camera looks along a flat ground. How far away something is can be seen from where it stands and from how large it
is; where its front is, from lights and windows. The camera's principal point is another in every image, so that a
place in the image means something with its calibration only. As with the shapes of
``centernet_d2.data.synthetic.shapes``, an image is a pure function of (config, seed, index), and the annotations of a
set cost no drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from centernet_d2.data.datasets.kitti import CLASS_NAMES
from centernet_d2.data.synthetic.canvas import Canvas
from centernet_d2.data.synthetic.shapes import SyntheticConfig, draw_clutter
from centernet_d2.ops.box3d_geometry import convert_rotation_y_to_alpha, project
from centernet_d2.structures import Boxes3D

# Of the classes: height, width, length in meters; each varies by this fraction.
_SIZES = np.array([[1.75, 0.6, 0.8], [1.5, 1.7, 4.0], [1.7, 0.7, 1.8]])
_VARIATION = 0.06
_FRACTIONS = (0.15, 0.7, 0.15)
# The camera's place as in KITTI's rig, meters: to the right of and in front of the origin.
_RIGHT, _FRONT = 0.06, 0.003
# Minimum visible fraction of objects that count as not, partly and largely occluded; others are left out.
_VISIBLE = (0.85, 0.5, 0.3)
# Outlines are painted at so many times the resolution to find that fraction: OpenCV's are half a pixel too large.
_FINE = 4

# The faces of a box, except its bottom, by their corners (``Boxes3D.compute_corners``). The first two are at the bottom
# (those of the top: at the front).
_FACES = {"front": (1, 0, 4, 5), "right": (2, 1, 5, 6), "back": (3, 2, 6, 7), "left": (0, 3, 7, 4), "top": (4, 5, 6, 7)}
_GLASS, _LAMP, _TAIL, _RUBBER, _SKIN = (40, 50, 60), (255, 250, 210), (210, 20, 20), (25, 25, 25), (235, 190, 160)
# What the color of a face is mixed with, and how much, so that a far object shows where its front is, too.
_TINTS = {"front": ((250, 240, 190), 0.85), "back": ((170, 20, 30), 0.85), "top": ((20, 20, 30), 0.4)}
_Detail = tuple[float, float, float, float, tuple[int, int, int]]
# What is on the faces: from and to along the first two corners, from and to upwards, as shares; color RGB.
_DETAILS: dict[str, dict[str, list[_Detail]]] = {
    "car": {
        "front": [(0.1, 0.9, 0.55, 0.92, _GLASS), (0.04, 0.25, 0.22, 0.42, _LAMP), (0.75, 0.96, 0.22, 0.42, _LAMP)],
        "back": [(0.2, 0.8, 0.65, 0.9, _GLASS), (0.02, 0.2, 0.3, 0.55, _TAIL), (0.8, 0.98, 0.3, 0.55, _TAIL)],
        "top": [(0.08, 0.92, 0.05, 0.2, _GLASS)],
        **{side: [(0.15, 0.85, 0.58, 0.9, _GLASS), (0.1, 0.28, 0, 0.3, _RUBBER), (0.72, 0.9, 0, 0.3, _RUBBER)]
           for side in ("left", "right")},
    },
    "pedestrian": {
        "front": [(0, 1, 0, 0.45, _RUBBER), (0.1, 0.9, 0.8, 0.97, _SKIN)],
        "back": [(0, 1, 0, 0.45, _RUBBER), (0.1, 0.9, 0.8, 1, (60, 40, 20))],
        "left": [(0, 1, 0, 0.45, _RUBBER), (0, 0.5, 0.8, 0.97, _SKIN)],
        "right": [(0, 1, 0, 0.45, _RUBBER), (0.5, 1, 0.8, 0.97, _SKIN)],
    },
    "cyclist": {
        "front": [(0.3, 0.7, 0.3, 0.5, _LAMP), (0.2, 0.8, 0.82, 0.98, _SKIN), (0.35, 0.65, 0, 0.3, _RUBBER)],
        "back": [(0.3, 0.7, 0.3, 0.5, _TAIL), (0.2, 0.8, 0.82, 1, (60, 40, 20)), (0.35, 0.65, 0, 0.3, _RUBBER)],
        "left": [(0.02, 0.4, 0, 0.38, _RUBBER), (0.6, 0.98, 0, 0.38, _RUBBER), (0, 0.2, 0.4, 0.5, _LAMP)],
        "right": [(0.02, 0.4, 0, 0.38, _RUBBER), (0.6, 0.98, 0, 0.38, _RUBBER), (0.8, 1, 0.4, 0.5, _LAMP)],
    },
}  # fmt: skip


@dataclass(frozen=True)
class StreetScenesConfig(SyntheticConfig):
    """Street scenes.

    Attributes:
        focal: pixels.
        horizon: as a fraction of the image's height, of a principal point in the center of its range.
        wander: how far the principal point is from there, pixels, in x; half as much in y.
        camera_height: meters.
        nearest, farthest: of the objects' centers, meters.
        max_truncation: largest fraction of an object's box that is outside of the image.
    """

    height: int = 128
    width: int = 256
    min_objects: int = 2
    max_objects: int = 8
    clutter: int = 8
    noise: float = 6.0
    focal: float = 200.0
    horizon: float = 0.36
    wander: float = 10.0
    camera_height: float = 1.65
    nearest: float = 5.0
    farthest: float = 10.0
    max_truncation: float = 0.2


@dataclass(frozen=True)
class Scene:
    """Objects before a camera, the farthest first: each hides what comes before it.

    Attributes:
        calibration: (3, 4) float64.
        classes: (P,) int64, indices of ``converters.kitti.CLASS_NAMES``.
        boxes: float64.
        visible: (P,) fraction of an object in the image that no other hides.
    """

    calibration: np.ndarray
    classes: np.ndarray
    boxes: Boxes3D
    visible: np.ndarray

    def project_corners(self) -> np.ndarray:
        """Return the corners (P, 8, 2) x, y in the image."""
        return _project(self.boxes, self.calibration)

    def select(self, rows: np.ndarray) -> Scene:
        """Return the objects of a mask or of indices."""
        index = torch.from_numpy(rows)
        boxes = Boxes3D(*(x[index] for x in self.boxes))
        return Scene(self.calibration, self.classes[rows], boxes, self.visible[rows])

    def project_boxes(self, config: StreetScenesConfig) -> tuple[np.ndarray, np.ndarray]:
        """Return (P, 4) x1, y1, x2, y2, cut to the image, and (P,) fraction of the area that is outside of it."""
        corners = self.project_corners()
        whole = np.hstack([corners.min(axis=1), corners.max(axis=1)])
        size = np.array([config.width, config.height] * 2)
        cut = np.clip(whole, 0, size)
        return cut, 1 - _compute_area(cut) / _compute_area(whole)

    def grade_occlusion(self) -> np.ndarray:
        """Return KITTI's grade of occlusion, (P,) int64, 0 to 2."""
        return (self.visible[:, None] < np.array(_VISIBLE[:2])).sum(axis=1)

    def compute_alpha(self) -> np.ndarray:
        """Return the observation angles (P,) in radians."""
        center = self.boxes.locations.clone()
        center[:, 1] -= self.boxes.dimensions[:, 0] / 2
        calibration = torch.from_numpy(self.calibration)
        return convert_rotation_y_to_alpha(
            self.boxes.rotation_y, project(center, calibration)[:, 0], calibration
        ).numpy()


def sample_layout(config: StreetScenesConfig, seed: int, index: int) -> Scene:
    """Return the scene of image ``index``."""
    rng = np.random.default_rng([seed, index, 0])
    scene = _sample_scene(config, rng)
    scene = scene.select(scene.project_boxes(config)[1] <= config.max_truncation)
    # Those that are hidden too much go one by one, the most hidden first: others may be seen then.
    while len(scene.classes):
        scene = Scene(
            scene.calibration, scene.classes, scene.boxes, _measure_visible_fractions(config, scene.project_corners())
        )
        if scene.visible.min() >= _VISIBLE[-1]:
            break
        scene = scene.select(np.arange(len(scene.classes)) != scene.visible.argmin())
    return scene


def annotate(config: StreetScenesConfig, seed: int, index: int) -> list[dict[str, Any]]:
    """Return the annotations of image ``index``, with KITTI's fields (``data.datasets.kitti``)."""
    scene = sample_layout(config, seed, index)
    boxes, truncated = scene.project_boxes(config)
    columns = {
        "category_id": scene.classes,
        "bbox": boxes,
        "dim": scene.boxes.dimensions.numpy(),
        "location": scene.boxes.locations.numpy(),
        "depth": scene.boxes.locations[:, 2].numpy(),
        "rotation_y": scene.boxes.rotation_y.numpy(),
        "alpha": scene.compute_alpha(),
        "truncated": truncated,
        "occluded": scene.grade_occlusion(),
        "line": np.arange(1, len(boxes) + 1),
    }
    return [{name: values[i].tolist() for name, values in columns.items()} for i in range(len(boxes))]


def sample_camera(config: StreetScenesConfig, rng: np.random.Generator) -> np.ndarray:
    """Return a calibration (3, 4)."""
    x, y = rng.uniform(-1, 1, size=2) * (config.wander, config.wander / 2)
    x, y, f = config.width / 2 + x, config.horizon * config.height + y, config.focal
    intrinsic = np.array([[f, 0, x], [0, f, y], [0, 0, 1]])
    return np.column_stack([intrinsic, intrinsic @ [-_RIGHT, 0, -_FRONT]])


def sample_calibration(config: StreetScenesConfig, seed: int, index: int) -> np.ndarray:
    """Return the calibration (3, 4) of image ``index``."""
    return sample_camera(config, np.random.default_rng([seed, index, 0]))


def draw(config: StreetScenesConfig, seed: int, index: int) -> np.ndarray:
    """Return image ``index`` as (height, width, 3) uint8, RGB."""
    rng = np.random.default_rng([seed, index, 1])
    scene = sample_layout(config, seed, index)
    canvas = Canvas(draw_clutter(config, rng))
    ground = rng.uniform(70, 160) + rng.uniform(-15, 15, size=3)
    _draw_ground(canvas, config, scene.calibration, ground, rng)
    light = rng.uniform([-1, -1, -1], [1, -0.3, 0.3])
    light /= np.linalg.norm(light)
    shadow = Boxes3D(scene.boxes.dimensions * 1.15, scene.boxes.locations, scene.boxes.rotation_y)
    for outline in _project(shadow, scene.calibration)[:, :4]:
        canvas.draw_polygon(outline, ground * 0.5)
    for i, category in enumerate(scene.classes):
        one = Boxes3D(*(x[i] for x in scene.boxes))
        _draw_box(canvas, one.compute_corners().numpy(), scene.calibration, CLASS_NAMES[category], light, rng)
    return canvas.finish(config.noise, rng)


def _sample_scene(config: StreetScenesConfig, rng: np.random.Generator) -> Scene:
    matrix = sample_camera(config, rng)
    rows: list[np.ndarray] = []
    classes: list[int] = []
    for _ in range(int(rng.integers(config.min_objects, config.max_objects + 1))):
        for _ in range(10):
            category = int(rng.choice(len(CLASS_NAMES), p=_FRACTIONS))
            size = _SIZES[category] * (1 + rng.uniform(-_VARIATION, _VARIATION, size=3))
            z, across = rng.uniform(config.nearest, config.farthest), rng.uniform(0.05, 0.95)
            x = (across * config.width - matrix[0, 2]) / config.focal * z + _RIGHT
            row = np.array([*size, x, config.camera_height, z, rng.uniform(-np.pi, np.pi)])
            if all(np.hypot(*(row - other)[[3, 5]]) > _compute_radius(row) + _compute_radius(other) for other in rows):
                rows.append(row)
                classes.append(category)
                break
    table = np.array(rows).reshape(-1, 7)
    # The order in which spheres that do not touch hide each other.
    order = np.argsort(_compute_radius(table.T) ** 2 - table[:, 3] ** 2 - table[:, 5] ** 2)
    values = torch.from_numpy(table[order])
    boxes = Boxes3D(values[:, :3], values[:, 3:6], values[:, 6])
    return Scene(matrix, np.array(classes, dtype=np.int64)[order], boxes, np.ones(len(order)))


def _compute_radius(row: np.ndarray) -> np.ndarray:
    """Return the radius of the circle around the ground of a box h, w, l, ..."""
    return np.hypot(row[1], row[2]) / 2


def _project(boxes: Boxes3D, matrix: np.ndarray) -> np.ndarray:
    return project(boxes.compute_corners(), torch.from_numpy(matrix))[..., :2].numpy()


def _compute_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _measure_visible_fractions(config: StreetScenesConfig, corners: np.ndarray) -> np.ndarray:
    """Return the visible fraction (P,) of outlines (P, 8, 2) that are painted one over the other."""
    owner = np.zeros((config.height * _FINE, config.width * _FINE), np.uint8)
    fine, windows, whole = corners * _FINE, [], []
    for i, points in enumerate(fine, start=1):
        hull = cv2.convexHull(np.rint(points * 16 - 8).astype(np.int32))
        cv2.fillConvexPoly(owner, hull, i, cv2.LINE_8, 4)
        (x1, y1), (x2, y2) = np.maximum([points.min(axis=0), points.max(axis=0) + 2], 0).astype(int).tolist()
        windows.append(owner[y1:y2, x1:x2])
        whole.append(np.count_nonzero(windows[-1] == i))
    seen = [np.count_nonzero(window == i) for i, window in enumerate(windows, start=1)]
    return np.array(seen) / np.maximum(whole, 1)


def _draw_ground(
    canvas: Canvas, config: StreetScenesConfig, matrix: np.ndarray, color: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw the ground up to the horizon, with flat patches and lines along the street."""
    x, y, far = config.width, matrix[1, 2], 400.0
    canvas.draw_polygon(np.array([[0, y], [x, y], [x, config.height], [0, config.height]]), color)
    for _ in range(int(rng.integers(4, 12))):
        left, near = rng.uniform(-8, 8), rng.uniform(2.5, 15)
        width, depth = (rng.uniform(0.5, 3, size=2)) if rng.random() < 0.7 else (0.15, far)
        corners = [(left, near), (left + width, near), (left + width, near + depth), (left, near + depth)]
        points = torch.tensor([[a, config.camera_height, b] for a, b in corners], dtype=torch.float64)
        outline = project(points, torch.from_numpy(matrix))[:, :2].numpy()
        canvas.draw_polygon(outline, np.clip(color * rng.uniform(0.75, 1.3), 0, 255))


def _draw_box(
    canvas: Canvas, corners: np.ndarray, matrix: np.ndarray, name: str, light: np.ndarray, rng: np.random.Generator
) -> None:
    """Draw the faces of a box (8, 3) that point towards the camera."""
    base = rng.uniform(60, 240, size=3)
    for face, index in _FACES.items():
        quad = corners[list(index)]
        outwards = quad.mean(axis=0) - corners.mean(axis=0)
        if outwards @ (quad.mean(axis=0) - [_RIGHT, 0, _FRONT]) >= 0:
            continue
        tint, fraction = _TINTS.get(face, (base, 0.0))
        color = base + fraction * (np.array(tint) - base)
        shade = 0.6 + 0.4 * max(0.0, float(outwards @ light) / float(np.linalg.norm(outwards)))
        for a, b, low, high, fill in [(0.0, 1.0, 0.0, 1.0, color), *_DETAILS[name].get(face, [])]:
            across, up = quad[1] - quad[0], quad[3] - quad[0]
            patch = quad[0] + np.array([(a, low), (b, low), (b, high), (a, high)]) @ np.stack([across, up])
            outline = project(torch.from_numpy(patch), torch.from_numpy(matrix))[:, :2].numpy()
            canvas.draw_polygon(outline, np.array(fill) * shade)
