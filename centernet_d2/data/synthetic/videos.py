"""Drawn videos of moving shapes, whose track ids are known: a dataset for tracking that needs no download.

A frame is a pure function of (config, seed, index), and index = video * frames of a video + frame: no frame needs
another one. Where everything is follows from closed forms of the frame's number, and annotations cost no drawing.

Objects are of one class and keep shape, color and what is in front of what; size and turn change slowly. Some are
thrown back at the sides of the image, the others come in and leave for good. Companions look much like another object
and move with it, not much farther from it than what both move in a frame: who is who is known by the motion, hardly by
the color, and not by the nearest place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from centernet_d2.data.synthetic.canvas import add_noise
from centernet_d2.data.synthetic.clothing import find_occluded_by
from centernet_d2.data.synthetic.shapes import (
    CLASS_NAMES,
    Box,
    Shape,
    SyntheticConfig,
    compute_bounds,
    draw_clutter,
    paint,
)

# Frames in which what changes slowly is back where it was.
_PERIOD = 24
# Visible shares are counted at so many times the resolution.
_FINE = 2


@dataclass(frozen=True)
class VideosConfig(SyntheticConfig):
    """What the videos of any drawn set are like; objects are counted, and sizes meant, for the video, not the frame.

    Attributes:
        frames: of a video.
        min_speed, max_speed: pixels a frame.
        slope: largest angle in degrees between a way and the horizontal.
        bouncing: fraction of the objects that are thrown back at the sides of the image.
        companions: probability that the next object goes with one and looks like it.
        spacing: minimum distance between both, as a fraction of the size.
        growth: largest fraction by which a size changes.
        min_visible: minimum fraction of an object that is in the image and not covered; below, it is not annotated.
    """

    height: int = 128
    width: int = 128
    clutter: int = 6
    noise: float = 6.0
    frames: int = 24
    min_speed: float = 4.0
    max_speed: float = 10.0
    slope: float = 90.0
    bouncing: float = 0.5
    companions: float = 0.6
    spacing: float = 0.65
    growth: float = 0.1
    min_visible: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1 or not 0 <= self.min_speed <= self.max_speed or not 0 < self.min_visible <= 1:
            raise ValueError(f"need frames, 0 <= min_speed <= max_speed and 0 < min_visible <= 1, got {self}")


@dataclass(frozen=True)
class TracksConfig(VideosConfig):
    """Videos of shapes; sizes are the longer sides of their boxes.

    Attributes:
        max_aspect: largest ratio of an object's sides.
        rotation: outlines turn by up to this many degrees to both sides.
        contrast: minimum distance (Euclid, RGB) of a color from the background's mean; companions may come closer.
    """

    # A patch of clutter looks like a shape that stands still.
    clutter: int = 0
    companions: float = 0.3
    spacing: float = 0.9
    min_objects: int = 3
    max_objects: int = 5
    min_size: float = 20.0
    max_size: float = 36.0
    min_speed: float = 6.0
    max_speed: float = 12.0
    max_aspect: float = 1.6
    rotation: float = 25.0
    contrast: float = 90.0


@dataclass(frozen=True)
class Motion:
    """Of an object's center: straight on, or thrown back at the sides of a field; and its slow change.

    Attributes:
        start: (x, y) in frame 0, image pixels, as if there was no field.
        velocity: (x, y), pixels a frame.
        size: pixels, on average.
        phase: of the slow change, radians.
        field: x1, y1, x2, y2 that the center stays in; None where it goes on.
        companion: goes with the object before and looks like it.
    """

    start: tuple[float, float]
    velocity: tuple[float, float]
    size: float
    phase: float
    field: Box | None
    companion: bool = False

    def locate_at(self, frame: int) -> np.ndarray:
        """Return the position (2,) x, y in image pixels."""
        place = np.array(self.start) + frame * np.array(self.velocity)
        if self.field is None:
            return place
        low, high = np.array(self.field[:2]), np.array(self.field[2:])
        return high - np.abs((place - low) % (2 * (high - low)) - (high - low))

    def compute_swing(self, frame: int) -> float:
        """Return a slow oscillation between -1 and 1."""
        return math.sin(2 * math.pi * frame / _PERIOD + self.phase)


def sample_motions(config: VideosConfig, rng: np.random.Generator) -> list[Motion]:
    """Return the motions of one video's objects. An object that enters or leaves is in the image at some time."""
    motions: list[Motion] = []
    for _ in range(int(rng.integers(config.min_objects, config.max_objects + 1))):
        if motions and not motions[-1].companion and rng.random() < config.companions:
            motions.append(_walk_beside(motions[-1], config.spacing, rng))
        else:
            motions.append(_sample_motion(config, rng))
    return motions


