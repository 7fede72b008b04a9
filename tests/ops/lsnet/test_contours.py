"""Contours: the reference's figures, orientation, flips, odd outlines."""

from __future__ import annotations

import numpy as np
import pytest

from centernet_d2.ops.lsnet.contours import compute_signed_area, resample_outline, reverse_contour, sample_contour

POLYGON = np.array(
    [
        *[(10.0, 12.0), (14.0, 10.5), (20.0, 10.0), (26.0, 10.3), (40.0, 22.0), (41.5, 30.5), (41.0, 33.0)],
        *[(30.0, 44.0), (22.0, 44.6), (12.0, 40.0), (8.2, 30.0), (8.0, 26.0), (8.3, 20.0)],
    ]
)
BOX = np.array([8.0, 10.0, 41.5, 44.6])
# What LSNet's own code gives.
EXPECTED = np.array(
    [
        *[24.8, 10.24, 21.8, 10.09, 18.8, 10.1, 15.8, 10.35, 12.85714, 10.92857, 10.0, 12.0, 9.37037, 14.96296],
        *[8.74074, 17.92593, 8.255, 20.9, 8.105, 23.9, 8.04615, 26.92308, 8.2, 30.0, 9.28571, 32.85714],
        *[10.37143, 35.71429, 11.45714, 38.57143, 13.38889, 40.63889, 16.16667, 41.91667, 18.94444, 43.19444],
        *[21.72222, 44.47222, 24.76923, 44.39231, 27.84615, 44.16154, 30.64706, 43.35294, 32.80392, 41.19608],
        *[34.96078, 39.03922, 37.11765, 36.88235, 39.27451, 34.72549, 41.125, 32.375, 41.28571, 29.28571],
        *[40.75, 26.25, 40.21429, 23.21429, 38.64516, 20.86774, 36.3871, 18.98065, 34.12903, 17.09355],
        *[31.87097, 15.20645, 29.6129, 13.31935, 27.35484, 11.43226],
    ]
).reshape(36, 2)


@pytest.mark.parametrize("outline", [POLYGON, POLYGON.copy()], ids=["given", "copy"])
def test_the_reference_implementations_points(outline):
    assert np.abs(sample_contour([outline], BOX, 36) - EXPECTED).max() < 1e-5


def test_they_run_counterclockwise_on_the_screen_whatever_the_polygon():
    for outline in (POLYGON, POLYGON[::-1]):
        points = sample_contour([outline], BOX, 36)
        assert compute_signed_area(points) < 0
        # Start, leftmost, lowest, rightmost in this order.
        assert np.argmin(points[:, 0]) < np.argmax(points[:, 1]) < np.argmax(points[:, 0])
        assert np.hypot(*(points[0] - [24.75, 10])) < 1


def test_points_lie_on_the_outline_at_about_equal_distances():
    points = resample_outline(POLYGON, 360)
    edges = np.roll(POLYGON, -1, axis=0) - POLYGON
    for point in points[::7]:
        along = ((point - POLYGON) * edges).sum(axis=1) / (edges**2).sum(axis=1)
        nearest = POLYGON + along.clip(0, 1)[:, None] * edges
        assert np.hypot(*(nearest - point).T).min() < 1e-9
    steps = np.hypot(*(np.roll(points, -1, axis=0) - points).T)
    assert steps.max() < 2 * steps.mean()
    assert steps.sum() == pytest.approx(np.hypot(*edges.T).sum())


def test_flipping_the_object_flips_the_contour():
    points = sample_contour([POLYGON], BOX, 36)

    def flip(outline):
        return outline * [-1, 1] + [100, 0]

    flipped = reverse_contour(flip(points))
    assert compute_signed_area(flipped) < 0
    assert np.array_equal(flipped[0], flip(points[0]))
    np.testing.assert_allclose(reverse_contour(flip(flipped)), points)


def test_the_largest_part_is_taken():
    small = POLYGON / 4
    assert np.array_equal(sample_contour([small, POLYGON], BOX, 36), sample_contour([POLYGON], BOX, 36))


@pytest.mark.parametrize("outlines", [[], [POLYGON / 50], [np.array([[0, 0], [40, 0], [20, 0.5]])]])
def test_an_object_without_a_usable_part_has_the_contour_of_its_box(outlines):
    points = sample_contour(outlines, np.array([10.0, 20.0, 50.0, 30.0]), 20)
    assert points.min(axis=0).tolist() == [10, 20]
    assert points.max(axis=0).tolist() == [50, 30]
    assert points[0].tolist() == [30, 20]


@pytest.mark.parametrize(
    ("width", "height", "used"), [(1, 8, True), (8, 1, True), (0.9, 8, False), (8, 0.9, False), (2.5, 2, False)]
)
def test_parts_of_at_least_a_pixel_and_above_5_square_pixels_are_used(width, height, used):
    part = np.array([[20.0, 30], [20 + width, 30], [20 + width, 30 + height], [20, 30 + height]])
    points = sample_contour([part], np.array([0.0, 0, 99, 99]), 8)
    assert np.ptp(points, axis=0).tolist() == ([width, height] if used else [99, 99])


def test_an_outline_of_more_vertices_than_points_keeps_the_longest_edges():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = 50 + 40 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    circle[10] = circle[9] + 1e-3
    points = resample_outline(circle, 399)
    assert len(points) == 399
    assert not (points == circle[9]).all(axis=1).any()


def test_every_edge_has_a_point_however_short():
    outline = np.array([[0.0, 0], [100, 0], [100, 1e-3], [100, 2e-3], [0, 50]])
    points = resample_outline(outline, 12)
    for vertex in outline:
        assert (points == vertex).all(axis=1).any()
