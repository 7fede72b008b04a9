"""Modulated deformable convolution against its definition, written out as loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from detectron2.modeling import build_model

from centernet_d2.layers.deform_conv import ModulatedDeformConv2d, deform_conv
from centernet_d2.ops.deform_conv import deform_conv_cpu, deform_conv_gather
from tests.helpers.tiny import tiny_cfg


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


def random_inputs(size, count=2, channels=4, out_channels=6, dtype=torch.float64):
    """Input, offsets of several cells, weight, bias and mask, all to be differentiated."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, offset = random(count, channels, *size), 4 * random(count, 18, *size)
    weight, bias = random(out_channels, channels, 3, 3) / (9 * channels) ** 0.5, random(out_channels)
    mask = torch.rand(count, 9, *size, generator=generator, dtype=torch.float64)
    return tuple(v.to(dtype).requires_grad_() for v in (x, offset, weight, bias, mask))


# The last is more than one part of the positions for each image, and no whole number of them.
@pytest.mark.parametrize(
    ("size", "dtype", "tolerance"),
    [
        ((7, 9), torch.float64, 1e-10),
        ((1, 6), torch.float64, 1e-10),
        ((5, 1), torch.float64, 1e-10),
        ((37, 41), torch.float64, 1e-10),
        ((37, 41), torch.float32, 1e-5),
    ],
)
@pytest.mark.parametrize("ours", [deform_conv_cpu, deform_conv_gather])
def test_equals_torchvision(ours, size, dtype, tolerance):
    """What a CPU runs equals the kernel that a GPU runs, in values and all gradients; taps far outside among them."""
    inputs = random_inputs(size, dtype=dtype)
    x, offset, weight, bias, mask = inputs
    results = []
    for function in (ours, torchvision.ops.deform_conv2d):
        value = function(x, offset, weight, bias, padding=1, mask=mask)
        with torch.no_grad():
            assert torch.equal(function(x, offset, weight, bias, padding=1, mask=mask), value)
        results.append((value, *torch.autograd.grad((value * value.detach().cos()).sum(), inputs)))
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, atol=tolerance * float(expected.detach().abs().max()), rtol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_however_many_threads(threads):
    x, offset, weight, bias, mask = (v.detach() for v in random_inputs((60, 50), dtype=torch.float32))
    expected = torchvision.ops.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        result = deform_conv_cpu(x, offset, weight, bias, 1, mask)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_gradients_against_differences():
    inputs = random_inputs((3, 4), count=1, channels=2, out_channels=2)
    x, offset, weight, _, mask = inputs
    with torch.no_grad():
        offset.copy_(offset.floor() + offset.frac().abs().clamp(0.1, 0.9))  # at whole cells there is a kink
    assert torch.autograd.gradcheck(lambda *v: deform_conv_cpu(v[0], v[1], v[2], v[3], 1, v[4]), inputs, atol=1e-7)
    without_bias = (x, offset, weight, mask)
    assert torch.autograd.gradcheck(
        lambda *v: deform_conv_cpu(v[0], v[1], v[2], None, 1, v[3]), without_bias, atol=1e-7
    )


@pytest.mark.parametrize("kernel", ["auto", "gather"])
def test_bfloat16_is_near_the_exact(kernel):
    """Each product is rounded to 8 bits; positions are not: a cell's rounding would change values wholly."""
    x, offset, weight, bias, mask = (v.detach() for v in random_inputs((20, 30), channels=32, dtype=torch.float32))
    x, weight = x.bfloat16().float(), weight.bfloat16().float()
    offset_mask = torch.cat([20 * offset, mask.logit()], dim=1)
    exact = deform_conv(x, offset_mask, weight, bias)
    result = deform_conv(x.bfloat16(), offset_mask, weight, bias, kernel=kernel)
    assert result.dtype == torch.bfloat16
    assert (result.float() - exact).abs().max() < 0.03 * exact.abs().max()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_positions_that_are_no_numbers_harm_only_themselves(value):
    """A tap moved to nowhere must not read outside the map; other positions keep their values."""
    x, offset, weight, bias, mask = (v.detach() for v in random_inputs((6, 6), count=1))
    expected = deform_conv_cpu(x, offset, weight, bias, 1, mask)
    offset[0, 4, 2, 3] = value
    result = deform_conv_cpu(x, offset, weight, bias, 1, mask)
    elsewhere = torch.ones(6, 6, dtype=torch.bool)
    elsewhere[2, 3] = False
    assert torch.equal(result[..., elsewhere], expected[..., elsewhere])
    assert torch.isfinite(result).all() == (value == 1e30)


@pytest.mark.parametrize(
    ("kernel", "called"),
    [("auto", "deform_conv_cpu"), ("gather", "deform_conv_gather"), ("torchvision", "torchvision.ops.deform_conv2d")],
)
def test_the_config_names_the_kernel(kernel, called, monkeypatch):
    """All three give the same maps, and only the one that is named is called."""
    cfg = tiny_cfg("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.NECK.NAME", "DeconvNeck")
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS, cfg.MODEL.NECK.CHANNELS = 18, 64, [16, 16, 16]
    maps = []
    for name in ("auto", kernel):
        torch.manual_seed(0)
        cfg.MODEL.DEFORM_CONV = name
        model = build_model(cfg).eval()
        for part in model.modules():
            if isinstance(part, ModulatedDeformConv2d):
                torch.nn.init.normal_(part.offset_mask.weight, std=0.1)
        if name == kernel:
            others = {"deform_conv_cpu", "deform_conv_gather", "torchvision.ops.deform_conv2d"} - {called}
            for other in others:
                monkeypatch.setattr(f"centernet_d2.layers.deform_conv.{other}", None)
        with torch.no_grad():
            maps.append(model.predict_maps(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))))
    for key, expected in maps[0].items():
        torch.testing.assert_close(maps[1][key], expected, atol=1e-5, rtol=1e-4)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(ValueError, match=r"MODEL.DEFORM_CONV must be one of .*'fast'"):
        build_model(tiny_cfg("MODEL.DEFORM_CONV", "fast"))
