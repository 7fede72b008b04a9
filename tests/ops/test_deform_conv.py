"""Modulated deformable convolution against its definition, written out as loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision

from centernet_d2.ops.deform_conv import ModulatedDeformConv2d, _by_sampling, deform_conv


def bilinear(plane, y, x):
    """Value of (H, W) ``plane`` between its cells, 0 outside."""
    value = 0.0
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                value += (1 - abs(y - i)) * (1 - abs(x - j)) * float(plane[i, j])
    return value


def brute_force(x, offset_mask, weight, bias):
    """Sum over channels and taps of weight * mask * value at the moved place; channels 2t, 2t + 1: dy, dx of tap t."""
    _, channels, height, width = x.shape
    result = torch.zeros(len(weight), height, width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            at = offset_mask[0, :, i, j]
            for tap in range(9):
                y, z = i + tap // 3 - 1 + float(at[2 * tap]), j + tap % 3 - 1 + float(at[2 * tap + 1])
                mask = 1 / (1 + math.exp(-float(at[18 + tap])))
                for c in range(channels):
                    result[:, i, j] += weight[:, c, tap // 3, tap % 3] * mask * bilinear(x[0, c], y, z)
    return (result + bias[:, None, None])[None]


def test_equals_the_definition():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, generator=generator, dtype=torch.double) for shape in ((1, 2, 4, 5), (3, 2, 3, 3)))
    bias = torch.randn(3, generator=generator, dtype=torch.double)
    # Offsets of one to two cells: many taps leave the map.
    offset_mask = 1.5 * torch.randn(1, 27, 4, 5, generator=generator, dtype=torch.double)
    expected = brute_force(x, offset_mask, weight, bias)
    torch.testing.assert_close(deform_conv(x, offset_mask, weight, bias), expected, rtol=0, atol=1e-12)
    single = [t.float() for t in (x, offset_mask, weight, bias)]
    torch.testing.assert_close(deform_conv(*single).double(), expected, rtol=0, atol=1e-5)


def test_starts_as_half_a_convolution():
    torch.manual_seed(0)
    layer = ModulatedDeformConv2d(4, 6)
    x = torch.randn(2, 4, 7, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, 0.5 * layer.weight, layer.bias, padding=1))
    assert layer.weight.abs().max() <= 1 / 6
    assert not layer.bias.any()


def test_every_parameter_learns():
    torch.manual_seed(0)
    layer = ModulatedDeformConv2d(2, 3, torch.nn.BatchNorm2d(3)).eval()
    (layer(torch.randn(1, 2, 6, 6)) ** 2).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(dtype):
    """Offsets come from a convolution in ``dtype``; sampling is not done in it, and the result is near the exact."""
    torch.manual_seed(0)
    layer = ModulatedDeformConv2d(4, 4, torch.nn.BatchNorm2d(4))
    x = torch.randn(1, 4, 8, 8)
    exact = layer(x)
    with torch.autocast("cpu", dtype=dtype):
        result = layer(x)
        low = deform_conv(x.to(dtype), torch.zeros(1, 27, 8, 8, dtype=dtype), layer.weight, layer.bias)
    assert low.dtype == dtype
    torch.testing.assert_close(result.float(), exact, rtol=0, atol=0.05)
    result.sum().backward()
    assert torch.isfinite(layer.offset_mask.weight.grad).all()


@pytest.mark.parametrize("size", [(7, 9), (1, 6), (5, 1)])
def test_sampling_equals_torchvision(size):
    """What a CPU runs equals the kernel that a GPU runs, in values and all gradients; taps far outside among them."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, offset, weight, bias = random(2, 4, *size), random(2, 18, *size), random(6, 4, 3, 3), random(6)
    with torch.no_grad():
        offset *= 4
    mask = torch.rand(2, 9, *size, generator=generator, dtype=torch.float64).requires_grad_()
    inputs = (x, offset, weight, bias, mask)
    results = []
    for function in (_by_sampling, torchvision.ops.deform_conv2d):
        value = function(x, offset, weight, bias, padding=1, mask=mask)
        results.append((value, *torch.autograd.grad((value * value.detach().cos()).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)
