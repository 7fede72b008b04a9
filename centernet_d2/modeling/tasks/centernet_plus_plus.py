"""CenterNet++ (Duan et al. 2022, "CenterNet++ for Object Detection"): corners paired by the centers they predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.lsnet.corner_head import CORNERS_AND_CENTER, CornerHead, CornerMaps
from centernet_d2.modeling.lsnet.levels import Levels, flatten_levels, split_levels
from centernet_d2.modeling.lsnet.quarter_box_head import QuarterBoxHead, decode_quarter_boxes, split_boxes
from centernet_d2.modeling.lsnet.towers import KERNEL_POINTS
from centernet_d2.modeling.tasks.base import TASK_REGISTRY
from centernet_d2.modeling.tasks.pyramid_base import PyramidSettings, PyramidTask, class_loss, list_positives
from centernet_d2.ops.box_losses import box_loss
from centernet_d2.ops.constants import make_constant
from centernet_d2.ops.lsnet.triplet_pairing import pair_quarter_boxes
from centernet_d2.ops.soft_nms import soft_nms
from centernet_d2.structures import Candidates, Targets

#: The two quarters of an object's box, in the order of their heads.
SIDES = ("top_left", "bottom_right")
# Quarter boxes are divided by this many strides before the loss.
_LOSS_UNIT = 4.0
# Quarter boxes of one side that are paired (as in the reference).
_PAIRED = 100


@TASK_REGISTRY.register()
class CenterNetPlusPlusTask(PyramidTask):
    """Two heads find the upper left and the lower right quarter of each box; quarters with a common center are a box.

    Args:
        heads: one :class:`QuarterBoxHead` for each of ``SIDES``, and "corners" (:class:`CornerHead`).
        class_weight, init_weight, refine_weight: factors of the losses, each the mean of both sides.
    """

    required_fields = ("crowd",)

    @configurable
    def __init__(
        self,
        *,
        heads: dict[str, Any],
        settings: PyramidSettings,
        class_weight: float = 1.0,
        init_weight: float = 1.0,
        refine_weight: float = 2.0,
    ) -> None:
        super().__init__(heads, settings)
        self.weights = {"class": class_weight, "init": init_weight, "box": refine_weight}

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        """Return the arguments of ``__init__``; without MODEL.LSNET.CORNERS this is CenterNet-RT."""
        settings = cfg.MODEL.LSNET
        points = CORNERS_AND_CENTER if settings.CORNERS else ()
        common = {"num_classes": cfg.MODEL.CENTERNET.NUM_CLASSES, "channels": in_channels[0]}
        heads: dict[str, Any] = {
            side: QuarterBoxHead(
                **common, tower=settings.TOWER, extra_channels=3 * len(points), deformable=settings.CORNERS
            )
            for side in SIDES
        }
        heads["corners"] = CornerHead(**common, points=points, shared="plain", threshold=settings.CORNER_THRESH)
        return {
            "heads": heads,
            "settings": PyramidSettings.from_config(cfg),
            "class_weight": settings.CLASS_WEIGHT,
            "init_weight": settings.INIT_WEIGHT,
            "refine_weight": settings.REFINE_WEIGHT,
        }

    def build_side_head(self, side: str) -> QuarterBoxHead:
        """Return the head of that side."""
        return cast(QuarterBoxHead, self.heads[side])

    @property
    def corners(self) -> CornerHead:
        return cast(CornerHead, self.heads["corners"])

    def predict(self, features: Sequence[Tensor]) -> tuple[dict[str, list[Tensor]], CornerMaps]:
        """Return "<side>_class" logits, "<side>_init" and "<side>" points of every level, and the corner maps."""
        class_maps = {side: [self.build_side_head(side).class_tower(x) for x in features] for side in SIDES}
        box_maps = {side: [self.build_side_head(side).box_tower(x) for x in features] for side in SIDES}
        corners = self.corners([a + b for a, b in zip(*box_maps.values(), strict=True)])
        outputs: dict[str, list[Tensor]] = {}
        for side in SIDES:
            head = self.build_side_head(side)
            classes, boxes = corners.add_to(class_maps[side]), corners.add_to(box_maps[side])
            initial = outputs[f"{side}_init"] = head.predict_initial(boxes)
            classes, boxes = corners.append_to(classes), corners.append_to(boxes)
            outputs[f"{side}_class"], outputs[side] = head.predict_refined(classes, boxes, initial)
        return outputs, corners

    def predict_maps(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs, corners = self.predict(features)
        outputs |= corners.named()
        return {f"{name}_{level}": x.float() for name, maps in outputs.items() for level, x in enumerate(maps)}

    def losses(self, features: Sequence[Tensor], targets: Targets, num_objects: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the scalar losses "loss_class", "loss_box_init", "loss_box" and those of the corners."""
        outputs, corners = self.predict(features)
        levels = Levels.from_maps(features, self.strides, self.settings.point_offset)
        sides = [
            self._side_losses(outputs, side, quarter, targets, levels)
            for side, quarter in zip(SIDES, split_boxes(targets.boxes), strict=True)
        ]
        names = {"class": "loss_class", "init": "loss_box_init", "box": "loss_box"}
        losses = {
            names[key]: weight * torch.stack([side[key] for side in sides]).mean()
            for key, weight in self.weights.items()
        }
        return losses | self.corners.losses(corners, targets, levels, self.find_usable_cells(targets, levels))

    def _side_losses(
        self, outputs: dict[str, list[Tensor]], side: str, quarters: Tensor, targets: Targets, levels: Levels
    ) -> dict[str, Tensor]:
        points, strides = levels.get_points(quarters.device), levels.repeat_strides(quarters.device)
        boxes = targets.pad(quarters)
        valid = targets.list_occupied_slots()
        usable = self.find_usable_cells(targets, levels)
        initial = decode_quarter_boxes(flatten_levels(outputs[f"{side}_init"]).float(), points, strides)
        refined = decode_quarter_boxes(flatten_levels(outputs[side]).float(), points, strides)
        init = self.assign_init(points, strides, boxes, valid, usable)
        refine = self.assign_refine(initial.detach(), levels, boxes, valid, usable)
        counted, most = self.count_cells(targets, usable, refine, points), self.count_positives(targets.slots)
        return {
            "class": class_loss(outputs[f"{side}_class"], targets, refine, counted, self.normalizer(refine)),
            "init": self._box_loss(initial, init, most[0], boxes, strides) / self.normalizer(init),
            "box": self._box_loss(refined, refine, most[1], boxes, strides) / self.normalizer(refine),
        }

    def _box_loss(self, predicted: Tensor, assigned: Tensor, most: int, boxes: Tensor, strides: Tensor) -> Tensor:
        """Return the sum of the GIoU losses of the positive cells."""
        cells, positive = list_positives(assigned, most)
        own = predicted.gather(1, cells[..., None].expand(-1, -1, 4))
        if boxes.shape[1] == 0:
            return 0 * own.sum()  # keeps the parameters in the graph
        slots = assigned.gather(1, cells).clamp(min=0)
        target, unit = boxes.gather(1, slots[..., None].expand(-1, -1, 4)), _LOSS_UNIT * strides[cells][..., None]
        # The reference counts the sides one unit larger.
        grown = make_constant([0, 0, 1, 1] if "giou_plus_one" in self.settings.defects else [0, 0, 0, 0], unit)
        losses = box_loss("giou", (own / unit + grown).flatten(0, 1), (target / unit + grown).flatten(0, 1))
        return losses.where(positive.flatten(), 0).sum()

    def encode_dense(self, objects: Targets) -> dict[str, Tensor]:
        """Return the maps of a perfect network. A quarter box has the cells of the first stage."""
        objects = self.prepare(objects)
        levels = Levels.from_input_size(objects.grid_size, self.strides, self.settings.point_offset)
        points, strides = levels.get_points(objects.boxes.device), levels.repeat_strides(objects.boxes.device)
        usable = self.find_usable_cells(objects, levels)
        maps = self.corners.encode_dense(objects, levels, usable)
        for side, quarters in zip(SIDES, split_boxes(objects.boxes), strict=True):
            boxes = objects.pad(quarters)
            assigned = self.assign_init(points, strides, boxes, objects.list_occupied_slots(), usable)
            image, cell = (assigned >= 0).nonzero(as_tuple=True)
            corners = boxes[image, assigned[image, cell]].unflatten(1, (2, 2)) - points[cell][:, None]
            values = torch.zeros(*assigned.shape, 2 * KERNEL_POINTS)
            values[image, cell, :4] = (corners / strides[cell, None, None]).flip(-1).flatten(1)
            maps[f"{side}_class"] = self.encode_classes(
                objects, assigned, self.build_side_head(side).num_classes, levels
            )
            maps[side] = maps[f"{side}_init"] = split_levels(values, levels)
        return {f"{name}_{level}": x for name, parts in maps.items() for level, x in enumerate(parts)}

    def decode(self, outputs: dict[str, Tensor]) -> Candidates:
        sides = [self._decode_side(outputs, side) for side in SIDES]
        boxes, scores, classes = pair_quarter_boxes(*sides[0], *sides[1])
        scores, index = scores.topk(min(self.settings.num_candidates, scores.shape[1]))
        boxes = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        return Candidates(boxes, scores, classes.gather(1, index), torch.zeros_like(index[0]))

    def decode_for_export(self, maps: dict[str, Tensor]) -> Candidates:
        """Refuse.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "CenterNetPlusPlusTask cannot be exported: boxes of each side suppress each other before they are paired, "
            "and the steps of that depend on values"
        )

    def _decode_side(self, outputs: dict[str, Tensor], side: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best quarter boxes (N, P, 4), their scores and classes (N, P)."""
        picked = [self.pick_cells(outputs[f"{side}_class_{level}"], level) for level in range(len(self.strides))]
        parts = [
            decode_quarter_boxes(one.read(outputs[f"{side}_{one.level}"]), one.points, one.strides) for one in picked
        ]
        levels = torch.cat([torch.full_like(one.classes, one.level) for one in picked], dim=1)
        boxes, offset = torch.cat(parts, dim=1), self.settings.point_offset
        boxes = self.corners.move_boxes(boxes, levels, outputs, self.strides, QUARTER_POINTS[side], offset)
        scores = torch.cat([one.scores for one in picked], dim=1)
        classes = torch.cat([one.classes for one in picked], dim=1)
        index, scores = soft_nms(boxes, scores, classes, _PAIRED, decay="hard", iou=self.merge_iou)
        return boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores, classes.gather(1, index)


#: The points that are the two corners of each quarter box.
QUARTER_POINTS = {"top_left": ("top_left", "center"), "bottom_right": ("center", "bottom_right")}
