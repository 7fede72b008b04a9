"""The 68 landmarks of 300W and 300VW (Sagonas et al. 2013, the mark-up of Multi-PIE), counted from 0."""

from __future__ import annotations

from centernet_d2.structures.keypoint_schema import KeypointSchema, make_chain, register_schema

_JAW = [(k, 16 - k) for k in range(8)]
_BROWS = [(17, 26), (18, 25), (19, 24), (20, 23), (21, 22)]
_EYES = [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
_NOSE = [(31, 35), (32, 34)]
_MOUTH = [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]

FACE68 = register_schema(
    KeypointSchema(
        name="face68",
        names=tuple(str(k) for k in range(1, 69)),
        class_names=("face",),
        flip_pairs=(*_JAW, *_BROWS, *_EYES, *_NOSE, *_MOUTH),
        chains=(
            *(make_chain(0, 16), make_chain(17, 21), make_chain(22, 26), make_chain(27, 30), make_chain(31, 35)),
            *(make_chain(36, 41, True), make_chain(42, 47, True), make_chain(48, 59, True), make_chain(60, 67, True)),
        ),
        ranges=((0, 68),),
        evaluator="face_landmarks",
        outer_eye_corners=(36, 45),
        pupils=(tuple(range(36, 42)), tuple(range(42, 48))),
        nose_tip=30,
    )
)
