"""Peaks against PyTorch's pooling and a plain search."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from centernet_d2.ops.peaks import (
    _select_top,
    _select_top_by_rows,
    compute_neighborhood_max,
    compute_window_max,
    find_top_peaks,
)


def test_neighborhood_maximum_equals_pooling():
    for shape in [(2, 3, 7, 9), (1, 1, 1, 1), (1, 2, 1, 5), (1, 2, 5, 1)]:
        maps = torch.randn(shape)
        assert torch.equal(compute_neighborhood_max(maps), F.max_pool2d(maps, 3, 1, 1))


def search(maps, k):
    """The k highest peaks of (C, H, W) maps as (value, class, x, y)."""
    found = []
    for c, y, x in torch.cartesian_prod(*(torch.arange(n) for n in maps.shape)).tolist():
        window = maps[c, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if maps[c, y, x] == window.max():
            found.append((maps[c, y, x].item(), c, x, y))
    return sorted(found, reverse=True)[:k]


@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("function", [find_top_peaks, _select_top])
def test_top_peaks_equal_a_search(function, k):
    maps = torch.randn(2, 4, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    values, classes, cells = function(maps, k)
    for n in range(2):
        for p in range(3):
            rows = zip(values[n, p], classes[n, p], cells[n, p], strict=True)
            assert [(v.item(), c.item(), *xy.tolist()) for v, c, xy in rows] == search(maps[n, :, p], k)


def test_a_slope_has_few_peaks_in_its_best_rows():
    """The best rows lie on one large hill, whose only peak does not fill the list: the other peaks are found all the
    same."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    maps = (100 - (x - 30) ** 2 / 50 - (y - 30) ** 2 / 50)[None].repeat(2, 1, 1)
    maps[1] -= 200
    maps[1, ::8, ::8] += 20
    values, classes, _ = find_top_peaks(maps[None, :, None], 8)
    assert classes[0, 0].tolist() == [0] + [1] * 7
    assert values[0, 0].tolist() == [v for v, *_ in search(maps, 8)]


def test_equal_neighbors_are_both_peaks():
    maps = torch.full((1, 1, 1, 3, 5), -5.0)
    maps[..., 1, 1] = maps[..., 1, 2] = 1.0
    values, _, cells = find_top_peaks(maps, 2)
    assert values.tolist() == [[[1.0, 1.0]]]
    assert sorted(cells[0, 0].tolist()) == [[1, 1], [2, 1]]


@pytest.mark.parametrize("levels", [2, 4, 30, 1000])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 9), (24, 17)])
def test_plateaus(size, levels):
    """Values of a few levels: the values are those of a search; of equal peaks any are given, but none twice."""
    maps = torch.randint(0, levels, (2, 5, 2, *size), generator=torch.Generator().manual_seed(levels)).float()
    values, classes, cells = find_top_peaks(maps, 12)
    for n, p in torch.cartesian_prod(torch.arange(2), torch.arange(2)):
        every = search(maps[n, :, p], None)
        count = min(12, len(every))
        assert values[n, p].tolist() == [v for v, *_ in every[:12]] + [-torch.inf] * (12 - count)
        rows = zip(values[n, p, :count], classes[n, p], cells[n, p], strict=False)
        found = {(v.item(), c.item(), *xy.tolist()) for v, c, xy in rows}
        assert len(found) == count
        assert found <= set(every)


def test_rows_tell_enough():
    """Also where the highest are high throughout, or all are; one class has too few, and on slopes they are no help."""
    flat = torch.zeros(1, 20, 1, 32, 48)
    assert (_select_top_by_rows(flat, 50)[0] == 0).all()
    slopes = torch.arange(20.0)[:, None, None] - (torch.arange(32.0) - 16)[:, None].expand(-1, 48) ** 2 / 1000
    assert _select_top_by_rows(slopes[None, :, None], 20) is None
    assert find_top_peaks(slopes[None, :, None], 20)[0][0, 0].tolist() == [v for v, *_ in search(slopes, 20)]
    noise = torch.randn(2, 20, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    noise[:, 3, :, 10:14] = 5.0
    found, expected = _select_top_by_rows(noise, 50), _select_top(noise, 50)
    assert torch.equal(found[0], expected[0])
    assert _select_top_by_rows(noise[:, :1], 50) is None


@pytest.mark.parametrize("size", [(3, 3), (1, 1), (1, 4)])
def test_fewer_peaks_than_requested_for(size):
    maps = torch.arange(float(size[0] * size[1])).view(1, 1, 1, *size)
    values, classes, cells = find_top_peaks(maps, 50)
    assert values.shape == classes.shape == (1, 1, 50)
    assert cells.shape == (1, 1, 50, 2)
    assert values[0, 0, 0] == maps.max()
    assert (values[0, 0, 1:] == -torch.inf).all()


def test_one_image_of_many_has_few_peaks():
    maps = torch.randn(20, 2, 1, 16, 8, generator=torch.Generator().manual_seed(0))
    maps[7] = torch.arange(8.0) + torch.arange(16.0)[:, None]
    values, classes, cells = find_top_peaks(maps, 5)
    assert values[7].tolist() == [[22.0, 22.0] + [-torch.inf] * 3]
    assert sorted(classes[7, 0, :2].tolist()) == [0, 1]
    assert cells[7, 0, :2].tolist() == [[7, 15]] * 2
    for n in set(range(20)) - {7}:
        assert values[n, 0].tolist() == [v for v, *_ in search(maps[n, :, 0], 5)]


def test_maximum_near_points():
    maps = torch.randn(2, 3, 6, 7)
    points = torch.tensor([[3.5, 2.5], [-4.0, 9.0], [6.99, 0.0]])
    image, channel = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1])
    expected = compute_neighborhood_max(maps)[image, channel, [2, 5, 0], [3, 0, 6]]
    assert torch.equal(compute_window_max(maps, image, channel, points), expected)


def test_maximum_near_many_points_is_a_loop():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 9, 7, generator=generator)
    points = torch.rand(200, 2, generator=generator) * 12 - 2
    image = torch.randint(2, (200,), generator=generator)
    channel = torch.randint(3, (200,), generator=generator)
    found = compute_window_max(maps, image, channel, points)
    for k, (x, y) in enumerate(points.floor().long().tolist()):
        x, y = min(max(x, 0), 6), min(max(y, 0), 8)
        assert found[k] == maps[image[k], channel[k], max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max()
