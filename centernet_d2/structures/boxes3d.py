"""Upright 3D boxes: corners and exact overlaps. Camera coordinates are those of ``ops.box3d_geometry``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from centernet_d2.ops.rotated_boxes import clip_to_rectangle


class Boxes3D(NamedTuple):
    """``dimensions`` (..., 3) h, w, l and ``locations`` (..., 3) x, y, z, meters; ``rotation_y`` (...) radians."""

    dimensions: Tensor
    locations: Tensor
    rotation_y: Tensor

    def compute_corners(self) -> Tensor:
        """Return (..., 8, 3) camera coordinates: the bottom's front left, front right, back right, back left, as seen
        from inside, looking to the front; then those above them."""
        height, width, length = self.dimensions.unbind(-1)
        along, across = _make_rectangle(length, width)
        x, z = _rotate(along, across, self.rotation_y[..., None])
        y = torch.zeros_like(x)
        bottom, top = torch.stack([x, y, z], dim=-1), torch.stack([x, y - height[..., None], z], dim=-1)
        return torch.cat([bottom, top], dim=-2) + self.locations[..., None, :]


def compute_iou_3d(a: Boxes3D, b: Boxes3D) -> tuple[Tensor, Tensor]:
    """Return IoU (...) seen from above, and of the volumes, of each box of ``a`` with that of ``b``; shapes are
    broadcast.

    Dimensions below zero count as zero; a box without area or volume overlaps nothing.
    """
    size_a, size_b = a.dimensions.clamp(min=0), b.dimensions.clamp(min=0)
    ground = compute_ground_intersection(a, b)
    bottom = torch.minimum(a.locations[..., 1], b.locations[..., 1])
    top = torch.maximum(a.locations[..., 1] - size_a[..., 0], b.locations[..., 1] - size_b[..., 0])
    areas = size_a[..., 1:].prod(dim=-1) + size_b[..., 1:].prod(dim=-1)
    volumes = size_a.prod(dim=-1) + size_b.prod(dim=-1)
    return _compute_iou(ground, areas), _compute_iou(ground * (bottom - top).clamp(min=0), volumes)


def compute_ground_intersection(a: Boxes3D, b: Boxes3D) -> Tensor:
    """Return exact area (...) that two boxes share when seen from above, square meters; shapes are broadcast.

    The corners of ``b`` in the frame of ``a`` are clipped at the four sides of ``a`` (Sutherland and Hodgman 1974).
    """
    size_a, size_b = a.dimensions.clamp(min=0), b.dimensions.clamp(min=0)
    offset = b.locations - a.locations
    center = torch.stack(_rotate(offset[..., 0], offset[..., 2], -a.rotation_y), dim=-1)
    along, across = _make_rectangle(size_b[..., 2], size_b[..., 1])
    rotated = torch.stack(_rotate(along, across, (b.rotation_y - a.rotation_y)[..., None]), dim=-1)
    return clip_to_rectangle(rotated + center[..., None, :], size_a[..., [2, 1]] / 2)


def _make_rectangle(length: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Return corners along and across, (..., 4) each, in the order of ``Boxes3D.compute_corners``."""
    along = length[..., None] * length.new_tensor([0.5, 0.5, -0.5, -0.5])
    return along, width[..., None] * width.new_tensor([0.5, -0.5, -0.5, 0.5])


def _rotate(x: Tensor, z: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return x, z after a rotation about y."""
    cosine, sine = angle.cos(), angle.sin()
    return x * cosine + z * sine, z * cosine - x * sine


def _compute_iou(intersection: Tensor, total: Tensor) -> Tensor:
    return intersection / (total - intersection).clamp(min=1e-12)


def get_calibration(dataset_dict: Mapping[str, Any]) -> Tensor:
    """Return "calib" of a dataset dict, (3, 4) float64.

    Raises:
        ValueError: it is not there, or no such matrix.
    """
    given = dataset_dict.get("calib")
    try:
        matrix = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (3, 4) or not np.isfinite(matrix).all():
        shown = given.tolist() if isinstance(given, np.ndarray) else given
        raise ValueError(f"{dataset_dict.get('file_name')}: calib is {shown!r}, not 3x4 finite numbers")
    return torch.from_numpy(matrix)
