"""Upright 3D boxes: corners, projection, angles, and exact overlaps.

Camera coordinates are KITTI's (Geiger et al. 2012), meters: x to the right, y down, z into the image. A location is
the center of a box's *bottom*; dimensions are height, width, length. At ``rotation_y`` 0 the length lies along x and
the front looks to +x; rotation is about y, positive from z to x, radians. A calibration is the 3x4 matrix P of a
rectified camera: rows (fx, 0, cx, tx), (0, fy, cy, ty), (0, 0, 1, tz). Images' x, y are in the frame of cx, cy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def project(points: Tensor, calibration: Tensor) -> Tensor:
    """Project (..., 3) camera coordinates to (..., 3) image x, y and depth; ``calibration`` (..., 3, 4).

    Depth is what x and y were divided by, z + tz: ``unproject`` is the exact inverse. (tz is some millimeters.)
    """
    x, y, depth = ((calibration[..., :3] @ points[..., None])[..., 0] + calibration[..., 3]).unbind(-1)
    return torch.stack([x / depth, y / depth, depth], dim=-1)


def unproject(points: Tensor, calibration: Tensor) -> Tensor:
    """Return (..., 3) camera coordinates of (..., 3) image x, y and depth; ``calibration`` (..., 3, 4)."""
    u, v, depth = points.unbind(-1)
    row_x, row_y, row_z = calibration.unbind(-2)
    z = depth - row_z[..., 3]
    x = (u * depth - row_x[..., 3] - row_x[..., 2] * z) / row_x[..., 0]
    y = (v * depth - row_y[..., 3] - row_y[..., 2] * z) / row_y[..., 1]
    return torch.stack([x, y, z], dim=-1)


def wrap_angle(angle: Tensor) -> Tensor:
    """Return the same direction in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def convert_alpha_to_rotation_y(alpha: Tensor, x: Tensor, calibration: Tensor) -> Tensor:
    """Return ``rotation_y`` (...) in [-pi, pi) of objects seen under ``alpha`` (...) at image ``x`` (...).

    Alpha is the rotation relative to the line of sight: it is what an object looks like wherever it is.
    """
    return wrap_angle(alpha + _compute_viewing_angle(x, calibration))


def convert_rotation_y_to_alpha(rotation_y: Tensor, x: Tensor, calibration: Tensor) -> Tensor:
    """Invert ``convert_alpha_to_rotation_y``."""
    return wrap_angle(rotation_y - _compute_viewing_angle(x, calibration))


def _compute_viewing_angle(x: Tensor, calibration: Tensor) -> Tensor:
    return torch.atan2(x - calibration[..., 0, 2], calibration[..., 0, 0])
