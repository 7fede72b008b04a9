"""Modulated deformable convolution (Zhu et al. 2019, "Deformable ConvNets v2", section 3.2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn


def deform_conv(x: Tensor, offset_mask: Tensor, weight: Tensor, bias: Tensor | None, padding: int = 1) -> Tensor:
    """Convolution whose taps are moved and weighted anew at every place; stride 1. The only caller of such an operator.

    Args:
        x: (N, c, H, W).
        offset_mask: (N, 3T, H, W) for T taps in row-major order: dy, dx of each tap (interleaved, in cells of ``x``),
            then a logit of each tap's weight.
        weight: (d, c, kernel height, kernel width), T taps.
        bias: (d,).

    Returns:
        (N, d, H, W), the dtype of ``x``. Computed in at least float32, also under autocast: the kernels know no
        bfloat16 (nor float16 on a CPU), and places rounded to 8 bits would be wrong by cells.
    """
    taps = weight.shape[2] * weight.shape[3]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        offset, mask = offset_mask.to(dtype).split([2 * taps, taps], dim=1)
        bias = None if bias is None else bias.to(dtype)
        # ONNX has the operator itself.
        sampled = x.device.type == "cpu" and not torch.compiler.is_exporting()
        function = _by_sampling if sampled else torchvision.ops.deform_conv2d
        result = function(x.to(dtype), offset, weight.to(dtype), bias, padding=padding, mask=mask.sigmoid())
    return result.to(x.dtype)


def _by_sampling(x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, padding: int, mask: Tensor) -> Tensor:
    """``torchvision.ops.deform_conv2d`` of stride 1, whose backward pass takes five times longer on a CPU."""
    count, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    out_height, out_width = offset.shape[-2:]
    dy, dx = offset.unflatten(1, (rows * columns, 2)).unbind(2)  # (N, T, H, W)
    tap = torch.arange(rows * columns, device=x.device).view(-1, 1, 1)
    y = dy + (tap // columns - padding + torch.arange(out_height, device=x.device)[:, None])
    x_at = dx + (tap % columns - padding + torch.arange(out_width, device=x.device))
    grid = torch.stack([(2 * x_at + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    samples = F.grid_sample(x, grid.flatten(1, 2), align_corners=False).unflatten(2, (-1, out_height))
    columns_of_taps = (samples * mask[:, None]).view(count, channels * rows * columns, -1)
    result = (weight.flatten(1) @ columns_of_taps).view(count, -1, out_height, out_width)
    return result if bias is None else result + bias.view(-1, 1, 1)


class ModulatedDeformConv2d(nn.Module):
    """3x3 deformable convolution that predicts its offsets and weights from its input; then ``norm``.

    Starts as a plain convolution at half strength: offsets 0, weights sigmoid(0).

    Args:
        in_channels, out_channels: c and d; (N, c, H, W) becomes (N, d, H, W).
        norm: applied to the result.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = 1 / math.sqrt(9 * in_channels)
        nn.init.uniform_(self.weight, -bound, bound)
        self.offset_mask = nn.Conv2d(in_channels, 27, 3, padding=1)
        for p in self.offset_mask.parameters():
            nn.init.zeros_(p)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = deform_conv(x, self.offset_mask(x), self.weight, self.bias)
        return x if self.norm is None else self.norm(x)
