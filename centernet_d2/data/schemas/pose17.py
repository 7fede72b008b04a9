"""The 17 joints of COCO's persons (Lin et al. 2014), counted from 0."""

from __future__ import annotations

from centernet_d2.structures.keypoint_schema import KeypointSchema, register_schema

POSE17 = register_schema(
    KeypointSchema(
        name="pose17",
        names=(
            *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
            *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
            *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
        ),
        class_names=("person",),
        flip_pairs=tuple((k, k + 1) for k in range(1, 17, 2)),
        chains=(
            *((3, 1, 0, 2, 4), (5, 6, 12, 11, 5)),
            *((5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16)),
        ),
        ranges=((0, 17),),
        evaluator="coco",
        # Those of pycocotools.
        sigmas=tuple(s / 1000 for s in (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)),
        nose_tip=0,
    )
)
