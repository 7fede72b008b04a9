"""Cells of points against their definition, one number at a time."""

from __future__ import annotations

import math

import torch

from centernet_d2.ops.indexing import gather_cells, make_image_index, pad_rows, read_at, round_up

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


def test_maps_are_read_at_cells_x_before_y():
    maps = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    image, cells = torch.tensor([[1, 0], [0, 1]]), torch.tensor([[[4, 0], [0, 3]], [[2, 1], [3, 2]]])
    found = read_at(maps, image, cells)
    assert found.shape == (2, 2, 3)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        (x, y), n = cells[i, j].tolist(), int(image[i, j])
        assert found[i, j].tolist() == [n * 60 + d * 20 + y * 5 + x for d in range(3)]


def test_counts_are_rounded_to_powers_of_two():
    assert [round_up(n) for n in (0, 1, 63, 64, 65, 128, 129)] == [64, 64, 64, 64, 128, 128, 256]
    assert [round_up(n, 4) for n in (0, 3, 4, 5, 8, 9)] == [4, 4, 4, 8, 8, 16] and round_up(1, 1) == 1


def test_rows_are_added_at_the_end():
    x = torch.tensor([[[1, 2]], [[3, 4]]])
    assert pad_rows(x, 3).tolist() == [[[1, 2]], [[3, 4]], [[0, 0]]]
    assert pad_rows(x[:, 0, 0], 4, -1).tolist() == [1, 3, -1, -1] and pad_rows(x, 2).tolist() == x.tolist()
