"""The objects of a batch, as the losses need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances, Keypoints
from torch import Tensor

from centernet_d2.ops.grid_coding import grid_points
from centernet_d2.ops.indexing import gather_cells


@dataclass
class Targets:
    """The objects of a batch as one flat list, in grid cells.

    Attributes:
        boxes: (P, 4) float32 x1, y1, x2, y2, clipped to the grid; all have a positive area.
        classes: (P,) int64 in [0, C).
        image_index: (P,) int64 in [0, N).
        num_images: N.
        grid_size: (H, W).
        num_objects: () float32, the count that losses are divided by.
        fields: extra values per object (keypoints, depth, ...), (P, ...) each, points among them in grid cells;
            "center" (P, 2), where a task adds it, stands for the objects instead of points of their boxes.
        ignored: regions in whose center an object of their class is ignored, as such a list.
    """

    boxes: Tensor
    classes: Tensor
    image_index: Tensor
    num_images: int
    grid_size: tuple[int, int]
    num_objects: Tensor
    fields: dict[str, Tensor] = field(default_factory=dict)
    ignored: Targets | None = None
    _found: dict[tuple[int, ...], tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def from_instances(cls, instances: list[Instances], stride: int, grid_size: tuple[int, int]) -> Targets:
        """Flatten ``gt_boxes`` (input pixels) and ``gt_classes``; any other ``gt_<name>`` becomes ``fields[<name>]``:
        ``Keypoints`` (P, K, 3) are moved to grid cells, tensors (P, ...) are taken as they are. Rows of which
        ``gt_ignored`` (P,) bool says so become ``ignored``.

        Objects that have no area inside the grid are left out.
        """
        height, width = grid_size
        boxes = torch.cat([x.gt_boxes.tensor for x in instances]).cpu().float().numpy() / stride
        boxes = np.minimum(np.maximum(boxes, 0), np.array([width, height, width, height], dtype=np.float32))
        keep = torch.from_numpy((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        names = [name for name in instances[0].get_fields() if name not in ("gt_boxes", "gt_classes")]
        fields = {name.removeprefix("gt_"): _flatten([x.get(name) for x in instances], stride) for name in names}
        ignored = fields.pop("ignored", None)
        every = cls(
            boxes=torch.from_numpy(boxes),
            classes=torch.cat([x.gt_classes for x in instances]).cpu(),
            image_index=torch.from_numpy(np.repeat(np.arange(len(instances)), [len(x) for x in instances])),
            num_images=len(instances),
            grid_size=grid_size,
            num_objects=torch.tensor(float(len(boxes))),
            fields=fields,
        )
        if ignored is not None:
            return replace(every.select(keep & ~ignored), ignored=every.select(keep & ignored))
        return every if keep.all() else every.select(keep)

    def select(self, rows: Tensor) -> Targets:
        """The objects that ``rows``, a mask (P,), keeps; ignored regions stay."""
        return replace(
            self,
            boxes=self.boxes[rows],
            classes=self.classes[rows],
            image_index=self.image_index[rows],
            num_objects=rows.sum().float(),
            fields={name: value[rows] for name, value in self.fields.items()},
        )

    def points(self, point_flags: Sequence[int]) -> Tensor:
        """(P, K, 2) x, y of the points that stand for the objects: those of ``ops.grid_coding``, or the "center"."""
        return self._locate(tuple(point_flags))[0]

    def cells(self, point_flags: Sequence[int]) -> Tensor:
        """(P, K, 2) int64 x, y of the cells that hold :meth:`points`."""
        return self._locate(tuple(point_flags))[1]

    def _locate(self, point_flags: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Points and cells, found once for all heads."""
        if point_flags not in self._found:
            center = self.fields.get("center")
            points = grid_points(self.boxes, point_flags) if center is None else center[:, None]
            self._found[point_flags] = points, gather_cells(points, self.grid_size)
        return self._found[point_flags]

    def to(self, device: torch.device) -> Targets:
        """The same objects on ``device``; copies do not wait for the device."""
        if device == self.boxes.device:
            return self
        moved: dict[str, Any] = {
            k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, Tensor)
        }
        fields = {k: v.to(device, non_blocking=True) for k, v in self.fields.items()}
        ignored = None if self.ignored is None else self.ignored.to(device)
        return replace(self, **moved, fields=fields, ignored=ignored)


def _flatten(values: list[Keypoints] | list[Tensor], stride: int) -> Tensor:
    """Of all images, on the CPU; keypoints in grid cells."""
    tensors = [value.tensor if isinstance(value, Keypoints) else value for value in values]
    flat = torch.cat(tensors).cpu()
    return flat.float() * torch.tensor([1 / stride, 1 / stride, 1]) if isinstance(values[0], Keypoints) else flat