def _sample_motion(config: VideosConfig, rng: np.random.Generator) -> Motion:
    size = config.min_size * (config.max_size / config.min_size) ** float(rng.random())
    angle = math.radians(rng.uniform(-config.slope, config.slope) + 180 * rng.integers(2))
    velocity = rng.uniform(config.min_speed, config.max_speed) * np.array([math.cos(angle), math.sin(angle)])
    image = np.array([config.width, config.height])
    # Even at its largest it fits, or is in the center.
    margin = np.minimum(size * (1 + config.growth), image - 1) / 2
    place = margin + rng.random(2) * (image - 2 * margin)
    start = place - velocity * rng.uniform(0, config.frames)
    field = (*margin.tolist(), *(image - margin).tolist()) if rng.random() < config.bouncing else None
    return Motion(_make_pair(start), _make_pair(velocity), size, float(rng.uniform(0, 2 * math.pi)), field)


def _walk_beside(leader: Motion, spacing: float, rng: np.random.Generator) -> Motion:
    """Return a motion in front of ``leader`` or behind, a little to one side, and hardly slower."""
    velocity, speed = np.array(leader.velocity), math.hypot(*leader.velocity)
    ahead = velocity / max(speed, 1e-9) * max(spacing * leader.size, rng.uniform(1.1, 1.5) * speed)
    gap = rng.choice([-1, 1]) * ahead + rng.uniform(-0.3, 0.3) * ahead[::-1] * [-1, 1]
    slower = rng.uniform(0.95, 1.0)
    phase = leader.phase + float(rng.uniform(-1, 1))
    size = leader.size * float(rng.uniform(0.9, 1.0))
    return Motion(
        _make_pair(np.array(leader.start) + gap), _make_pair(slower * velocity), size, phase, leader.field, True
    )


def _make_pair(values: np.ndarray) -> tuple[float, float]:
    x, y = values.tolist()
    return x, y


@dataclass(frozen=True)
class MovingShape:
    """One object of a video.

    Attributes:
        category: index into ``CLASS_NAMES``.
        sides: width and height for a size of 1.
        growth, rotation: the largest, as a fraction and in degrees.
    """

    motion: Motion
    category: int
    sides: tuple[float, float]
    growth: float
    rotation: float

    def place_at(self, frame: int) -> Shape:
        """Return the shape with its whole box, in the image or not."""
        swing = self.motion.compute_swing(frame)
        half = np.array(self.sides) * self.motion.size * (1 + self.growth * swing) / 2
        center = self.motion.locate_at(frame)
        return Shape(self.category, (*_make_pair(center - half), *_make_pair(center + half)), self.rotation * swing)


def sample_moving_shapes(config: TracksConfig, seed: int, video: int) -> list[MovingShape]:
    """Return the objects of a video in drawing order; the first has track id 1."""
    rng = np.random.default_rng([seed, video, 0])
    shapes: list[MovingShape] = []
    for motion in sample_motions(config, rng):
        aspect = config.max_aspect ** float(rng.uniform(-1, 1))
        sides = (min(aspect, 1.0), min(1 / aspect, 1.0))
        category, rotation = int(rng.integers(len(CLASS_NAMES))), float(rng.uniform(-1, 1)) * config.rotation
        if motion.companion:
            category, sides = shapes[-1].category, shapes[-1].sides
        shapes.append(MovingShape(motion, category, sides, config.growth, rotation))
    return shapes


