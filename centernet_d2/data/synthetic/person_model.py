"""A person of limbs: a pose in space, and the polygons that it shows in an image.

Points in space are (x to the person's left, y down, z to the back), the hips' center is (0, 0, 0), and a standing
person is about 1 high. Seen from the front (yaw 0) the person's left is on the right of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from centernet_d2.data.schemas import POSE17

_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], axis=1)
_HEAD_RADIUS = 0.095
_NECK, _HEAD = np.array([0.0, -0.33, 0.0]), np.array([0.0, -0.47, 0.0])
# On a head of radius 1 that looks ahead: nose, eyes and ears, in the order of the joints.
_FACE_POINTS = np.array([[0, 0.15, -1], [0.42, -0.2, -0.88], [-0.42, -0.2, -0.88], [1.1, 0, 0.05], [-1.1, 0, 0.05]])
# What of the skin shows between the hair: directions within this angle of the one the face looks to.
_FACE_CENTER, _FACE_ANGLE = np.array([0.0, 0.35, -0.94]), 1.1
_NUM_FACE = len(_FACE_POINTS)
_INDEX = {name: k for k, name in enumerate(POSE17.names)}
_SIDES = ("left", "right")
_TRUNK = tuple(_INDEX[f"{side}_{name}"] for name in ("shoulder", "hip") for side in _SIDES)


@dataclass(frozen=True)
class Pose:
    """Angles in degrees.

    Attributes:
        yaw: turn about the vertical axis: 0 looks to the viewer, 180 away; positive to the person's right.
        roll: turn in the image.
        head: turn of the head to a side, and its tilt to a shoulder.
        arms: (2, 4) left and right: upper arm off the body to the side, upper arm to the front, and how much further
            the forearm is rotated to the side and to the front.
        legs: (2, 3) left and right: thigh to the side, thigh to the front, and how far the knee is bent.
    """

    yaw: float
    roll: float
    head: np.ndarray
    arms: np.ndarray
    legs: np.ndarray

    def flip(self) -> Pose:
        """Return the pose flipped left to right."""
        return Pose(-self.yaw, -self.roll, -self.head, self.arms[::-1], self.legs[::-1])


def sample_pose(rng: np.random.Generator, yaw: float, roll: float, back: float) -> Pose:
    """Return a random pose.

    Args:
        yaw: largest turn in degrees, off the viewer or off the opposite direction.
        roll: largest turn in the image.
        back: probability of a person seen from the back.
    """
    rotated = 180.0 * (rng.random() < back)
    return Pose(
        yaw=rotated + float(rng.uniform(-yaw, yaw)),
        roll=float(rng.uniform(-roll, roll)),
        head=rng.uniform(-1, 1, size=2) * (35, 15),
        arms=rng.uniform([0, -30, -20, 0], [150, 80, 110, 80], size=(2, 4)),
        legs=rng.uniform([-4, -30, 0], [35, 80, 90], size=(2, 3)),
    )


def compute_joints(pose: Pose) -> np.ndarray:
    """Return (17, 3) x, y, depth (larger is further away): the joints of ``POSE17`` as the viewer sees them."""
    points = np.empty((len(POSE17), 3))
    points[:_NUM_FACE] = _HEAD + _HEAD_RADIUS * _FACE_POINTS @ _compute_head_rotation(pose).T
    for i, side in enumerate(_SIDES):
        outwards = np.array([1 - 2 * i, 1, 1])
        shoulder, hip = outwards * [0.13, -0.3, 0.0], outwards * [0.075, 0.0, 0.0]
        to_side, to_front, extra, forwards = pose.arms[i].tolist()
        elbow = shoulder + 0.18 * outwards * _compute_direction(to_side, to_front)
        wrist = elbow + 0.17 * outwards * _compute_direction(to_side + extra, to_front + forwards)
        to_side, to_front, bent = pose.legs[i].tolist()
        knee = hip + 0.24 * outwards * _compute_direction(to_side, to_front)
        ankle = knee + 0.23 * outwards * _compute_direction(to_side, to_front - bent)
        for name, point in zip(
            ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
            (shoulder, elbow, wrist, hip, knee, ankle),
            strict=True,
        ):
            points[_INDEX[f"{side}_{name}"]] = point
    return points @ _compute_view(pose).T


def _compute_direction(to_side: float, to_front: float) -> np.ndarray:
    """Return the direction of a limb, in degrees; it hangs down at (0, 0), and outwards is +x."""
    side, front = np.radians([to_side, to_front])
    return np.array([np.sin(side), np.cos(side) * np.cos(front), -np.cos(side) * np.sin(front)])


def _compute_view(pose: Pose) -> np.ndarray:
    """Return the rotation (3, 3) from the person's frame to (x, y, depth) of the image."""
    return _make_rotation(pose.roll, 0, 1) @ _make_rotation(pose.yaw, 2, 0)


