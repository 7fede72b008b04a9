"""Objects found by their extreme points: top, left, bottom, right and the center, grouped by geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from detectron2.structures import Boxes, Instances
from torch import Tensor

from centernet_d2.modeling.heads import HEAD_REGISTRY, Head, PointOffsetHead, build_extra_heads, build_head
from centernet_d2.modeling.tasks.base import TASK_REGISTRY, Task
from centernet_d2.ops.extreme_points import (
    SIDES,
    aggregate_edges,
    compute_extreme_boxes,
    find_center_cells,
    group_extreme_points,
    make_octagon_masks,
    order_left_right,
    suppress_ghost_boxes,
)
from centernet_d2.ops.peaks import find_top_peaks
from centernet_d2.ops.soft_nms import soft_nms
from centernet_d2.structures import Candidates
from centernet_d2.structures.keypoint_schema import get_schema

CENTER_LOOKUPS = ("positions", "cells")
# Groups of one test-time pass that go into soft-NMS (as in the reference).
_GROUPS = 1000


@TASK_REGISTRY.register()
class ExtremePointTask(Task):
    """ExtremeNet (Zhou et al. 2019) as in CenterNet's code ("exdet"): peaks of four heatmaps whose center is a peak of
    the center heatmap are an object. Gives ``pred_keypoints`` (x, y, probability), and ``pred_masks``, octagons, on
    demand.

    Candidates of a flipped image are added, not its maps averaged.

    Args:
        heads: for each of ``SIDES`` "<side>_heatmap" and "<side>_offset", and "center_heatmap". Where this has more
            classes than those, it alone says the class.
        num_peaks: K, read per side and image.
        aggregation: weight of :func:`~centernet_d2.ops.extreme_points.aggregate_edges`; 0 switches it off.
        point_threshold, center_threshold: the minimum probabilities.
        center_cell: the center heatmap is read in the center of the points' "positions", or (as in the reference) of
            the "cells" that hold them, which may be the cell before.
        masks: give octagons.
        ghost_box_suppression: see :func:`~centernet_d2.ops.extreme_points.suppress_ghost_boxes`; not so in CenterNet.
    """

    task_heads = ("center_heatmap", *(f"{side}_{what}" for side in SIDES for what in ("heatmap", "offset")))
    flip_closed = False
    required_fields = ("keypoints",)
    candidate_keys = ("MODEL.EXTREME.TOPK",)

    @configurable
    def __init__(
        self,
        *,
        heads: dict[str, Head],
        num_peaks: int = 40,
        aggregation: float = 0.0,
        point_threshold: float = 0.1,
        center_threshold: float = 0.1,
        center_cell: str = "positions",
        masks: bool = False,
        ghost_box_suppression: bool = True,
    ) -> None:
        super().__init__(heads)
        if center_cell not in CENTER_LOOKUPS:
            raise ValueError(f"MODEL.EXTREME.CENTER_LOOKUP must be one of {CENTER_LOOKUPS}, not {center_cell!r}")
        if num_peaks < 1 or aggregation < 0 or min(point_threshold, center_threshold) <= 0:
            raise ValueError("MODEL.EXTREME needs a TOPK and thresholds above 0, and an AGGREGATION of at least 0")
        self.num_peaks, self.aggregation = num_peaks, aggregation
        self.point_threshold, self.center_threshold = point_threshold, center_threshold
        self.center_cell, self.masks, self.ghost_box_suppression = center_cell, masks, ghost_box_suppression

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        schema, settings = get_schema(cfg.MODEL.KEYPOINT.SCHEMA), cfg.MODEL.EXTREME
        if schema.names != SIDES:
            needed = ", ".join(SIDES)
            raise ValueError(f"ExtremePointTask needs the keypoints {needed}; the datasets have {schema.title}")
        if cfg.INPUT.AFFINE.ROTATION_PROB > 0:
            raise ValueError(
                "the extreme points of a rotated object are others: INPUT.AFFINE.ROTATION_PROB must be 0, "
                f"not {cfg.INPUT.AFFINE.ROTATION_PROB}"
            )
        if list(cfg.MODEL.CENTERNET.GRID_POINTS) != [4]:
            raise ValueError("an object has one center: MODEL.CENTERNET.GRID_POINTS must be [4]")
        heads = {"center_heatmap": build_head("ClassHeatmapHead", cfg, in_channels)}
        for index, side in enumerate(SIDES):
            heads[f"{side}_heatmap"] = HEAD_REGISTRY.get("ExtremeHeatmapHead")(cfg, in_channels, side=index)
            heads[f"{side}_offset"] = HEAD_REGISTRY.get("ExtremeOffsetHead")(cfg, in_channels, side=index)
        return {
            "heads": {**heads, **build_extra_heads(cfg, in_channels)},
            "num_peaks": settings.TOPK,
            "aggregation": settings.EDGE_AGGREGATION,
            "point_threshold": settings.POINT_THRESH,
            "center_threshold": settings.CENTER_THRESH,
            "center_cell": settings.CENTER_LOOKUP,
            "masks": cfg.MODEL.MASK_ON,
            "ghost_box_suppression": settings.GHOST_BOX_SUPPRESSION,
        }

    def decode(self, outputs: dict[str, Tensor]) -> Candidates:
        probability, classes, cells, positions = self.find_peaks(outputs)
        center, category = outputs["center_heatmap"].sigmoid(), None
        if center.shape[1] > outputs["top_heatmap"].shape[1]:
            center, category = center.max(dim=1, keepdim=True)
        # A quarter on either side sees to it that the center of neighboring cells is the first of the two.
        between = positions if self.center_cell == "positions" else cells + 0.25
        scores, members = group_extreme_points(
            *(probability, classes, cells, between, center, _GROUPS), self.point_threshold, self.center_threshold
        )
        image, side = torch.arange(len(scores), device=scores.device)[:, None], torch.arange(4, device=scores.device)
        chosen = (image[..., None], side, members)
        points = torch.cat([positions[chosen], probability[chosen][..., None]], dim=-1)  # (N, G, 4, 3)
        x, y = middle = find_center_cells(between[chosen], center.shape[-2:]).unbind(-1)
        labels = classes[:, 0].gather(1, members[..., 0]) if category is None else category[image, 0, y, x]
        source = torch.zeros_like(labels[0])
        predictions = Candidates(compute_extreme_boxes(points[..., :2]), scores, labels, source, {"keypoints": points})
        return self.add_extra_predictions(predictions, outputs, torch.stack(middle, dim=-1))

    def find_peaks(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the best peaks of each side: probabilities and classes (N, 4, K), cells (N, 4, K, 2) and positions (N,
        4, K, 2), both x, y in grid cells."""
        maps = torch.stack([outputs[f"{side}_heatmap"] for side in SIDES], dim=2).sigmoid()
        if self.aggregation:
            level, upright = aggregate_edges(maps[:, :, ::2], -1, self.aggregation), maps[:, :, 1::2]
            upright = aggregate_edges(upright, -2, self.aggregation)
            maps = torch.stack([level, upright], dim=3).flatten(2, 3)
        probability, classes, cells = find_top_peaks(maps, self.num_peaks)
        image = torch.arange(len(maps), device=maps.device)[:, None, None]
        offsets = [
            cast(PointOffsetHead, self.heads[f"{side}_offset"]).read(outputs[f"{side}_offset"], image, own[:, :, None])
            for side, own in zip(SIDES, cells.unbind(1), strict=True)
        ]
        return probability.clamp(0, 1), classes, cells, cells + torch.cat(offsets, dim=2).transpose(1, 2)

    def merge(self, candidates: Candidates, limit: int) -> Candidates:
        """Merge by soft-NMS, also a single pass (as in the reference): many groups share members."""
        index, scores = soft_nms(candidates.boxes, candidates.scores, candidates.classes, limit)
        kept = replace(candidates.select(index), scores=scores)
        if self.ghost_box_suppression:
            scores, order = suppress_ghost_boxes(kept.boxes, scores, kept.classes).sort(
                dim=1, descending=True, stable=True
            )
            kept = replace(kept.select(order), scores=scores)
        # In a flipped image what is left now was right.
        return replace(kept, points={**kept.points, "keypoints": order_left_right(kept.points["keypoints"])})

    def merge_spec(self) -> str:
        return "extreme_points" if self.ghost_box_suppression else "soft_nms"

    def decode_for_export(self, maps: dict[str, Tensor]) -> Candidates:
        candidates = self.decode(maps)
        candidates.points["keypoints"] = order_left_right(candidates.points["keypoints"])  # merging does this here
        return candidates

    def finish(self, instances: Instances, sample: dict[str, Any]) -> Instances:
        if not self.masks:
            return instances
        boxes = Boxes(instances.pred_boxes.tensor.clone())
        boxes.clip(instances.image_size)  # as Detectron2 does before it pastes masks into boxes
        instances = instances[boxes.nonempty()]
        boxes = boxes[boxes.nonempty()]
        instances.pred_masks = make_octagon_masks(instances.pred_keypoints[..., :2], boxes.tensor)
        return instances
