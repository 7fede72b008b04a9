from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.layers.class_keypoints import ClassKeypoints
from centernet_d2.ops.keypoint_matching import choose_peaks, compute_extreme_box, match_to_peaks

RANGES = [(0, 3), (3, 8), (8, 10)]


def test_own_keypoints_are_gathered_and_put_back():
    own = ClassKeypoints(RANGES)
    classes = torch.tensor([[2, 0], [1, 1]])
    keypoints = torch.rand(2, 2, 10, 3) + 1
    gathered = own.gather(keypoints, classes)
    assert gathered.shape == (2, 2, 5, 3)
    for n in range(2):
        for m in range(2):
            first, end = RANGES[classes[n, m]]
            assert torch.equal(gathered[n, m, : end - first], keypoints[n, m, first:end])
            assert (gathered[n, m, end - first :] == 0).all()
    back = own.scatter(gathered, classes)
    for n in range(2):
        for m in range(2):
            first, end = RANGES[classes[n, m]]
            expected = torch.zeros(10, 3)
            expected[first:end] = keypoints[n, m, first:end]
            assert torch.equal(back[n, m], expected)


def test_the_box_around_used_points():
    points = torch.tensor([[[1.0, 5.0], [3.0, 2.0], [-9.0, 99.0]]])
    assert compute_extreme_box(points, torch.tensor([[True, True, False]])).tolist() == [[1.0, 2.0, 3.0, 5.0]]
    several = compute_extreme_box(points.expand(2, 4, 3, 2), torch.tensor([True, True, False]).expand(2, 4, 3))
    assert several.tolist() == [[[1.0, 2.0, 3.0, 5.0]] * 4] * 2


@pytest.mark.parametrize("nearest", [False, True])
def test_snapping_is_what_a_loop_does(nearest):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(3, 4, 7, 2, generator=generator) * 20
    peaks = torch.rand(3, 4, 7, 6, 2, generator=generator) * 24 - 2
    probability = torch.rand(3, 4, 7, 6, generator=generator).square()
    boxes = torch.tensor([2.0, 1.0, 18.0, 12.0]).expand(3, 4, 4)
    result = match_to_peaks(points, peaks, probability, boxes, nearest)
    moved = 0
    for i in torch.cartesian_prod(torch.arange(3), torch.arange(4), torch.arange(7)).tolist():
        i = tuple(i)
        best, taken = -math.inf, points[i]
        for place, p in zip(peaks[i], probability[i], strict=True):
            distance = (place - points[i]).norm().item()
            inside = 2 <= place[0] <= 18 and 1 <= place[1] <= 12
            far = distance > 0.3 * 16
            if p < 0.1 or (far and not nearest):
                continue
            merit = -distance if nearest else math.log(p) - distance**2 / (2 * (0.1 * 16) ** 2)
            if merit > best:
                best, taken = merit, points[i] if nearest and (far or not inside) else place
        moved += not torch.equal(taken, points[i])
        assert torch.equal(result[i], taken)
    assert 10 < moved < 84


def test_a_peak_goes_to_the_object_it_votes_for():
    """Two faces, one keypoint with two peaks: the stronger one belongs to the second face."""
    peaks = torch.tensor([[[[5.0, 5.0], [15.0, 5.0]]]]).expand(1, 2, 1, 2, 2)
    votes = torch.tensor([[[[4.0, 8.0], [16.0, 8.0]]]]).expand(1, 2, 1, 2, 2)
    probability = torch.tensor([[[0.4, 0.9]]]).expand(1, 2, 1, 2)
    centers = torch.tensor([[[4.2, 8.0], [16.0, 7.5]]])
    positions, scores = choose_peaks(votes, peaks, probability, centers, torch.ones(1, 2))
    assert positions[0, :, 0].tolist() == [[5.0, 5.0], [15.0, 5.0]]
    assert torch.allclose(scores[0, :, 0], torch.tensor([0.4, 0.9]))
    # With a tolerance wider than the distance between them the stronger one wins twice.
    positions, _ = choose_peaks(votes, peaks, probability, centers, torch.full((1, 2), 50.0))
    assert positions[0, :, 0].tolist() == [[15.0, 5.0], [15.0, 5.0]]
