"""Landmark vectors against the rule written out, and the numbers of the reference's functions."""

from __future__ import annotations

import pytest
import torch

from centernet_d2.ops.extreme_points import compute_extreme_boxes
from centernet_d2.ops.lsnet.landmark_vectors import decode_vectors, enclose_landmarks, encode_vectors

# Of LSNet's code: 4 extreme points and a center; v_up, v_down, v_left, v_right each.
VECTORS = [0.5, 2.2, 3.9, 5.6, 7.3, 9.0, 1.700001, 3.400001, 5.1, 6.8, 8.5, 1.200001, 2.900002, 4.6, 6.300001, 8.0]
VECTORS += [0.700001, 2.400002, 4.1, 5.799999]
EXTREMES = [[5.6, 2.2], [3.400001, 9.0], [-8.5, 6.8], [8.0, 4.6]]
BOX = [3.400001, 2.2, 8.0, 6.8]


def test_decodes_as_the_reference():
    points = decode_vectors(torch.tensor(VECTORS))
    torch.testing.assert_close(points[:4], torch.tensor(EXTREMES), rtol=0, atol=1e-6)
    torch.testing.assert_close(compute_extreme_boxes(points[:4]), torch.tensor(BOX), rtol=0, atol=1e-6)


def test_encodes_by_the_rule():
    displacements = [(2.0, -30.0), (-28.0, 2.0), (7.0, 50.0), (40.0, 0.0), (-3.0, -4.0)]
    expected = []
    for x, y in displacements:
        for d in (y, x):
            expected += [abs(d), 0.2 * abs(d)] if d < 0 else [0.2 * abs(d), abs(d)]
    torch.testing.assert_close(encode_vectors(torch.tensor(displacements)), torch.tensor(expected))
    torch.testing.assert_close(
        encode_vectors(torch.tensor(displacements), alpha=0.0)[:4], torch.tensor([30.0, 0.0, 0.0, 2.0])
    )


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.9])
def test_round_trip(alpha):
    points = 10 * torch.randn(3, 6, 37, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decode_vectors(encode_vectors(points, alpha)), points)


def test_the_gradient_goes_into_the_larger_number():
    vectors = torch.tensor([3.0, 1.0, 2.0, 5.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(decode_vectors(vectors).sum(), vectors)
    assert gradient.tolist() == [-1.0, 0.0, 0.0, 1.0]


def test_enclosing_boxes():
    points = torch.tensor([[[1.0, 5.0], [-2.0, 3.0], [4.0, 9.0]], [[0.0, 0.0], [1.0, -1.0], [0.5, 2.0]]])
    assert enclose_landmarks(points).tolist() == [[-2.0, 3.0, 4.0, 9.0], [0.0, -1.0, 1.0, 2.0]]
