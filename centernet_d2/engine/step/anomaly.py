"""Errors for losses and gradients that are infinite or NaN."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

_SHOWN = 16


class NonFiniteLossError(FloatingPointError):
    """A loss is infinite or NaN. Raised in all processes, before the optimizer's step."""


class NonFiniteGradientError(FloatingPointError):
    """A gradient is infinite or NaN though the loss is not. Raised in all processes; no weight has changed."""


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


def describe_gradients(names: Sequence[str]) -> str:
    """Return the parameters ``names`` by head, as "head offset (task.heads.offset.0.weight and 3 more), backbone"."""
    groups: dict[str, list[str]] = {}
    for name in names:
        head = re.match(r"task\.heads\.(\w+)\.", name)
        groups.setdefault(f"head {head[1]}" if head else name.partition(".")[0], []).append(name)
    # The heads first: what is wrong in one of them is wrong in all that comes before it.
    order = sorted(groups, key=lambda part: not part.startswith("head "))
    return ", ".join(f"{part} ({_count_others(groups[part])})" for part in order)


def _count_others(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def make_non_finite_loss_error(iteration: int, terms: Sequence[str], images: Sequence[str]) -> NonFiniteLossError:
    """Return the error with the terms, the iteration and the images."""
    return NonFiniteLossError(_describe_stop(iteration, ", ".join(terms), images))


def make_non_finite_gradient_error(
    iteration: int, names: Sequence[str], images: Sequence[str], steps: int = 1
) -> NonFiniteGradientError:
    """Return the error with the parameters ``names``, the iteration and the images, after ``steps`` in a row."""
    since = f" in {steps} steps in a row" if steps > 1 else ""
    what = f"the loss is finite, but not the gradient of {describe_gradients(names)}{since}"
    return NonFiniteGradientError(_describe_stop(iteration, what, images))


def _describe_stop(iteration: int, what: str, images: Sequence[str]) -> str:
    shown = "\n  ".join(images[:_SHOWN]) + (f"\n  and {len(images) - _SHOWN} more" * (len(images) > _SHOWN))
    return (
        f"Training stopped at iteration {iteration}: {what}. The weights are those before this step, and "
        f"no checkpoint was written. The images of the step:\n  {shown}\n"
        "Check their annotations (centernet-d2 check-data); if they are in order, lower SOLVER.BASE_LR, lengthen "
        "SOLVER.WARMUP_ITERS or set SOLVER.CLIP_GRADIENTS.ENABLED."
    )
