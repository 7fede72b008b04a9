"""Drawn faces with 68 exact landmarks: a dataset for landmarks that needs no download.

A head (``centernet_d2.data.synthetic.face_model``) is rotated, projected with weak perspective and painted. As with the
shapes of ``centernet_d2.data.synthetic.shapes``, an image is a pure function of (config, seed, index), and the
landmarks of a whole set cost no drawing. Whatever a landmark marks is drawn: ends and edges of brows, eyes, lips and
nose, and the outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from centernet_d2.data.synthetic.canvas import Canvas, smooth
from centernet_d2.data.synthetic.face_model import FOREHEAD, FRINGE, HAIR, IRISES, place_head, project, sample_shape
from centernet_d2.data.synthetic.shapes import (
    Box,
    SyntheticConfig,
    compute_bounds,
    compute_overlap,
    draw_clutter,
    place,
)


@dataclass(frozen=True)
class FacesConfig(SyntheticConfig):
    """Images of faces; sizes are the longer sides of the landmarks' boxes.

    Attributes:
        yaw, pitch, roll: largest turns in degrees.
        at_border: fraction of the faces whose landmarks touch a side of the image (hair and forehead may be cut).
    """

    height: int = 192
    width: int = 192
    max_objects: int = 2
    min_size: float = 56.0
    max_size: float = 150.0
    noise: float = 8.0
    yaw: float = 35.0
    pitch: float = 20.0
    roll: float = 30.0
    at_border: float = 0.1


@dataclass(frozen=True)
class Faces5Config(FacesConfig):
    """The same images, whose faces have five points (``data.schemas.face5``)."""


@dataclass(frozen=True)
class Face:
    """One face: its points (99, 2) x, y in image pixels, of which the first 68 are the landmarks of 300W."""

    points: np.ndarray

    @property
    def landmarks(self) -> np.ndarray:
        """The landmarks, (68, 2)."""
        return self.points[:68]

    @property
    def box(self) -> Box:
        """x1, y1, x2, y2 around the landmarks."""
        return compute_bounds(self.landmarks)


def sample_layout(config: FacesConfig, seed: int, index: int) -> list[Face]:
    """Return the faces of image ``index``, in the order in which they are drawn; all landmarks are in the image."""
    rng = np.random.default_rng([seed, index, 0])
    faces: list[Face] = []
    for _ in range(int(rng.integers(config.min_objects, config.max_objects + 1))):
        angles = rng.uniform(-1, 1, size=3) * (config.yaw, config.pitch, config.roll)
        points = project(place_head(sample_shape(rng)), *angles.tolist())
        for _ in range(10):
            face = Face(place(config, points, compute_bounds(points[:68]), rng, config.at_border))
            if all(
                compute_overlap(compute_bounds(face.points), compute_bounds(other.points)) <= 0.03 for other in faces
            ):
                faces.append(face)
                break
    return faces


def draw(config: FacesConfig, seed: int, index: int) -> np.ndarray:
    """Return image ``index`` as (height, width, 3) uint8, RGB."""
    rng = np.random.default_rng([seed, index, 1])
    canvas = Canvas(draw_clutter(config, rng))
    for face in sample_layout(config, seed, index):
        draw_face(canvas, face.points, sample_look(rng))
    return canvas.finish(config.noise, rng)


@dataclass(frozen=True)
class Look:
    """Colors (3,) RGB of one face, where the light comes from, and its hair."""

    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    light: np.ndarray  # (2,) fraction of brightness gained towards the right and the lower end of the face
    bald: bool
    strands: bool  # down to the chin


_SKINS = np.array([[246, 214, 190], [228, 184, 150], [198, 146, 108], [150, 102, 70], [96, 62, 44]], dtype=float)
_HAIRS = np.array(
    [[26, 20, 18], [70, 46, 30], [140, 96, 54], [214, 180, 116], [150, 148, 146], [136, 56, 30]], dtype=float
)
_IRISES = np.array([[62, 40, 24], [96, 126, 150], [90, 110, 66], [40, 30, 24]], dtype=float)


def sample_look(rng: np.random.Generator) -> Look:
    """Return a random person's colors and light."""
    shade = rng.random() * (len(_SKINS) - 1)
    lighter = int(shade)
    skin = _SKINS[lighter] + (shade - lighter) * (_SKINS[lighter + 1] - _SKINS[lighter])
    skin = np.clip(skin * rng.uniform(0.8, 1.05) + rng.uniform(-8, 8, size=3), 30, 250)
    lips = np.clip(skin * [0.82, 0.52, 0.52] + [rng.uniform(0, 60), 0, 0], 0, 255)
    return Look(
        skin=skin,
        hair=np.clip(_HAIRS[rng.integers(len(_HAIRS))] + rng.uniform(-12, 12, size=3), 0, 255),
        lips=lips,
        iris=_IRISES[rng.integers(len(_IRISES))],
        light=rng.uniform(-0.25, 0.25, size=2),
        bald=bool(rng.random() < 0.12),
        strands=bool(rng.random() < 0.4),
    )


