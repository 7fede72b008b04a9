"""Deformable convolution whose result has the grid of one level of a feature pyramid and whose input is another level.

Duan et al. 2021, "Location-Sensitive Visual Recognition with Cross-IOU Loss", section 4.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from centernet_d2.ops.deform_conv import convolve_at_positions


def pyramid_deform_conv(
    features: Tensor, points: Tensor, weight: Tensor, scale: tuple[float, float] | None = None
) -> Tensor:
    """Return out(p) = sum over k of W_k F(s (p + q_k(p))), s the ratio of the two maps' sizes; no bias.

    F is bilinear between cells and 0 outside. One kernel of torchvision does it on a GPU, for any two sizes.

    Args:
        features: (N, C, Hm, Wm), the level F that is read.
        points: (N, 9, 2, H, W) kernel points q: y, x relative to the cell p, in cells of the level of the result, in
            row-major order of the weights.
        weight: (O, C, 3, 3).
        scale: y, x factors of the offsets (kernel points minus those of a plain 3x3 kernel), in cells of ``features``
            per cell of the result. None: the ratio (Hm / H, Wm / W), with which the equation above holds. (LSNet's code
            has products of several levels' ratios by mistake.)

    Returns:
        (N, O, H, W), the dtype of ``features``. Computed in at least float32, also under autocast: positions rounded to
        8 bits would be wrong by cells. Of bfloat16 on a CPU, the matrix product with the weights is in bfloat16.
    """
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    on_cpu = features.device.type == "cpu" and not torch.compiler.is_exporting()
    with torch.autocast(features.device.type, enabled=False):
        positions = _locate_taps(points.to(dtype), features.shape[-2:], scale)
        if on_cpu:
            product = features.dtype if features.dtype == torch.bfloat16 else dtype
            y, x = positions.unbind(2)
            result = convolve_at_positions(features.to(dtype), y, x, torch.ones_like(y), weight.to(product), None)
        else:
            result = _convolve_padded(features.to(dtype), positions, weight.to(dtype))
    return result.to(features.dtype)


def _locate_taps(points: Tensor, size: torch.Size, scale: tuple[float, float] | None) -> Tensor:
    """Return the positions (N, 9, 2, H, W) of the kernel points, y, x in cells of a map of ``size``."""
    height, width = points.shape[-2:]
    ratio = (size[0] / height, size[1] / width)
    cells = _gather_plain_taps(height, width, (1, 1), points)
    if scale is None or scale == ratio:
        center = cells[4]
        return _repeat_per_axis(points + center, ratio)
    offsets = points - _gather_plain_taps(1, 1, (1, 1), points)
    return _repeat_per_axis(cells, ratio) + _repeat_per_axis(offsets, scale)


def _gather_plain_taps(height: int, width: int, stride: tuple[int, int], like: Tensor) -> Tensor:
    """Return the positions (9, 2, H, W), y, x, of the taps of a plain 3x3 convolution with padding 1."""
    tap = torch.arange(9, device=like.device).view(9, 1, 1)
    y = stride[0] * torch.arange(height, device=like.device).view(1, -1, 1) + tap // 3 - 1
    x = stride[1] * torch.arange(width, device=like.device) + tap % 3 - 1
    return torch.stack([y.expand(9, height, width), x.expand(9, height, width)], dim=1).to(like.dtype)


def _repeat_per_axis(values: Tensor, factor: tuple[float, float]) -> Tensor:
    """Return ``values`` (..., 2, H, W), y, x, times one factor each."""
    return torch.stack([values[..., 0, :, :] * factor[0], values[..., 1, :, :] * factor[1]], dim=-3)


def _convolve_padded(features: Tensor, positions: Tensor, weight: Tensor) -> Tensor:
    """Convolve by torchvision's operator, whose result has a size that follows from its input's.

    The stride is the ratio of the sizes, rounded up, and rows and columns of zeros at the end make the size exact: what
    is outside counts as 0 anyway.
    """
    size, out_size = features.shape[-2:], positions.shape[-2:]
    stride = (-(-size[0] // out_size[0]), -(-size[1] // out_size[1]))
    missing = [max((out - 1) * s + 1 - own, 0) for own, out, s in zip(size, out_size, stride, strict=True)]
    offset = (positions - _gather_plain_taps(out_size[0], out_size[1], stride, positions)).flatten(1, 2)
    padded = F.pad(features, (0, missing[1], 0, missing[0]))
    return torchvision.ops.deform_conv2d(padded, offset, weight, stride=stride, padding=1)
