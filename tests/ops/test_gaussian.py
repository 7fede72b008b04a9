"""Gaussian radius and rendering against reference values and a loop that draws one cell at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from centernet_d2.ops.gaussian import (
    SparseMaps,
    add_ignored_regions,
    compute_window_radius,
    gaussian_radius,
    splat_gaussians,
    splat_in_boxes,
)


@pytest.mark.parametrize(
    ("height", "width", "overlap", "radius"),
    [  # the reference's values, double precision
        (80, 40, 0.7, 14.711701434024533),
        (64, 64, 0.8, 12.086680447989224),
        (10, 3, 0.7, 1.2927859595009465),
        (1, 1, 0.7, 0.2733200530681512),
        (128, 96, 0.7, 30.037255385536014),
        (48, 40, 1.0, 0.0),
        (20, 40, 0.7, 7.3558507170122665),
    ],
)
def test_reference_radius(height, width, overlap, radius):
    assert gaussian_radius(torch.tensor([width, height]), overlap).item() == pytest.approx(radius, abs=1e-9)


@pytest.mark.parametrize("size", [(10.0, 10.0), (40.0, 20.0), (100.0, 100.0), (3.0, 57.0)])
def test_corrected_radius_keeps_the_overlap(size):
    """Moving both corners by r in the worst of the three ways leaves exactly the wanted IoU."""
    w, h = size
    r = gaussian_radius(torch.tensor(size), 0.7, "corrected").item()
    shifted = (w - r) * (h - r) / (2 * w * h - (w - r) * (h - r))
    shrunk = (w - 2 * r) * (h - 2 * r) / (w * h)
    grown = w * h / ((w + 2 * r) * (h + 2 * r))
    assert min(shifted, shrunk, grown) == pytest.approx(0.7, abs=1e-9)


def test_corrected_radius_values():
    sizes = torch.tensor([[10.0, 10.0], [40.0, 20.0], [100.0, 100.0]])
    expected = torch.tensor([0.817, 2.155, 8.17])
    torch.testing.assert_close(gaussian_radius(sizes, 0.7, "corrected").float(), expected, atol=6e-3, rtol=0)


SIZES = [(40.0, 20.0), (100.0, 100.0), (3.0, 57.0), (1000.0, 10.0)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0.01, 0.3, 0.7, 0.95, 1.0])
def test_the_corrected_radius_is_the_largest_that_keeps_the_overlap(size, overlap):
    """All 81 ways to move each edge by -r, 0 or r, their IoU with the box, and r by bisection."""
    w, h = size

    def worst(r):
        moves = itertools.product((-r, 0, r), repeat=4)
        return min(iou((0, 0, w, h), (x1, y1, max(w + x2, x1), max(h + y2, y1))) for x1, y1, x2, y2 in moves)

    low, high = 0.0, min(w, h)
    for _ in range(100):
        center = (low + high) / 2
        low, high = (center, high) if worst(center) > overlap else (low, center)
    assert gaussian_radius(torch.tensor(size), overlap, "corrected").item() == pytest.approx(low, rel=1e-6, abs=1e-9)


def iou(a, b):
    over = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return over / (sum(areas) - over)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0.01, 0.3, 0.7, 0.95])
def test_the_cornernet_radius_is_the_smallest_of_its_three(size, overlap):
    """CornerNet's code, root after root: (b + sqrt(b^2 - 4 a c)) / 2, without the division by a."""
    w, h = size
    coefficients = [
        (1, w + h, w * h * (1 - overlap) / (1 + overlap)),
        (4, 2 * (w + h), (1 - overlap) * w * h),
        (4 * overlap, -2 * overlap * (w + h), (overlap - 1) * w * h),
    ]
    smallest = min((b + math.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in coefficients)
    assert gaussian_radius(torch.tensor(size), overlap).item() == pytest.approx(smallest, rel=1e-9)


def test_reference_radius_where_a_last_bit_decides():
    """A radius of exactly 35 must not become 34 by rounding: the reference code gets 35."""
    assert compute_window_radius(torch.tensor([[100.0, 175.0]]), 0.7, "cornernet", False).tolist() == [[35, 35]]


def test_unknown_radius_method():
    with pytest.raises(ValueError, match="cornernet"):
        gaussian_radius(torch.ones(1, 2), 0.7, "other")


def test_elliptical_radii_follow_each_side():
    radius = compute_window_radius(torch.tensor([[100.0, 10.0]]), 0.7, "cornernet", elliptical=True)
    assert radius.tolist() == [[int(0.2733200530681512 * 100), int(0.2733200530681512 * 10)]]


def test_radii_of_ttfnet_and_fixed_ones():
    """int(side / 2 * 0.54) of each side, of the box as it is: 100 -> 27, 10.9 -> 2, 3.5 -> 0."""
    sizes = torch.tensor([[100.0, 10.9], [3.5, 7.5]])
    assert compute_window_radius(sizes, 0.7, "ellipse", False).tolist() == [[27, 2], [0, 2]]
    assert compute_window_radius(sizes, 0.7, "ellipse", False, alpha=1.0).tolist() == [[50, 5], [1, 3]]
    assert compute_window_radius(sizes, 0.7, "fixed", False, fixed=3).tolist() == [[3, 3], [3, 3]]
    assert compute_window_radius(sizes, 0.7, "fixed", False).tolist() == [[1, 1], [1, 1]]


def test_reference_window_values():
    """Radius 2: the row through the center, a diagonal neighbor and a corner."""
    cells, channel = torch.tensor([[[5, 5]]]), torch.tensor([[0]])
    maps = splat_gaussians(cells, channel, torch.tensor([[2, 2]]), (1, 1, 11, 11)).to_dense()[0, 0]
    torch.testing.assert_close(
        maps[5, 3:8], torch.tensor([0.056135, 0.486752, 1, 0.486752, 0.056135]), atol=1e-6, rtol=0
    )
    assert maps[4, 4].item() == pytest.approx(0.236928, abs=1e-6)
    assert maps[3, 3].item() == pytest.approx(0.003151, abs=1e-6)
    assert (maps > 0).sum() == 25


@pytest.mark.parametrize("seed", range(5))
def test_rendering_equals_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    shape, count, points = (2, 3, 17, 23), 12, 3
    cells = torch.stack([torch.randint(0, size, (count, points), generator=generator) for size in (23, 17)], dim=-1)
    channel = torch.randint(0, 6, (count, points), generator=generator)
    radius = torch.randint(0, 9, (count, 2), generator=generator)
    expected = torch.zeros(6, 17, 23, dtype=torch.float64)
    for i in range(count):
        rx, ry = radius[i].tolist()
        for k in range(points):
            cx, cy = cells[i, k].tolist()
            for y in range(max(cy - ry, 0), min(cy + ry + 1, 17)):
                for x in range(max(cx - rx, 0), min(cx + rx + 1, 23)):
                    sx, sy = (2 * rx + 1) / 6, (2 * ry + 1) / 6
                    value = math.exp(-((x - cx) ** 2) / (2 * sx**2) - (y - cy) ** 2 / (2 * sy**2))
                    c = channel[i, k]
                    expected[c, y, x] = max(expected[c, y, x], value)
    maps = splat_gaussians(cells, channel, radius, shape)
    torch.testing.assert_close(maps.to_dense().view(6, 17, 23), expected.float(), atol=1e-6, rtol=1e-6)
    assert (maps.index[1:] > maps.index[:-1]).all()


@pytest.mark.parametrize("maps", [1, 40])
def test_crowds_are_synthetic_as_reference(maps):
    """200 windows up to 61 cells wide, on one map and on forty: each Gaussian as a whole in double precision, put on
    the map where it is larger. One float32 rounding may differ."""
    rng = np.random.default_rng(maps)
    cells, channel = rng.integers(0, (96, 64), (200, 2)), rng.integers(0, maps, 200)
    radius = rng.integers(0, 31, (200, 2))
    expected = np.zeros((maps, 64, 96), dtype=np.float32)
    y, x = np.mgrid[:64, :96]
    for (cx, cy), c, (rx, ry) in zip(cells, channel, radius, strict=True):
        value = np.exp(-18 * (((x - cx) / (2 * rx + 1)) ** 2 + ((y - cy) / (2 * ry + 1)) ** 2))
        value[(abs(x - cx) > rx) | (abs(y - cy) > ry)] = 0
        np.maximum(expected[c], value.astype(np.float32), out=expected[c])
    drawn = splat_gaussians(
        torch.from_numpy(cells)[:, None],
        torch.from_numpy(channel)[:, None],
        torch.from_numpy(radius),
        (1, maps, 64, 96),
    )
    torch.testing.assert_close(drawn.to_dense()[0], torch.from_numpy(expected), atol=6e-8, rtol=0)
    assert drawn.index.tolist() == expected.ravel().nonzero()[0].tolist()


@pytest.mark.parametrize("seed", range(3))
def test_gaussians_around_exact_centers_equal_a_loop(seed):
    """Centers anywhere in their cells; the cells themselves are 1."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.stack([torch.randint(0, size, (15, 2), generator=generator) for size in (23, 17)], dim=-1)
    points = cells + torch.rand(15, 2, 2, generator=generator)
    channel = torch.randint(0, 6, (15, 2), generator=generator)
    radius = torch.randint(0, 7, (15, 2), generator=generator)
    expected = torch.zeros(6, 17, 23, dtype=torch.float64)
    for i in range(15):
        rx, ry = radius[i].tolist()
        for k in range(2):
            (cx, cy), (px, py), c = cells[i, k].tolist(), points[i, k].tolist(), channel[i, k]
            for y in range(max(cy - ry, 0), min(cy + ry + 1, 17)):
                for x in range(max(cx - rx, 0), min(cx + rx + 1, 23)):
                    away = ((x + 0.5 - px) / (2 * rx + 1)) ** 2 + ((y + 0.5 - py) / (2 * ry + 1)) ** 2
                    expected[c, y, x] = max(expected[c, y, x], math.exp(-18 * away))
            expected[c, cy, cx] = 1
    maps = splat_gaussians(cells, channel, radius, (2, 3, 17, 23), points)
    torch.testing.assert_close(maps.to_dense().view(6, 17, 23), expected.float(), atol=1e-7, rtol=1e-6)
    assert (maps.index[1:] > maps.index[:-1]).all()


@pytest.mark.parametrize("seed", range(3))
def test_ignored_cells_are_the_larger_of_both(seed):
    """Cell by cell: the map's value or, cut at 0.9999, the ignored one's."""
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for count in (6, 9):
        cells = torch.stack([torch.randint(0, size, (count, 1), generator=generator) for size in (23, 17)], dim=-1)
        channel = torch.randint(0, 2, (count, 1), generator=generator)
        radius = torch.randint(0, 9, (count, 2), generator=generator)
        drawn.append(splat_gaussians(cells, channel, radius, (1, 2, 17, 23)))
    expected = torch.maximum(drawn[0].to_dense(), drawn[1].to_dense().clamp(max=0.9999))
    both = add_ignored_regions(*drawn)
    assert torch.equal(both.to_dense(), expected)
    assert (both.index[1:] > both.index[:-1]).all()


def box_scene(seed, count=10):
    """Boxes in a grid of 23x17 cells, some less than a cell wide, on 6 maps; two points each, one perhaps outside."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([23.0, 17.0])
    low = torch.rand(count, 2, generator=generator) * (extent - 1)
    boxes = torch.cat([low, torch.minimum(low + 0.1 + torch.rand(count, 2, generator=generator) * 15, extent)], dim=1)
    center = ((boxes[:, :2] + boxes[:, 2:]) / 2).long()
    anywhere = torch.stack([torch.randint(0, size, (count,), generator=generator) for size in (23, 17)], dim=1)
    return boxes, torch.stack([center, anywhere], dim=1), torch.randint(0, 6, (count, 2), generator=generator)


@pytest.mark.parametrize("seed", range(5))
def test_gaussians_cut_at_boxes_equal_a_loop(seed):
    boxes, cells, channel = box_scene(seed)
    expected = torch.zeros(6, 17, 23, dtype=torch.float64)
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        columns, rows = range(math.floor(x1), math.ceil(x2)), range(math.floor(y1), math.ceil(y2))
        sx, sy = (0.3 * ((len(n) - 1) * 0.5 - 1) + 0.8 for n in (columns, rows))
        for k in range(2):
            (cx, cy), c = cells[i, k].tolist(), channel[i, k]
            for y in rows:
                for x in columns:
                    value = math.exp(-((x - cx) ** 2) / (2 * sx**2) - (y - cy) ** 2 / (2 * sy**2))
                    expected[c, y, x] = max(expected[c, y, x], value)
            expected[c, cy, cx] = 1
    maps = splat_in_boxes(cells, channel, boxes, (2, 3, 17, 23))
    torch.testing.assert_close(maps.to_dense().view(6, 17, 23), expected.float(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("size", [(4, 4), (2, 2), (10, 10), (4, 5), (5, 5), (1, 1)])
def test_an_even_number_of_cells_has_a_peak(size):
    """The code that this follows has a largest value of 0.758, 0.553, 0.930 and 0.871 for the first four."""
    box = torch.tensor([[3.0, 2.0, 3.0 + size[0], 2.0 + size[1]]])
    center = ((box[:, None, :2] + box[:, None, 2:]) / 2).long()
    maps = splat_in_boxes(center, torch.zeros(1, 1, dtype=torch.long), box, (1, 1, 16, 16)).to_dense()[0, 0]
    assert (maps == 1).nonzero().tolist() == [center[0, 0].flip(0).tolist()]
    assert (maps > 0).sum() == size[0] * size[1]


@pytest.mark.parametrize(("index", "free"), [([], 0), ([1, 5], 0), ([0, 1, 2, 4, 7], 3), ([0, 1, 2], 3)])
def test_padded_maps_are_the_same(index, free):
    """In 4096 rows: a cell that is not listed is repeated, with the value 0."""
    maps = SparseMaps(torch.tensor(index, dtype=torch.int64), torch.arange(1.0, len(index) + 1), (1, 2, 2, 3))
    padded = maps.pad()
    assert torch.equal(padded.to_dense(), maps.to_dense()) and padded.shape == maps.shape
    assert len(padded.index) == len(padded.value) == 4096
    assert (padded.index[len(index) :] == free).all() and not padded.value[len(index) :].any()


def test_maps_of_which_every_cell_is_listed_stay():
    maps = SparseMaps(torch.arange(12), torch.rand(12), (1, 2, 2, 3))
    assert maps.pad() is maps
    assert len(SparseMaps(torch.arange(4097), torch.rand(4097), (1, 1, 80, 80)).pad().index) == 8192


def test_logits_are_finite():
    maps = SparseMaps(torch.tensor([1, 2]), torch.tensor([1.0, 0.25]), (1, 1, 1, 3))
    limit = math.log((1 - 1e-7) / 1e-7)
    assert maps.to_logits().flatten().tolist() == pytest.approx([-limit, limit, math.log(1 / 3)], abs=1e-4)


def test_no_objects_give_empty_maps():
    empty = splat_gaussians(
        torch.zeros(0, 1, 2, dtype=torch.long),
        torch.zeros(0, 1, dtype=torch.long),
        torch.zeros(0, 2, dtype=torch.long),
        (2, 3, 4, 5),
    )
    assert len(empty.index) == 0
    assert empty.to_dense().sum() == 0
