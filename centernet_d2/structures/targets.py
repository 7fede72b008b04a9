"""The objects of a batch, as the losses need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from detectron2.structures import Instances, Keypoints
from torch import Tensor

from centernet_d2.ops.grid_coding import compute_grid_points
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
        image_sizes: (N, 2) float32 width, height of each image before the batch was padded, grid cells.
        slot: (P,) int64 position of each object in its row of :meth:`pad`.
        slots: length of those rows.
    """

    boxes: Tensor
    classes: Tensor
    image_index: Tensor
    num_images: int
    grid_size: tuple[int, int]
    num_objects: Tensor
    fields: dict[str, Tensor] = field(default_factory=dict)
    ignored: Targets | None = None
    image_sizes: Tensor | None = None
    slot: Tensor | None = None
    slots: int = 0
    _points_of_flags: dict[tuple[int, ...], tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

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
        counts = [len(x) for x in instances]
        every = cls(
            boxes=torch.from_numpy(boxes),
            classes=torch.cat([x.gt_classes for x in instances]).cpu(),
            image_index=torch.from_numpy(np.repeat(np.arange(len(instances)), counts)),
            num_images=len(instances),
            grid_size=grid_size,
            num_objects=torch.tensor(float(len(boxes))),
            fields=fields,
            image_sizes=torch.tensor([x.image_size[::-1] for x in instances], dtype=torch.float32) / stride,
            slot=torch.cat([torch.arange(count) for count in counts]),
            slots=max(counts),
        )
        if ignored is not None:
            return replace(every.select(keep & ~ignored), ignored=every.select(keep & ignored))
        return every if keep.all() else every.select(keep)

    def select(self, rows: Tensor) -> Targets:
        """Return the objects that ``rows``, a mask (P,), keeps; ignored regions stay."""
        return replace(
            self,
            boxes=self.boxes[rows],
            classes=self.classes[rows],
            image_index=self.image_index[rows],
            num_objects=rows.sum().float(),
            fields={name: value[rows] for name, value in self.fields.items()},
            slot=None if self.slot is None else self.slot[rows],
        )

    def ignore(self, rows: Tensor) -> Targets:
        """Return the objects without those of the mask ``rows`` (P,), which are ignored from now on."""
        dropped = self.select(rows)
        if self.ignored is not None:
            dropped = dropped._append(self.ignored)
        return replace(self.select(~rows), ignored=replace(dropped, ignored=None))

    def _append(self, other: Targets) -> Targets:
        assert self.slot is not None and other.slot is not None
        return replace(
            self,
            boxes=torch.cat([self.boxes, other.boxes]),
            classes=torch.cat([self.classes, other.classes]),
            image_index=torch.cat([self.image_index, other.image_index]),
            slot=torch.cat([self.slot, other.slot]),
            fields={name: torch.cat([value, other.fields[name]]) for name, value in self.fields.items()},
        )

    def list_occupied_slots(self) -> Tensor:
        """Return the slots (N, slots) bool of :meth:`pad` that hold an object."""
        return self.pad(torch.ones_like(self.classes, dtype=torch.bool))

    def pad(self, values: Tensor) -> Tensor:
        """Return ``values`` (P, ...) as one row per image, (N, slots, ...); empty slots are zero."""
        assert self.slot is not None
        padded = values.new_zeros(self.num_images, self.slots, *values.shape[1:])
        padded[self.image_index, self.slot] = values
        return padded

    def get_points(self, point_flags: Sequence[int]) -> Tensor:
        """Return (P, K, 2) x, y of the points that stand for the objects: those of ``ops.grid_coding``, or the
        "center"."""
        return self._locate(tuple(point_flags))[0]

    def get_cells(self, point_flags: Sequence[int]) -> Tensor:
        """Return (P, K, 2) int64 x, y of the cells that hold :meth:`get_points`."""
        return self._locate(tuple(point_flags))[1]

    def _locate(self, point_flags: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return points and cells, computed once for all heads."""
        if point_flags not in self._points_of_flags:
            center = self.fields.get("center")
            points = compute_grid_points(self.boxes, point_flags) if center is None else center[:, None]
            self._points_of_flags[point_flags] = points, gather_cells(points, self.grid_size)
        return self._points_of_flags[point_flags]


def _flatten(values: list[Keypoints] | list[Tensor], stride: int) -> Tensor:
    """Concatenate a field of all images on the CPU; keypoints in grid cells."""
    tensors = [value.tensor if isinstance(value, Keypoints) else value for value in values]
    flat = torch.cat(tensors).cpu()
    return flat.float() * torch.tensor([1 / stride, 1 / stride, 1]) if isinstance(values[0], Keypoints) else flat
