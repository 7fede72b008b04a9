"""Peaks against PyTorch's pooling and a plain search."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from centernet_d2.ops.peaks import neighbourhood_maximum, top_peaks


def test_neighbourhood_maximum_equals_pooling():
    for shape in [(2, 3, 7, 9), (1, 1, 1, 1), (1, 2, 1, 5), (1, 2, 5, 1)]:
        maps = torch.randn(shape)
        assert torch.equal(neighbourhood_maximum(maps), F.max_pool2d(maps, 3, 1, 1))


def test_top_peaks_equal_a_search():
    maps = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    values, classes, cells = top_peaks(maps, neighbourhood_maximum(maps), 10)
    for g in range(3):
        found = []
        for c in range(4):
            for y in range(8):
                for x in range(8):
                    window = maps[g, c, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                    if maps[g, c, y, x] == window.max():
                        found.append((maps[g, c, y, x].item(), c, x, y))
        found = sorted(found, reverse=True)[:10]
        ours = [(v.item(), c.item(), *xy.tolist()) for v, c, xy in zip(values[g], classes[g], cells[g], strict=True)]
        assert ours == found


def test_equal_neighbours_are_both_peaks():
    maps = torch.full((1, 1, 3, 5), -5.0)
    maps[0, 0, 1, 1] = maps[0, 0, 1, 2] = 1.0
    values, _, cells = top_peaks(maps, neighbourhood_maximum(maps), 2)
    assert values.tolist() == [[1.0, 1.0]]
    assert sorted(cells[0].tolist()) == [[1, 1], [2, 1]]


def test_fewer_peaks_than_asked_for():
    maps = torch.zeros(1, 1, 3, 3)
    maps[0, 0, 1, 1] = 1.0
    values, classes, cells = top_peaks(maps, neighbourhood_maximum(maps), 50)
    assert values.shape == (1, 50)
    assert classes.shape == (1, 50)
    assert cells.shape == (1, 50, 2)
    assert values[0, 0] == 1
    assert (values[0, 1:] == -torch.inf).all()
