"""Three objects in two images for tests of heads, and what heads do with them counted by loops."""

from __future__ import annotations

import math

import pytest
import torch

from centernet_d2.modeling.heads import Head
from centernet_d2.modeling.heads.sparse import DeferredMap
from centernet_d2.structures import Targets

SHARED = {"in_channels": [3], "head_channels": 0, "loss_weight": 1.0}
SIZE = (8, 12)
# Grid cells.
BOXES = torch.tensor([[1.0, 1, 5, 7], [2, 0.5, 11.75, 4.5], [3.5, 2, 5.5, 3.25]])
CENTERS = [(3.0, 4.0), (6.875, 2.5), (4.5, 2.625)]
IMAGES, COUNT = [0, 1, 1], torch.tensor(3.0)
# Some lie outside of the grid; four, three and one are labeled.
KEYPOINTS = torch.tensor(
    [
        [[2.25, 3.5, 2], [4.75, 0.5, 1], [0.5, 6.75, 2], [-1.5, 3.5, 2]],
        [[9.25, 1.5, 2], [3.0, 3.0, 0], [10.5, 4.25, 1], [13.5, 9.0, 2]],
        [[4.75, 2.25, 0], [5.25, 3.0, 2], [4.0, 2.5, 0], [6.5, 2.5, 0]],
    ]
)


def make_targets(**fields: torch.Tensor) -> Targets:
    return Targets(BOXES, torch.tensor([0, 1, 1]), torch.tensor(IMAGES), 2, SIZE, COUNT, fields)


def make_output(head: Head, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(2, head.out_channels, *SIZE, generator=generator)


def defer(head: Head) -> tuple[DeferredMap, torch.Tensor]:
    """What a sparse head gives in training, and the same computed everywhere."""
    generator = torch.Generator().manual_seed(1)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    features = [torch.randn(2, 3, *SIZE, generator=generator)]
    (deferred,), (dense,) = head.train()(features), head.eval()(features)
    return deferred, dense.detach()


def check_loss(head: Head, output: torch.Tensor | DeferredMap, targets: Targets, expected: float) -> None:
    """Also with rows of padding, which count as nothing."""
    target = head.encode(targets)
    for one in (target, head.pad(target)):
        assert head.loss(output, one, targets.num_objects).item() == pytest.approx(expected, rel=1e-4)


def read_cell(output: torch.Tensor, i: int, point: tuple[float, float]) -> list[float]:
    """The channels of the cell of a point of object i."""
    return output[IMAGES[i], :, int(point[1]), int(point[0])].tolist()


def compute_focal(logits: torch.Tensor, heat: torch.Tensor) -> float:
    """CenterNet, equation 1."""
    p = logits.double().sigmoid()
    cells = torch.where(heat == 1, -((1 - p) ** 2) * p.log(), -((1 - heat) ** 4) * p**2 * (1 - p).log())
    return float(cells.sum())


def draw_peaks(channels: list[list[int]], points: torch.Tensor, radius: int, count: int) -> torch.Tensor:
    """Gaussians of sigma (2 r + 1) / 6 in cells around those of points (P, K, 2); -1 is no channel."""
    maps = torch.zeros(2, count, *SIZE)
    for i, own in enumerate(channels):
        for k, channel in enumerate(own):
            x, y = min(max(int(points[i, k, 0]), 0), 11), min(max(int(points[i, k, 1]), 0), 7)
            for b in range(max(y - radius, 0), min(y + radius, 7) + 1) if channel >= 0 else ():
                for a in range(max(x - radius, 0), min(x + radius, 11) + 1):
                    value = math.exp(-((a - x) ** 2 + (b - y) ** 2) / (2 * ((2 * radius + 1) / 6) ** 2))
                    maps[IMAGES[i], channel, b, a] = max(float(maps[IMAGES[i], channel, b, a]), value)
    return maps
