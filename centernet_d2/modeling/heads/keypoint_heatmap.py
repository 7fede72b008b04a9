"""Keypoint heatmaps, one per keypoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.layers.class_keypoints import ClassKeypoints
from centernet_d2.layers.distributed import average_over_processes
from centernet_d2.modeling.heads.base import HEAD_REGISTRY
from centernet_d2.modeling.heads.class_heatmap import HEATMAP_PRIOR, average_probabilities
from centernet_d2.modeling.heads.sparse import DeferredMap, SparseHead, check_normalizer
from centernet_d2.ops.constants import select_channels
from centernet_d2.ops.focal_loss import heatmap_focal_loss
from centernet_d2.ops.gaussian import SparseMaps, compute_window_radius, splat_gaussians
from centernet_d2.ops.indexing import gather_cells, pad_rows, round_up
from centernet_d2.structures import Targets
from centernet_d2.structures.keypoint_schema import get_schema


class KeypointMaps(NamedTuple):
    """Target of the keypoint heatmaps: Q groups of at most L maps each.

    Attributes:
        image_index: (Q,) int64.
        channels: (Q, L) int64, in the head's output.
        used: (Q, L) bool, False for padding.
        maps: of shape (Q, L, H, W).
        num_peaks: () float32, cells with the value 1; None where objects are counted.
    """

    image_index: Tensor
    channels: Tensor
    used: Tensor
    maps: SparseMaps
    num_peaks: Tensor | None


@HEAD_REGISTRY.register()
class KeypointHeatmapHead(SparseHead):
    """Predicts K heatmaps: logits of "keypoint k of some object lies in this cell".

    If each class has its own keypoints, an image trains only the maps of the classes it contains. Training computes no
    others, and decoding reads no others.

    Args:
        ranges: (first, end) of the keypoints of each class.
        flip_indices: (K,) which keypoint each becomes in a flipped image.
        radius: of the Gaussians in cells; -1: from the object's size by ``min_overlap`` and ``radius_method``
            (:func:`~centernet_d2.ops.gaussian.window_radius`).
        exact_centers: center the Gaussians on the keypoints, not on the centers of their cells.
        normalizer: "objects": the loss is divided by their number times the mean number of keypoints of a class;
            "keypoints": by the number of peaks (the reference).
    """

    @configurable
    def __init__(
        self,
        *,
        ranges: Sequence[tuple[int, int]],
        flip_indices: Sequence[int],
        radius: int = 2,
        exact_centers: bool = False,
        min_overlap: float = 0.7,
        radius_method: str = "cornernet",
        normalizer: str = "objects",
        **kwargs: Any,
    ) -> None:
        super().__init__(out_channels=len(flip_indices), bias=HEATMAP_PRIOR, **kwargs)
        self.class_keypoints = ClassKeypoints(ranges)
        self.flip_indices = list(flip_indices)
        self.radius, self.exact_centers = radius, exact_centers
        self.min_overlap, self.radius_method = min_overlap, radius_method
        self.normalizer = check_normalizer(normalizer)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        schema = get_schema(cfg.MODEL.KEYPOINT.SCHEMA)
        return {
            "ranges": schema.ranges,
            "flip_indices": schema.flip_indices().tolist(),
            "radius": cfg.MODEL.KEYPOINT.HEATMAP_RADIUS,
            "exact_centers": cfg.MODEL.KEYPOINT.OFFSET in ("dark", "soft_argmax"),
            "min_overlap": cfg.MODEL.CENTERNET.GAUSSIAN_MIN_OVERLAP,
            "radius_method": cfg.MODEL.CENTERNET.GAUSSIAN_RADIUS,
            "normalizer": cfg.MODEL.KEYPOINT.LOSS_NORMALIZER,
            "in_channels": in_channels,
            "head_channels": cfg.MODEL.CENTERNET.HEAD_CHANNELS,
            "loss_weight": cfg.MODEL.KEYPOINT.HEATMAP_WEIGHT,
        }

    def encode(self, targets: Targets) -> KeypointMaps:
        tables = self.class_keypoints.get_tables(targets.classes.device)
        classes = len(tables.index)
        if classes == 1:  # all maps of all images, including images without objects
            group = targets.image_index
            pairs = torch.arange(targets.num_images, device=group.device)
        else:
            pairs, group = (targets.image_index * classes + targets.classes).unique(return_inverse=True)
        image_index, channels = pairs // classes, tables.index[pairs % classes]
        used = tables.used[pairs % classes]
        keypoints = self.class_keypoints.gather(targets.fields["keypoints"], targets.classes)
        first = group[:, None] * channels.shape[1]
        local = first + torch.arange(channels.shape[1], device=group.device)
        maps = self._splat(targets, keypoints, local, (len(pairs), channels.shape[1], *targets.grid_size))
        num_peaks = (maps.value == 1).sum().float() if self.normalizer == "keypoints" else None
        return KeypointMaps(image_index, channels, used, maps, num_peaks)

    def pad(self, target: KeypointMaps) -> KeypointMaps:
        groups = len(target.image_index)
        if len(self.class_keypoints.index) > 1:
            groups = round_up(groups, 4)
        return KeypointMaps(
            image_index=pad_rows(target.image_index, groups),
            channels=pad_rows(target.channels, groups),
            used=pad_rows(target.used, groups),
            maps=replace(target.maps, shape=(groups, *target.maps.shape[1:])).pad(),
            num_peaks=target.num_peaks,
        )

    def _splat(
        self, targets: Targets, keypoints: Tensor, channel: Tensor, shape: tuple[int, int, int, int]
    ) -> SparseMaps:
        """Render the labeled ``keypoints`` (P, L, 3) as Gaussians on maps ``channel`` (P, L)."""
        owner, keypoint = (keypoints[..., 2] > 0).nonzero(as_tuple=True)
        points = keypoints[owner, keypoint, :2][:, None]
        if self.radius < 0:
            sizes = targets.boxes[owner, 2:] - targets.boxes[owner, :2]
            radius = compute_window_radius(sizes, self.min_overlap, self.radius_method, False)
        else:
            radius = torch.full_like(points[:, 0], self.radius, dtype=torch.int64)
        cells = gather_cells(points, targets.grid_size)
        centers = points if self.exact_centers else None
        return splat_gaussians(cells, channel[owner, keypoint][:, None], radius, shape, centers)

    def loss(self, output: DeferredMap, target: KeypointMaps, num_objects: Tensor) -> Tensor:
        """Return the focal loss, divided as ``normalizer`` says."""
        if len(self.class_keypoints.index) == 1:
            logits = output.to_dense()
        else:
            # Padding has target 0. At probability 0 it gets no loss and no gradient.
            logits = output.select_maps(target.image_index, target.channels).masked_fill(
                ~target.used[..., None, None], -100.0
            )
        if target.num_peaks is not None:
            return heatmap_focal_loss(logits, target.maps, self.fused_loss) / average_over_processes(target.num_peaks)
        mean_count = self.out_channels / len(self.class_keypoints.index)
        return heatmap_focal_loss(logits, target.maps, self.fused_loss) / (num_objects * mean_count)

    def encode_dense(self, targets: Targets) -> Tensor:
        """Return logits, within +-16 so that they are finite."""
        channel = targets.image_index[:, None] * self.out_channels + torch.arange(self.out_channels)
        shape = (targets.num_images, self.out_channels, *targets.grid_size)
        return self._splat(targets, targets.fields["keypoints"], channel, shape).to_logits()

    def unflip(self, flipped: Tensor) -> Tensor:
        return select_channels(flipped.flip(-1), 1, self.flip_indices)

    def merge_flipped(self, output: Tensor, flipped: Tensor) -> Tensor:
        """Return the mean of the probabilities, as a logit."""
        return average_probabilities(output, self.unflip(flipped))