def draw_face(canvas: Canvas, points: np.ndarray, look: Look) -> None:
    """Paint the head of ``points`` (99, 2)."""
    # Image pixels of half the face's width if it looked straight ahead, from what turning changes least.
    unit = float(np.linalg.norm(points[8] - points[27])) / 1.55
    brow_color = look.hair * 0.6 + look.skin * 0.1
    outline = np.concatenate([smooth(points[:17]), smooth(points[FOREHEAD][::-1])])
    if not look.bald:
        center = points[30]
        ends = (center + 1.25 * (points[[4, 12]] - center)) if look.strands else points[[1, 15]]
        canvas.draw_polygon(smooth(np.concatenate([ends[:1], points[HAIR], ends[1:]])), look.hair * 0.75)
    canvas.draw_textured_polygon(outline, _shade_skin(look))
    if not look.bald:
        canvas.draw_polygon(np.concatenate([smooth(points[FOREHEAD]), smooth(points[FRINGE][::-1])]), look.hair)
    edge = outline if look.bald else smooth(points[:17])
    canvas.draw_line(edge, look.skin * 0.55, 0.025 * unit, closed=look.bald)
    for brow in (points[17:22], points[22:27]):
        canvas.draw_line(smooth(brow), brow_color, 0.07 * unit)
    for eye, iris in zip((points[36:42], points[42:48]), points[IRISES], strict=True):
        _draw_eye(canvas, eye, iris, look, unit)
    _draw_nose(canvas, points, look, unit)
    _draw_mouth(canvas, points[48:60], points[60:68], look, unit)


def _shade_skin(look: Look) -> np.ndarray:
    """Return skin, (8, 8, 3) uint8, brighter on the side of the light."""
    y, x = np.mgrid[-1:1:8j, -1:1:8j]
    brightness = 1 + look.light[0] * x + look.light[1] * y - 0.12 * (x**2 + y**2)
    return np.clip(brightness[..., None] * look.skin, 0, 255).astype(np.uint8)


def _draw_eye(canvas: Canvas, eye: np.ndarray, iris: np.ndarray, look: Look, unit: float) -> None:
    """Draw ``eye`` (6, 2) around the opening; the iris is clipped to it."""
    opening = smooth(eye, closed=True)
    canvas.draw_polygon(opening, np.array([238.0, 236, 232]))
    angles = np.arange(16) * (np.pi / 8)
    disc = iris + 0.115 * unit * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    canvas.draw_textured_polygon(disc, look.iris.astype(np.uint8)[None, None], opening)
    canvas.draw_textured_polygon(iris + 0.45 * (disc - iris), np.zeros((1, 1, 3), np.uint8), opening)
    canvas.draw_line(opening, look.skin * 0.4, 0.03 * unit, closed=True)
    canvas.draw_line(smooth(eye[:4]), look.skin * 0.2, 0.045 * unit)


def _draw_nose(canvas: Canvas, points: np.ndarray, look: Look, unit: float) -> None:
    canvas.draw_line(points[27:31], look.skin * 0.72, 0.05 * unit)
    canvas.draw_disc(points[30], 0.06 * unit, np.clip(look.skin * 1.25, 0, 255))
    canvas.draw_line(smooth(points[31:36]), look.skin * 0.5, 0.04 * unit)
    for nostril in points[[32, 34]]:
        canvas.draw_disc(nostril, 0.045 * unit, look.skin * 0.25)


def _draw_mouth(canvas: Canvas, outer: np.ndarray, inner: np.ndarray, look: Look, unit: float) -> None:
    canvas.draw_polygon(smooth(outer, closed=True), look.lips)
    canvas.draw_line(smooth(outer, closed=True), look.lips * 0.7, 0.02 * unit, closed=True)
    canvas.draw_polygon(inner, np.array([60.0, 14, 20]))
    opening = float(np.linalg.norm(inner[2] - inner[6]))
    if opening > 0.12 * unit:
        # Teeth: the upper third of the opening.
        teeth = np.concatenate([inner[1:4], inner[3:0:-1] + 0.35 * (inner[5:8] - inner[3:0:-1])])
        canvas.draw_polygon(teeth, np.array([240.0, 238, 230]))
    canvas.draw_line(inner, look.lips * 0.35, 0.02 * unit, closed=True)
