"""Checks of whole datasets: issues of annotations and images, and objects that share a grid cell."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from centernet_d2.data.annotations import convert_to_corner_boxes
from centernet_d2.data.build import load_training_dicts
from centernet_d2.data.catalog import get_class_names as names_of
from centernet_d2.data.catalog import load_dataset_dicts
from centernet_d2.data.corrupt_images import CorruptImages
from centernet_d2.data.datasets.own_keypoints import describe_own_keypoints
from centernet_d2.data.fields import Field, build_fields
from centernet_d2.data.image_io import CorruptImageError, DatasetDict, read_image
from centernet_d2.data.validation.box_units import check_units
from centernet_d2.data.validation.headers import HeaderReader
from centernet_d2.data.validation.issues import AnnotationIssue, check_image_entry, check_object, raise_issues
from centernet_d2.data.validation.object_boxes import BOX_ISSUES
from centernet_d2.data.validation.usable import check_pairing
from centernet_d2.geometry import build_letterbox_matrix, transform_points
from centernet_d2.ops.grid_coding import compute_grid_points
from centernet_d2.progress import track
from centernet_d2.registry import get_required_fields
from centernet_d2.structures.keypoint_schema import find_schema

_logger = logging.getLogger(__name__)


class SharedCells(NamedTuple):
    """``lost`` of ``objects`` share their cell with an earlier object of the same class and image."""

    objects: int
    lost: int


def check_annotations(
    dataset_dicts: Sequence[DatasetDict],
    class_names: Sequence[str],
    check_images: bool = False,
    num_keypoints: int | None = None,
) -> list[AnnotationIssue]:
    """Return all issues of Detectron2-style dataset dicts.

    Args:
        check_images: also decode every image, to find unreadable and absent ones and wrong sizes.
        num_keypoints: number of keypoints of each object that has any; None if unknown.
    """
    issues: list[AnnotationIssue] = []
    categories = range(len(class_names))
    image_ids: Counter[str] = Counter()
    for position, dataset_dict in enumerate(track(dataset_dicts, "checked"), start=1):
        issues += check_image_entry(dataset_dict, f"dataset dict {position}")
        if not isinstance(dataset_dict, dict):
            continue
        file = str(dataset_dict.get("file_name", f"dataset dict {position}"))
        image_id = repr(dataset_dict.get("image_id"))
        if dataset_dict.get("image_id") is None or image_ids[image_id]:
            issues.append(AnnotationIssue(file, None, "image_id", f"is {image_id}: missing, or that of another image"))
        image_ids[image_id] += 1
        issues += dataset_dict.get(BOX_ISSUES, ())
        issues += _check_objects(dataset_dict, file, categories, num_keypoints)
        if check_images and isinstance(dataset_dict.get("file_name"), str):
            issues += _check_image_file(dataset_dict)
    return issues + check_units(dataset_dicts)


def check_quick(cfg: CfgNode) -> None:
    """Check all annotations and image headers of ``DATASETS.TRAIN`` and ``DATASETS.TEST``, before training.

    Dropped and clipped objects (``validation.object_boxes``) are counted in a warning, and so are unreadable images of
    ``DATASETS.TRAIN``, up to ``DATALOADER.MAX_CORRUPT_FRACTION``.

    Raises:
        AnnotationError: lists the first errors with file, annotation id and field, or the first images that evaluation
            cannot use; and the errors of ``load_dataset_dicts``.
        TooManyCorruptError: too many images of ``DATASETS.TRAIN`` cannot be used.
    """
    fields = build_fields(cfg) if cfg.DATASETS.TRAIN else []
    loaded = {name: load_dataset_dicts(name) for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)}
    for name, dataset_dicts in loaded.items():
        keypoints = MetadataCatalog.get(name).get("keypoint_names") if "keypoints" in get_required_fields(cfg) else None
        issues = check_annotations(dataset_dicts, names_of(name), num_keypoints=len(keypoints) if keypoints else None)
        raise_issues(f"dataset {name}", issues)
        if name in cfg.DATASETS.TRAIN:
            check_pairing(name, dataset_dicts, cfg.MODEL.CENTERNET.TASK, get_required_fields(cfg))
            raise_issues(f"dataset {name}", check_fields(dataset_dicts, fields))
        if issues:
            shown = "".join(f"\n  {issue}" for issue in issues[:3])
            _logger.warning(
                "Dataset %s: %d boxes are dropped, clipped or suspicious, such as:%s", name, len(issues), shown
            )
    schema = find_schema(cfg.MODEL.KEYPOINT.SCHEMA) if "keypoints" in get_required_fields(cfg) else None
    for line in describe_own_keypoints(schema) if schema and schema.own else ():
        _logger.info("Keypoints: %s", line)
    check_headers(cfg, bool(cfg.DATASETS.TRAIN), loaded.__getitem__)


def check_fields(dataset_dicts: Sequence[DatasetDict], fields: Sequence[Field]) -> list[AnnotationIssue]:
    """Return what the readers of a task's fields cannot use, such as a polygon of two points."""
    issues = []
    for dataset_dict in dataset_dicts:
        size = dataset_dict.get("height"), dataset_dict.get("width")
        for position, annotation in enumerate(dataset_dict.get("annotations", ()), start=1):
            for field in () if annotation.get("iscrowd") else fields:
                problem = field.find_problem(annotation, size)
                if problem is not None:
                    file, number = str(dataset_dict.get("file_name")), annotation.get("id", position)
                    issues.append(AnnotationIssue(file, number, *problem))
    return issues


