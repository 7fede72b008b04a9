from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from centernet_d2.ops.gaussian import splat_gaussians
from centernet_d2.ops.subpixel import find_dark_position, find_soft_argmax_position


def gaussian(point, sigma, size=12):
    """Probabilities of an unquantized Gaussian, sampled at the cells' centers."""
    center = torch.arange(size, dtype=torch.float64) + 0.5
    squared = (center[None, :] - point[0]) ** 2 + (center[:, None] - point[1]) ** 2
    return (-squared / (2 * sigma**2)).exp()[None, None] * 0.99


def indices():
    return torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize("sigma", [0.8, 1.5])
@pytest.mark.parametrize("place", [(5.1, 6.9), (5.5, 6.5), (5.93, 6.02)])
def test_dark_is_exact_for_a_gaussian(place, sigma):
    maps = gaussian(place, sigma).logit()
    position = find_dark_position(maps, *indices(), torch.tensor([[5, 6]]))
    assert torch.allclose(position[0], torch.tensor(place, dtype=torch.float64) - torch.tensor([5, 6]), atol=1e-6)


@pytest.mark.parametrize("find", [find_dark_position, find_soft_argmax_position])
def test_several_peaks_are_read_as_one_after_the_other(find):
    """Of several images and maps, also at the border, in any shape of indices."""
    maps = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image, channel = torch.tensor([[0, 1, 1], [0, 0, 1]]), torch.tensor([[2, 0, 1], [0, 1, 2]])
    cells = torch.tensor([[[4, 3], [0, 0], [8, 6]], [[3, 5], [8, 1], [2, 6]]])
    together = find(maps, image, channel, cells)
    for i, j in itertools.product(range(2), range(3)):
        own = maps[image[i, j], channel[i, j]][None, None]
        assert torch.equal(together[i, j], find(own, *indices(), cells[i, j][None])[0])


def test_dark_by_the_taylor_series():
    """Minus the inverse of the Hessian times the gradient, by differences of logarithms of probabilities."""
    x, y = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="xy")
    maps = (-((x - 2.1) ** 2) - 0.8 * (y - 1.8) ** 2 + 0.5 * (x - 2.1) * (y - 1.8) + 0.1 * x)[None, None].double()
    f = F.logsigmoid(maps)[0, 0]
    gradient = torch.stack([f[2, 3] - f[2, 1], f[3, 2] - f[1, 2]]) / 2
    mixed = (f[3, 3] - f[3, 1] - f[1, 3] + f[1, 1]) / 4
    xx, yy = f[2, 3] + f[2, 1] - 2 * f[2, 2], f[3, 2] + f[1, 2] - 2 * f[2, 2]
    step = -torch.linalg.inv(torch.tensor([[xx, mixed], [mixed, yy]])) @ gradient
    found = find_dark_position(maps, *indices(), torch.tensor([[2, 2]]))[0]
    torch.testing.assert_close(found, 0.5 + step)
    assert (found > 0.05).all() and (found < 0.95).all() and (step.abs() > 0.05).all()


def test_dark_stays_inside_the_cell_and_in_the_center_of_a_plateau():
    flat = torch.zeros(1, 1, 5, 5)
    assert find_dark_position(flat, *indices(), torch.tensor([[2, 2]])).tolist() == [[0.5, 0.5]]
    slope = torch.linspace(-3, 3, 5).expand(1, 1, 5, 5).contiguous()
    position = find_dark_position(slope, *indices(), torch.tensor([[4, 2]]))
    assert ((position >= 0) & (position <= 1)).all()


@pytest.mark.parametrize(("across", "down"), [(1.0, 2.0), (-1.0, 2.0), (1.0, -2.0)])
def test_dark_is_the_center_where_there_is_no_maximum(across, down):
    """In a valley and on a saddle, which lie beside the center of the cell."""
    x = torch.arange(5.0) - 2.3
    position = find_dark_position(
        (across * x**2 + down * x[:, None] ** 2)[None, None], *indices(), torch.tensor([[2, 2]])
    )
    assert position.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize("place", [(7.4, 6.5), (3.6, 6.5), (5.5, 8.4), (5.5, 4.6), (7.4, 8.4)])
def test_dark_stops_at_every_side_of_the_cell(place):
    """The top of the parabola lies beyond the cell, on either side."""
    position = find_dark_position(gaussian(place, 1.5).logit(), *indices(), torch.tensor([[5, 6]]))[0]
    expected = [min(max(at - cell, 0.0), 1.0) for at, cell in zip(place, (5, 6), strict=True)]
    assert position.tolist() == pytest.approx(expected, abs=1e-6)


def test_soft_argmax_is_the_weighted_mean():
    maps = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    position = find_soft_argmax_position(maps, *indices(), torch.tensor([[3, 2]]))[0]
    p = maps[0, 0].sigmoid()[1:4, 2:5]
    x = sum(p[i, j] * (2 + j + 0.5) for i in range(3) for j in range(3)) / p.sum()
    y = sum(p[i, j] * (1 + i + 0.5) for i in range(3) for j in range(3)) / p.sum()
    assert torch.allclose(position + torch.tensor([3, 2]), torch.stack([x, y]))


def test_gaussians_around_exact_points():
    """Cells have the value at their centers, the cell of the point itself is 1."""
    point = torch.tensor([[[5.2, 6.7]]])
    maps = splat_gaussians(
        torch.tensor([[[5, 6]]]), torch.tensor([[0]]), torch.tensor([[2, 2]]), (1, 1, 12, 12), point
    ).to_dense()[0, 0]
    for y in range(12):
        for x in range(12):
            inside = abs(x - 5) <= 2 and abs(y - 6) <= 2
            squared = (x + 0.5 - 5.2) ** 2 + (y + 0.5 - 6.7) ** 2
            expected = torch.tensor(-squared / (2 * (5 / 6) ** 2)).exp().item() if inside else 0.0
            assert maps[y, x].item() == pytest.approx(1.0 if (x, y) == (5, 6) else expected, rel=1e-5)
