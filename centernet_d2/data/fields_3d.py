"""The field "box3d" of training objects: depth, dimensions, orientation and projected center of 3D boxes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import TransformList
from detectron2.structures import Keypoints
from torch import Tensor

from centernet_d2.data.datasets.kitti import CLASS_NAMES, IGNORED_AS
from centernet_d2.data.fields import Field, register_field
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.transforms.affine import select_affine
from centernet_d2.data.validation.issues import is_number
from centernet_d2.ops.box3d_geometry import project, wrap_angle
from centernet_d2.structures.boxes3d import get_calibration

#: Annotation field -> how many numbers.
_FIELDS = {"dim": 3, "location": 3, "alpha": 1}


@register_field("box3d")
class Box3DField(Field):
    """Reads :func:`read_object_fields`; adds :func:`list_ignored_regions` to the objects."""

    def __init__(self, cfg: CfgNode) -> None:
        pass

    def list_extra_objects(self, dataset_dict: DatasetDict) -> list[dict[str, Any]]:
        return list_ignored_regions(dataset_dict)

    def read(
        self,
        dataset_dict: DatasetDict,
        annotations: list[dict[str, Any]],
        transforms: TransformList,
        image_size: tuple[int, int],
    ) -> dict[str, Tensor | Keypoints]:
        return read_object_fields(dataset_dict, annotations, transforms)


def list_ignored_regions(dataset_dict: DatasetDict) -> list[dict[str, Any]]:
    """Return annotations with "ignored": one for each class that an object of ``dataset_dict["ignored"]`` may be
    mistaken for."""
    return [
        {"bbox": one["bbox"], "bbox_mode": one["bbox_mode"], "category_id": CLASS_NAMES.index(name), "ignored": True}
        for one in dataset_dict.get("ignored", ())
        for name in IGNORED_AS.get(one["type"], ())
    ]


def read_object_fields(
    dataset_dict: DatasetDict, annotations: list[dict[str, Any]], transforms: TransformList
) -> dict[str, Tensor | Keypoints]:
    """Read the fields of the P ``annotations`` after ``transforms``; those with "ignored" have only ``gt_ignored``.

    * ``gt_ignored`` (P,) bool.
    * ``gt_dimensions`` (P, 3) height, width, length in meters.
    * ``gt_depth`` (P,) of the box center, meters, as in ``ops.box3d_geometry.project``.
    * ``gt_metric`` (P,) bool: whether depth and dimensions can be learned. An object half as far away looks twice as
      large, so a scaled, shifted or rotated image says nothing about meters; a flipped one does.
    * ``gt_alpha`` (P,) radians in [-pi, pi).
    * ``gt_center_3d`` (P, 1, 3): projected box center, x, y in input pixels, and 2; all 0 where it is behind the
      camera.

    Args:
        dataset_dict: with "calib" (3, 4), "height" and "width".
        annotations: with "dim", "location" and "alpha", as KITTI's.

    Raises:
        ValueError: a field is missing or not numeric.
    """
    ignored = torch.tensor([a.get("ignored", False) for a in annotations], dtype=torch.bool)
    values = {name: _read_numbers(dataset_dict, annotations, name, count) for name, count in _FIELDS.items()}
    center = values["location"].clone()
    center[:, 1] -= values["dim"][:, 0] / 2
    x, y, depth = project(center, get_calibration(dataset_dict)).unbind(-1)
    visible = ~ignored & (depth > 0)
    points = torch.where(visible[:, None], torch.stack([x, y], dim=-1), 0)
    points = torch.from_numpy(transforms.apply_coords(points.numpy()))
    affine = select_affine(transforms)
    whole = all(part.is_letterbox((dataset_dict["height"], dataset_dict["width"])) for part in affine)
    alpha = values["alpha"][:, 0]
    alpha = math.pi - alpha if any(part.flips for part in affine) else alpha
    return {
        "gt_ignored": ignored,
        "gt_dimensions": values["dim"].float(),
        "gt_depth": depth.float(),
        "gt_metric": visible & whole,
        "gt_alpha": wrap_angle(alpha).float(),
        "gt_center_3d": Keypoints(torch.cat([points, 2.0 * visible[:, None]], dim=-1)[:, None].float()),
    }


def _read_numbers(dataset_dict: DatasetDict, annotations: list[dict[str, Any]], name: str, count: int) -> Tensor:
    """Return the field ``name`` of the annotations, (P, count) float64."""
    rows = torch.zeros(len(annotations), count, dtype=torch.float64)
    for row, annotation in zip(rows, annotations, strict=True):
        if annotation.get("ignored", False):
            continue
        numbers = np.ravel(annotation.get(name, ())).tolist()
        if len(numbers) != count or not all(map(is_number, numbers)):
            where = f"{dataset_dict.get('file_name')}, annotation {annotation.get('id')}, {name}"
            raise ValueError(f"{where}: is {annotation.get(name)!r}, not {count} finite numbers")
        row[:] = torch.tensor(numbers)
    return rows
