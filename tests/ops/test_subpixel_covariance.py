"""Second moments of heatmaps around keypoints, against loops and a Gaussian's own covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from centernet_d2.ops.subpixel import compute_peak_covariance, compute_spread

COVARIANCE = torch.tensor([[0.5, 0.2], [0.2, 0.4]])


def draw_gaussian(center: tuple[float, float], covariance: torch.Tensor, size: int = 16) -> torch.Tensor:
    """Logits (1, 1, size, size) of 0.9 times a Gaussian; cell k has its center at k + 0.5."""
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    away = torch.stack([x - center[0], y - center[1]], dim=-1)
    exponent = (away @ torch.linalg.inv(covariance) * away).sum(dim=-1) / 2
    return (0.9 * (-exponent).exp()).clamp(1e-9).logit()[None, None]


def read(maps: torch.Tensor, x: float, y: float) -> torch.Tensor:
    zero = torch.zeros(1, dtype=torch.int64)
    return compute_peak_covariance(maps, zero, zero, torch.tensor([[x, y]]))[0]


def test_a_gaussian_has_its_own():
    torch.testing.assert_close(read(draw_gaussian((8.5, 8.5), COVARIANCE), 8.3, 8.9), COVARIANCE, atol=0.02, rtol=0)
    wide = read(draw_gaussian((8.5, 8.5), 4 * COVARIANCE), 8.5, 8.5)
    assert (torch.linalg.eigvalsh(wide) > torch.linalg.eigvalsh(COVARIANCE)).all()


@pytest.mark.parametrize(("x", "y"), [(5.2, 7.8), (0.1, 0.4), (15.9, 3.0), (40.0, -3.0)])
def test_moments_by_loops(x, y):
    torch.manual_seed(0)
    maps = torch.randn(1, 1, 16, 16)
    middle = [min(max(int(np.floor(value)), 0), 15) for value in (x, y)]
    rows = [
        (column, row, float(maps[0, 0, row, column].sigmoid()))
        for row in range(max(middle[1] - 2, 0), min(middle[1] + 3, 16))
        for column in range(max(middle[0] - 2, 0), min(middle[0] + 3, 16))
    ]
    places, weights = np.array([row[:2] for row in rows], dtype=float), np.array([row[2] for row in rows])
    expected = np.cov(places.T, aweights=weights, ddof=0) + 1e-4 * np.eye(2)
    np.testing.assert_allclose(read(maps, x, y).numpy(), expected, atol=1e-5)


def test_spread_adds_up_to_the_covariance():
    torch.manual_seed(0)
    root = torch.randn(50, 2, 2, dtype=torch.float64)
    covariance = root @ root.mT
    spread = compute_spread(covariance)
    torch.testing.assert_close(sum(one[..., :, None] * one[..., None, :] for one in spread.unbind(-2)), covariance)
    flat = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    torch.testing.assert_close(compute_spread(flat), torch.tensor([[1.0, 1.0], [0.0, 0.0]]))


def test_several_points_are_read_as_one_after_the_other():
    """Of several images and maps; a window of one cell on each side has 9 cells."""
    maps = torch.randn(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    image, channel = torch.tensor([[0, 1, 1], [0, 0, 1]]), torch.tensor([[2, 0, 1], [0, 1, 2]])
    points = torch.tensor([[[4.2, 3.1], [0, 0], [6, 8]], [[3, 5], [6.9, 1], [2, 8.5]]])
    zero = torch.zeros(1, dtype=torch.int64)
    for radius in (1, 2):
        together = compute_peak_covariance(maps, image, channel, points, radius)
        for i, j in np.ndindex(2, 3):
            own = maps[image[i, j], channel[i, j]][None, None]
            torch.testing.assert_close(
                together[i, j], compute_peak_covariance(own, zero, zero, points[i, j, None], radius)[0]
            )
    flat = compute_peak_covariance(torch.zeros(1, 1, 9, 9), zero, zero, torch.tensor([[4.5, 4.5]]), 1)[0]
    torch.testing.assert_close(flat, torch.eye(2) * (2 / 3 + 1e-4))
