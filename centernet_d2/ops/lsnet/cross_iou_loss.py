"""The cross-IOU loss of landmark vectors (Duan et al. 2021, LSNet, section 3.2, equations 3 to 6)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from centernet_d2.ops.extreme_points import compute_extreme_boxes
from centernet_d2.ops.lsnet.landmark_vectors import decode_vectors, enclose_landmarks, encode_vectors

KINDS = ("bbox", "polygon", "keypoint")

_EPS = 1e-6
# The points of a polygon are compared in groups: each so many-th.
_GROUPS = 9


def cross_iou_loss(
    vectors: Tensor,
    displacements: Tensor,
    kind: str,
    boxes: Tensor | None = None,
    visible: Tensor | None = None,
    alpha: float = 0.2,
    reference_box_penalty: bool = False,
    count_invisible: bool = False,
) -> Tensor:
    """Return the losses (R,), one per sample, at least float32.

    The cross-IOU of numbers p and their targets t is sum min(p, t) / sum max(p, t). "bbox": over all numbers.
    "polygon": the mean over 9 groups of every ninth landmark. "keypoint": the mean over the coordinates of visible
    landmarks; one that equals the anchor point's has no ratio and is left out. The loss is 1 - cross-IOU; but for
    keypoints, the penalties of the CIoU loss (Zheng et al. 2020) for the box of the landmarks are added: distance of
    the centers, and aspect. A perfect prediction has the loss 0 and the gradient 0.

    Args:
        vectors: (R, 4 L), at least 0, see :mod:`~centernet_d2.ops.lsnet.landmark_vectors`; the last landmark is the
            object's center. All arguments have one unit, of about the object's size (4 strides in the reference).
        displacements: (R, L, 2), x, y from the anchor point.
        kind: one of :data:`KINDS`.
        boxes: (R, 4), relative to the anchor point; not needed by "keypoint".
        visible: (R, L), 0 or 1, of "keypoint"; None: all are.
        alpha: target of the smaller number of a pair, as a fraction of the larger one.
        reference_box_penalty: as the reference: the gradient goes through the aspect's factor, too, and the loss of a
            perfect prediction is not a number (0 / 0).
        count_invisible: as the reference: the mean of "keypoint" is over all coordinates; one that is left out adds a
            constant.

    Raises:
        ValueError: unknown ``kind``, or no ``boxes``.
    """
    if kind not in KINDS:
        raise ValueError(f"the cross-IOU loss is one of {KINDS}, not {kind!r}")
    vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    displacements = displacements.to(vectors.dtype)
    target = encode_vectors(displacements, alpha)
    shared, union = torch.minimum(vectors, target), torch.maximum(vectors, target)
    if kind == "keypoint":
        return _keypoint_loss(shared, union, displacements, visible, count_invisible)
    if boxes is None:
        raise ValueError(f"the cross-IOU loss {kind!r} needs the boxes")
    overlap = _sum_groups(shared, 1 if kind == "bbox" else _GROUPS)
    overlap = overlap / _sum_groups(union, 1 if kind == "bbox" else _GROUPS).clamp(min=_EPS)
    landmarks = decode_vectors(vectors)[:, :-1]
    predicted = compute_extreme_boxes(landmarks) if kind == "bbox" else enclose_landmarks(landmarks)
    iou = overlap.mean(dim=1)
    return 1 - iou + _box_penalty(predicted, boxes.to(vectors.dtype), iou, reference_box_penalty)


def _sum_groups(values: Tensor, groups: int) -> Tensor:
    """Return the sums (R, G) of ``values`` (R, 4 L) over landmarks g, g + G, ...; G is at most L."""
    groups = min(groups, values.shape[1] // 4)
    padded = F.pad(values, (0, -values.shape[1] % (4 * groups)))
    return padded.unflatten(1, (-1, groups, 4)).sum(dim=(1, 3))


def _keypoint_loss(
    shared: Tensor, union: Tensor, displacements: Tensor, visible: Tensor | None, count_invisible: bool
) -> Tensor:
    """Return the loss; arguments as of :func:`cross_iou_loss`; ``shared`` and ``union`` are min(p, t) and max(p, t)."""
    ratio = shared.unflatten(1, (-1, 2)).sum(dim=2) / union.clamp(min=_EPS).unflatten(1, (-1, 2)).sum(dim=2)
    counted = displacements.flip(-1) != 0  # y, x, as the numbers are ordered
    if visible is not None:
        counted = counted & (visible > 0)[..., None]
    counted = counted.flatten(1)
    if count_invisible:
        return 1 - (ratio * counted).mean(dim=1)
    return ((1 - ratio) * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def _box_penalty(boxes: Tensor, gt: Tensor, iou: Tensor, reference: bool) -> Tensor:
    """Return (R,): squared distance of the centers over the squared diagonal of both boxes together, and the
    difference of aspects (Zheng et al. 2020, equations 8 to 11)."""
    around = torch.maximum(boxes[:, 2:], gt[:, 2:]) - torch.minimum(boxes[:, :2], gt[:, :2])
    distance = (boxes[:, :2] + boxes[:, 2:] - gt[:, :2] - gt[:, 2:]).square().sum(dim=1) / 4
    aspect = 4 / math.pi**2 * (_compute_aspect_angle(gt, reference) - _compute_aspect_angle(boxes, reference)).square()
    factor = aspect / (1 - iou + aspect) if reference else (aspect / (1 - iou + aspect + _EPS)).detach()
    return distance / (around.square().sum(dim=1) + _EPS) + factor * aspect


def _compute_aspect_angle(boxes: Tensor, reference: bool) -> Tensor:
    """Return the angles (R,) whose tangents are width / height; sides below 0 count as 0, but for the reference."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    if not reference:
        width, height = width.clamp(min=0), height.clamp(min=0)
    return (width / (height + _EPS)).atan()
