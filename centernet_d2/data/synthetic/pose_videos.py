"""Drawn videos of walking persons with COCO's 17 joints, whose track ids are known: for tracking persons and poses.

As with the shapes of ``centernet_d2.data.synthetic.videos``, no frame needs another one. Persons cross the image with
swinging legs and arms, cover each other and come and go; companions are dressed alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from centernet_d2.data.synthetic.canvas import Canvas
from centernet_d2.data.synthetic.person_model import Part, Pose, compute_joints, make_parts, sample_pose
from centernet_d2.data.synthetic.persons import draw_person, mark_visible_joints, sample_look
from centernet_d2.data.synthetic.shapes import draw_clutter
from centernet_d2.data.synthetic.videos import (
    Motion,
    VideosConfig,
    compute_box_in_image,
    measure_visible_fractions,
    sample_motions,
    sample_similar_change,
)


@dataclass(frozen=True)
class PoseVideosConfig(VideosConfig):
    """Videos of persons; sizes are the heights of standing ones.

    Attributes:
        yaw: largest turn in degrees off the way of somebody.
        roll: largest turn in the image.
        cycle: (shortest, longest) time in which the same foot is in front again, frames.
    """

    min_objects: int = 3
    max_objects: int = 5
    min_size: float = 52.0
    max_size: float = 100.0
    slope: float = 12.0
    spacing: float = 0.2
    bouncing: float = 0.0
    yaw: float = 60.0
    roll: float = 6.0
    cycle: tuple[float, float] = (8.0, 16.0)


@dataclass(frozen=True)
class WalkingPerson:
    """One person of a video.

    Attributes:
        motion: of the center of the hips.
        pose: what the walking is added to.
        cycle: frames.
        growth: the largest, as a fraction.
    """

    motion: Motion
    pose: Pose
    cycle: float
    growth: float

    def compute_pose_at(self, frame: int) -> Pose:
        """Return the pose: legs and arms swing against each other, and a knee bends while its leg moves forward."""
        phases = 2 * math.pi * frame / self.cycle + self.motion.phase + np.array([0, math.pi])
        legs = np.stack([self.pose.legs[:, 0], 28 * np.sin(phases), 8 + 45 * np.cos(phases).clip(0)], axis=1)
        arms = self.pose.arms + np.outer(np.sin(phases), [0, -30, 0, 0])
        return replace(self.pose, head=self.pose.head * self.motion.compute_swing(frame), arms=arms, legs=legs)

    def place_at(self, frame: int) -> tuple[np.ndarray, list[Part]]:
        """Return joints (17, 2) and parts from the back to the front, in image pixels."""
        pose, center = self.compute_pose_at(frame), self.motion.locate_at(frame)
        scale = self.motion.size * (1 + self.growth * self.motion.compute_swing(frame))
        body = [replace(part, outline=center + scale * part.outline) for part in make_parts(pose)]
        return center + scale * compute_joints(pose)[:, :2], body


def sample_walking_persons(config: PoseVideosConfig, seed: int, video: int) -> list[WalkingPerson]:
    """Return the persons of a video in drawing order; the first has track id 1."""
    rng = np.random.default_rng([seed, video, 0])
    persons: list[WalkingPerson] = []
    for motion in sample_motions(config, rng):
        pose, cycle = sample_pose(rng, config.yaw, config.roll, back=0.0), float(rng.uniform(*config.cycle))
        side = 90 if motion.velocity[0] < 0 else -90
        pose = replace(pose, yaw=pose.yaw + side, legs=0.2 * pose.legs)
        persons.append(WalkingPerson(motion, pose, cycle, config.growth))
    return persons


def annotate(config: PoseVideosConfig, seed: int, index: int) -> list[dict[str, Any]]:
    """Return the annotations of the persons visible in a frame.

    Boxes are cut to the image, but not by occluding objects.
    """
    video, frame = divmod(index, config.frames)
    bodies = [person.place_at(frame) for person in sample_walking_persons(config, seed, video)]
    outlines = [[part.outline for part in body] for _, body in bodies]
    annotations = []
    for i in np.flatnonzero(measure_visible_fractions(config, outlines) >= config.min_visible).tolist():
        later = [part for _, body in bodies[i + 1 :] for part in body]
        keypoints = mark_visible_joints(config, *bodies[i], later).ravel().tolist()
        box = list(compute_box_in_image(config, outlines[i]))
        annotations.append({"bbox": box, "category_id": 0, "track_id": i + 1, "keypoints": keypoints})
    return annotations


def draw(config: PoseVideosConfig, seed: int, index: int) -> np.ndarray:
    """Return frame ``index`` as (height, width, 3) uint8, RGB."""
    video, frame = divmod(index, config.frames)
    rng = np.random.default_rng([seed, video, 1])
    canvas = Canvas(draw_clutter(config, rng))
    look: dict[str, np.ndarray] = {}
    for person in sample_walking_persons(config, seed, video):
        change, other = sample_similar_change(rng), sample_look(rng)
        alike = {name: np.clip(color + change, 0, 255) for name, color in look.items()}
        look = alike if person.motion.companion else other
        draw_person(canvas, person.place_at(frame)[1], look)
    return canvas.finish(config.noise, np.random.default_rng([seed, video, 2, frame]))
