"""Landmarks of the object at every cell of a feature pyramid, in two stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from centernet_d2.modeling.lsnet.towers import KERNEL_POINTS, PyramidFusion, attenuate_gradient, build_tower, conv
from centernet_d2.ops.extreme_points import compute_extreme_boxes
from centernet_d2.ops.lsnet.cross_iou_loss import cross_iou_loss
from centernet_d2.ops.lsnet.landmark_vectors import decode_vectors, enclose_landmarks

# Landmarks are divided by this many strides before the loss (the reference's "point_base_scale").
_LOSS_UNIT = 4.0


@dataclass(frozen=True)
class LandmarkTargets:
    """Landmarks to learn at R cells.

    Attributes:
        landmarks: (R, K + 1, 2) x, y, input pixels; the last is the center.
        visible: (R, K + 1) float32, 0 or 1.
        boxes: (R, 4), input pixels.
    """

    landmarks: Tensor
    visible: Tensor
    boxes: Tensor

    def select(self, rows: Tensor) -> LandmarkTargets:
        """Return the rows of that index."""
        return LandmarkTargets(self.landmarks[rows], self.visible[rows], self.boxes[rows])


class LandmarkHead(nn.Module):
    """Predicts K landmarks and a center at each cell, as vectors from its anchor point (LSNet, sections 3 and 4.2).

    A vector is four numbers of at least 0, up, down, left, right, in units of the stride; the larger of each pair
    counts. The first stage also says where the second one reads the feature maps: at some of its landmarks, and at free
    points.

    Args:
        num_landmarks: K.
        kernel_landmarks: at most 9 indices of landmarks, K for the center.
        loss_type: "bbox" (the landmarks are extreme points), "polygon" or "keypoint", see ``cross_iou_loss``.
        channels, tower, extra_channels: as of :class:`~centernet_d2.modeling.lsnet.class_head.LevelClassHead`.
        init_weight, refine_weight: factors of the losses of the two stages.
        alpha: of ``cross_iou_loss``.
        defects: see :mod:`centernet_d2.modeling.lsnet.reference`.
    """

    kernel_landmarks: Tensor

    def __init__(
        self,
        *,
        num_landmarks: int,
        kernel_landmarks: Sequence[int],
        loss_type: str,
        channels: int,
        tower: Sequence[str],
        extra_channels: int = 0,
        init_weight: float = 1.0,
        refine_weight: float = 2.0,
        alpha: float = 0.2,
        defects: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.num_landmarks = num_landmarks
        # A buffer, since indexing by a list would copy it to the device each time.
        self.register_buffer("kernel_landmarks", torch.tensor(list(kernel_landmarks)), persistent=False)
        self.loss_type, self.alpha, self.defects = loss_type, alpha, defects
        self.init_weight, self.refine_weight = init_weight, refine_weight
        self.num_vectors = 4 * (num_landmarks + 1)
        free = 2 * (KERNEL_POINTS - len(kernel_landmarks))
        self.tower = build_tower(tower, channels)
        self.init = nn.Sequential(
            conv(channels, channels, 3), nn.ReLU(inplace=True), conv(channels, self.num_vectors + free, 1)
        )
        self.fusion = PyramidFusion(channels + extra_channels, channels, "cumulative_offsets" in defects)
        self.refine = conv(channels, self.num_vectors, 1)

    def predict_initial(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the vectors (N, 4 (K + 1), H, W) of the first stage, and the kernel points (N, 9, 2, H, W), y, x
        relative to the cell, in cells, of each level."""
        raw = [self.init(x) for x in maps]
        vectors = [F.softplus(x[:, : self.num_vectors]) for x in raw]
        points = []
        for x, vector in zip(raw, vectors, strict=True):
            ends = decode_vectors(vector.movedim(1, -1)).index_select(-2, self.kernel_landmarks)  # (N, H, W, k, 2) x, y
            free = x[:, self.num_vectors :].unflatten(1, (-1, 2))
            points.append(attenuate_gradient(torch.cat([ends.flip(-1).permute(0, 3, 4, 1, 2), free], dim=1)))
        return vectors, points

    def predict_refined(
        self, maps: Sequence[Tensor], kernel_points: Sequence[Tensor], initial: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the vectors (N, 4 (K + 1), H, W) of the second stage of each level."""
        fused = self.fusion(maps, kernel_points)
        return [F.softplus(self.refine(x) + first.detach()) for x, first in zip(fused, initial, strict=True)]

    def decode(self, vectors: Tensor, points: Tensor, strides: Tensor) -> Tensor:
        """Return landmarks (..., K + 1, 2), x, y in input pixels.

        Args:
            vectors: (..., 4 (K + 1)) in units of the stride.
            points: (..., 2) anchor points, x, y.
            strides: (...).
        """
        return points[..., None, :] + strides[..., None, None] * decode_vectors(vectors)

    def select_box_landmarks(self, landmarks: Tensor) -> Tensor:
        """Return the boxes (..., 4) of landmarks (..., K + 1, 2)."""
        own = landmarks[..., :-1, :]
        return compute_extreme_boxes(own) if self.loss_type == "bbox" else enclose_landmarks(own)

    def loss(
        self, vectors: Tensor, points: Tensor, strides: Tensor, targets: LandmarkTargets, counted: Tensor
    ) -> Tensor:
        """Return the sum of the cross-IOU losses of R cells.

        Args:
            vectors, points, strides: (R, 4 (K + 1)), (R, 2), (R,), as of :meth:`decode`.
            counted: (R,) bool, False of rows that have no loss.
        """
        unit = _LOSS_UNIT * strides
        losses = cross_iou_loss(
            vectors.float() / _LOSS_UNIT,
            (targets.landmarks - points[:, None]) / unit[:, None, None],
            kind=self.loss_type,
            boxes=(targets.boxes - points.repeat(1, 2)) / unit[:, None],
            visible=targets.visible,
            alpha=self.alpha,
            reference_box_penalty="box_penalty" in self.defects,
            count_invisible="invisible_joints" in self.defects,
        )
        return losses.where(counted, 0).sum()


def choose_contour_points(num_landmarks: int) -> list[int]:
    """Return every n-th of the contour's points and the center, at most 9 in all."""
    step = -(-num_landmarks // (KERNEL_POINTS - 1))
    return [*range(0, num_landmarks, step), num_landmarks]


def choose_joints(num_keypoints: int, flip_pairs: Sequence[tuple[int, int]], left_only: bool = False) -> list[int]:
    """Return at most 8 keypoints that are the same set in a flipped image, and the center.

    Args:
        left_only: every second one of the first 16, as in the reference: COCO's joints of the left side.
    """
    if left_only:
        return [*range(1, min(num_keypoints, 16), 2), num_keypoints]
    limit = KERNEL_POINTS - 1
    if num_keypoints <= limit:
        return [*range(num_keypoints), num_keypoints]
    count = min(len(flip_pairs), limit // 2)
    pairs = [flip_pairs[(i * len(flip_pairs)) // count] for i in range(count)] if count else []
    chosen = [k for pair in pairs for k in pair]
    paired = {k for pair in flip_pairs for k in pair}
    single = [k for k in range(num_keypoints) if k not in paired]
    return [*sorted(chosen + single[: limit - len(chosen)]), num_keypoints]
