"""What the keypoint tasks share: the center of an object, its box, and how candidates become objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor

from centernet_d2.layers.class_keypoints import ClassKeypoints
from centernet_d2.modeling.heads import (
    BoxSizeHead,
    Head,
    KeypointOffsetHead,
    PointOffsetHead,
    build_extra_heads,
    build_head,
)
from centernet_d2.modeling.tasks.base import Task
from centernet_d2.ops.indexing import make_image_index
from centernet_d2.ops.keypoint_matching import compute_extreme_box
from centernet_d2.ops.peaks import find_top_peaks
from centernet_d2.ops.soft_nms import soft_nms
from centernet_d2.ops.subpixel import (
    compute_peak_covariance,
    compute_spread,
    find_dark_position,
    find_soft_argmax_position,
)
from centernet_d2.structures import Candidates, Targets
from centernet_d2.structures.keypoint_schema import get_schema

CENTERS = ("box", "nose", "mean")
OFFSET_METHODS = ("offset", "dark", "soft_argmax", "none")
# Points of candidates that say the covariance of each keypoint.
_SPREAD = ("keypoint_spread_0", "keypoint_spread_1")


class KeypointTask(Task):
    """Base of the keypoint tasks.

    Args:
        ranges: (first, end) of the keypoints of each class; K is the last end.
        center: which point of an object its center is: "box", "nose" (keypoint ``nose_tip``), "mean" of the keypoints
            inside the image. Where that keypoint is not labeled, the mean stands in; without any, the box's center.
        offset_method: how a peak's position in its cell is computed: "offset" (a head), "dark", "soft_argmax"
            (:mod:`centernet_d2.ops.subpixel`), "none" (its center).
        soft_nms: also of the candidates of a single test-time pass (not so published).
        num_candidates: centers read per image.
        num_peaks: peaks read per keypoint and image.
        calibration: () or (a, b, c, d), with which keypoints get a covariance and a calibrated score
            (:meth:`calibrate`); needs the head ``keypoint_heatmap``.
    """

    required_fields = ("keypoints",)
    candidate_keys: tuple[str, ...] = ("MODEL.CENTERNET.TOPK_CANDIDATES", "MODEL.KEYPOINT.TOPK_PEAKS")

    def __init__(
        self,
        *,
        heads: dict[str, Head],
        ranges: Sequence[tuple[int, int]],
        center: str = "box",
        nose_tip: int | None = None,
        offset_method: str = "offset",
        soft_nms: bool = True,
        num_candidates: int = 100,
        num_peaks: int = 32,
        calibration: Sequence[float] = (),
    ) -> None:
        super().__init__(heads)
        if center not in CENTERS:
            raise ValueError(f"MODEL.KEYPOINT.CENTER must be one of {CENTERS}, not {center!r}")
        if offset_method not in OFFSET_METHODS:
            raise ValueError(f"MODEL.KEYPOINT.OFFSET must be one of {OFFSET_METHODS}, not {offset_method!r}")
        if center == "nose" and nose_tip is None:
            raise ValueError('MODEL.KEYPOINT.CENTER is "nose", but these keypoints have none')
        if center != "box" and "box_size" in heads:
            raise ValueError('MODEL.KEYPOINT.BOX_SIZE needs MODEL.KEYPOINT.CENTER "box": set it to False')
        if calibration and (len(calibration) != 4 or "keypoint_heatmap" not in heads):
            raise ValueError(f"MODEL.KEYPOINT.CALIBRATION is {list(calibration)}: four numbers, for keypoint heatmaps")
        self.calibration = tuple(calibration)
        if "keypoint_heatmap" not in heads:
            self.candidate_keys = ("MODEL.CENTERNET.TOPK_CANDIDATES",)
        self.class_keypoints = ClassKeypoints(ranges)
        self.center, self.nose_tip, self.offset_method = center, nose_tip, offset_method
        self.soft_nms, self.num_candidates, self.num_peaks = soft_nms, num_candidates, num_peaks

    @classmethod
    def read_settings(cls, cfg: CfgNode, in_channels: Sequence[int], names: dict[str, str]) -> dict[str, Any]:
        """Return arguments of ``__init__``: the heads ``names`` and those of ``MODEL.CENTERNET.EXTRA_HEADS``.

        Raises:
            ValueError: the datasets' keypoints or classes are not what the task needs.
        """
        schema = get_schema(cfg.MODEL.KEYPOINT.SCHEMA)
        if len(schema.class_names) != cfg.MODEL.CENTERNET.NUM_CLASSES:
            raise ValueError(
                f"MODEL.CENTERNET.NUM_CLASSES is {cfg.MODEL.CENTERNET.NUM_CLASSES}, "
                f"but the keypoints {schema.title} have {len(schema.class_names)} classes"
            )
        if len(schema.class_names) > 1 and not cfg.MODEL.KEYPOINT.BOX_SIZE:
            raise ValueError(f"objects of {schema.title} have boxes of their own: set MODEL.KEYPOINT.BOX_SIZE to True")
        if list(cfg.MODEL.CENTERNET.GRID_POINTS) != [4]:
            raise ValueError("keypoint tasks have one center per object: MODEL.CENTERNET.GRID_POINTS must be [4]")
        heads = {key: build_head(name, cfg, in_channels) for key, name in names.items()}
        return {
            "heads": heads | build_extra_heads(cfg, in_channels),
            "ranges": schema.ranges,
            "center": cfg.MODEL.KEYPOINT.CENTER,
            "nose_tip": schema.nose_tip,
            "offset_method": cfg.MODEL.KEYPOINT.OFFSET,
            "soft_nms": cfg.MODEL.KEYPOINT.SOFT_NMS,
            "num_candidates": cfg.MODEL.CENTERNET.TOPK_CANDIDATES,
            "num_peaks": cfg.MODEL.KEYPOINT.TOPK_PEAKS,
            "calibration": cfg.MODEL.KEYPOINT.CALIBRATION,
        }

    def merge_spec(self) -> str:
        return "soft_nms" if self.soft_nms else "top"

    def prepare(self, objects: Targets) -> Targets:
        """Add "center" (P, 2) in grid cells, inside the grid, unless it is that of the box."""
        if self.center == "box":
            return objects
        keypoints = objects.fields["keypoints"]
        labeled = (keypoints[..., 2:] > 0).float()
        count = labeled.sum(dim=1)
        middle = (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2
        center = torch.where(count > 0, (keypoints[..., :2] * labeled).sum(dim=1) / count.clamp(min=1), middle)
        if self.center == "nose" and self.nose_tip is not None:
            nose = keypoints[:, self.nose_tip]
            center = torch.where(nose[:, 2:] > 0, nose[:, :2], center)
        return replace(objects, fields={**objects.fields, "center": center})

    def find_centers(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the best centers: probabilities (N, M), classes (N, M), cells (N, M, 2), positions (N, M, 2) in grid
        cells."""
        score, classes, cells = (x[:, 0] for x in find_top_peaks(outputs["heatmap"][:, :, None], self.num_candidates))
        offset = cast(PointOffsetHead, self.heads["offset"])
        index = make_image_index(score)
        return (
            score.sigmoid(),
            classes,
            cells,
            cells + offset.read(outputs["offset"], index[..., None], cells[:, :, None])[:, :, 0],
        )

    def decode_center_boxes(self, outputs: dict[str, Tensor], cells: Tensor, centers: Tensor) -> Tensor:
        """Return boxes (N, M, 4) of the head ``box_size``, read at ``cells`` (N, M, 2), around
        ``centers`` (N, M, 2)."""
        index = make_image_index(cells[..., 0])[..., None]
        head = cast(BoxSizeHead, self.heads["box_size"])
        return head.decode_boxes(outputs["box_size"], index, cells[:, :, None], centers[:, :, None])[:, :, 0]

    def find_peaks(self, outputs: dict[str, Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best peaks of every keypoint: probabilities (N, K, S), cells (N, K, S, 2),
        positions (N, K, S, 2)."""
        maps = outputs["keypoint_heatmap"]
        logits, _, cells = find_top_peaks(maps[:, None], count)
        image_index = make_image_index(logits)
        keypoint = torch.arange(maps.shape[1], device=maps.device)[:, None].expand(logits.shape)
        if self.offset_method == "offset":
            head = cast(KeypointOffsetHead, self.heads["keypoint_offset"])
            positions = head.read(outputs["keypoint_offset"], image_index, keypoint, cells)
        elif self.offset_method == "none":
            positions = cells + 0.5
        else:
            position = find_dark_position if self.offset_method == "dark" else find_soft_argmax_position
            positions = cells + position(maps, image_index, keypoint, cells)
        return logits.sigmoid(), cells, positions

    def build_candidates(
        self,
        outputs: dict[str, Tensor],
        score: Tensor,
        classes: Tensor,
        cells: Tensor,
        own: Tensor,
        boxes: Tensor | None,
    ) -> Candidates:
        """Return candidates with ``own`` (N, M, L, 3) keypoints; without ``boxes``, the boxes enclose the keypoints."""
        if boxes is None:
            boxes = compute_extreme_box(own[..., :2], self.class_keypoints.used[classes])
        points = {}
        if self.calibration:
            own, spread = self.calibrate(outputs["keypoint_heatmap"], classes, own)
            points = {k: self.class_keypoints.scatter(x, classes) for k, x in zip(_SPREAD, spread, strict=True)}
        points["keypoints"] = self.class_keypoints.scatter(own, classes)
        predictions = Candidates(boxes, score, classes, torch.zeros_like(classes[0]), points)
        return self.add_extra_predictions(predictions, outputs, cells)

    def calibrate(self, maps: Tensor, classes: Tensor, own: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return keypoints (N, M, L, 3) with calibrated scores, and two points more of each, (N, M, L, 3), which are
        moved as it is: its covariance is the sum of the outer products of their distances from it.

        With p the score, and S the second moments of the heatmap around the keypoint (``ops.subpixel``), the
        covariance is exp(a) p^b S. The calibrated score, sigmoid(c logit(p) + d), is the probability that the error is
        at most a tenth of the box's longer side (Platt 1999).

        Args:
            maps: (N, K, H, W) logits.
        """
        index = self.class_keypoints.index[classes]
        a, b, c, d = self.calibration
        points, score = own[..., :2], own[..., 2:].clamp(1e-6, 1 - 1e-6)
        covariance = compute_peak_covariance(maps, make_image_index(index), index, points)
        spread = compute_spread(covariance) * (a + b * score.log())[..., None].div(2).exp()
        first, second = (torch.cat([points + one, score], dim=-1) for one in spread.unbind(-2))
        return torch.cat([points, (c * score.logit() + d).sigmoid()], dim=-1), (first, second)

    def finish(self, instances: Instances, sample: dict[str, Any]) -> Instances:
        """Add ``pred_keypoint_covariance`` (P, K, 2, 2), pixels^2, if there is a calibration."""
        if self.calibration:
            places = [instances.get(f"pred_{name}")[..., :2] for name in ("keypoints", *_SPREAD)]
            vectors = torch.stack([one - places[0] for one in places[1:]], dim=-2)  # (P, K, 2, 2), one a row
            instances.pred_keypoint_covariance = vectors.mT @ vectors
            for name in _SPREAD:
                instances.remove(f"pred_{name}")
        return instances

    def merge(self, candidates: Candidates, limit: int) -> Candidates:
        """Return at most ``limit`` per image, by soft-NMS of the boxes: peaks around one center match to the same
        keypoints."""
        if candidates.num_passes == 1 and not self.soft_nms:
            scores, index = candidates.scores.topk(min(limit, candidates.scores.shape[1]))
        else:
            index, scores = soft_nms(candidates.boxes, candidates.scores, candidates.classes, limit)
        kept = replace(candidates.select(index), scores=scores)
        # Coordinates have been moved to the image's frame since; those of other classes stay zero.
        points = dict(kept.points)
        for name in ("keypoints", *(_SPREAD if self.calibration else ())):
            own = self.class_keypoints.gather(kept.points[name], kept.classes)
            points[name] = self.class_keypoints.scatter(own, kept.classes)
        return replace(kept, points=points)


def list_keypoint_heads(cfg: CfgNode) -> dict[str, str]:
    """Return the keypoint heatmaps' heads by the name that appears in checkpoints."""
    names = {"keypoint_heatmap": "KeypointHeatmapHead"}
    return {**names, "keypoint_offset": "KeypointOffsetHead"} if cfg.MODEL.KEYPOINT.OFFSET == "offset" else names


def list_center_heads(cfg: CfgNode) -> dict[str, str]:
    """Return the center's heads by the name that appears in checkpoints."""
    names = {"heatmap": "ClassHeatmapHead", "offset": "PointOffsetHead"}
    return {**names, "box_size": cfg.MODEL.CENTERNET.BOX_HEAD} if cfg.MODEL.KEYPOINT.BOX_SIZE else names
