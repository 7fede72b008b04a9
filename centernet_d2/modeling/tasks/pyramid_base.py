"""What the tasks over a feature pyramid share: units, candidates of all levels, merging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from centernet_d2.layers.distributed import average_over_processes
from centernet_d2.modeling.lsnet.levels import Levels, flatten_levels, split_levels
from centernet_d2.modeling.lsnet.reference import check_defects
from centernet_d2.modeling.tasks.base import Task
from centernet_d2.ops.lsnet.level_assignment import assign_atss, assign_centroid, find_cells_in_regions
from centernet_d2.ops.lsnet.view_voting import vote_boxes
from centernet_d2.ops.soft_nms import soft_nms
from centernet_d2.runtime.merging import DECAYS
from centernet_d2.structures import Candidates, Targets

# The reference pads every image to a multiple of this, input pixels; cells beyond have no loss.
_PADDING = 32
# Logits of a perfect network.
_SURE = 12.0
# Detections that go into the vote of several views (as in the reference).
_VOTED = 1000


@dataclass(frozen=True)
class PyramidSettings:
    """Settings that all tasks over a pyramid have; see the comments of ``MODEL.LSNET``."""

    point_offset: float = 0.0
    init_positives: int = 1
    atss_topk: int = 9
    num_candidates: int = 1000
    merge: str = "nms"
    nms_iou: float = 0.6
    vote_iou: float = 0.66
    min_box_area: float = 0.0
    defects: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.merge not in DECAYS:
            raise ValueError(f"MODEL.LSNET.MERGE must be one of {list(DECAYS)}, not {self.merge!r}")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> PyramidSettings:
        """Return the settings of ``MODEL.LSNET``."""
        settings = cfg.MODEL.LSNET
        return cls(
            point_offset=settings.POINT_OFFSET,
            init_positives=settings.INIT_POSITIVES,
            atss_topk=settings.ATSS_TOPK,
            num_candidates=settings.TOPK_CANDIDATES,
            merge=settings.MERGE,
            nms_iou=settings.NMS_IOU,
            vote_iou=settings.VOTE_IOU,
            min_box_area=settings.MIN_BOX_AREA,
            defects=check_defects(settings.REFERENCE_DEFECTS),
        )


@dataclass(frozen=True)
class PickedCells:
    """The best pairs of cell and class of one level, M per image.

    Attributes:
        level: index of the level.
        scores, classes: (N, M) float32 in [0, 1] and int64.
        cells: (N, M) int64 index of the cell in the level.
        points: (N, M, 2) their anchor points, input pixels.
        strides: (N, M) the stride of the level.
    """

    level: int
    scores: Tensor
    classes: Tensor
    cells: Tensor
    points: Tensor
    strides: Tensor

    def read(self, maps: Tensor) -> Tensor:
        """Return the values (N, M, D) of ``maps`` (N, D, H, W) at the cells."""
        flat = maps.flatten(2).transpose(1, 2)
        return flat.gather(1, self.cells[..., None].expand(-1, -1, flat.shape[2]))


class PyramidTask(Task):
    """Base of tasks whose heads predict at every cell of several levels. Coordinates are in input pixels.

    Output maps are named "<what>_<level>", (N, D, H, W) each.

    Args:
        heads: networks by the name that appears in checkpoints.
        settings: see :class:`PyramidSettings`.
    """

    flip_closed = False
    can_pad_targets = False
    clips_points = True
    required_fields: tuple[str, ...] = ("crowd",)
    candidate_keys = ("MODEL.LSNET.TOPK_CANDIDATES",)

    def __init__(self, heads: dict[str, nn.Module], settings: PyramidSettings) -> None:
        super().__init__(heads)  # type: ignore[arg-type]  # these are no heads of one map
        self.settings, self.merge_iou = settings, settings.nms_iou
        self.min_box_area = settings.min_box_area
        self.strides: tuple[int, ...] = ()

    def bind_strides(self, strides: Sequence[int]) -> int:
        """Take the strides of the levels; coordinates are in input pixels, so the unit is 1."""
        self.strides = tuple(strides)
        return 1

    def encode(self, objects: Targets) -> Targets:  # type: ignore[override]
        """Return the objects; which cells learn them depends on the predictions."""
        with torch.no_grad():
            return self.prepare(objects)

    def pick_cells(self, logits: Tensor, level: int) -> PickedCells:
        """Return the pairs of cell and class with the highest scores of one level's ``logits`` (N, C, H, W)."""
        num_classes, width, stride = logits.shape[1], logits.shape[3], self.strides[level]
        flat = logits.sigmoid().permute(0, 2, 3, 1).flatten(1)
        scores, pairs = flat.topk(min(self.settings.num_candidates, flat.shape[1]))
        cells = pairs.div(num_classes, rounding_mode="floor")
        xy = torch.stack([cells % width, cells.div(width, rounding_mode="floor")], dim=-1)
        points = (xy + self.settings.point_offset) * stride
        return PickedCells(level, scores, pairs % num_classes, cells, points, torch.full_like(scores, stride))

    def normalizer(self, assigned: Tensor) -> Tensor:
        """Return the sum over images of max(1, positive cells) (), averaged over processes.

        Args:
            assigned: (N, A), -1 of cells without an object.
        """
        count = (assigned >= 0).sum(dim=1).clamp(min=1).sum().float()
        return count if "local_normalizers" in self.settings.defects else average_over_processes(count)

    def assign_init(
        self,
        points: Tensor,
        strides: Tensor,
        boxes: Tensor,
        valid: Tensor,
        usable: Tensor,
        extreme_points: Tensor | None = None,
    ) -> Tensor:
        """Return the slot of the object that each cell learns in the first stage (N, A); see ``assign_centroid``."""
        return assign_centroid(points, strides, boxes, valid, extreme_points, self.settings.init_positives, usable)

    def assign_refine(self, proposals: Tensor, levels: Levels, boxes: Tensor, valid: Tensor, usable: Tensor) -> Tensor:
        """Return the same of the second stage; see ``assign_atss``."""
        zero_iou = "zero_iou_positives" in self.settings.defects
        return assign_atss(proposals, levels.counts, boxes, valid, self.settings.atss_topk, zero_iou, usable)

    def count_positives(self, slots: int) -> tuple[int, int]:
        """Return how many cells of an image with ``slots`` objects learn one in the first and second stage, at most."""
        settings = self.settings
        return slots * settings.init_positives, slots * settings.atss_topk * len(self.strides)

    def encode_classes(self, objects: Targets, assigned: Tensor, num_classes: int, levels: Levels) -> list[Tensor]:
        """Return logits (N, C, H, W) of each level, high at the cells of ``assigned`` (N, A) and low elsewhere."""
        logits = torch.full((*assigned.shape, num_classes), -_SURE)
        image, cell = (assigned >= 0).nonzero(as_tuple=True)
        logits[image, cell, objects.pad(objects.classes)[image, assigned[image, cell]]] = _SURE
        return split_levels(logits, levels)

    def find_usable_cells(self, targets: Targets, levels: Levels) -> Tensor:
        """Return the cells (N, A) bool that belong to their image rather than to the padding of the batch."""
        assert targets.image_sizes is not None
        return levels.inside(targets.image_sizes, _PADDING)

    def count_cells(self, targets: Targets, usable: Tensor, assigned: Tensor, points: Tensor) -> Tensor:
        """Return the cells (N, A) bool that have a class loss: those ``usable``, but for negatives in a crowd.

        Args:
            assigned: as in :meth:`normalizer`.
            points: (A, 2) anchor points.
        """
        if targets.ignored is None or "crowd_as_background" in self.settings.defects:
            return usable
        crowds = targets.ignored
        inside = find_cells_in_regions(points, crowds.pad(crowds.boxes), crowds.list_occupied_slots())
        return usable & ((assigned >= 0) | ~inside)

    def merge(self, candidates: Candidates, limit: int) -> Candidates:
        """Merge per class: by ``MODEL.LSNET.MERGE``; the boxes of several test-time passes vote."""
        boxes, scores, classes = candidates.boxes, candidates.scores, candidates.classes
        if candidates.num_passes > 1:
            scores, index = scores.topk(min(_VOTED, scores.shape[1]))
            return self._vote(candidates.select(index), limit)
        decay = DECAYS[self.settings.merge]
        index, scores = soft_nms(boxes, scores, classes, limit, decay=decay, iou=self.merge_iou)
        return replace(candidates.select(index), scores=scores)

    def _vote(self, candidates: Candidates, limit: int) -> Candidates:
        names = list(candidates.points)
        vectors = [candidates.points[name].flatten(2) for name in names]
        index, boxes, scores, voted = vote_boxes(
            candidates.boxes,
            candidates.scores,
            candidates.classes,
            torch.cat(vectors, dim=2) if vectors else candidates.boxes[..., :0],
            limit,
            self.settings.vote_iou,
        )
        kept = candidates.select(index)
        parts = voted.split([x.shape[2] for x in vectors], dim=2) if vectors else ()
        points = {name: part.view_as(kept.points[name]) for name, part in zip(names, parts, strict=True)}
        return replace(kept, boxes=boxes, scores=scores, points=points)

    def merge_spec(self) -> str:
        return self.settings.merge

    def finish(self, instances: Instances, sample: dict[str, Any]) -> Instances:
        """Clip boxes and points to the image; drop boxes below the minimum area."""
        instances.pred_boxes.clip(instances.image_size)
        height, width = instances.image_size
        for name, value in instances.get_fields().items():
            if name in self.point_fields:
                value[..., 0].clamp_(0, width)
                value[..., 1].clamp_(0, height)
        return instances[instances.pred_boxes.area() > self.min_box_area]

    #: Names of the predicted points that are clipped to the image.
    point_fields: tuple[str, ...] = ("pred_extreme_points", "pred_contour", "pred_keypoints")