def _compute_head_rotation(pose: Pose) -> np.ndarray:
    turn, tilt = pose.head.tolist()
    return _make_rotation(tilt, 0, 1) @ _make_rotation(turn, 2, 0)


def _make_rotation(angle: float, first: int, second: int) -> np.ndarray:
    """Return the rotation (3, 3) that turns the axis ``first`` towards the axis ``second`` by degrees."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    matrix = np.eye(3)
    matrix[[first, second, first, second], [first, second, second, first]] = cosine, cosine, -sine, sine
    return matrix


@dataclass(frozen=True)
class Part:
    """A polygon of one color.

    Attributes:
        material: key of the colors of a person's look.
        outline: (V, 2) x, y.
        shows: the joints that are seen where this part is.
    """

    material: str
    outline: np.ndarray
    shows: tuple[int, ...] = ()


def make_parts(pose: Pose) -> list[Part]:
    """Return the parts, from the back to the front."""
    points, view = compute_joints(pose), _compute_view(pose)
    trunk = points[list(_TRUNK)]
    groups = [(trunk, [*_make_torso(trunk, view), *_make_head(pose, points, view)])]
    for side in _SIDES:
        shoulder, elbow, wrist, hip, knee, ankle = (
            _INDEX[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        )
        toes = points[ankle] + view @ [0, 0.035, -0.07]
        for line, part in (
            ((shoulder, elbow), _make_limb("shirt", points, shoulder, elbow, 0.038, 0.032)),
            ((elbow, wrist), _make_limb("skin", points, elbow, wrist, 0.028, 0.026)),
            ((hip, knee), _make_limb("trousers", points, hip, knee, 0.05, 0.04)),
            ((knee, ankle), _make_limb("stockings", points, knee, ankle, 0.036, 0.028)),
        ):
            groups.append((points[list(line)], [part]))
        shoe = _compute_hull([(points[ankle], 0.03), (toes, 0.025)])
        groups.append((np.stack([points[ankle], toes]), [Part("shoes", shoe, (ankle,))]))
    # Painter's algorithm; sorted() keeps the order of equal depths.
    return [part for _, group in sorted(groups, key=lambda group: -group[0][:, 2].mean()) for part in group]


def _make_limb(material: str, points: np.ndarray, start: int, end: int, width: float, end_width: float) -> Part:
    return Part(material, _compute_hull([(points[start], width), (points[end], end_width)]), (start, end))


def _make_torso(corners: np.ndarray, view: np.ndarray) -> list[Part]:
    """Return the torso. The shirt is open where the chest is visible, so that front and back differ."""
    trunk = Part("shirt", _compute_hull([(corner, 0.04) for corner in corners]), _TRUNK)
    neck = Part("skin", _compute_hull([(view @ _NECK, 0.035), (view @ _HEAD, 0.035)]))
    if view[2, 2] <= 0:
        return [neck, trunk]
    chest = np.array([[-0.07, -0.33, -0.04], [0.07, -0.33, -0.04], [0.0, -0.12, -0.05]])
    return [trunk, neck, Part("opening", (chest @ view.T)[:, :2])]


def _make_head(pose: Pose, points: np.ndarray, view: np.ndarray) -> list[Part]:
    """Return a ball of hair with a face; points of the face that the head hides are not drawn."""
    center, turn = view @ _HEAD, view @ _compute_head_rotation(pose)
    ball = Part("hair", center[:2] + _HEAD_RADIUS * _CIRCLE)
    shown = (
        [ball, Part("skin", center[:2] + _HEAD_RADIUS * _outline_cap(turn))]
        if (turn @ _FACE_CENTER)[2] < 0.8
        else [ball]
    )
    distance = np.linalg.norm(points[:_NUM_FACE, :2] - center[:2], axis=1)
    seen = (points[:_NUM_FACE, 2] < center[2]) | (distance > _HEAD_RADIUS)
    for k, (material, radius) in enumerate((("nose", 0.02), *[("eyes", 0.017)] * 2, *[("skin", 0.027)] * 2)):
        if seen[k]:
            shown.append(Part(material, points[k, :2] + radius * _CIRCLE, (k,)))
    return shown


def _outline_cap(turn: np.ndarray) -> np.ndarray:
    """Return the outline (16, 2) of the face on a ball of radius 1; points beyond the horizon move to the horizon."""
    sideways = np.array([1.0, 0, 0])
    upwards = np.cross(_FACE_CENTER, sideways)
    ring = np.cos(_FACE_ANGLE) * _FACE_CENTER + np.sin(_FACE_ANGLE) * (_CIRCLE @ np.stack([sideways, upwards]))
    seen = ring @ turn.T
    flat = seen[:, :2]
    horizon = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(seen[:, 2:] > 0, horizon, flat)


def _compute_hull(discs: Sequence[tuple[np.ndarray, float]]) -> np.ndarray:
    """Return the convex hull (V, 2) of discs (center, radius)."""
    points = np.concatenate([center[:2] + radius * _CIRCLE for center, radius in discs])
    return cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
