"""Detects labels in other units than pixels. Looks at whole datasets, because a single box can be anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.issues import AnnotationIssue, check_box, is_number
from centernet_d2.data.validation.object_boxes import is_inside, restore_uncut_boxes

# This many boxes do not lie in one corner of large images by chance.
_MANY = 20


def check_fractions(dataset_dicts: Sequence[DatasetDict]) -> list[AnnotationIssue]:
    """Return fatal issues if all boxes, or all labeled keypoints, of the dataset are fractions of the image size.

    Fast: the search ends at the first box and the first keypoint in pixels.
    """
    with_objects = [
        dataset_dict
        for dataset_dict in dataset_dicts
        if isinstance(dataset_dict, dict) and dataset_dict.get("annotations")
    ]
    if not with_objects:
        return []
    file, issues = str(with_objects[0].get("file_name")), []
    count, fractions = _count_fractions(np.array(one["bbox"], dtype=float) for one in _iterate_objects(with_objects))
    if fractions:
        problem = f"all {count} boxes lie within 1 pixel: they must be in pixels, not fractions of the image (multiply"
        issues.append(AnnotationIssue(file, None, "bbox", f"{problem} by its width and height)"))
    # An index of 1 is at 1.5 in continuous coordinates.
    count, fractions = _count_fractions(_select_labeled_keypoints(one) / 1.5 for one in _iterate_objects(with_objects))
    if fractions:
        problem = f"all labeled keypoints of {count} objects lie within 1 pixel of the corner: they must be in pixels"
        issues.append(AnnotationIssue(file, None, "keypoints", f"{problem}, not fractions of the image"))
    return issues


def check_units(dataset_dicts: Sequence[DatasetDict]) -> list[AnnotationIssue]:
    """Return the issues of ``check_fractions``, or one if many boxes look like fractions, or all like percent or
    thousandths of the image or like corners given as x, y, width, height. Its file is the first image with objects."""
    issues = check_fractions(dataset_dicts)
    objects = [(dataset_dict, one) for dataset_dict in dataset_dicts for one in _get_comparable_objects(dataset_dict)]
    if issues or not objects:
        return issues
    boxes = np.array([one["bbox"] for _, one in objects], dtype=np.float64)
    sizes = np.array([[dataset_dict["width"], dataset_dict["height"]] for dataset_dict, _ in objects])
    by_size = np.array([one.get("bbox_mode", BoxMode.XYWH_ABS) == BoxMode.XYWH_ABS for _, one in objects])
    problem = _describe_unit_problem(boxes, sizes, by_size)
    return [AnnotationIssue(str(objects[0][0].get("file_name")), None, "bbox", problem, fatal=False)] if problem else []


def _describe_unit_problem(boxes: np.ndarray, sizes: np.ndarray, by_size: np.ndarray) -> str:
    """Describe what may be wrong with the units; "" if nothing.

    Args:
        boxes: (P, 4) as annotated.
        sizes: (P, 2) width and height of each box's image.
        by_size: (P,) bool: the box is x, y, width, height, not corners.
    """
    ends = boxes[:, 2:] + boxes[:, :2] * by_size[:, None]
    for unit, name in ((100, "percent"), (1000, "thousandths")):
        if len(boxes) >= _MANY and (sizes >= 2 * unit).all() and (np.abs(np.hstack([boxes, ends])) <= unit).all():
            problem = f"all {len(boxes)} boxes end within {unit} pixels, in images of {sizes.min()} pixels or more"
            return f"{problem}: if they are {name} of the image, the model learns wrong positions and sizes"
    fractions = (np.abs(boxes) <= 1).all(axis=1).sum()
    if fractions >= _MANY:
        problem = f"{fractions} of {len(boxes)} boxes lie within 1 pixel: if they are fractions of the image, multiply"
        return f"{problem} them by its width and height; the model learns them as points in the corner"
    over = (ends > sizes + 1).any(axis=1)
    ordered = (boxes[:, 2:] > boxes[:, :2]).all() and (boxes[:, 2:] <= sizes + 1).all()
    if by_size.all() and ordered and over.sum() >= max(2, len(boxes) / 4):
        problem = f"{over.sum()} of {len(boxes)} boxes reach outside as x, y, width, height, and none does as corners"
        return f"{problem} x1, y1, x2, y2: if they are corners, the model learns boxes that are too large"
    return ""


def _count_fractions(values: Iterable[np.ndarray]) -> tuple[int, bool]:
    """Count the non-empty arrays up to the first with a value above 1; and whether there are some and none has one."""
    count = 0
    for array in values:
        if not (np.abs(array) <= 1).all():
            return count, False
        count += bool(array.size)
    return count, count > 0


def _iterate_objects(dataset_dicts: Iterable[DatasetDict]) -> Iterator[dict[str, Any]]:
    return (one for dataset_dict in dataset_dicts for one in _get_comparable_objects(dataset_dict))


def _get_comparable_objects(dataset_dict: DatasetDict) -> list[dict[str, Any]]:
    """Return the valid objects of an image, with their boxes as annotated; none if it has no size or at most 2 pixels a
    side."""
    if not isinstance(dataset_dict, dict) or not isinstance(dataset_dict.get("annotations"), list):
        return []
    size: tuple[Any, Any] = dataset_dict.get("height"), dataset_dict.get("width")
    if not all(is_number(value) and value > 2 for value in size):
        return []
    objects = [one for one in dataset_dict["annotations"] if isinstance(one, dict)]
    return restore_uncut_boxes(
        [one for one in objects if is_inside(one, size) or not any(x[2] for x in check_box(one, size))]
    )


def _select_labeled_keypoints(annotation: dict[str, Any]) -> np.ndarray:
    """Return the labeled keypoints' x, y (N, 2); empty if they are malformed."""
    values = annotation.get("keypoints", ())
    if not hasattr(values, "__len__") or len(values) % 3 or not all(is_number(value) for value in values):
        return np.zeros((0, 2))
    points = np.array(values, dtype=np.float64).reshape(-1, 3)
    return points[points[:, 2] > 0, :2]