def list_positives(assigned: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return cells (N, r) int64 of each image, those that learn an object first, and whether they do (N, r) bool.

    On a GPU r depends on shapes alone, so that the host need not wait. On a CPU it is as small as it can be.

    Args:
        assigned: (N, A), -1 of cells without an object.
        most: cells of an image that learn an object, at most.
    """
    positive = assigned >= 0
    size = int(positive.sum(dim=1).max()) if assigned.device.type == "cpu" else min(most, assigned.shape[1])
    cells = (~positive).to(torch.uint8).argsort(dim=1, stable=True)[:, :size]
    return cells, positive.gather(1, cells)


def class_loss(
    logits: Sequence[Tensor], targets: Targets, assigned: Tensor, counted: Tensor, normalizer: Tensor
) -> Tensor:
    """Return the sigmoid focal loss (RetinaNet; gamma 2, alpha 0.25), summed and divided by ``normalizer``.

    Args:
        logits: (N, C, H, W) of each level.
        assigned: (N, A) int64 slot of the object that each cell learns, or -1.
        counted: (N, A) bool, the cells that have a loss.
    """
    flat = flatten_levels(logits).float()
    classes = torch.zeros_like(assigned)
    if targets.slots:
        classes = targets.pad(targets.classes).gather(1, assigned.clamp(min=0))
    target = F.one_hot(classes, flat.shape[2]) * (assigned >= 0)[..., None]
    losses = sigmoid_focal_loss(flat, target.to(flat.dtype), alpha=0.25, gamma=2.0)
    return (losses.sum(dim=-1) * counted).sum() / normalizer
