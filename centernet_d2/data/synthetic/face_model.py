"""A face as points in space: 68 landmarks and what is needed to draw the rest of the head.

Closed curves for jaw, brows, nose, eyes and mouth, changed by who it is and what it does (:class:`FaceShape`).
Space: x to the right of the image, y down from the eyes' height, z towards the viewer; half the face's width is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

# Points of a head after the landmarks: forehead from ear to ear, hair line, hair outside, irises (right, left).
FOREHEAD, FRINGE, HAIR, IRISES = slice(68, 77), slice(77, 86), slice(86, 97), slice(97, 99)
_PERSPECTIVE = 0.12


@dataclass(frozen=True)
class FaceShape:
    """Who it is and what the face does; lengths in units of half a face's width, sides are those of the person."""

    jaw: float = 0.8  # the smaller, the squarer
    chin: float = 1.55
    eye_inner: float = 0.27
    eye_outer: float = 0.63
    eye_tilt: float = 0.0
    right_eye: float = 0.11  # half the opening
    left_eye: float = 0.11
    right_brow: float = 0.3  # height over the eye
    left_brow: float = 0.3
    brow_arch: float = 0.08
    nose_length: float = 0.6
    nose_width: float = 0.22
    mouth_height: float = 1.05
    mouth_width: float = 0.36
    mouth_open: float = 0.0
    smile: float = 0.0
    upper_lip: float = 0.08
    lower_lip: float = 0.11
    gaze: float = 0.0  # of the irises, to the right of the image

    def flip(self) -> FaceShape:
        """Return the face flipped left to right."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for part in ("eye", "brow"):
            values[f"right_{part}"], values[f"left_{part}"] = values[f"left_{part}"], values[f"right_{part}"]
        return FaceShape(**{**values, "gaze": -self.gaze})


def place_head(shape: FaceShape) -> np.ndarray:
    """Return the (99, 3) points of a head that looks straight ahead."""
    theta = np.linspace(-1, 1, 17) * (math.pi / 2)
    sine, cosine = np.abs(np.sin(theta)), np.cos(theta)
    drop = 0.6 * shape.mouth_open * cosine**2
    jaw = _stack_axes(np.sign(theta) * sine**shape.jaw, shape.chin * cosine**0.95 + drop, 0.1 - 0.45 * sine**2)
    bridge = np.linspace(0, 1, 4)
    base = np.array([-1, -0.5, 0, 0.5, 1])
    right, left = (
        _place_eye(shape, shape.right_eye, shape.right_brow),
        _place_eye(shape, shape.left_eye, shape.left_brow),
    )
    flip = np.array([-1, 1, 1])
    brows = np.concatenate([right[:5], flip * left[4::-1]])
    # From the outer corner over the upper lid on the right of the person, from the inner one on the left.
    eyes = np.concatenate([right[5:11], flip * left[[8, 7, 6, 5, 10, 9]]])
    irises = np.stack([right[11], flip * left[11]]) + np.array([shape.gaze, 0, 0])
    nose = np.concatenate(
        [
            _stack_axes(0 * bridge, 0.02 + (shape.nose_length - 0.02) * bridge, 0.12 + 0.38 * bridge**1.3),
            _stack_axes(shape.nose_width * base, shape.nose_length + 0.19 - 0.07 * base**2, 0.3 - 0.15 * base**2),
        ]
    )
    around = np.linspace(math.pi, 0, 9)
    forehead = _stack_axes(np.cos(around), -1.05 * np.sin(around), 0.3 * np.sin(around) - 0.35)
    fringe = _stack_axes(0.99 * np.cos(around), -0.12 - 0.55 * np.sin(around), 0.38 * np.sin(around) - 0.35)
    outside = np.linspace(math.pi * 1.2, -math.pi * 0.2, 11)
    hair = _stack_axes(1.14 * np.cos(outside), -1.2 * np.sin(outside), 0.2 * np.sin(outside) - 0.4)
    return np.concatenate([jaw, brows, nose, eyes, _place_mouth(shape), forehead, fringe, hair, irises])


def _stack_axes(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.stack([x, y, z], axis=1)


def _place_eye(shape: FaceShape, opening: float, brow: float) -> np.ndarray:
    """Return (12, 3) of the person's right side: brow and upper lid from outside inwards, lower lid back, iris."""
    along = np.linspace(0, 1, 5)
    brow_x = -0.83 + along * (0.83 - 0.72 * shape.eye_inner)
    brow_y = -brow - shape.brow_arch * np.sin(math.pi * along**0.8) + 0.07 * (1 - along)
    fraction = np.array([0, 0.3, 0.68, 1, 0.68, 0.3, 0.5])
    height = opening * np.array([0, -1, -1, 0, 0.75, 0.75, -0.05])
    x = -shape.eye_outer + fraction * (shape.eye_outer - shape.eye_inner)
    y = height + shape.eye_tilt * (0.5 - fraction)
    depth = 0.03 + 0.07 * fraction + 0.04 * np.sin(math.pi * fraction)
    return np.concatenate([_stack_axes(brow_x, brow_y, 0.18 * along - 0.05), _stack_axes(x, y, depth)])


