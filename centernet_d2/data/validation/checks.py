"""Checks of whole data sets: everything that is wrong with them, and how many objects a grid cannot keep apart."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from centernet_d2.data.annotations import corner_boxes
from centernet_d2.data.catalog import class_names as names_of
from centernet_d2.data.catalog import load_records
from centernet_d2.data.image_io import BrokenImageError, Record, read_image
from centernet_d2.data.validation.issues import Finding, check_object, check_picture, raise_findings
from centernet_d2.geometry import letterbox_matrix, transform_points
from centernet_d2.ops.grid_coding import grid_points

_logger = logging.getLogger(__name__)
_OPENED = 5


class SharedCells(NamedTuple):
    """``lost`` of ``objects`` lie in the cell of an earlier object of their class and picture."""

    objects: int
    lost: int


def check_annotations(
    records: Sequence[Record],
    class_names: Sequence[str],
    check_images: bool = False,
    num_keypoints: int | None = None,
) -> list[Finding]:
    """Everything wrong with Detectron2-style records.

    Args:
        check_images: decode every picture, too: unreadable and absent ones, and sizes other than the record's.
        num_keypoints: of every object that has any; None where not known.
    """
    findings: list[Finding] = []
    categories = range(len(class_names))
    identities: Counter[str] = Counter()
    for position, record in enumerate(records, start=1):
        findings += check_picture(record, f"record {position}")
        if not isinstance(record, dict):
            continue
        file = str(record.get("file_name", f"record {position}"))
        identity = repr(record.get("image_id"))
        if record.get("image_id") is None or identities[identity]:
            findings.append(Finding(file, None, "image_id", f"is {identity}: missing, or that of another picture"))
        identities[identity] += 1
        findings += _check_objects(record, file, categories, num_keypoints)
        if check_images and isinstance(record.get("file_name"), str):
            findings += _check_image(record)
    return findings


def check_quick(cfg: CfgNode) -> None:
    """What training checks first: all annotations of ``DATASETS.TRAIN`` and ``DATASETS.TEST``, and a few pictures.

    Objects that training can leave out (no area, outside the picture) are counted in a warning.

    Raises:
        AnnotationError: lists the first faults with file, annotation id and field; and the errors of ``load_records``.
    """
    for name in dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)):
        records = load_records(name)
        keypoints = MetadataCatalog.get(name).get("keypoint_names") if cfg.MODEL.KEYPOINT_ON else None
        findings = check_annotations(records, names_of(name), num_keypoints=len(keypoints) if keypoints else None)
        raise_findings(f"data set {name}", findings)
        if findings:
            shown = "".join(f"\n  {finding}" for finding in findings[:3])
            _logger.warning("Data set %s: %d objects are left out or cut, such as:%s", name, len(findings), shown)
        unreadable = [fault for record in records[:: max(len(records) // _OPENED, 1)] for fault in _check_image(record)]
        if unreadable:
            _logger.warning("Data set %s: pictures that cannot be used, such as %s", name, unreadable[0])


def shared_cells(records: Sequence[Record], stride: int, input_size: tuple[int, int], point: int = 4) -> SharedCells:
    """Objects that a CenterNet cannot tell apart, because they have class and cell in common.

    Args:
        stride: input pixels per cell.
        input_size: (height, width) that pictures are letterboxed to.
        point: of the 3x3 grid in the box, row-major; 4 is the centre.
    """
    last_cell = np.array(input_size[::-1]) // stride - 1
    objects = lost = 0
    for record in records:
        annotations = [a for a in record.get("annotations", []) if not a.get("iscrowd", 0)]
        if not annotations:
            continue
        matrix = letterbox_matrix((record["height"], record["width"]), input_size)
        corners = transform_points(corner_boxes(annotations).reshape(-1, 2, 2), matrix)
        corners = corners.clip(0, np.array(input_size[::-1]))
        real = (corners[:, 1] > corners[:, 0]).all(axis=1)
        points = grid_points(torch.from_numpy(corners.reshape(-1, 4)), [point])[:, 0].numpy()
        cells = np.minimum(points // stride, last_cell)
        classes = np.array([[a["category_id"]] for a in annotations])
        objects += int(real.sum())
        lost += int(real.sum()) - len(np.unique(np.hstack([cells, classes])[real], axis=0))
    return SharedCells(objects, lost)


def _check_objects(record: Record, file: str, categories: range, num_keypoints: int | None) -> list[Finding]:
    annotations = record.get("annotations", [])
    if not isinstance(annotations, list):
        return [Finding(file, None, "annotations", "is not a list")]
    findings: list[Finding] = []
    seen: set[Any] = set()
    for position, annotation in enumerate(annotations, start=1):
        number = annotation.get("id", position) if isinstance(annotation, dict) else position
        size = (record.get("height"), record.get("width"))
        findings += check_object(annotation, file, number, size, categories, num_keypoints)
        if isinstance(annotation, dict) and "bbox_mode" not in annotation:
            findings.append(Finding(file, number, "bbox_mode", "is missing"))
        if repr(number) in seen:
            findings.append(Finding(file, number, "id", "is used twice"))
        seen.add(repr(number))
    return findings


def _check_image(record: Record) -> list[Finding]:
    try:
        read_image(record)
    except BrokenImageError as error:
        return [Finding(os.fspath(error.file_name), None, "picture", error.reason)]
    return []
