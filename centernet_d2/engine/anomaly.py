"""Errors for losses that are infinite or NaN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

_SHOWN = 16


class NonFiniteLossError(FloatingPointError):
    """A loss is infinite or NaN. Raised in all processes, before the optimizer's step."""


def describe_images(batch: Sequence[dict[str, Any]]) -> list[str]:
    """Return file name and id of each image of a batch."""
    return [f"{x.get('file_name', 'an image without a name')} (id {x.get('image_id', '?')})" for x in batch]


def describe_losses(names: Sequence[str], values: Tensor) -> list[str]:
    """Return the terms of ``values`` (processes, terms) that are not finite, with their process."""
    return [
        f"{name} = {float(values[rank, i])} in process {rank}"
        for rank in range(len(values))
        for i, name in enumerate(names)
        if not values[rank, i].isfinite()
    ]


def make_non_finite_loss_error(iteration: int, terms: Sequence[str], images: Sequence[str]) -> NonFiniteLossError:
    """Return the error with the terms, the iteration and the images."""
    shown = "\n  ".join(images[:_SHOWN]) + (f"\n  and {len(images) - _SHOWN} more" * (len(images) > _SHOWN))
    return NonFiniteLossError(
        f"Training stopped at iteration {iteration}: {', '.join(terms)}. The weights are those before this step, and "
        f"no checkpoint was written. The images of the step:\n  {shown}\n"
        "Check their annotations (centernet-d2 check-data); if they are in order, lower SOLVER.BASE_LR, lengthen "
        "SOLVER.WARMUP_ITERS or set SOLVER.CLIP_GRADIENTS.ENABLED."
    )
