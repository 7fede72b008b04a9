"""Modulated deformable convolution (Zhu et al. 2019, "Deformable ConvNets v2", section 3.2)."""

from __future__ import annotations

import math
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from centernet_d2.ops.deform_conv import deform_conv_cpu, deform_conv_gather

#: Of MODEL.DEFORM_CONV. "auto" is ``deform_conv_cpu`` on a CPU, else torchvision's; "gather" is
#: ``deform_conv_gather`` on any device.
KERNELS = ("auto", "torchvision", "gather")


def deform_conv(
    x: Tensor,
    offset_mask: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: int = 1,
    stride: int = 1,
    kernel: str = "auto",
) -> Tensor:
    """Apply a convolution whose taps are moved and weighted at every cell; stride 1.

    The only caller of such an operator.

    Args:
        x: (N, c, H, W).
        offset_mask: (N, 3T, H / stride, W / stride) for T taps in row-major order: dy, dx of each tap (interleaved, in
            cells of ``x``), then a logit of each tap's weight.
        weight: (d, c / groups, kernel height, kernel width), T taps.
        bias: (d,).
        kernel: of :data:`KERNELS`, where there are neither strides nor groups.

    Returns:
        (N, d, H / stride, W / stride), the dtype of ``x``. Computed in at least float32, also under autocast: positions
        rounded to 8 bits would be wrong by cells. Of bfloat16 on a CPU, the matrix product with the weights is in
        bfloat16; with the kernel "gather" the samples, too, of any dtype.
    """
    taps = weight.shape[2] * weight.shape[3]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # ONNX has the operator itself. Ours have neither strides nor groups.
    plain = stride == 1 and weight.shape[1] == x.shape[1] and not torch.compiler.is_exporting()
    gathered = plain and kernel == "gather"
    on_cpu = plain and kernel == "auto" and x.device.type == "cpu"
    product = x.dtype if gathered or (on_cpu and x.dtype == torch.bfloat16) else dtype
    with torch.autocast(x.device.type, enabled=False):
        offset, mask = offset_mask.to(dtype).split([2 * taps, taps], dim=1)
        bias = None if bias is None else bias.to(product)
        arguments = x.to(product if gathered else dtype), offset, weight.to(product), bias
        if gathered:
            result = deform_conv_gather(*arguments, padding=padding, mask=mask.sigmoid())
        elif on_cpu:
            result = deform_conv_cpu(*arguments, padding=padding, mask=mask.sigmoid())
        else:
            result = torchvision.ops.deform_conv2d(*arguments, stride=stride, padding=padding, mask=mask.sigmoid())
    return result.to(x.dtype)


class ModulatedDeformConv2d(nn.Module):
    """3x3 deformable convolution that predicts its offsets and weights from its input; then ``norm``.

    Starts as a plain convolution at half strength: offsets 0, weights sigmoid(0).

    Args:
        in_channels, out_channels: c and d; (N, c, H, W) becomes (N, d, H / stride, W / stride).
        norm: applied to the result.
        stride, groups: as of a convolution.
        bias: whether there is one.

    Attributes:
        kernel: see :func:`set_deform_conv`.
    """

    kernel = "auto"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: nn.Module | None = None,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(9 * in_channels / groups)
        nn.init.uniform_(self.weight, -bound, bound)
        self.offset_mask = nn.Conv2d(in_channels, 27, 3, stride=stride, padding=1)
        for p in self.offset_mask.parameters():
            nn.init.zeros_(p)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = deform_conv(x, self.offset_mask(x), self.weight, self.bias, stride=self.stride, kernel=self.kernel)
        return x if self.norm is None else self.norm(x)

    @classmethod
    def from_conv(cls, conv: nn.Conv2d) -> ModulatedDeformConv2d:
        """Return a deformable convolution with the weights of a 3x3 convolution, and the norm of Detectron2's."""
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            norm=getattr(conv, "norm", None),
            stride=conv.stride[0],
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        layer.weight, layer.bias = cast(nn.Parameter, conv.weight), cast("nn.Parameter | None", conv.bias)
        return layer


def set_deform_conv(module: nn.Module, kernel: str) -> None:
    """Compute the deformable convolutions inside ``module`` by ``kernel`` from now on.

    Raises:
        ValueError: it is none of :data:`KERNELS`.
    """
    if kernel not in KERNELS:
        raise ValueError(f"MODEL.DEFORM_CONV must be one of {KERNELS}, not {kernel!r}")
    for part in module.modules():
        if isinstance(part, ModulatedDeformConv2d):
            part.kernel = kernel


def make_deformable(module: nn.Module) -> None:
    """Replace every 3x3 convolution with padding 1 inside ``module`` by a deformable one with its weights, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.kernel_size == (3, 3) and child.padding == (1, 1):
            setattr(module, name, ModulatedDeformConv2d.from_conv(child))
        else:
            make_deformable(child)
