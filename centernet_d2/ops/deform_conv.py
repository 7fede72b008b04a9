"""Modulated deformable convolution in plain PyTorch operations: one for CPUs, one for any device.

A tap's value is a weighted sum of four cells: one bag of rows of a channels-last map. Bags are summed by the operator
made for embeddings, and a matrix product with the weights does the rest. On CPUs a part of the positions at a time, so
that what is in between stays in the cache; elsewhere all at once. In the backward pass it is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

# Places times channels worked on at a time, for each thread. (More take memory, fewer are slower.)
_PART = 2**17
# Empty cells around a map, so that taps outside need no test: both cells beside a place may lie there.
_BORDER = 2


def deform_conv_cpu(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, padding: int, mask: Tensor
) -> Tensor:
    """``torchvision.ops.deform_conv2d`` of stride 1, in values and gradients; not differentiable twice.

    Args:
        x: (N, c, H, W), the dtype of ``mask``.
        offset: (N, 2T, H', W') dy, dx of each tap, in cells of ``x``.
        weight: (d, c, kernel height, kernel width), T taps.
        bias: (d,).
        mask: (N, T, H', W').

    Returns:
        (N, d, H', W') in the memory format channels-last. The matrix product is of the dtype of ``weight``.
    """
    y, x_at = _locate_taps(offset, weight, padding)
    return convolve_at_positions(x, y, x_at, mask, weight, bias)


def deform_conv_gather(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, padding: int, mask: Tensor
) -> Tensor:
    """``torchvision.ops.deform_conv2d`` of stride 1; arguments and result as of
    :func:`deform_conv_cpu`, but that ``x`` has the dtype of ``weight``, which samples are rounded to. Positions are in
    the dtype of ``offset``. (torchvision's kernel for GPUs takes float32, and reads channels that lie apart.)

    The samples of the whole batch are in memory, T times the size of ``x``, and not kept for the backward pass, which
    gathers them again.
    """
    arguments = x, offset, weight, bias, padding, mask
    if not torch.is_grad_enabled():
        return _convolve_at_once(*arguments)
    return checkpoint(_convolve_at_once, *arguments, use_reentrant=False, preserve_rng_state=False)


def _convolve_at_once(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, padding: int, mask: Tensor
) -> Tensor:
    count, (height, width) = len(x), offset.shape[2:]
    y, x_at = _locate_taps(offset, weight, padding)
    rows, positions, size = _list_rows(x, y, x_at, mask)
    first = torch.arange(count, dtype=torch.int32, device=x.device) * (size[0] * size[1])
    first = first[:, None].expand(-1, height * width).flatten()
    values = _sample_taps(rows, positions, first, size)[2]
    result = F.linear(values, weight.permute(0, 2, 3, 1).flatten(1), bias)
    return result.view(count, height, width, -1).permute(0, 3, 1, 2)


def _locate_taps(offset: Tensor, weight: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Return the positions y and x of the taps, (N, T, H', W') each, in cells; arguments of :func:`deform_conv_cpu`."""
    columns = weight.shape[3]
    tap = torch.arange(weight.shape[2] * columns, device=offset.device).view(-1, 1, 1)
    row, column = (torch.arange(side, device=offset.device) for side in offset.shape[2:])
    y = offset[:, 0::2] + (row[:, None] + tap // columns - padding)
    return y, offset[:, 1::2] + (column + tap % columns - padding)


def convolve_at_positions(
    x: Tensor, y: Tensor, x_at: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Sum over taps of the weight times the mask times what ``x`` has at the tap's position, bilinear, 0 outside.

    Args:
        x: (N, c, H, W), the dtype of ``mask``.
        y, x_at: (N, T, H', W') positions of the taps, in cells of ``x``; H' and W' are any.
        mask: (N, T, H', W').
        weight, bias: as of :func:`deform_conv_cpu`.

    Returns:
        As :func:`deform_conv_cpu`.
    """
    count, (out_height, out_width) = len(x), y.shape[2:]
    rows, positions, size = _list_rows(x, y, x_at, mask)
    # Without gradients there is no need of the function, which graphs cannot be traced through.
    function = _RowConvolution.apply if torch.is_grad_enabled() else _convolve_rows
    result = function(rows, positions, weight.permute(0, 2, 3, 1).flatten(1), bias, size, out_height * out_width)
    return result.view(count, out_height, out_width, -1).permute(0, 3, 1, 2)


def _list_rows(x: Tensor, y: Tensor, x_at: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Return the cells of the maps, each with a border, as rows (N H W, c), y, x and mask of the taps (3, N H' W', T),
    and the size (H, W) with the border; arguments of :func:`convolve_at_positions`."""
    height, width = x.shape[2:]
    rows = F.pad(x.permute(0, 2, 3, 1), (0, 0, *[_BORDER] * 4)).contiguous().view(-1, x.shape[1])
    positions = torch.stack([y, x_at, mask]).permute(0, 1, 3, 4, 2).reshape(3, -1, y.shape[1])
    return rows, positions, (height + 2 * _BORDER, width + 2 * _BORDER)


def _find_corners(positions: Tensor, first: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return rows (E, 4) int32 of the cells around E positions of images whose rows start at ``first`` (E,) int32, and
    their weights (E, 4): bilinear, times the mask. ``positions`` are y, x and mask (3, E); ``size`` is the map's, with
    its border."""
    y, x, mask = positions
    low_y, low_x = y.detach().floor(), x.detach().floor()
    row, column = (
        low.int().clamp_(-_BORDER, side - 2 * _BORDER) + _BORDER for low, side in zip((low_y, low_x), size, strict=True)
    )
    top_left = row * size[1] + column + first
    down = y - low_y
    right = (x - low_x) * mask
    left = mask - right
    down_left, down_right = down * left, down * right
    index = torch.stack([top_left, top_left + 1, top_left + size[1], top_left + (size[1] + 1)], dim=-1)
    return index, torch.stack([left - down_left, right - down_right, down_left, down_right], dim=-1)


def _sample_taps(
    rows: Tensor, positions: Tensor, first: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return corners and weights of ``positions`` (3, P, T), and the taps' values (P, T * c)."""
    starts = first[:, None].expand(positions.shape[1:]).flatten()
    index, fraction = _find_corners(positions.flatten(1), starts, size)
    fraction = fraction.to(rows.dtype)
    values = F.embedding_bag(index, rows, per_sample_weights=fraction, mode="sum")
    return index, fraction, values.view(positions.shape[1], -1)


def _split_positions(count: int, each: int, size: tuple[int, int], channels: int) -> Iterator[tuple[slice, Tensor]]:
    """Return slices of ``count`` positions, ``each`` per image, and where the rows of their images start."""
    length = max(_PART // channels, 1) * torch.get_num_threads()
    first = torch.arange(count // each, dtype=torch.int32).mul_(size[0] * size[1]).repeat_interleave(each)
    for start in range(0, count, length):
        part = slice(start, min(start + length, count))
        yield part, first[part]


def _convolve_rows(
    rows: Tensor, positions: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int], each: int
) -> Tensor:
    result = weight.new_empty(positions.shape[1], len(weight))
    for part, first in _split_positions(len(result), each, size, rows.shape[1]):
        values = _sample_taps(rows, positions[:, part], first, size)[2]
        result[part] = F.linear(values.to(weight.dtype), weight, bias)
    return result


class _RowConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, positions: Tensor, weight: Tensor, bias: Tensor | None, size: tuple[int, int], each: int
    ) -> Tensor:
        ctx.save_for_backward(rows, positions, weight)
        ctx.size, ctx.each = size, each
        return _convolve_rows(rows, positions, weight, bias, size, each)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, positions, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        of_rows, of_positions = torch.zeros_like(rows), torch.empty_like(positions)
        of_weight = torch.zeros_like(weight, dtype=rows.dtype)
        for part, first in _split_positions(len(gradient), ctx.each, ctx.size, rows.shape[1]):
            own = positions[:, part].detach().requires_grad_()
            with torch.enable_grad():
                index, fraction, values = _sample_taps(rows, own, first, ctx.size)
            of_weight += gradient[part].t() @ values.detach().to(weight.dtype)
            of_values = (gradient[part] @ weight).to(rows.dtype)
            (of_positions[:, part],) = torch.autograd.grad(values, own, of_values)
            _add_back(of_rows, index, fraction.detach(), of_values.view(len(index), -1))
        of_bias = gradient.sum(dim=0) if ctx.needs_input_grad[3] else None
        return of_rows, of_positions, of_weight.to(weight.dtype), of_bias, None, None


def _add_back(of_rows: Tensor, index: Tensor, fraction: Tensor, of_values: Tensor) -> None:
    """Add to ``of_rows`` what its rows get from the taps: bags again, of the taps that a row gave to.

    (Adding corner by corner takes five times longer.)
    """
    row, order = index.flatten().sort()
    row, count = row.unique_consecutive(return_counts=True)
    first = count.cumsum(0) - count
    bags = F.embedding_bag(order // 4, of_values, first, per_sample_weights=fraction.flatten()[order], mode="sum")
    of_rows.index_add_(0, row, bags)