def annotate(config: TracksConfig, seed: int, index: int) -> list[dict[str, Any]]:
    """Return the annotations of the objects visible in a frame.

    Boxes are cut to the image, but not by occluding objects.
    """
    video, frame = divmod(index, config.frames)
    shapes = sample_moving_shapes(config, seed, video)
    outlines = [[shape.place_at(frame).compute_outline()] for shape in shapes]
    return [
        {"bbox": list(compute_box_in_image(config, outlines[i])), "category_id": 0, "track_id": i + 1}
        for i in np.flatnonzero(measure_visible_fractions(config, outlines) >= config.min_visible).tolist()
    ]


def place_in_video(config: VideosConfig, seed: int, index: int) -> dict[str, Any]:
    """Return the fields of a frame's dataset dict: its video, counted from 1, and its number there, from 0."""
    video, frame = divmod(index, config.frames)
    return {"video_id": video + 1, "frame": frame}


def draw(config: TracksConfig, seed: int, index: int) -> np.ndarray:
    """Return frame ``index`` as (height, width, 3) uint8, RGB."""
    video, frame = divmod(index, config.frames)
    rng = np.random.default_rng([seed, video, 1])
    background = draw_clutter(config, rng)
    image, color = background.copy(), background.mean(axis=(0, 1))
    for shape in sample_moving_shapes(config, seed, video):
        change, other = sample_similar_change(rng), _sample_contrasting_color(background, config.contrast, rng)
        color = np.clip(color + change, 0, 255) if shape.motion.companion else other
        paint(image, shape.place_at(frame).compute_outline(), color)
    return add_noise(image, config.noise, np.random.default_rng([seed, video, 2, frame]))


def sample_similar_change(rng: np.random.Generator) -> np.ndarray:
    """Return (3,) RGB: the change from a color to that of a companion, so that edges are visible where both overlap."""
    return rng.uniform(10, 35, size=3) * rng.choice([-1, 1], size=3)


def _sample_contrasting_color(background: np.ndarray, contrast: float, rng: np.random.Generator) -> np.ndarray:
    candidates = rng.uniform(0, 255, size=(8, 3))
    return candidates[np.argmax(np.linalg.norm(candidates - background.mean(axis=(0, 1)), axis=1) >= contrast)]


def compute_box_in_image(config: SyntheticConfig, outlines: list[np.ndarray]) -> Box:
    """Return x1, y1, x2, y2 around the part of the polygons (V, 2) that is in the image.

    Raises:
        ValueError: nothing is.
    """
    size = np.array([config.width, config.height])
    frame = size * [[0, 0], [1, 0], [1, 1], [0, 1]]
    starts = np.concatenate(outlines)
    ends = np.concatenate([np.roll(outline, -1, axis=0) for outline in outlines])
    found = [starts, *(frame[find_occluded_by(frame, outline)] for outline in outlines)]
    # Where the polygons cross the lines along the sides.
    for axis in (0, 1):
        for side in (0, size[axis]):
            before, after = starts[:, axis] - side, ends[:, axis] - side
            crossing = before * after < 0
            fraction = before[crossing] / (before - after)[crossing]
            points = starts[crossing] + fraction[:, None] * (ends - starts)[crossing]
            points[:, axis] = side
            found.append(points)
    points = np.concatenate(found)
    return compute_bounds(points[np.all((points >= 0) & (points <= size), axis=1)])


def measure_visible_fractions(config: SyntheticConfig, objects: list[list[np.ndarray]]) -> np.ndarray:
    """Return (P,) the visible fraction of each object, made of polygons (V, 2), when painted one after another."""
    margin = math.ceil(config.max_size)
    owner = np.zeros(((config.height + 2 * margin) * _FINE, (config.width + 2 * margin) * _FINE), np.uint8)
    inside = owner[margin * _FINE : -margin * _FINE, margin * _FINE : -margin * _FINE]
    whole = []
    for number, outlines in enumerate(objects, start=1):
        for outline in outlines:
            cv2.fillPoly(owner, [np.rint((outline + margin) * _FINE * 16 - 8).astype(np.int32)], number, cv2.LINE_8, 4)
        whole.append(np.count_nonzero(owner == number))
    seen = [np.count_nonzero(inside == number) for number in range(1, len(objects) + 1)]
    return np.array(seen) / np.maximum(whole, 1)
