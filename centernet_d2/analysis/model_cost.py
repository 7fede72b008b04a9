"""Cost of a network: parameters, operations, bytes, milliseconds."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from centernet_d2.modeling.meta_arch import CenterNet


@dataclass(frozen=True)
class ModelCost:
    """
    Attributes:
        parameters: number of parameters, frozen ones included.
        flops: multiply-adds of one image, up to the heads' maps; :func:`count_flops`.
        size: bytes of a file with the weights and statistics.
    """

    parameters: int
    flops: int
    size: int


def measure_model_cost(model: CenterNet, input_size: tuple[int, int]) -> ModelCost:
    """Measure ``model`` for an input of ``input_size`` (height, width), multiples of its ``divisibility``."""
    image = torch.zeros(1, model.input_channels, *input_size, device=model.device)
    flops = count_flops(model.eval().predict_maps, image)
    return ModelCost(
        sum(p.numel() for p in model.parameters()), flops, measure_file_size({"model": model.state_dict()})
    )


def count_flops(function: Callable[[Tensor], Any], images: Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products in ``function(images)``. A deformable convolution counts as
    a plain one. Nothing else is counted."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        function(images)
    return counter.get_total_flops() // 2


def measure_file_size(data: Any) -> int:
    """Return the bytes that ``torch.save`` writes."""
    counter = _Counter()
    torch.save(data, counter)
    return counter.total


def measure_latency(model: CenterNet, input_size: tuple[int, int], threads: int, seconds: float) -> list[float]:
    """Return milliseconds per image, for at least ``seconds``: from a uint8 array of ``input_size`` (height, width) to
    objects.

    Args:
        threads: of the CPU's.
    """
    image = torch.randint(0, 256, (3, *input_size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    timer = Timer("model([{'image': image}])", globals={"model": model.eval(), "image": image}, num_threads=threads)
    timer.timeit(2)
    return [1000 * x for x in timer.blocked_autorange(min_run_time=seconds).times]


def describe_times(milliseconds: Sequence[float]) -> str:
    """Return the median, and the 10th and 90th percentiles, as text."""
    low, median, high = np.percentile(milliseconds, [10, 50, 90])
    return f"{median:.1f} [{low:.1f}-{high:.1f}]"


class _Counter(io.BytesIO):
    """A file object that stores only its length."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        length = memoryview(data).nbytes
        self.total += length
        return length


def _count_deform_conv_flops(images: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Any, **__: Any) -> int:
    return 2 * prod(weight) * out_shape[0] * prod(out_shape[2:])


# On a GPU; on a CPU the matrix product is counted.
_FORMULAS = {torch.ops.torchvision.deform_conv2d: _count_deform_conv_flops}
