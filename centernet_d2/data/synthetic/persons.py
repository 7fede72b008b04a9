"""Synthetic persons with COCO's 17 joints: a dataset for human pose that needs no download.

A person (``centernet_d2.data.synthetic.person_model``) stands, sits or jumps, looks to the viewer or away, and is
painted; as with the shapes of ``centernet_d2.data.synthetic.shapes``, an image is a pure function of (config, seed,
index), and the joints of a whole set cost no drawing. Face, chest and feet show which side is left. Persons hide parts
of each other and of themselves, and some reach out of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from centernet_d2.data.schemas import POSE17
from centernet_d2.data.synthetic.canvas import Canvas
from centernet_d2.data.synthetic.clothing import find_occluded_by
from centernet_d2.data.synthetic.person_model import Part, compute_joints, make_parts, sample_pose
from centernet_d2.data.synthetic.shapes import (
    Box,
    SyntheticConfig,
    compute_bounds,
    compute_overlap,
    draw_clutter,
    place,
)


@dataclass(frozen=True)
class PersonsConfig(SyntheticConfig):
    """Images of persons; sizes are the longer sides of the bodies' boxes, in the image or not.

    Attributes:
        yaw: largest turn in degrees off the viewer, or, of the fraction ``back``, off the opposite direction.
        roll: largest turn in the image.
        max_overlap: largest fraction of the smaller of two boxes that the other may cover.
        cut: fraction of the persons that reach out of the image, by up to 30 % of their box on a side.
    """

    height: int = 192
    width: int = 192
    max_objects: int = 3
    min_size: float = 84.0
    max_size: float = 176.0
    noise: float = 8.0
    yaw: float = 45.0
    roll: float = 15.0
    back: float = 0.3
    max_overlap: float = 0.45
    cut: float = 0.15


@dataclass(frozen=True)
class Person:
    """One person.

    Attributes:
        keypoints: (17, 3) x, y in image pixels and visibility: 2, 1 where hidden; 0, 0, 0 outside the image and
            where the head itself hides a point of the face, as annotators leave those out.
        box: around what is drawn and in the image: x1, y1, x2, y2.
        parts: from the back to the front, image pixels.
    """

    keypoints: np.ndarray
    box: Box
    parts: list[Part]


def sample_layout(config: PersonsConfig, seed: int, index: int) -> list[Person]:
    """Return the persons of image ``index``, in the order in which they are drawn."""
    rng = np.random.default_rng([seed, index, 0])
    positioned: list[tuple[np.ndarray, list[Part]]] = []
    boxes: list[Box] = []
    for _ in range(int(rng.integers(config.min_objects, config.max_objects + 1))):
        pose = sample_pose(rng, config.yaw, config.roll, config.back)
        points, body = compute_joints(pose)[:, :2], make_parts(pose)
        for _ in range(10):
            moved, moved_body = _place_in_image(config, points, body, rng)
            box = _compute_box(config, moved_body)
            if all(compute_overlap(box, other) <= config.max_overlap for other in boxes):
                positioned.append((moved, moved_body))
                boxes.append(box)
                break
    persons = []
    for i, ((points, body), box) in enumerate(zip(positioned, boxes, strict=True)):
        later = [part for _, other in positioned[i + 1 :] for part in other]
        persons.append(Person(mark_visible_joints(config, points, body, later), box, body))
    return persons


def _place_in_image(
    config: PersonsConfig, points: np.ndarray, body: list[Part], rng: np.random.Generator
) -> tuple[np.ndarray, list[Part]]:
    """Return joints and parts in the image, or partly outside."""
    outline = np.concatenate([part.outline for part in body])
    moved = place(config, np.concatenate([points, outline]), compute_bounds(outline), rng)
    if rng.random() < config.cut:
        low, high = moved[len(points) :].min(axis=0), moved[len(points) :].max(axis=0)
        axis, fraction = int(rng.integers(2)), float(rng.uniform(0.1, 0.3)) * (high - low)
        edge = np.array([config.width, config.height])
        shift = -low - fraction if rng.random() < 0.5 else edge - high + fraction
        moved[:, axis] += shift[axis]
    ends = np.cumsum([len(points), *(len(part.outline) for part in body)])
    outlines = np.split(moved, ends[:-1])[1:]
    return moved[: len(points)], [replace(part, outline=x) for part, x in zip(body, outlines, strict=True)]


def _compute_box(config: PersonsConfig, body: list[Part]) -> Box:
    """Return the box of what is in the image: a limb outside of it does not count."""
    frame = np.array([[0, 0], [config.width, 0], [config.width, config.height], [0, config.height]], np.float32)
    inside = [cv2.intersectConvexConvex(part.outline.astype(np.float32), frame)[1] for part in body]
    return compute_bounds(np.concatenate([polygon.reshape(-1, 2) for polygon in inside if polygon is not None]))


def mark_visible_joints(config: SyntheticConfig, points: np.ndarray, body: list[Part], later: list[Part]) -> np.ndarray:
    """Return (17, 3) x, y, visibility of ``points`` (17, 2) in image pixels.

    A joint is occluded by parts drawn after the last part that shows it.
    """
    result = np.zeros((len(POSE17), 3))
    under = np.array([find_occluded_by(points, part.outline) for part in (*body, *later)])
    last = {k: i for i, part in enumerate(body) for k in part.shows}
    inside = np.all((points >= 0) & (points <= [config.width, config.height]), axis=1)
    for k, i in last.items():
        if inside[k]:
            result[k] = *points[k], 1 if under[i + 1 :, k].any() else 2
    return result


def draw(config: PersonsConfig, seed: int, index: int) -> np.ndarray:
    """Return image ``index`` as (height, width, 3) uint8, RGB."""
    rng = np.random.default_rng([seed, index, 1])
    canvas = Canvas(draw_clutter(config, rng))
    for person in sample_layout(config, seed, index):
        draw_person(canvas, person.parts, sample_look(rng))
    return canvas.finish(config.noise, rng)


def sample_look(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return a random person's colors: material -> (3,) RGB."""
    shade = rng.uniform(0.35, 1.0)
    skin = np.array([246.0, 208, 180]) * shade
    shirt, opening, trousers, shoes = rng.uniform(20, 235, size=(4, 3))
    return {
        "skin": skin,
        "nose": skin * [0.75, 0.5, 0.5],
        "eyes": np.array([20.0, 16, 14]) if shade > 0.55 else np.array([235.0, 235, 230]),
        "hair": rng.uniform(10, 60) * np.array([1.0, 0.8, 0.6]),
        "shirt": shirt,
        "opening": opening,
        "trousers": trousers,
        "stockings": trousers if rng.random() < 0.6 else skin,
        "shoes": shoes,
    }


def draw_person(canvas: Canvas, body: list[Part], look: dict[str, np.ndarray]) -> None:
    """Paint every part, each with a darker line around it, so that limbs show before a body of their own color."""
    height = float(np.ptp(np.concatenate([part.outline for part in body])[:, 1]))
    for part in body:
        color = look[part.material]
        canvas.draw_polygon(part.outline, color)
        canvas.draw_line(part.outline, color * 0.55, 0.008 * height, closed=True)
