from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from centernet_d2.structures import Boxes3D
from centernet_d2.visualization.draw_boxes3d import draw_birds_eye_view, draw_boxes_3d
from tests.helpers.boxes3d import P2, SIZE, STREET, boxes_of

RED, GREEN = (0, 0, 255), (0, 255, 0)


def draw_frame(boxes: Boxes3D, colors) -> np.ndarray:
    image = np.zeros((*SIZE, 3), np.uint8)
    draw_boxes_3d(image, boxes, P2, colors)
    return image


def pixel(point: np.ndarray) -> tuple[int, int, int]:
    """(3,) camera coordinates to row, column, by hand."""
    u, v, w = P2.numpy() @ [*point, 1]
    return int(v / w), int(u / w)


def test_edges_are_where_the_corners_are_seen():
    boxes = boxes_of(STREET[[0, 2, 3]])
    image = draw_frame(boxes, [RED] * 3)
    corners = boxes.compute_corners().numpy()
    for box in corners:
        for a, b in ((0, 1), (4, 5), (2, 6), (3, 7), (5, 6), (0, 5)):
            for fraction in (0.1, 0.5, 0.9):
                row, column = pixel(box[a] + fraction * (box[b] - box[a]))
                assert image[row - 1 : row + 2, column - 1 : column + 2, 2].max() > 150
    lowest = np.argwhere(image[..., 2] > 100)
    seen = np.array([pixel(corner) for box in corners for corner in box])
    assert (lowest.min(axis=0) >= seen.min(axis=0) - 3).all() and (lowest.max(axis=0) <= seen.max(axis=0) + 3).all()


@pytest.mark.parametrize("rotation", [math.pi / 2, -math.pi / 2])
def test_only_the_front_has_a_cross(rotation):
    """One that looks at the camera, and one away from it; far enough aside that front and back are apart."""
    box = boxes_of(torch.tensor([[2.0, 2.0, 5.0, 5.0, 1.5, 11.0, rotation]]).double())
    image, corners = draw_frame(box, [RED]), box.compute_corners()[0].numpy()
    for side, expected in (([0, 1, 5, 4], True), ([2, 3, 7, 6], False)):
        row, column = pixel(corners[side].mean(axis=0))
        assert (image[row - 2 : row + 3, column - 2 : column + 3].max() > 150) == expected


def test_the_nearer_box_is_synthetic_over_the_farther_one():
    table = torch.tensor([[1.5, 2.0, 2.0, 0.0, 1.5, 10.0, 0.0], [3.0, 4.0, 4.0, 0.0, 3.0, 20.0, 0.0]]).double()
    both = draw_frame(boxes_of(table), [RED, GREEN])
    alone = draw_frame(boxes_of(table[:1]), [RED])
    crossing = (alone[..., 2] == 255) & (draw_frame(boxes_of(table[1:]), [GREEN])[..., 1] > 0)
    assert crossing.sum() > 3 and (both[crossing] == RED).all()
    assert np.array_equal(both, draw_frame(boxes_of(table.flip(0)), [GREEN, RED]))


@pytest.mark.parametrize("z", [-20.0, 0.5, 1.0, math.nan, math.inf])
def test_boxes_around_and_behind_the_camera(z):
    box = boxes_of(torch.tensor([[1.5, 1.6, 4.0, 0.5, 1.6, z, 0.7]]).double())
    image = draw_frame(box, [RED])
    assert (image.max() > 0) == (0 < z < 10)
    draw_birds_eye_view(box, [RED])


def test_from_above():
    """10 m ahead and 5 m to the left, looking to the right."""
    box = boxes_of(torch.tensor([[1.5, 2.0, 4.0, -5.0, 1.6, 10.0, 0.0]]).double())
    image = draw_birds_eye_view(box, [RED], size=640, reach=64.0)
    rows, columns = np.nonzero((image == RED).all(axis=2))
    assert rows.min() == pytest.approx(640 - 110, abs=3) and rows.max() == pytest.approx(640 - 90, abs=3)
    assert columns.min() == pytest.approx(320 - 70, abs=3) and columns.max() == pytest.approx(320 - 30, abs=4)
    on_lines = (image == RED).all(axis=2)[640 - 104 : 640 - 96]
    front, back = on_lines[:, 280:300].sum(), on_lines[:, 240:260].sum()
    assert front > 1.3 * back > 0, "the thick side is the front"


def test_ground_truth_lies_below():
    box = boxes_of(STREET[:1])
    image = draw_birds_eye_view(box, [RED], gt=box)
    assert (image == RED).all(axis=2).any()
    assert (draw_birds_eye_view(boxes_of(STREET[:0]), [], gt=box) == (180, 180, 180)).all(axis=2).any()
