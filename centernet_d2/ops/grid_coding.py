"""The 3x3 grid of points of a box, and box sizes as seen from them (Enhanced CenterNet, section 1).

Point p lies at row p // 3, column p % 3, on the lines at 1/4, 1/2 and 3/4 of the box; 4 is the center.
Size encodings, in the unit of the box: "wh" (width, height), "lt" (distances from the point to the left and top
side), "ltrb"; and "log_wh", the natural logarithms of "wh" (CenterFace, Xu et al. 2019, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from centernet_d2.ops.constants import make_constant

SIZE_CHANNELS = {"wh": 2, "lt": 2, "ltrb": 4, "log_wh": 2}


def check_point_flags(point_flags: Sequence[int]) -> tuple[int, ...]:
    """Return the flags, sorted and unique. Raises ValueError when empty or outside 0..8."""
    flags = tuple(sorted(set(point_flags)))
    if not flags or not all(isinstance(p, int) and 0 <= p <= 8 for p in flags):
        raise ValueError(f"GRID_POINTS must be a non-empty subset of 0..8, not {list(point_flags)}")
    return flags


def flip_grid_points(point_flags: Sequence[int]) -> tuple[int, ...]:
    """Return the point that each point becomes when left and right are swapped."""
    return tuple(3 * (p // 3) + 2 - p % 3 for p in point_flags)


def compute_fractions(point_flags: Sequence[int], like: Tensor) -> Tensor:
    """Return (K, 2): where the points lie in a box of unit size, x and y."""
    return make_constant([x for p in point_flags for x in ((1 + p % 3) / 4, (1 + p // 3) / 4)], like).view(-1, 2)


def compute_grid_points(boxes: Tensor, point_flags: Sequence[int]) -> Tensor:
    """Return points (..., K, 2) x, y of ``boxes`` (..., 4)."""
    low, high = boxes.unsqueeze(-2).split(2, dim=-1)
    return low + compute_fractions(point_flags, boxes) * (high - low)


def encode_size(boxes: Tensor, point_flags: Sequence[int], encoding: str) -> Tensor:
    """Return sizes (..., K, 2 or 4) of ``boxes`` (..., 4) as seen from each point."""
    low, high = boxes.unsqueeze(-2).split(2, dim=-1)
    sizes = (high - low).expand(*boxes.shape[:-1], len(point_flags), 2)
    return sizes.log() if encoding == "log_wh" else convert_size(sizes, point_flags, "wh", encoding)


def convert_size(sizes: Tensor, point_flags: Sequence[int], source: str, target: str) -> Tensor:
    """Convert sizes from one encoding to another.

    Linear in ``sizes`` (..., K, 2 or 4), so it serves for the weights and biases of a regression layer as well as for
    values.
    """
    if source == target:
        return sizes
    a = compute_fractions(point_flags, sizes)
    wh = {"wh": lambda: sizes, "lt": lambda: sizes / a, "ltrb": lambda: sizes[..., :2] + sizes[..., 2:]}[source]()
    return {"wh": lambda: wh, "lt": lambda: wh * a, "ltrb": lambda: torch.cat([wh * a, wh * (1 - a)], dim=-1)}[target]()


def decode_boxes(points: Tensor, sizes: Tensor, point_flags: Sequence[int], encoding: str) -> Tensor:
    """Return boxes (..., K, 4), the inverse of :func:`compute_grid_points` and :func:`encode_size`; negative sizes
    count as zero."""
    if encoding == "log_wh":
        sizes, encoding = sizes.exp(), "wh"
    distances = convert_size(sizes.clamp(min=0), point_flags, encoding, "ltrb")
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
