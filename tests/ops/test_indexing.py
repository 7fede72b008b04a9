"""Cells of points against their definition, one number at a time."""

from __future__ import annotations

import math

import torch

from centernet_d2.ops.indexing import gather_cells, make_image_index

EDGES = [-1e9, -7.5, -1.0, -0.75, -0.0, 0.0, 0.25, 0.999999, 1.0, 3.5, 8.999999, 9.0, 9.5, 10.0, 11.0, 1e9]


def test_cells_are_floors_inside_the_grid():
    points = torch.cartesian_prod(torch.tensor(EDGES), torch.tensor(EDGES))
    expected = [[min(max(math.floor(x), 0), 9), min(max(math.floor(y), 0), 5)] for x, y in points.tolist()]
    assert gather_cells(points, (6, 10)).tolist() == expected
    assert gather_cells(points.double(), (6, 10)).tolist() == expected


def test_cells_stay_cells():
    cells = torch.tensor([[-3, -1], [0, 0], [9, 5], [10, 6], [4, 99]])
    assert gather_cells(cells, (6, 10)).tolist() == [[0, 0], [0, 0], [9, 5], [9, 5], [4, 5]]


def test_every_entry_has_its_image():
    assert make_image_index(torch.zeros(3)).tolist() == [0, 1, 2]
    assert make_image_index(torch.zeros(2, 2)).tolist() == [[0, 0], [1, 1]]
    assert make_image_index(torch.zeros(2, 3, 2)).tolist() == [[[0, 0]] * 3, [[1, 1]] * 3]
