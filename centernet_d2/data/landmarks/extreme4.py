"""The extreme points of any object (Papadopoulos et al. 2017): its topmost, leftmost, lowest and rightmost point."""

from __future__ import annotations

from centernet_d2.data.landmarks.scheme import LandmarkScheme, check_scheme

EXTREME4 = check_scheme(
    LandmarkScheme(
        name="extreme4",
        names=("top", "left", "bottom", "right"),
        class_names=(),
        flip_pairs=((1, 3),),
        chains=((0, 1, 2, 3, 0),),
        ranges=(),
        evaluator="coco",
    )
)
