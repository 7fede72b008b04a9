"""Modulated deformable convolution (Zhu et al. 2019, "Deformable ConvNets v2", section 3.2)."""

from __future__ import annotations

import math

import torch
import torchvision
from torch import Tensor, nn

from centernet_d2.ops.deform_conv_cpu import deform_conv_cpu


def deform_conv(x: Tensor, offset_mask: Tensor, weight: Tensor, bias: Tensor | None, padding: int = 1) -> Tensor:
    """Convolution whose taps are moved and weighted anew at every place; stride 1. The only caller of such an operator.

    Args:
        x: (N, c, H, W).
        offset_mask: (N, 3T, H, W) for T taps in row-major order: dy, dx of each tap (interleaved, in cells of ``x``),
            then a logit of each tap's weight.
        weight: (d, c, kernel height, kernel width), T taps.
        bias: (d,).

    Returns:
        (N, d, H, W), the dtype of ``x``. Computed in at least float32, also under autocast: positions rounded to 8 bits
        would be wrong by cells. Of bfloat16 on a CPU, the matrix product with the weights is in bfloat16.
    """
    taps = weight.shape[2] * weight.shape[3]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # ONNX has the operator itself.
    on_cpu = x.device.type == "cpu" and not torch.compiler.is_exporting()
    product = x.dtype if on_cpu and x.dtype == torch.bfloat16 else dtype
    with torch.autocast(x.device.type, enabled=False):
        offset, mask = offset_mask.to(dtype).split([2 * taps, taps], dim=1)
        bias = None if bias is None else bias.to(product)
        function = deform_conv_cpu if on_cpu else torchvision.ops.deform_conv2d
        result = function(x.to(dtype), offset, weight.to(product), bias, padding=padding, mask=mask.sigmoid())
    return result.to(x.dtype)


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
