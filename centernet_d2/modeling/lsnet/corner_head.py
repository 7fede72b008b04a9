"""Corner heatmaps beside the towers of a pyramid detector, and what they correct (CPV in LSNet, CenterNet++)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from centernet_d2.layers.distributed import average_over_processes
from centernet_d2.modeling.lsnet.class_head import CLASS_PRIOR
from centernet_d2.modeling.lsnet.levels import Levels, flatten_levels, split_levels
from centernet_d2.modeling.lsnet.towers import build_tower, conv, conv_norm_relu, count_groups
from centernet_d2.ops.lsnet.corner_heatmaps import (
    CornerTargets,
    corner_focal_loss,
    encode_corners,
    encode_semantic,
    move_to_corners,
    semantic_focal_loss,
)
from centernet_d2.ops.lsnet.corner_pooling import pool_bottom, pool_left, pool_right, pool_top
from centernet_d2.structures import Targets

_HEATMAP_WEIGHT, _OFFSET_WEIGHT, _SEMANTIC_WEIGHT = 0.25, 1.0, 0.1
# Of the smooth L1 loss of offsets, in cells.
_BETA = 1 / 9
# Of the probabilities of a perfect network.
_EPS = 1e-6
# Width of the maps that are pooled.
_POOLED = 64
#: Points that have a heatmap, in the order of the channels.
CORNERS = ("top_left", "bottom_right")
CORNERS_AND_CENTER = (*CORNERS, "center")


@dataclass(frozen=True)
class CornerMaps:
    """What the corner head gives for each level.

    Attributes:
        embedding: (N, c, H, W), to add to the towers' maps.
        semantic: (N, C, H, W) logits.
        scores: (N, P, H, W) logits of the points' heatmaps.
        offsets: (N, 2 P, H, W) x, y from the anchor point to each point, in cells.
    """

    embedding: list[Tensor]
    semantic: list[Tensor]
    scores: list[Tensor]
    offsets: list[Tensor]

    def add_to(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return a tower's maps plus the embedding."""
        return [x + extra for x, extra in zip(maps, self.embedding, strict=True)]

    def append_to(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return a tower's maps with the scores and offsets as 3 P extra channels, for the second stage."""
        if not self.scores:
            return list(maps)
        return [torch.cat(one, dim=1) for one in zip(maps, self.scores, self.offsets, strict=True)]

    def named(self) -> dict[str, list[Tensor]]:
        """Return what prediction reads, by the name of the maps."""
        return {"corner_scores": self.scores, "corner_offsets": self.offsets}


class CornerPooling(nn.Module):
    """Two running maxima toward the inside of an object, added, beside a shortcut (CornerNet, section 3.5).

    Args:
        corner: "top_left" or "bottom_right".
        channels: c; (N, c, H, W) becomes the same.
    """

    def __init__(self, corner: str, channels: int) -> None:
        super().__init__()
        self.pools = (pool_top, pool_left) if corner == "top_left" else (pool_bottom, pool_right)
        self.inputs = nn.ModuleList(conv_norm_relu("plain", channels, _POOLED) for _ in self.pools)
        self.pooled = nn.Conv2d(_POOLED, channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels, channels, 1, bias=False)
        for layer in (self.pooled, self.shortcut):
            nn.init.normal_(layer.weight, std=0.01)
        self.pooled_norm, self.shortcut_norm = (nn.GroupNorm(count_groups(channels), channels) for _ in range(2))
        self.output = conv_norm_relu("plain", channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = sum(pool(layer(x)) for pool, layer in zip(self.pools, self.inputs, strict=True))
        return self.output((self.pooled_norm(self.pooled(pooled)) + self.shortcut_norm(self.shortcut(x))).relu())


class CornerHead(nn.Module):
    """Predicts, beside the towers, a class map of boxes, and heatmaps and offsets of corners without classes.

    Args:
        num_classes: C.
        channels: c of the feature maps.
        points: :data:`CORNERS` or :data:`CORNERS_AND_CENTER`; (): the class map alone (CenterNet-RT).
        shared: kind of the convolution in front of all.
        threshold: minimum probability of a corner that a box is moved to.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        channels: int,
        points: Sequence[str] = CORNERS,
        shared: str = "deformable",
        threshold: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.points, self.threshold = num_classes, tuple(points), threshold
        self.shared = build_tower([shared], channels)
        self.semantic = conv(channels, num_classes, 1, bias=CLASS_PRIOR)
        self.embedding = conv_norm_relu("plain", channels, channels, kernel_size=1)
        self.pools = nn.ModuleList(
            conv_norm_relu("plain", channels, channels) if name == "center" else CornerPooling(name, channels)
            for name in self.points
        )
        self.scores = nn.ModuleList(conv(channels, 1, 3, bias=CLASS_PRIOR) for _ in self.points)
        self.offsets = nn.ModuleList(conv(channels, 2, 3) for _ in self.points)

    def forward(self, maps: Sequence[Tensor]) -> CornerMaps:
        """Return the maps of every level from those of the box towers (N, c, H, W)."""
        result = CornerMaps([], [], [], [])
        for x in maps:
            shared = self.shared(x)
            embedding = self.embedding(shared)
            result.embedding.append(embedding)
            result.semantic.append(self.semantic(shared))
            if self.points:
                pooled = [pool(shared + embedding) for pool in self.pools]
                result.scores.append(torch.cat([f(x) for f, x in zip(self.scores, pooled, strict=True)], dim=1))
                result.offsets.append(torch.cat([f(x) for f, x in zip(self.offsets, pooled, strict=True)], dim=1))
        return result

    def losses(self, maps: CornerMaps, targets: Targets, levels: Levels, usable: Tensor) -> dict[str, Tensor]:
        """Return the scalar losses "loss_semantic", "loss_corner" and "loss_corner_offset".

        Args:
            usable: (N, A) bool, the cells that are not padding.
        """
        losses = {"loss_semantic": self._semantic_loss(maps, targets, levels)}
        if not self.points:
            return losses
        scores, offsets = flatten_levels(maps.scores), flatten_levels(maps.offsets).unflatten(2, (-1, 2))
        heat, offset = [], []
        for index, target in enumerate(self._encode_points(targets, levels, usable)):
            count = average_over_processes(target.positive.sum(dim=1).clamp(min=1).sum().float())
            heat.append(corner_focal_loss(scores[..., index], target.heatmap) / count)
            error = F.smooth_l1_loss(offsets[:, :, index].float(), target.offsets, reduction="none", beta=_BETA)
            offset.append((error.sum(dim=-1) * target.positive).sum() / count)
        losses["loss_corner"] = _HEATMAP_WEIGHT * torch.stack(heat).mean()
        losses["loss_corner_offset"] = _OFFSET_WEIGHT * torch.stack(offset).mean()
        return losses

    def _encode_points(self, targets: Targets, levels: Levels, usable: Tensor) -> list[CornerTargets]:
        """Return what the maps of each of the points learn."""
        boxes, valid = targets.pad(targets.boxes), targets.list_occupied_slots()
        points, strides = levels.get_points(boxes.device), levels.repeat_strides(boxes.device)
        return [
            encode_corners(locate_point(boxes, name), boxes, valid, points, strides, levels.counts, usable)
            for name in self.points
        ]

    def encode_dense(self, targets: Targets, levels: Levels, usable: Tensor) -> dict[str, list[Tensor]]:
        """Return the maps of a perfect network, by the names of :meth:`CornerMaps.named`."""
        encoded = self._encode_points(targets, levels, usable)
        if not encoded:
            return {}
        scores = torch.stack([one.heatmap.logit(eps=_EPS) for one in encoded], dim=2)
        offsets = torch.cat([one.offsets for one in encoded], dim=2)
        return {"corner_scores": split_levels(scores, levels), "corner_offsets": split_levels(offsets, levels)}

    def _semantic_loss(self, maps: CornerMaps, targets: Targets, levels: Levels) -> Tensor:
        boxes, classes, valid = targets.pad(targets.boxes), targets.pad(targets.classes), targets.list_occupied_slots()
        weights = encode_semantic(boxes, classes, valid, self.num_classes, levels.sizes, levels.strides)
        # Weights are parts of an area: few large objects have less than 1 together.
        total = average_over_processes(weights.sum(), minimum=0.0)
        num_positives = average_over_processes((weights > 0).sum().float())
        return _SEMANTIC_WEIGHT * semantic_focal_loss(flatten_levels(maps.semantic), weights, total, num_positives)

    def move_boxes(
        self,
        boxes: Tensor,
        levels: Tensor,
        outputs: dict[str, Tensor],
        strides: Sequence[int],
        names: Sequence[str] = CORNERS,
        point_offset: float = 0.0,
    ) -> Tensor:
        """Return boxes (N, M, 4) whose corners moved to peaks of finer heatmaps; see ``move_to_corners``.

        Args:
            levels: (N, M) int64, where the boxes come from.
            outputs: maps by name, see :meth:`CornerMaps.named`.
            names: the points that the upper left and the lower right corner of these boxes are.
        """
        if not self.points:
            return boxes
        moved = []
        for corner, name in zip(boxes.split(2, dim=2), names, strict=True):
            index = self.points.index(name)
            scores = [outputs[f"corner_scores_{level}"][:, index] for level in range(len(strides))]
            offsets = [
                outputs[f"corner_offsets_{level}"][:, 2 * index : 2 * index + 2] for level in range(len(strides))
            ]
            moved.append(move_to_corners(corner, levels, scores, offsets, strides, self.threshold, point_offset))
        return torch.cat(moved, dim=2)


def locate_point(boxes: Tensor, name: str) -> Tensor:
    """Return the points (..., 2) of that name of boxes (..., 4)."""
    if name == "center":
        return (boxes[..., :2] + boxes[..., 2:]) / 2
    return boxes[..., :2] if name == "top_left" else boxes[..., 2:]