def _place_mouth(shape: FaceShape) -> np.ndarray:
    """Return (20, 3): 12 points around the lips, clockwise in the image, then 8 around the opening."""
    outer = np.array([-1, -0.64, -0.22, 0, 0.22, 0.64, 1])
    upper = np.array([0, 0.72, 1, 0.88, 1, 0.72, 0])
    inner = np.array([-0.84, -0.32, 0, 0.32, 0.84])
    gap = np.array([0, 0.95, 1, 0.95, 0])
    top, bottom = 0.4 * shape.mouth_open, 0.6 * shape.mouth_open
    bend = shape.smile * np.array([1, 0.35, 0.04, 0, 0.04, 0.35, 1])
    inner_bend = shape.smile * np.array([0.66, 0.08, 0, 0.08, 0.66])
    lower = np.array([0, 0.7, 0.97, 1, 0.97, 0.7, 0])
    x = np.concatenate([outer, outer[-2:0:-1], inner, inner[-2:0:-1]])
    y = np.concatenate(
        [
            -(shape.upper_lip + top) * upper - bend,
            ((shape.lower_lip + bottom) * lower - bend)[-2:0:-1],
            -top * gap - inner_bend,
            (bottom * gap - inner_bend)[-2:0:-1],
        ]
    )
    return _stack_axes(shape.mouth_width * x, shape.mouth_height + y, 0.26 - 0.16 * x**2)


def project(points: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Project (M, 3) to (M, 2) after rotations in degrees: head to the side, up and down, in the image's plane."""
    cosines, sines = np.cos(np.radians([yaw, pitch, roll])), np.sin(np.radians([yaw, pitch, roll]))
    turn_yaw = np.array([[cosines[0], 0, sines[0]], [0, 1, 0], [-sines[0], 0, cosines[0]]])
    turn_pitch = np.array([[1, 0, 0], [0, cosines[1], -sines[1]], [0, sines[1], cosines[1]]])
    turn_roll = np.array([[cosines[2], -sines[2], 0], [sines[2], cosines[2], 0], [0, 0, 1]])
    rotated = points @ (turn_roll @ turn_pitch @ turn_yaw).T
    return rotated[:, :2] / (1 - _PERSPECTIVE * rotated[:, 2:])


def sample_shape(rng: np.random.Generator) -> FaceShape:
    """Return a random face with a random expression."""
    values = FaceShape(*(_MEAN + _VARIATION * rng.uniform(-1, 1, size=len(_MEAN))).tolist())
    closed = rng.random() < 0.15
    opening = max(0.0, rng.uniform(-0.35, 0.5))
    wink = rng.random(2) < (0.5 if closed else 0.02)
    eyes = [0.012 if shut else opened for shut, opened in zip(wink, (values.right_eye, values.left_eye), strict=True)]
    return FaceShape(**{**vars(values), "mouth_open": opening, "right_eye": eyes[0], "left_eye": eyes[1]})


_MEAN = np.array([field.default for field in fields(FaceShape)], dtype=float)
# Half the range of each field of FaceShape, in their order.
_VARIATION = np.array(
    [
        *(0.14, 0.14, 0.03, 0.04, 0.05, 0.045, 0.045, 0.09, 0.09, 0.05),
        *(0.07, 0.05, 0.05, 0.09, 0.0, 0.1, 0.035, 0.04, 0.06),
    ]
)
