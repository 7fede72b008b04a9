"""The order of channels in memory."""

from __future__ import annotations

import logging

import torch
from torch import nn

_logger = logging.getLogger(__name__)


def choose_memory_format(model: nn.Module, channels_last: bool) -> torch.memory_format:
    """Return ``torch.channels_last`` if requested and safe in ``model``, else ``torch.preserve_format``."""
    unsafe = find_unsafe_convolutions(model) if channels_last else []
    if unsafe:
        _logger.info(
            "MODEL.CHANNELS_LAST is off in this network: PyTorch's backward pass on a CPU would corrupt memory at %s",
            ", ".join(unsafe),
        )
    return torch.channels_last if channels_last and not unsafe else torch.preserve_format


def find_unsafe_convolutions(model: nn.Module) -> list[str]:
    """Return the names of convolutions whose CPU gradient writes beyond its memory in channels-last order.

    A bug of oneDNN (https://github.com/uxlfoundation/oneDNN/issues/6035; seen in PyTorch 2.11.0, reported up to
    2.14.0): float32, 1x1, a stride of 2, fewer than 16 input channels (8 on CPUs without AVX-512).
    No reference network has such a layer.
    """
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        and max(module.kernel_size) == 1
        and max(module.stride) > 1
        and module.in_channels < 16
    ]
