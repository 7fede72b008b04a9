"""The grid of points: the reference table, and every encoding there and back."""

from __future__ import annotations

import pytest
import torch

from centernet_d2.ops import grid_coding as grid

ALL = tuple(range(9))


def test_reference_points_and_distances():
    """Box (10, 20, 50, 100): points and left/top distances as the reference computes them."""
    box = torch.tensor([10.0, 20.0, 50.0, 100.0])
    expected = [[20, 40], [30, 40], [40, 40], [20, 60], [30, 60], [40, 60], [20, 80], [30, 80], [40, 80]]
    distances = [[10, 20], [20, 20], [30, 20], [10, 40], [20, 40], [30, 40], [10, 60], [20, 60], [30, 60]]
    assert grid.compute_grid_points(box, ALL).tolist() == expected
    assert grid.encode_size(box, ALL, "lt").tolist() == distances


@pytest.mark.parametrize("encoding", ["wh", "lt", "ltrb", "log_wh"])
@pytest.mark.parametrize("flags", [(4,), (0, 4, 8), (1, 3, 4, 5, 7), ALL])
def test_boxes_come_back(encoding, flags):
    low = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) * 100
    boxes = torch.cat([low, low + 0.01 + torch.rand(1000, 2) * 200], dim=1)
    sizes = grid.encode_size(boxes, flags, encoding)
    decoded = grid.decode_boxes(grid.compute_grid_points(boxes, flags), sizes, flags, encoding)
    torch.testing.assert_close(decoded, boxes[:, None].expand_as(decoded), atol=2e-4, rtol=0)


@pytest.mark.parametrize("source", ["wh", "lt", "ltrb"])
@pytest.mark.parametrize("target", ["wh", "lt", "ltrb"])
def test_encodings_convert_exactly(source, target):
    boxes = torch.tensor([[10.0, 20.0, 50.0, 100.0], [0.0, 0.0, 3.0, 7.0]], dtype=torch.float64)
    converted = grid.convert_size(grid.encode_size(boxes, ALL, source), ALL, source, target)
    torch.testing.assert_close(converted, grid.encode_size(boxes, ALL, target), atol=1e-12, rtol=1e-12)


def test_conversion_folds_into_weights():
    """Converting the last layer's weights and bias converts what it computes."""
    layer = torch.nn.Conv2d(5, 18, 1)
    features = torch.randn(2, 5, 4, 4)
    before = layer(features).unflatten(1, (9, 2)).movedim((1, 2), (-2, -1))
    with torch.no_grad():
        weight = layer.weight.view(9, 2, 5).transpose(1, 2)
        layer.weight.copy_(
            grid.convert_size(weight.movedim(1, 0), ALL, "lt", "wh").movedim(0, 1).transpose(1, 2).reshape(18, 5, 1, 1)
        )
        layer.bias.copy_(grid.convert_size(layer.bias.view(9, 2), ALL, "lt", "wh").view(18))
    after = layer(features).unflatten(1, (9, 2)).movedim((1, 2), (-2, -1))
    torch.testing.assert_close(after, grid.convert_size(before, ALL, "lt", "wh"), atol=1e-5, rtol=1e-5)


def test_flipped_points():
    assert grid.flip_grid_points(ALL) == (2, 1, 0, 5, 4, 3, 8, 7, 6)


@pytest.mark.parametrize("flags", [[], [9], [-1, 4], [4.5]])
def test_bad_flags(flags):
    with pytest.raises(ValueError, match="GRID_POINTS"):
        grid.check_point_flags(flags)


def test_flags_are_sorted_and_unique():
    assert grid.check_point_flags([8, 0, 4, 0]) == (0, 4, 8)
