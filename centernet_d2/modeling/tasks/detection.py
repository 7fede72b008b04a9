"""Boxes from any subset of a 3x3 grid of points that vote; with the center alone it is classic CenterNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.heads import (
    BoxSizeHead,
    ClassHeatmapHead,
    Head,
    PointOffsetHead,
    build_extra_heads,
    build_head,
)
from centernet_d2.modeling.tasks.base import TASK_REGISTRY, Task
from centernet_d2.ops import grid_coding as grid
from centernet_d2.ops.peaks import compute_window_max, find_top_peaks
from centernet_d2.ops.soft_nms import cluster_vote, soft_nms
from centernet_d2.structures import Candidates

# Peaks below this are noise; soft-NMS drops detections at the same score.
_BACKGROUND = 0.001
MERGES = ("soft_nms", "vote", "resample")


@TASK_REGISTRY.register()
class DetectionTask(Task):
    """Every point proposes boxes at its own peaks; proposals of one object are merged.

    Args:
        heads: ``heatmap``, ``box_size`` and, where that needs it, ``offset``; and more.
        merge: "soft_nms": the union, soft-NMS (Enhanced CenterNet). "vote": clusters with one member per point, whose
            score is the mean over all points, then soft-NMS. "resample": a proposal's score is the mean of what *every*
            point's heatmap says (the largest of 3x3 cells) where that point of the build_candidates box lies, then
            soft-NMS.
        candidates_per_point: peaks read per point and image.
    """

    task_heads = ("heatmap", "box_size", "offset")
    candidate_keys = ("MODEL.CENTERNET.TOPK_CANDIDATES",)

    @configurable
    def __init__(self, *, heads: dict[str, Head], merge: str = "vote", candidates_per_point: int = 100) -> None:
        super().__init__(heads)
        if merge not in MERGES:
            raise ValueError(f"MERGE must be one of {MERGES}, not {merge!r}")
        self.merge_method = merge
        self.candidates_per_point = candidates_per_point
        self.point_flags = cast(ClassHeatmapHead, heads["heatmap"]).point_flags
        self.flip_closed = set(grid.flip_grid_points(self.point_flags)) == set(self.point_flags)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        settings = cfg.MODEL.CENTERNET
        names = {"heatmap": "ClassHeatmapHead", "box_size": settings.BOX_HEAD}
        heads = {key: build_head(name, cfg, in_channels) for key, name in names.items()}
        names = {"offset": "PointOffsetHead"} if cast(BoxSizeHead, heads["box_size"]).needs_offset else {}
        heads |= {key: build_head(name, cfg, in_channels) for key, name in names.items()}
        return {
            "heads": heads | build_extra_heads(cfg, in_channels),
            "merge": settings.MERGE,
            "candidates_per_point": settings.TOPK_CANDIDATES,
        }

    def merge_spec(self) -> str:
        if len(self.point_flags) == 1 and self.merge_method != "soft_nms":
            return "top"
        return "vote" if self.merge_method == "vote" else "soft_nms"

    def decode(self, outputs: dict[str, Tensor]) -> Candidates:
        logits = outputs["heatmap"]
        count, k, m = len(logits), len(self.point_flags), self.candidates_per_point
        maps = logits.unflatten(1, (-1, k))
        peak, classes, cells = find_top_peaks(maps, m)
        cells = cells.transpose(1, 2)  # (N, M, K, 2): each point has peaks of its own
        image_index = torch.arange(count, device=logits.device)[:, None, None]
        positions = cells + 0.5
        if "offset" in self.heads:
            offset = cast(PointOffsetHead, self.heads["offset"])
            positions = cells + offset.read(outputs["offset"], image_index, cells)
        box_size = cast(BoxSizeHead, self.heads["box_size"])
        boxes = box_size.decode_boxes(outputs["box_size"], image_index, cells, positions)
        boxes = boxes.transpose(1, 2).flatten(1, 2)
        scores, classes = peak.sigmoid().flatten(1), classes.flatten(1)
        if self.merge_method == "resample" and k > 1:
            # Background has boxes too, and some would happen to lie where others have their points.
            scores = self._compute_agreement(logits, boxes, classes).where(scores > _BACKGROUND, 0)
        each = scores.view(count, k, m).transpose(1, 2)
        scores = box_size.adjust_scores(each, outputs["box_size"], image_index, cells).transpose(1, 2).flatten(1)
        source = torch.arange(k, device=logits.device).repeat_interleave(m)
        predictions = Candidates(boxes, scores, classes, source)
        return self.add_extra_predictions(predictions, outputs, cells.transpose(1, 2).flatten(1, 2))

    def _compute_agreement(self, logits: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
        """Return the mean probability (N, M) of the points' heatmaps at their positions in ``boxes`` (N, M, 4)."""
        k = len(self.point_flags)
        image_index = torch.arange(len(logits), device=logits.device)[:, None, None].expand(*boxes.shape[:2], k)
        channel = classes[..., None] * k + torch.arange(k, device=logits.device)
        points = grid.compute_grid_points(boxes, self.point_flags)
        return compute_window_max(logits, image_index, channel, points).sigmoid().mean(dim=-1)

    def merge(self, candidates: Candidates, limit: int) -> Candidates:
        """Merge the points of one test-time pass as ``merge`` says, and passes by soft-NMS (as in the reference)."""
        k = len(self.point_flags)
        if k == candidates.num_passes == 1 and self.merge_method != "soft_nms":
            return candidates.select(candidates.scores.topk(min(limit, candidates.scores.shape[1])).indices)
        if self.merge_method == "vote" and k > 1:
            candidates = self._vote(candidates, limit)
        index, scores = soft_nms(candidates.boxes, candidates.scores, candidates.classes, limit)
        return replace(candidates.select(index), scores=scores)

    def _vote(self, candidates: Candidates, limit: int) -> Candidates:
        """Return the clusters of each pass.

        There are more than ``limit``: their scores are not in the order of construction.
        """
        (count, total), passes = candidates.scores.shape, candidates.num_passes
        each = total // passes
        seeds, boxes, scores = cluster_vote(
            candidates.boxes.view(count * passes, each, 4),
            candidates.scores.view(count * passes, each),
            candidates.classes.view(count * passes, each),
            len(self.point_flags),
            2 * limit,
        )
        first = torch.arange(passes, device=seeds.device)[:, None] * each
        seeds = (seeds.view(count, passes, -1) + first).flatten(1)
        return replace(candidates.select(seeds), boxes=boxes.view(count, -1, 4), scores=scores.view(count, -1))
