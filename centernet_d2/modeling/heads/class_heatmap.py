"""Class heatmaps, one per point of the grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads.base import HEAD_REGISTRY, Head, read_common_arguments
from centernet_d2.ops import grid_coding as grid
from centernet_d2.ops.constants import select_channels
from centernet_d2.ops.focal_loss import HEATMAP_LOSSES
from centernet_d2.ops.gaussian import (
    SparseMaps,
    add_ignored_regions,
    compute_window_radius,
    splat_gaussians,
    splat_in_boxes,
)
from centernet_d2.structures import Targets

# Initial bias: every cell starts at probability 0.1 (RetinaNet, section 4.1, with CenterNet's value).
HEATMAP_PRIOR = -2.19
RADIUS_METHODS = ("cornernet", "corrected", "ellipse", "fixed", "box")


@HEAD_REGISTRY.register()
class ClassHeatmapHead(Head):
    """Predicts class heatmaps: logits of "point k of an object of class c lies in this cell".

    There are C * K channels, class-major: channel c * K + k, as in Enhanced CenterNet's checkpoints.

    Args:
        min_overlap, radius_method, elliptical, alpha, fixed_radius: see
            :func:`~centernet_d2.ops.gaussian.window_radius`. Radius method "box" renders with
            :func:`~centernet_d2.ops.gaussian.splat_in_boxes`.
        heatmap_loss: a name of :data:`~centernet_d2.ops.focal_loss.HEATMAP_LOSSES`.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        point_flags: Sequence[int],
        min_overlap: float = 0.7,
        radius_method: str = "cornernet",
        elliptical: bool = False,
        alpha: float = 0.54,
        fixed_radius: int = 1,
        heatmap_loss: str = "focal",
        **kwargs: Any,
    ) -> None:
        if radius_method not in RADIUS_METHODS:
            raise ValueError(f"MODEL.CENTERNET.GAUSSIAN_RADIUS must be one of {RADIUS_METHODS}, not {radius_method!r}")
        if elliptical and radius_method not in ("cornernet", "corrected"):
            raise ValueError(
                f"GAUSSIAN_ELLIPTICAL needs GAUSSIAN_RADIUS 'cornernet' or 'corrected', not {radius_method!r}"
            )
        if heatmap_loss not in HEATMAP_LOSSES:
            raise ValueError(
                f"MODEL.CENTERNET.HEATMAP_LOSS must be one of {sorted(HEATMAP_LOSSES)}, not {heatmap_loss!r}"
            )
        self.point_flags = grid.check_point_flags(point_flags)
        super().__init__(out_channels=num_classes * len(self.point_flags), bias=HEATMAP_PRIOR, **kwargs)
        self.num_classes = num_classes
        self.min_overlap, self.radius_method, self.elliptical = min_overlap, radius_method, elliptical
        self.alpha, self.fixed_radius, self.heatmap_loss = alpha, fixed_radius, heatmap_loss

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        settings = cfg.MODEL.CENTERNET
        return {
            "num_classes": settings.NUM_CLASSES,
            "point_flags": settings.GRID_POINTS,
            "min_overlap": settings.GAUSSIAN_MIN_OVERLAP,
            "radius_method": settings.GAUSSIAN_RADIUS,
            "elliptical": settings.GAUSSIAN_ELLIPTICAL,
            "alpha": settings.GAUSSIAN_ALPHA,
            "fixed_radius": settings.GAUSSIAN_FIXED_RADIUS,
            "heatmap_loss": settings.HEATMAP_LOSS,
            **read_common_arguments(cfg, in_channels, settings.HEATMAP_WEIGHT),
        }

    def encode(self, targets: Targets) -> SparseMaps:
        """Render Gaussians at the points of objects, and Gaussians without a peak in ignored regions."""
        maps = self._render(targets)
        return maps if targets.ignored is None else add_ignored_regions(maps, self._render(targets.ignored))

    def pad(self, target: SparseMaps) -> SparseMaps:
        return target.pad()

    def _render(self, targets: Targets) -> SparseMaps:
        cells = targets.get_cells(self.point_flags)
        count = len(self.point_flags)
        first = targets.image_index * self.out_channels + targets.classes * count
        channel = first[:, None] + torch.arange(count, device=first.device)
        shape = (targets.num_images, self.out_channels, *targets.grid_size)
        if self.radius_method == "box":
            return splat_in_boxes(cells, channel, targets.boxes, shape)
        sizes = targets.boxes[:, 2:] - targets.boxes[:, :2]
        radius = compute_window_radius(
            sizes, self.min_overlap, self.radius_method, self.elliptical, self.alpha, self.fixed_radius
        )
        return splat_gaussians(cells, channel, radius, shape)

    def loss(self, output: Tensor, target: SparseMaps, num_objects: Tensor) -> Tensor:
        """Return the heatmap loss divided by the number of points. (The reference divides by the number of *different*
        peak cells.)"""
        loss = HEATMAP_LOSSES[self.heatmap_loss](output, target, self.fused_loss)
        return loss / (num_objects * len(self.point_flags))

    def encode_dense(self, targets: Targets) -> Tensor:
        """Return logits, within +-16 so that they are finite."""
        return self.encode(targets).to_logits()

    def unflip(self, flipped: Tensor) -> Tensor:
        order = [self.point_flags.index(p) for p in grid.flip_grid_points(self.point_flags)]
        maps = flipped.flip(-1).unflatten(1, (self.num_classes, len(self.point_flags)))
        return select_channels(maps, 2, order).flatten(1, 2)

    def merge_flipped(self, output: Tensor, flipped: Tensor) -> Tensor:
        """Return the mean of the probabilities, as a logit."""
        return average_probabilities(output, self.unflip(flipped))


def average_probabilities(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of the probabilities with logits ``a`` and ``b``, as a logit."""
    return ((a.sigmoid() + b.sigmoid()) / 2).logit(eps=1e-7)
