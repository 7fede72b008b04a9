"""What the landmark tasks share: the centre of an object, its box, and how candidates become objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from detectron2.config import CfgNode
from torch import Tensor

from centernet_d2.data.datasets.keypoint_sets import scheme_of
from centernet_d2.layers.class_keypoints import OwnLandmarks
from centernet_d2.modeling.heads import Branch, GridBoxSize, GridOffset, LandmarkSubcell, build_branch
from centernet_d2.modeling.tasks.base import Task
from centernet_d2.ops.indexing import image_index_of
from centernet_d2.ops.keypoint_matching import extreme_box
from centernet_d2.ops.peaks import top_peaks
from centernet_d2.ops.soft_nms import soft_nms
from centernet_d2.ops.subpixel import dark_position, soft_argmax_position
from centernet_d2.structures import Candidates, Targets

CENTERS = ("box", "nose", "mean")
SUBCELLS = ("offset", "dark", "soft_argmax", "none")


class LandmarkTask(Task):
    """Base of the landmark tasks.

    Args:
        ranges: (first, end) of the landmarks of each class; K is the last end.
        center: which point of an object its centre is: "box", "nose" (landmark ``nose_tip``), "mean" of the landmarks
            inside the picture. Where that landmark is not labelled, the mean stands in; without any, the box's centre.
        subcell: how a peak's place in its cell is found: "offset" (a branch), "dark", "soft_argmax"
            (:mod:`centernet_d2.ops.subpixel`), "none" (its middle).
        soft_nms: also of the candidates of a single test-time pass (not so published).
        num_candidates: centres read per image.
        num_peaks: peaks read per landmark and image.
    """

    def __init__(
        self,
        *,
        branches: dict[str, Branch],
        ranges: Sequence[tuple[int, int]],
        center: str = "box",
        nose_tip: int | None = None,
        subcell: str = "offset",
        soft_nms: bool = True,
        num_candidates: int = 100,
        num_peaks: int = 32,
    ) -> None:
        super().__init__(branches)
        if center not in CENTERS:
            raise ValueError(f"MODEL.LANDMARK.CENTER must be one of {CENTERS}, not {center!r}")
        if subcell not in SUBCELLS:
            raise ValueError(f"MODEL.LANDMARK.SUBCELL must be one of {SUBCELLS}, not {subcell!r}")
        if center == "nose" and nose_tip is None:
            raise ValueError('MODEL.LANDMARK.CENTER is "nose", but these landmarks have none')
        if center != "box" and "box_size" in branches:
            raise ValueError('MODEL.LANDMARK.BOX_SIZE needs MODEL.LANDMARK.CENTER "box": set it to False')
        self.own_landmarks = OwnLandmarks(ranges)
        self.center, self.nose_tip, self.subcell = center, nose_tip, subcell
        self.soft_nms, self.num_candidates, self.num_peaks = soft_nms, num_candidates, num_peaks

    @classmethod
    def settings(cls, cfg: CfgNode, in_channels: Sequence[int], names: dict[str, str]) -> dict[str, Any]:
        """Arguments of ``__init__``: the branches ``names`` and those of ``MODEL.CENTERNET.BRANCHES``.

        Raises:
            ValueError: the data sets' landmarks or classes are not what the task needs.
        """
        scheme = scheme_of(cfg)
        if len(scheme.class_names) != cfg.MODEL.CENTERNET.NUM_CLASSES:
            raise ValueError(
                f"MODEL.CENTERNET.NUM_CLASSES is {cfg.MODEL.CENTERNET.NUM_CLASSES}, "
                f"but the landmarks {scheme.name} have {len(scheme.class_names)} classes"
            )
        if list(cfg.MODEL.CENTERNET.POINT_FLAGS) != [4]:
            raise ValueError("landmark tasks have one centre per object: MODEL.CENTERNET.POINT_FLAGS must be [4]")
        names = {**names, **{name: name for name in cfg.MODEL.CENTERNET.BRANCHES}}
        return {
            "branches": {key: build_branch(name, cfg, in_channels) for key, name in names.items()},
            "ranges": scheme.ranges,
            "center": cfg.MODEL.LANDMARK.CENTER,
            "nose_tip": scheme.nose_tip,
            "subcell": cfg.MODEL.LANDMARK.SUBCELL,
            "soft_nms": cfg.MODEL.LANDMARK.SOFT_NMS,
            "num_candidates": cfg.MODEL.CENTERNET.TOPK_CANDIDATES,
            "num_peaks": cfg.MODEL.LANDMARK.TOPK_PEAKS,
        }

    def prepare(self, objects: Targets) -> Targets:
        """Adds "center" (P, 2) in grid cells, inside the grid, unless it is that of the box."""
        if self.center == "box":
            return objects
        keypoints = objects.fields["keypoints"]
        labelled = (keypoints[..., 2:] > 0).float()
        count = labelled.sum(dim=1)
        middle = (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2
        center = torch.where(count > 0, (keypoints[..., :2] * labelled).sum(dim=1) / count.clamp(min=1), middle)
        if self.center == "nose" and self.nose_tip is not None:
            nose = keypoints[:, self.nose_tip]
            center = torch.where(nose[:, 2:] > 0, nose[:, :2], center)
        return replace(objects, fields={**objects.fields, "center": center})

    def centers(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The best centres: probabilities (N, M), classes (N, M), cells (N, M, 2), places (N, M, 2) in grid cells."""
        score, classes, cells = (x[:, 0] for x in top_peaks(outputs["heatmap"][:, :, None], self.num_candidates))
        offset = cast(GridOffset, self.branches["offset"])
        index = image_index_of(score)
        return (
            score.sigmoid(),
            classes,
            cells,
            cells + offset.read(outputs["offset"], index[..., None], cells[:, :, None])[:, :, 0],
        )

    def regressed_boxes(self, outputs: dict[str, Tensor], cells: Tensor, centers: Tensor) -> Tensor:
        """(N, M, 4) boxes by the branch ``box_size``, read at ``cells`` (N, M, 2), around ``centers`` (N, M, 2)."""
        index = image_index_of(cells[..., 0])[..., None]
        branch = cast(GridBoxSize, self.branches["box_size"])
        return branch.boxes(outputs["box_size"], index, cells[:, :, None], centers[:, :, None])[:, :, 0]

    def peaks(self, outputs: dict[str, Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best peaks of every landmark: probabilities (N, K, S), cells (N, K, S, 2), places (N, K, S, 2)."""
        maps = outputs["landmark_heatmap"]
        logits, _, cells = top_peaks(maps[:, None], count)
        image_index = image_index_of(logits)
        landmark = torch.arange(maps.shape[1], device=maps.device)[:, None].expand(logits.shape)
        if self.subcell == "offset":
            branch = cast(LandmarkSubcell, self.branches["landmark_subcell"])
            places = branch.read(outputs["landmark_subcell"], image_index, landmark, cells)
        elif self.subcell == "none":
            places = cells + 0.5
        else:
            position = dark_position if self.subcell == "dark" else soft_argmax_position
            places = cells + position(maps, image_index, landmark, cells)
        return logits.sigmoid(), cells, places

    def proposed(
        self,
        outputs: dict[str, Tensor],
        score: Tensor,
        classes: Tensor,
        cells: Tensor,
        own: Tensor,
        boxes: Tensor | None,
    ) -> Candidates:
        """Candidates with ``own`` (N, M, L, 3) landmarks; boxes are theirs where none are given."""
        if boxes is None:
            boxes = extreme_box(own[..., :2], self.own_landmarks.used[classes])
        keypoints = self.own_landmarks.scatter(own, classes)
        found = Candidates(boxes, score, classes, torch.zeros_like(classes[0]), {"keypoints": keypoints})
        return self.with_further(found, outputs, cells)

    def merge(self, candidates: Candidates, limit: int) -> Candidates:
        """At most ``limit`` an image, by soft-NMS of the boxes: peaks around one centre snap to the same landmarks."""
        if candidates.scores.shape[1] <= self.num_candidates and not self.soft_nms:  # one test-time pass
            scores, index = candidates.scores.topk(min(limit, candidates.scores.shape[1]))
        else:
            index, scores = soft_nms(candidates.boxes, candidates.scores, candidates.classes, limit)
        kept = replace(candidates.select(index), scores=scores)
        # Coordinates have been moved to the picture's frame since; those of other classes stay zero.
        own = self.own_landmarks.gather(kept.points["keypoints"], kept.classes)
        return replace(kept, points={**kept.points, "keypoints": self.own_landmarks.scatter(own, kept.classes)})


def landmark_branches(cfg: CfgNode) -> dict[str, str]:
    """Those of the landmark heatmaps, by the name that appears in checkpoints."""
    names = {"landmark_heatmap": "LandmarkHeatmap"}
    return {**names, "landmark_subcell": "LandmarkSubcell"} if cfg.MODEL.LANDMARK.SUBCELL == "offset" else names


def center_branches(cfg: CfgNode) -> dict[str, str]:
    """Those of the centre, by the name that appears in checkpoints."""
    names = {"heatmap": "GridHeatmap", "offset": "GridOffset"}
    return {**names, "box_size": cfg.MODEL.CENTERNET.BOX_BRANCH} if cfg.MODEL.LANDMARK.BOX_SIZE else names
