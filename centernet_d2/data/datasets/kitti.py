"""Registers KITTI's 3D objects, from the files of ``datasets/prepare_kitti.py``."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from centernet_d2.data.datasets.coco import read_coco, read_coco_json, set_metadata
from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.issues import AnnotationIssue, is_number, raise_issues

#: Classes in the order of the category ids 1, 2, 3, as in CenterNet's reference models.
CLASS_NAMES = ("pedestrian", "car", "cyclist")
#: Object types in the labels; those after the first three become "ignored" regions.
TYPES = ("Pedestrian", "Car", "Cyclist", "Van", "Truck", "Person_sitting", "Tram", "Misc", "DontCare")
#: Types that look like objects of some classes, and the classes; ignored there, as in CenterNet.
IGNORED_AS: dict[str, tuple[str, ...]] = {
    "Van": ("car",),
    "Truck": ("car",),
    "Person_sitting": ("pedestrian",),
    "DontCare": CLASS_NAMES,
}
#: Fields of annotations and of ignored objects other than DontCare -> shape; () is a single number.
FIELDS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("truncated", "occluded", "alpha", "rotation_y", "depth"), ()),
    **dict.fromkeys(("dim", "location"), (3,)),
}
KITTI_METADATA: dict[str, Any] = {"thing_classes": list(CLASS_NAMES), "evaluator_type": "kitti"}


def register_kitti(name: str, json_file: str, image_root: str) -> None:
    """Register a file of ``convert_kitti``, or another one in that format."""
    DatasetCatalog.register(name, functools.partial(load_kitti, name, json_file, image_root))
    MetadataCatalog.get(name).set(image_root=image_root, **KITTI_METADATA)


def load_kitti(name: str, json_file: str, image_root: str) -> list[DatasetDict]:
    """Load Detectron2's dataset dicts, with more:

    * images have "calib", (3, 4) float64 (``ops.box3d_geometry``), and "ignored", a list of objects of other types with
      "type", "bbox", "bbox_mode", "line" and, except for DontCare, the fields of an annotation;
    * annotations have the ``FIELDS`` (``preparation.kitti.read_kitti``), and "line", the order of the labels.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: the first errors, each with file, annotation id and field.
    """
    dataset_dicts, issues, dataset_ids = read_kitti_json(json_file, image_root)
    raise_issues(f"dataset {name}, {json_file}", issues)
    ids = {"thing_dataset_id_to_contiguous_id": dataset_ids}
    set_metadata(name, {"image_root": image_root, **KITTI_METADATA, **ids})
    return dataset_dicts


def read_kitti_json(json_file: str, image_root: str) -> tuple[list[DatasetDict], list[AnnotationIssue], dict[int, int]]:
    """Read dataset dicts as of ``load_kitti``, the file's issues, and the map from category id to class.

    Raises:
        FileNotFoundError, AnnotationError: no such file, or it is not a COCO file.
    """
    coco = read_coco(json_file, image_root)
    if coco.issues:
        return coco.dataset_dicts, coco.issues, coco.dataset_ids
    issues: list[AnnotationIssue] = []
    if tuple(coco.class_names) != CLASS_NAMES:
        problem = f"are {', '.join(coco.class_names)}, not {', '.join(CLASS_NAMES)}"
        issues.append(AnnotationIssue(json_file, None, "categories", problem))
    content = read_coco_json(json_file)
    images = {entry["id"]: entry for entry in content["images"]}
    objects = {entry["id"]: entry for entry in content["annotations"]}
    for dataset_dict in coco.dataset_dicts:
        image, file_name = images[dataset_dict["image_id"]], dataset_dict["file_name"]
        for annotation in dataset_dict["annotations"]:
            entry = objects[annotation["id"]]
            issues += _check_fields(entry, {**FIELDS, "line": ()}, file_name, annotation["id"])
            annotation.update({name: entry.get(name) for name in (*FIELDS, "line")})
        dataset_dict["ignored"], errors = _read_ignored(image.get("ignored", []), file_name)
        errors += _check_fields(image, {"calib": (3, 4)}, file_name, None)
        dataset_dict["calib"] = None if errors else np.array(image["calib"], dtype=np.float64)
        issues += errors
    return coco.dataset_dicts, issues, coco.dataset_ids


def _read_ignored(entries: Any, file: str) -> tuple[list[dict[str, Any]], list[AnnotationIssue]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return [], [AnnotationIssue(file, None, "ignored", "is not a list of objects with fields")]
    issues: list[AnnotationIssue] = []
    for number, entry in enumerate(entries, start=1):
        fields = {"bbox": (4,), "line": (), **({} if entry.get("type") == "DontCare" else FIELDS)}
        issues += _check_fields(entry, fields, file, f"{number} of the ignored")
        if entry.get("type") not in TYPES:
            problem = f"is {entry.get('type')!r}, not one of {', '.join(TYPES)}"
            issues.append(AnnotationIssue(file, f"{number} of the ignored", "type", problem))
    return [{**entry, "bbox_mode": BoxMode.XYWH_ABS} for entry in entries], issues


def _check_fields(
    entry: dict[str, Any], fields: dict[str, tuple[int, ...]], file: str, number: Any
) -> list[AnnotationIssue]:
    return [
        AnnotationIssue(
            file, number, name, f"is {entry.get(name)!r}, not {math.prod(shape)} finite number{'s' * bool(shape)}"
        )
        for name, shape in fields.items()
        if not _has_shape(entry.get(name), shape)
    ]


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether ``value`` is nested lists of finite numbers."""
    if not shape:
        return is_number(value)
    return isinstance(value, list) and len(value) == shape[0] and all(_has_shape(x, shape[1:]) for x in value)
