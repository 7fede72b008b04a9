"""Rotated boxes as Detectron2's ``RotatedBoxes``: x, y of the center, width, height, angle.

The angle is in degrees, counterclockwise on the screen, from the image's x axis to the box's width. Overlaps are exact,
in PyTorch: Detectron2's need its compiled operators.
"""

from __future__ import annotations

import torch
from torch import Tensor

from centernet_d2.ops.constants import make_constant

# Of the intersection of two rectangles.
_MAX_VERTICES = 8


def compute_corners(boxes: Tensor) -> Tensor:
    """Return the corners (..., 4, 2) x, y of rotated boxes (..., 5), around the box in order."""
    signs = make_constant([-1, -1, 1, -1, 1, 1, -1, 1], boxes).view(4, 2)
    along, across = (signs * boxes[..., None, 2:4] / 2).unbind(-1)
    angle = boxes[..., 4, None].deg2rad()
    x, y = along * angle.cos() + across * angle.sin(), across * angle.cos() - along * angle.sin()
    return torch.stack([x, y], dim=-1) + boxes[..., None, :2]


def convert_corners(corners: Tensor) -> Tensor:
    """Return rotated boxes (..., 5) of the corners (..., 4, 2) of rectangles: the width is the longer side, the angle
    in [-90, 90). Of a square it is that of either side."""
    first, second = (corners[..., k + 1, :] - corners[..., k, :] for k in (0, 1))
    sides = torch.stack([first.norm(dim=-1), second.norm(dim=-1)], dim=-1)
    longer = torch.where(sides[..., :1] >= sides[..., 1:], first, second)
    angle = wrap_half_turn(torch.atan2(-longer[..., 1], longer[..., 0]).rad2deg())
    width, height = sides.amax(dim=-1), sides.amin(dim=-1)
    return torch.cat([corners.mean(dim=-2), torch.stack([width, height, angle], dim=-1)], dim=-1)


def wrap_half_turn(angle: Tensor) -> Tensor:
    """Return the same directions in [-90, 90): a box looks the same after half a turn."""
    return (angle + 90) % 180 - 90


def enclose(boxes: Tensor) -> Tensor:
    """Return the upright boxes (..., 4) x1, y1, x2, y2 around rotated boxes (..., 5)."""
    corners = compute_corners(boxes)
    return torch.cat([corners.amin(dim=-2), corners.amax(dim=-2)], dim=-1)


def compute_rotated_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return IoU (...) of each box of ``a`` (..., 5) with that of ``b`` (..., 5); shapes are broadcast. Boxes without
    area overlap nothing."""
    shared = compute_shared_area(a, b)
    total = a[..., 2:4].clamp(min=0).prod(dim=-1) + b[..., 2:4].clamp(min=0).prod(dim=-1)
    return shared / (total - shared).clamp(min=1e-12)


def compute_shared_area(a: Tensor, b: Tensor) -> Tensor:
    """Return the area (...) of the intersection of each box of ``a`` (..., 5) with that of ``b`` (..., 5)."""
    # In the frame of ``a``, where it is upright and its center is the origin.
    x, y = (b[..., :2] - a[..., :2]).unbind(-1)
    angle = a[..., 4].deg2rad()
    moved = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], dim=-1)
    rotation = (b[..., 4] - a[..., 4])[..., None]
    size = b[..., 2:4].clamp(min=0).expand(moved.shape)
    return clip_to_rectangle(compute_corners(torch.cat([moved, size, rotation], dim=-1)), a[..., 2:4].clamp(min=0) / 2)


def clip_to_rectangle(corners: Tensor, half: Tensor) -> Tensor:
    """Return the area (...) of convex polygons (..., 4, 2) inside upright rectangles around the origin.

    The polygons are clipped at one side after the other (Sutherland and Hodgman 1974).

    Args:
        half: (..., 2) half the sides of the rectangles.
    """
    polygon = corners
    for axis in (0, 1):
        for sign in (1, -1):
            polygon = _clip(polygon, half[..., axis, None] - sign * polygon[..., axis])
    x, y = polygon.unbind(-1)
    return (x * y.roll(-1, -1) - y * x.roll(-1, -1)).sum(dim=-1).abs() / 2


def _clip(polygon: Tensor, distance: Tensor) -> Tensor:
    """Return the part (..., 8, 2) of convex polygons (..., V, 2) where ``distance`` (..., V) of the vertices is not
    negative.

    Slots that are left over repeat the first vertex; all are equal where nothing is left.
    """
    following = distance.roll(-1, -1)
    inside = distance >= 0
    crosses = inside != (following >= 0)
    fraction = torch.where(crosses, distance / (distance - following), 0)
    crossing = polygon + fraction[..., None] * (polygon.roll(-1, -2) - polygon)
    vertices = torch.stack([polygon, crossing], dim=-2).flatten(-3, -2)
    used = torch.stack([inside, crosses], dim=-1).flatten(-2)
    order = used.byte().argsort(dim=-1, descending=True, stable=True)[..., :_MAX_VERTICES]
    kept = vertices.gather(-2, order[..., None].expand(*order.shape, 2))
    return torch.where(used.gather(-1, order)[..., None], kept, kept[..., :1, :])


def suppress_rotated(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Return the scores (N, M) after non-maximum suppression in each class: 0 of a box whose IoU with a higher-scoring
    one that is kept is above ``threshold``.

    Args:
        boxes, scores, classes: (N, M, 5), (N, M), (N, M).
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    boxes = boxes.gather(1, order[..., None].expand_as(boxes))
    classes = classes.gather(1, order)
    overlaps = compute_rotated_iou(boxes[:, :, None], boxes[:, None]) > threshold
    overlaps &= classes[:, :, None] == classes[:, None]
    kept = torch.ones_like(scores, dtype=torch.bool)
    for i in range(1, scores.shape[1]):
        kept[:, i] = ~(overlaps[:, i, :i] & kept[:, :i]).any(dim=1)
    return torch.zeros_like(scores).scatter(1, order, scores.gather(1, order) * kept)
