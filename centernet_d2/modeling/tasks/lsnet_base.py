"""What the tasks of LSNet share (Duan et al. 2021, "Location-Sensitive Visual Recognition with Cross-IOU Loss")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from detectron2.config import CfgNode, configurable
from torch import Tensor

from centernet_d2.modeling.lsnet.class_head import LevelClassHead
from centernet_d2.modeling.lsnet.corner_head import CORNERS, CornerHead, CornerMaps
from centernet_d2.modeling.lsnet.landmark_head import LandmarkHead, LandmarkTargets
from centernet_d2.modeling.lsnet.levels import Levels, flatten_levels, split_levels
from centernet_d2.modeling.lsnet.reference import check_defects
from centernet_d2.modeling.tasks.pyramid_base import (
    PickedCells,
    PyramidSettings,
    PyramidTask,
    class_loss,
    list_positives,
)
from centernet_d2.ops.lsnet.landmark_vectors import encode_vectors
from centernet_d2.structures import Candidates, Targets


class LSNetTask(PyramidTask):
    """Base of LSNet's tasks: classes, and landmarks in one or two heads.

    Args:
        heads: "classes" (:class:`LevelClassHead`), one or two :class:`LandmarkHead`, of which the first gives the
            boxes and the last says where the class head reads, and possibly "corners" (:class:`CornerHead`).
        class_weight: factor of the class loss.
        init_center: "box" or "centroid", see ``assign_centroid``.
    """

    @configurable
    def __init__(
        self,
        *,
        heads: dict[str, Any],
        settings: PyramidSettings,
        class_weight: float = 1.0,
        init_center: str = "box",
    ) -> None:
        super().__init__(heads, settings)
        self.class_weight, self.init_center = class_weight, init_center
        self.landmark_names = [name for name, head in heads.items() if isinstance(head, LandmarkHead)]

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: Sequence[int]) -> dict[str, Any]:
        """Return the arguments of ``__init__``; ``in_channels`` are the widths of the levels."""
        settings, defects = cfg.MODEL.LSNET, check_defects(cfg.MODEL.LSNET.REFERENCE_DEFECTS)
        extra = 3 * len(CORNERS) if settings.CORNERS else 0
        common: dict[str, Any] = {"channels": in_channels[0], "tower": settings.TOWER, "extra_channels": extra}
        heads: dict[str, Any] = {
            "classes": LevelClassHead(
                num_classes=cfg.MODEL.CENTERNET.NUM_CLASSES,
                cumulative_offsets="cumulative_offsets" in defects,
                **common,
            )
        }
        for name, arguments in cls.configure_landmark_heads(cfg).items():
            heads[name] = LandmarkHead(alpha=settings.ALPHA, defects=defects, **common, **arguments)
        if settings.CORNERS:
            heads["corners"] = CornerHead(
                num_classes=cfg.MODEL.CENTERNET.NUM_CLASSES,
                channels=in_channels[0],
                shared=settings.TOWER[-1],
                threshold=settings.CORNER_THRESH,
            )
        return {
            "heads": heads,
            "settings": PyramidSettings.from_config(cfg),
            "class_weight": settings.CLASS_WEIGHT,
            "init_center": settings.INIT_CENTER,
        }

    @classmethod
    def configure_landmark_heads(cls, cfg: CfgNode) -> dict[str, dict[str, Any]]:
        """Return the arguments of each landmark head by its name, that which gives the boxes first."""
        raise NotImplementedError

    def encode_landmarks(self, name: str, objects: Targets) -> LandmarkTargets:
        """Return what the head ``name`` is to predict of each of the P objects."""
        raise NotImplementedError

    def build_landmark_head(self, name: str) -> LandmarkHead:
        """Return the head of that name."""
        return cast(LandmarkHead, self.heads[name])

    @property
    def class_head(self) -> LevelClassHead:
        return cast(LevelClassHead, self.heads["classes"])

    @property
    def corners(self) -> CornerHead | None:
        return cast(CornerHead, self.heads["corners"]) if "corners" in self.heads else None

    def predict(self, features: Sequence[Tensor]) -> tuple[dict[str, list[Tensor]], CornerMaps | None]:
        """Return "class" logits, "<head>_init" and "<head>" vectors of every level, and the corner maps."""
        first, last = self.landmark_names[0], self.landmark_names[-1]
        towers = {"class": self.class_head.tower} | {
            name: self.build_landmark_head(name).tower for name in self.landmark_names
        }
        maps = {name: [tower(x) for x in features] for name, tower in towers.items()}
        corners, refined = None, maps
        if self.corners is not None:
            corners = self.corners(maps[first])
            maps = {name: corners.add_to(own) for name, own in maps.items()}
            refined = {name: corners.append_to(own) for name, own in maps.items()}
        outputs: dict[str, list[Tensor]] = {}
        points: dict[str, list[Tensor]] = {}
        for name in self.landmark_names:
            outputs[f"{name}_init"], points[name] = self.build_landmark_head(name).predict_initial(maps[name])
            initial = outputs[f"{name}_init"]
            outputs[name] = self.build_landmark_head(name).predict_refined(refined[name], points[name], initial)
        outputs["class"] = self.class_head(refined["class"], points[last])
        return outputs, corners

    def predict_maps(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs, corners = self.predict(features)
        outputs |= corners.named() if corners is not None else {}
        return {f"{name}_{level}": x.float() for name, maps in outputs.items() for level, x in enumerate(maps)}

    def losses(self, features: Sequence[Tensor], targets: Targets, num_objects: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """Return scalar losses: "loss_class", and two of each landmark head."""
        outputs, corners = self.predict(features)
        levels = Levels.from_maps(features, self.strides, self.settings.point_offset)
        points, strides = levels.get_points(features[0].device), levels.repeat_strides(features[0].device)
        goals = {name: self.encode_landmarks(name, targets) for name in self.landmark_names}
        first = self.landmark_names[0]
        boxes = targets.pad(goals[first].boxes)
        valid = targets.list_occupied_slots()
        usable = self.find_usable_cells(targets, levels)
        with torch.no_grad():
            initial = flatten_levels(outputs[f"{first}_init"]).float()
            head = self.build_landmark_head(first)
            proposals = head.select_box_landmarks(head.decode(initial, points, strides))
            init = self.assign_init(points, strides, boxes, valid, usable, self.init_points(targets, goals))
            refine = self.assign_refine(proposals, levels, boxes, valid, usable)
            counted = self.count_cells(targets, usable, refine, points)
        normalizers = {"_init": self.normalizer(init), "": self.normalizer(refine)}
        loss = class_loss(outputs["class"], targets, refine, counted, normalizers[""])
        losses = {"loss_class": self.class_weight * loss}
        for name in self.landmark_names:
            head = self.build_landmark_head(name)
            stages = (("_init", init, head.init_weight), ("", refine, head.refine_weight))
            for (suffix, assigned, weight), most in zip(stages, self.count_positives(targets.slots), strict=True):
                total = self._landmark_loss(
                    head, outputs[name + suffix], assigned, most, targets, goals[name], points, strides
                )
                losses[f"loss_{name}{suffix}"] = weight * total / normalizers[suffix]
        if self.corners is not None and corners is not None:
            losses |= self.corners.losses(corners, targets, levels, usable)
        return losses

    def init_points(self, objects: Targets, goals: dict[str, LandmarkTargets]) -> Tensor | None:
        """Return the extreme points (N, P, 4, 2) whose centroid is the first stage's center; None: the box's."""
        if self.init_center == "box":
            return None
        return objects.pad(goals[self.landmark_names[0]].landmarks[:, :4])

    def _landmark_loss(
        self,
        head: LandmarkHead,
        maps: list[Tensor],
        assigned: Tensor,
        most: int,
        targets: Targets,
        goals: LandmarkTargets,
        points: Tensor,
        strides: Tensor,
    ) -> Tensor:
        cells, positive = list_positives(assigned, most)
        flat = flatten_levels(maps)
        vectors = flat.gather(1, cells[..., None].expand(-1, -1, flat.shape[2]))
        if len(targets) == 0:
            return 0 * vectors.sum()  # keeps the parameters in the graph
        rows = targets.pad(torch.arange(len(targets), device=assigned.device))
        objects = rows.gather(1, assigned.gather(1, cells).clamp(min=0)).flatten()
        cells, weight = cells.flatten(), positive.flatten()
        return head.loss(vectors.flatten(0, 1), points[cells], strides[cells], goals.select(objects), weight)

    def encode_dense(self, objects: Targets) -> dict[str, Tensor]:
        """Return the maps of a perfect network. An object has the cells of the first stage."""
        objects = self.prepare(objects)
        levels = Levels.from_input_size(objects.grid_size, self.strides, self.settings.point_offset)
        points, strides = levels.get_points(objects.boxes.device), levels.repeat_strides(objects.boxes.device)
        goals = {name: self.encode_landmarks(name, objects) for name in self.landmark_names}
        boxes = objects.pad(goals[self.landmark_names[0]].boxes)
        valid = objects.list_occupied_slots()
        usable = self.find_usable_cells(objects, levels)
        assigned = self.assign_init(points, strides, boxes, valid, usable)
        image, cell = (assigned >= 0).nonzero(as_tuple=True)
        rows = objects.pad(torch.arange(len(objects)))[image, assigned[image, cell]]
        maps = {"class": self.encode_classes(objects, assigned, self.class_head.num_classes, levels)}
        for name, goal in goals.items():
            vectors = torch.zeros(*assigned.shape, self.build_landmark_head(name).num_vectors)
            displacement = goal.landmarks[rows] - points[cell][:, None]
            vectors[image, cell] = encode_vectors(displacement / strides[cell, None, None])
            maps[name] = maps[f"{name}_init"] = split_levels(vectors, levels)
        if self.corners is not None:
            maps |= self.corners.encode_dense(objects, levels, usable)
        return {f"{name}_{level}": x for name, parts in maps.items() for level, x in enumerate(parts)}

    def decode(self, outputs: dict[str, Tensor]) -> Candidates:
        picked = [self.pick_cells(outputs[f"class_{level}"], level) for level in range(len(self.strides))]
        landmarks = {
            name: torch.cat([self._decode_landmarks(outputs, name, cells) for cells in picked], dim=1)
            for name in self.landmark_names
        }
        first = self.landmark_names[0]
        boxes = self.build_landmark_head(first).select_box_landmarks(landmarks[first][..., :2])
        if self.corners is not None:
            levels = torch.cat([torch.full_like(cells.classes, cells.level) for cells in picked], dim=1)
            offset = self.settings.point_offset
            boxes = self.corners.move_boxes(boxes, levels, outputs, self.strides, point_offset=offset)
        scores, classes = (torch.cat([getattr(one, key) for one in picked], dim=1) for key in ("scores", "classes"))
        return self.build_candidates(boxes, scores, classes, landmarks)

    def _decode_landmarks(self, outputs: dict[str, Tensor], name: str, picked: PickedCells) -> Tensor:
        """Return x, y and a score of the landmarks (N, M, K + 1, 3) at the cells."""
        initial, vectors = (picked.read(outputs[f"{key}_{picked.level}"]) for key in (f"{name}_init", name))
        where = self.build_landmark_head(name).decode(vectors, picked.points, picked.strides)
        agreement = compare_stages(initial, vectors) * picked.scores[..., None]
        return torch.cat([where, agreement[..., None]], dim=-1)

    def build_candidates(
        self, boxes: Tensor, scores: Tensor, classes: Tensor, landmarks: dict[str, Tensor]
    ) -> Candidates:
        """Return the candidates; ``landmarks`` (N, M, K + 1, 3) x, y, score by head, the center last."""
        raise NotImplementedError


def compare_stages(initial: Tensor, refined: Tensor) -> Tensor:
    """Return how well both stages agree on each landmark, (..., K + 1) in [0, 1]: the ratio of the sums of minima and
    maxima of its four numbers (the cross-IOU of the two).

    Args:
        initial, refined: (..., 4 (K + 1)) vectors.
    """
    low, high = (f(initial, refined).unflatten(-1, (-1, 4)).sum(dim=-1) for f in (torch.minimum, torch.maximum))
    return low / high.clamp(min=1e-6)
