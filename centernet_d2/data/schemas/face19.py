"""The 19 landmarks of AFLW that papers use: its 21 without the ears (Zhu et al. 2016), counted from 0."""

from __future__ import annotations

from centernet_d2.structures.keypoint_schema import KeypointSchema, make_chain, register_schema

FACE19 = register_schema(
    KeypointSchema(
        name="face19",
        names=(
            *("left_brow_left", "left_brow_center", "left_brow_right"),
            *("right_brow_left", "right_brow_center", "right_brow_right"),
            *("left_eye_left", "left_eye_center", "left_eye_right"),
            *("right_eye_left", "right_eye_center", "right_eye_right"),
            *("nose_left", "nose_center", "nose_right"),
            *("mouth_left", "mouth_center", "mouth_right", "chin"),
        ),
        class_names=("face",),
        flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 14), (15, 17)),
        chains=(
            make_chain(0, 2),
            make_chain(3, 5),
            make_chain(6, 8),
            make_chain(9, 11),
            make_chain(12, 14),
            make_chain(15, 17),
        ),
        ranges=((0, 19),),
        evaluator="face_landmarks",
        outer_eye_corners=(6, 11),
        pupils=((7,), (10,)),
        nose_tip=13,
    )
)
