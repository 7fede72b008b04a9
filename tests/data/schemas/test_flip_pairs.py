"""Flip pairs from names: what is known of published schemas, and what must not be guessed."""

from __future__ import annotations

import pytest

from centernet_d2.data.schemas import FACE5, FACE19, POSE17
from centernet_d2.data.schemas.flip_pairs import infer_flip_pairs


@pytest.mark.parametrize("schema", [POSE17, FACE19, FACE5], ids=lambda schema: schema.name)
def test_published_pairs_are_found_from_the_names(schema):
    pairs, alone = infer_flip_pairs(schema.names)
    assert sorted(pairs) == sorted(tuple(sorted(pair)) for pair in schema.flip_pairs) and not alone


@pytest.mark.parametrize(
    ("names", "pairs", "alone"),
    [
        (["leftEye", "RightEye", "Nose"], [(0, 1)], []),
        (["eye_l", "eye_r"], [(0, 1)], []),
        (["l-wing", "r-wing", "tail"], [(0, 1)], []),
        (["L1", "R1", "L2", "R2"], [(0, 1), (2, 3)], []),
        (["front left paw", "front right paw", "back left paw", "back right paw"], [(0, 1), (2, 3)], []),
        (["paw_FL", "paw_FR"], [], []),
        (["left_eye", "nose"], [], [0]),
        (["corner1", "corner2", "corner3", "corner4"], [], []),
        (["tool", "letter", "roller"], [], []),
        (["tip", "base"], [], []),
        (["linkes Auge_l", "linkes Auge_r"], [(0, 1)], []),
        (["耳_left", "耳_right"], [(0, 1)], []),
    ],
)
def test_sides_in_names(names, pairs, alone):
    assert infer_flip_pairs(names) == (pairs, alone)


@pytest.mark.parametrize(
    ("names", "edges", "pairs"),
    [
        (["head", "ear_1", "ear_2"], [(0, 1), (0, 2)], [(1, 2)]),
        (["head", "ear_1", "ear_2"], [], []),  # nothing shows the symmetry
        (["body", "tail_1", "tail_2"], [(0, 1), (1, 2)], []),  # a chain
        (["end1", "end2"], [(0, 1)], []),  # joined to each other alone
        (["head", "ear_1", "ear_2", "ear_3"], [(0, 1), (0, 2), (0, 3)], []),
        (["left_hip", "right_hip", "foot1", "foot2"], [(0, 2), (1, 3), (0, 1)], [(0, 1), (2, 3)]),
    ],
)
def test_numbers_are_paired_only_where_the_skeleton_is_symmetric(names, edges, pairs):
    assert infer_flip_pairs(names, edges)[0] == pairs
