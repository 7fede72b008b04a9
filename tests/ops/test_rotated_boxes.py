"""Rotated boxes against closed forms, OpenCV's intersections and counted points."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from centernet_d2.ops.rotated_boxes import (
    compute_corners,
    compute_rotated_iou,
    convert_corners,
    enclose,
    suppress_rotated,
)


def sample_boxes(count: int, seed: int) -> torch.Tensor:
    """Near enough to each other that most pairs overlap."""
    rng = np.random.default_rng(seed)
    low, high = [40, 40, 5, 5, -200], [60, 60, 40, 40, 200]
    return torch.from_numpy(rng.uniform(low, high, (count, 5)))


def test_corners_are_those_of_detectron2s_docstring():
    """(5, 3, 4, 2, 90) has the corners A = (4, 5), B = (4, 1), C = (6, 1), D = (6, 5)."""
    corners = compute_corners(torch.tensor([5.0, 3, 4, 2, 90]))
    assert corners.tolist() == [pytest.approx(x, abs=1e-6) for x in ([4, 5], [4, 1], [6, 1], [6, 5])]
    assert enclose(torch.tensor([5.0, 3, 4, 2, 90])).tolist() == pytest.approx([4, 1, 6, 5], abs=1e-6)


def test_corners_become_boxes():
    boxes = sample_boxes(200, 0)
    found = convert_corners(compute_corners(boxes))
    swapped = boxes[:, 3] > boxes[:, 2]
    angle = torch.where(swapped, boxes[:, 4] + 90, boxes[:, 4])
    torch.testing.assert_close(found[:, :2], boxes[:, :2])
    torch.testing.assert_close(found[:, 2:4], boxes[:, 2:4].sort(dim=1, descending=True).values)
    torch.testing.assert_close(torch.cos(2 * (found[:, 4] - angle).deg2rad()), torch.ones(200, dtype=torch.float64))
    assert (found[:, 4] >= -90).all() and (found[:, 4] < 90).all()


def test_iou_of_opencv():
    a, b = sample_boxes(300, 1), sample_boxes(300, 2)
    expected = []
    for one, other in zip(a, b, strict=True):
        middle = one[:2]  # OpenCV calculates in single precision
        pair = [(compute_corners(box) - middle).float().numpy() for box in (one, other)]
        shared = cv2.intersectConvexConvex(*pair)[0]
        expected.append(shared / (float(one[2:4].prod() + other[2:4].prod()) - shared))
    assert np.count_nonzero(expected) > 200
    np.testing.assert_allclose(compute_rotated_iou(a, b), expected, atol=1e-6)


def test_iou_of_counted_points():
    a, b = sample_boxes(20, 3), sample_boxes(20, 4)
    grid = torch.arange(0, 100, 0.1, dtype=torch.float64) + 0.05
    x, y = torch.meshgrid(grid, grid, indexing="xy")

    def count_inside(box: torch.Tensor) -> torch.Tensor:
        angle = float(box[4]) * math.pi / 180
        along = (x - box[0]) * math.cos(angle) - (y - box[1]) * math.sin(angle)
        across = (x - box[0]) * math.sin(angle) + (y - box[1]) * math.cos(angle)
        return (along.abs() < box[2] / 2) & (across.abs() < box[3] / 2)

    for one, other, iou in zip(a, b, compute_rotated_iou(a, b), strict=True):
        inside, there = count_inside(one), count_inside(other)
        assert float(iou) == pytest.approx(float((inside & there).sum() / (inside | there).sum()), abs=0.01)


def test_closed_forms_of_iou():
    square = torch.tensor([10.0, 10, 4, 4, 0])
    others = torch.tensor(
        [[10.0, 10, 4, 4, 90], [10, 10, 4, 4, 45], [12, 10, 4, 4, 0], [20, 10, 4, 4, 30], [10, 10, 0, 4, 0]]
    )
    octagon = 16 * 2 * (math.sqrt(2) - 1)
    expected = [1, octagon / (32 - octagon), 8 / 24, 0, 0]
    np.testing.assert_allclose(compute_rotated_iou(square, others), expected, atol=1e-6)


def test_suppression_is_the_loop_over_pairs():
    boxes = torch.stack([sample_boxes(30, 5), sample_boxes(30, 6)]).float()
    generator = torch.Generator().manual_seed(0)
    scores, classes = torch.rand(2, 30, generator=generator), torch.randint(0, 2, (2, 30), generator=generator)
    found = suppress_rotated(boxes, scores, classes, 0.3)
    for image in range(2):
        kept: list[int] = []
        for i in scores[image].argsort(descending=True).tolist():
            same = [j for j in kept if classes[image, j] == classes[image, i]]
            if all(compute_rotated_iou(boxes[image, i], boxes[image, j]) <= 0.3 for j in same):
                kept.append(i)
        assert 5 < len(kept) < 30
        assert found[image].nonzero()[:, 0].tolist() == sorted(kept)
        torch.testing.assert_close(found[image, kept], scores[image, kept])


def test_boxes_of_several_images_at_once():
    boxes = torch.tensor([[10.0, 20, 8, 3, 30], [5, 6, 7, 2, -60], [0, 1, 9, 4, 0], [3, 3, 5, 1, 89]])
    several = boxes.view(2, 2, 5)
    assert torch.equal(compute_corners(several), compute_corners(boxes).view(2, 2, 4, 2))
    torch.testing.assert_close(convert_corners(compute_corners(several)), several, atol=1e-4, rtol=0)
