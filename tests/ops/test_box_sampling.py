"""Cells at which boxes are learned, against a loop over objects and cells."""

from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.ops.box_sampling import SAMPLINGS, sample_box_cells
from centernet_d2.ops.indexing import gather_cells

GRID = (14, 20)


def scene(seed, count=9):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * torch.tensor([19.0, 13.0])
    high = torch.minimum(low + 0.2 + torch.rand(count, 2, generator=generator) ** 2 * 18, torch.tensor([20.0, 14.0]))
    boxes = torch.cat([low, high], dim=1)
    fraction = torch.tensor([[0.25, 0.5], [0.5, 0.5]])  # two points: left of the center, and the center
    points = boxes[:, None, :2] + fraction * (boxes[:, None, 2:] - boxes[:, None, :2])
    return boxes, torch.randint(0, 2, (count,), generator=generator), gather_cells(points, GRID)


def weights_of(sampling, box, cell, fraction):
    """{(x, y): weight} of one object's point, as if it were alone."""
    w, h = box[2] - box[0], box[3] - box[1]
    rx, ry = {"peak": (0, 0), "square": (1, 1), "gaussian": (int(w / 2 * fraction), int(h / 2 * fraction))}[sampling]
    found = {}
    for y in range(max(cell[1] - ry, 0), min(cell[1] + ry + 1, GRID[0])):
        for x in range(max(cell[0] - rx, 0), min(cell[0] + rx + 1, GRID[1])):
            if sampling == "gaussian":
                sx, sy = (2 * rx + 1) / 6, (2 * ry + 1) / 6
                found[x, y] = math.exp(-((x - cell[0]) ** 2) / (2 * sx**2) - (y - cell[1]) ** 2 / (2 * sy**2))
            elif [x, y] == cell or (box[0] < x + 0.5 < box[2] and box[1] < y + 0.5 < box[3]):
                found[x, y] = 1.0
    total = sum(found.values())
    factor = max(math.log(16 * w * h), 1) / math.log(4096) if sampling == "gaussian" else 1
    return {place: factor * value / total for place, value in found.items()}


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("fraction", [0.2, 0.54, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop(sampling, fraction, seed):
    """Large objects first; smaller ones take their cells, but for those of the points themselves."""
    boxes, image_index, cells = scene(seed)
    expected: dict[tuple, tuple[int, float]] = {}
    order = sorted(range(len(boxes)), key=lambda i: -float((boxes[i, 2:] - boxes[i, :2]).prod()))
    for own in (False, True):
        for i in order:
            for k in range(2):
                for place, weight in weights_of(sampling, boxes[i].tolist(), cells[i, k].tolist(), fraction).items():
                    if (list(place) == cells[i, k].tolist()) == own:
                        expected[int(image_index[i]), k, place] = (i, weight)
    found = sample_box_cells(sampling, boxes, image_index, cells, GRID, fraction)
    row, point = (found.weight > 0).nonzero(as_tuple=True)
    ours = {}
    for e, k in zip(row.tolist(), point.tolist(), strict=True):
        i, key = int(found.owner[e]), tuple(found.cells[e, k].tolist())
        place = (int(image_index[i]), k, key)
        assert place not in ours, "a cell has one object"
        ours[place] = (i, float(found.weight[e, k]))
    assert {place: i for place, (i, _) in ours.items()} == {place: i for place, (i, _) in expected.items()}
    assert [ours[x][1] for x in expected] == pytest.approx([w for _, w in expected.values()], rel=1e-5)


def test_weights_of_lonely_objects():
    """16x16 cells are 64x64 pixels: weight 1; 1 pixel has that of e pixels; whatever the borders cut off."""
    boxes = torch.tensor([[2.0, 0, 18, 14], [0, 0, 0.25, 0.25]])
    cells = torch.tensor([[[10, 7]], [[0, 0]]])
    total = sample_box_cells("gaussian", boxes, torch.tensor([0, 1]), cells, GRID)
    assert (total.owner == 0).sum() == 9 * 7  # of radius int(8 * 0.54) and int(7 * 0.54)
    sums = torch.zeros(2).index_add(0, total.owner, total.weight[:, 0])
    expected = [math.log(16 * 16 * 14) / math.log(4096), 1 / math.log(4096)]
    assert sums.tolist() == pytest.approx(expected, rel=1e-5)
    square = sample_box_cells("square", boxes, torch.tensor([0, 1]), cells, GRID)
    assert sorted(square.weight[square.weight > 0].tolist()) == pytest.approx([1 / 9] * 9 + [1.0])


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_no_objects(sampling):
    nothing = torch.zeros(0, dtype=torch.long)
    found = sample_box_cells(sampling, torch.zeros(0, 4), nothing, torch.zeros(0, 3, 2, dtype=torch.long), GRID)
    assert found.weight.shape == (0, 3) and found.cells.shape == (0, 3, 2)