def check_headers(
    cfg: CfgNode, train: bool = True, load: Callable[[str], list[DatasetDict]] = load_dataset_dicts
) -> None:
    """Check the image headers of ``DATASETS.TEST`` and, if ``train``, ``DATASETS.TRAIN``; raises as ``check_quick``."""
    reader = HeaderReader(cfg.OUTPUT_DIR)
    try:
        for name in cfg.DATASETS.TEST:
            corrupt = reader.check(load(name))
            issues = [AnnotationIssue(error.file_name, None, "image", error.reason) for error in corrupt]
            raise_issues(f"dataset {name} (a score without these images would be wrong)", issues)
        if train:
            dataset_dicts = load_training_dicts(cfg, load)
            corrupt = reader.check(dataset_dicts)
            counted = CorruptImages(len(dataset_dicts), cfg.DATALOADER.MAX_CORRUPT_FRACTION)
            counted.add(len(dataset_dicts) - len(corrupt), corrupt)
    finally:
        reader.save()


def count_shared_cells(
    dataset_dicts: Sequence[DatasetDict], stride: int, input_size: tuple[int, int], point: int = 4
) -> SharedCells:
    """Count the objects that a CenterNet cannot distinguish, because they share class and cell.

    Args:
        stride: input pixels per cell.
        input_size: (height, width) that images are letterboxed to.
        point: which point of the 3x3 grid in the box must share a cell, row-major; 4 is the center.
    """
    last_cell = np.array(input_size[::-1]) // stride - 1
    objects = lost = 0
    for dataset_dict in dataset_dicts:
        annotations = [a for a in dataset_dict.get("annotations", []) if not a.get("iscrowd", 0)]
        if not annotations:
            continue
        matrix = build_letterbox_matrix((dataset_dict["height"], dataset_dict["width"]), input_size)
        corners = transform_points(convert_to_corner_boxes(annotations).reshape(-1, 2, 2), matrix)
        corners = corners.clip(0, np.array(input_size[::-1]))
        valid = (corners[:, 1] > corners[:, 0]).all(axis=1)
        points = compute_grid_points(torch.from_numpy(corners.reshape(-1, 4)), [point])[:, 0].numpy()
        cells = np.minimum(points // stride, last_cell)
        classes = np.array([[a["category_id"]] for a in annotations])
        objects += int(valid.sum())
        lost += int(valid.sum()) - len(np.unique(np.hstack([cells, classes])[valid], axis=0))
    return SharedCells(objects, lost)


def _check_objects(
    dataset_dict: DatasetDict, file: str, categories: range, num_keypoints: int | None
) -> list[AnnotationIssue]:
    annotations = dataset_dict.get("annotations", [])
    if not isinstance(annotations, list):
        return [AnnotationIssue(file, None, "annotations", "is not a list")]
    issues: list[AnnotationIssue] = []
    seen: set[Any] = set()
    for position, annotation in enumerate(annotations, start=1):
        number = annotation.get("id", position) if isinstance(annotation, dict) else position
        size = (dataset_dict.get("height"), dataset_dict.get("width"))
        issues += check_object(annotation, file, number, size, categories, num_keypoints)
        if isinstance(annotation, dict) and "bbox_mode" not in annotation:
            issues.append(AnnotationIssue(file, number, "bbox_mode", "is missing"))
        if repr(number) in seen:
            issues.append(AnnotationIssue(file, number, "id", "is used twice"))
        seen.add(repr(number))
    return issues


def _check_image_file(dataset_dict: DatasetDict) -> list[AnnotationIssue]:
    try:
        read_image(dataset_dict)
    except CorruptImageError as error:
        return [AnnotationIssue(os.fspath(error.file_name), None, "image", error.reason)]
    return []
