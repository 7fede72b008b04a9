"""Five points of a face, as annotated for WIDER FACE (Deng et al. 2019, "RetinaFace"), counted from 0. Left and right
are those of the image."""

from __future__ import annotations

import numpy as np

from centernet_d2.structures.keypoint_schema import KeypointSchema, register_schema

FACE5 = register_schema(
    KeypointSchema(
        name="face5",
        names=("left_eye", "right_eye", "nose", "mouth_left", "mouth_right"),
        class_names=("face",),
        flip_pairs=((0, 1), (3, 4)),
        chains=((0, 2, 1), (3, 4)),
        ranges=((0, 5),),
        evaluator="face_landmarks",
        pupils=((0,), (1,)),
        nose_tip=2,
    )
)


def from_face68(points: np.ndarray) -> np.ndarray:
    """Return the five points (..., 5, 2) of ``points`` (..., 68, 2): means of the eyes' outlines, tip of the nose,
    corners of the mouth."""
    eyes = [points[..., first : first + 6, :].mean(axis=-2) for first in (36, 42)]
    return np.stack([*eyes, points[..., 30, :], points[..., 48, :], points[..., 54, :]], axis=-2)
