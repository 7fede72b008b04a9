"""Pyramid deformable convolution against ``grid_sample``, which also reads 0 outside and is bilinear between cells."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from centernet_d2.layers.deform_conv import deform_conv
from centernet_d2.ops.lsnet import pyramid_deform_conv as module
from centernet_d2.ops.lsnet.pyramid_deform_conv import pyramid_deform_conv

# Size of the map that is read, size of the result: coarser, finer, equal; odd sizes; one row or column.
SIZES = [
    ((5, 7), (10, 14)), ((5, 7), (9, 13)), ((3, 4), (9, 13)), ((20, 28), (10, 14)), ((19, 27), (10, 14)),
    ((37, 53), (10, 14)), ((6, 8), (6, 8)), ((1, 1), (3, 5)), ((9, 1), (3, 4)), ((7, 11), (5, 6)), ((4, 30), (16, 7)),
]  # fmt: skip


def random_inputs(size, out_size, channels=3, out_channels=4, count=2):
    """Kernel points of several cells, so that many lie outside."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = (
        random(count, channels, *size),
        3 * random(count, 9, 2, *out_size),
        random(out_channels, channels, 3, 3),
    )
    return tuple(x.requires_grad_() for x in inputs)


def convolve_by_grid_sample(features, points, weight):
    size = torch.tensor(features.shape[-2:], dtype=features.dtype)
    out_size = torch.tensor(points.shape[-2:], dtype=features.dtype)
    y, x = torch.meshgrid(*(torch.arange(side, dtype=features.dtype) for side in points.shape[-2:]), indexing="ij")
    total = 0
    for k in range(9):
        at = (points[:, k] + torch.stack([y, x])).movedim(1, -1) * size / out_size
        grid = ((2 * at + 1) / size - 1).flip(-1)
        read = F.grid_sample(features, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + torch.einsum("oc,nchw->nohw", weight[:, :, k // 3, k % 3], read)
    return total


def convolve_as_on_a_gpu(features, points, weight):
    positions = module._locate_taps(points, features.shape[-2:], None)
    return module._convolve_padded(features, positions, weight)


@pytest.mark.parametrize("function", [pyramid_deform_conv, convolve_as_on_a_gpu])
@pytest.mark.parametrize(("size", "out_size"), SIZES)
def test_equals_grid_sample(size, out_size, function):
    """Values and the gradients of features, points and weight."""
    inputs = random_inputs(size, out_size)
    results = []
    for convolve in (function, convolve_by_grid_sample):
        value = convolve(*inputs)
        results.append((value, *torch.autograd.grad((value * value.detach().cos()).sum(), inputs)))
    assert results[0][0].shape == (2, 4, *out_size)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("size", "out_size"), [((2, 3), (4, 5)), ((5, 4), (3, 2))])
def test_gradients_against_differences(size, out_size):
    features, points, weight = random_inputs(size, out_size, channels=2, out_channels=1, count=1)
    with torch.no_grad():  # at whole cells there is a kink
        scale = torch.tensor(size) / torch.tensor(out_size)
        y, x = torch.meshgrid(torch.arange(out_size[0]), torch.arange(out_size[1]), indexing="ij")
        at = torch.stack([y, x]) + points
        at = at * scale[:, None, None]
        points.copy_((at.floor() + at.frac().abs().clamp(0.1, 0.9)) / scale[:, None, None] - torch.stack([y, x]))
    assert torch.autograd.gradcheck(pyramid_deform_conv, (features, points, weight), atol=1e-7)


def test_plain_kernel_points_are_a_plain_convolution():
    features, _, weight = random_inputs((6, 7), (6, 7))
    tap = torch.arange(9)
    points = torch.stack([tap // 3 - 1, tap % 3 - 1], dim=1)[None, :, :, None, None].expand(2, -1, -1, 6, 7).double()
    result = pyramid_deform_conv(features, points, weight)
    torch.testing.assert_close(result, F.conv2d(features, weight, padding=1))


def test_one_level_is_a_deformable_convolution():
    """Offsets are kernel points minus the plain ones; the mask is 1."""
    features, points, weight = random_inputs((6, 7), (6, 7))
    tap = torch.arange(9)
    offset = points - torch.stack([tap // 3 - 1, tap % 3 - 1], dim=1)[:, :, None, None]
    offset_mask = torch.cat([offset.flatten(1, 2), torch.full((2, 9, 6, 7), 100.0)], dim=1)
    torch.testing.assert_close(
        pyramid_deform_conv(features, points, weight), deform_conv(features, offset_mask, weight, None)
    )


@pytest.mark.parametrize("function", ["cpu", "gpu"])
def test_another_scale_is_of_the_offsets_alone(function):
    """The reference's defect: positions are ratio x plain taps + scale x offsets, which are points - plain taps."""
    features, points, weight = random_inputs((3, 4), (6, 8))
    scale, ratio = (1.0, 0.25), 0.5
    if function == "cpu":
        result = pyramid_deform_conv(features, points, weight, scale)
    else:
        result = module._convolve_padded(features, module._locate_taps(points, (3, 4), scale), weight)
    tap = torch.arange(9)
    plain = torch.stack([tap // 3 - 1, tap % 3 - 1], dim=1)[:, :, None, None]
    # The points which, scaled by the ratio, lie at the same place.
    same = plain + (points - plain) * torch.tensor(scale)[:, None, None] / ratio
    torch.testing.assert_close(result, convolve_by_grid_sample(features, same, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    """Positions keep float32; the result has the features' dtype and is near the exact one."""
    features, points, weight = (x.detach().float() for x in random_inputs((20, 28), (10, 14), channels=32))
    exact = convolve_by_grid_sample(features.to(dtype).double(), points.double(), weight.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = pyramid_deform_conv(features.to(dtype), points, weight)
    assert result.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    assert (result.double() - exact).abs().max() < tolerance * exact.abs().max()
