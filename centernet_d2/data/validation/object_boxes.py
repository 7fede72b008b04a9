"""Drops invalid objects and clips boxes to the image, once, in the dataset dicts.

An object whose box has no area or is outside the image is dropped; a box that reaches over the edge is clipped.
Training, evaluation, drawing and counting all use the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.data.datasets.builtin import _PREDEFINED_SPLITS_COCO
from detectron2.structures import BoxMode

from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.issues import AnnotationIssue, check_box, is_integer, is_number

#: Keys of dataset dicts: number of dropped objects; issues of dropped and clipped ones. Absent if there are none.
LEFT_OUT, BOX_ISSUES = "left_out", "box_issues"
#: Key of annotations with a clipped box: the box as annotated, in the same ``bbox_mode``.
UNCUT_BOX = "uncut_bbox"
#: Built-in datasets whose benchmarks score unclipped boxes. Evaluation uses the annotated boxes there, and only there,
#: so that the numbers stay comparable.
SCORED_WHOLE = {name for sets in _PREDEFINED_SPLITS_COCO.values() for name in sets}


# Tolerance for rounding errors, pixels.
_ROUNDING = 1e-6


def is_inside(annotation: Any, size: tuple[Any, Any]) -> bool:
    """Whether the box is valid, has an area and lies inside the image. Fast, because it is called for every object."""
    box: Any = annotation.get("bbox") if isinstance(annotation, dict) else None
    if type(box) not in (list, tuple) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        return False
    mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    if mode not in (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) or not all(type(value) is int for value in size):
        return False
    x1, y1, x2, y2 = _get_corners(box, mode)
    inside = x1 >= -_ROUNDING and y1 >= -_ROUNDING and x2 <= size[1] + _ROUNDING and y2 <= size[0] + _ROUNDING
    return inside and x2 > x1 and y2 > y1


def fit_box(annotation: dict[str, Any], size: tuple[Any, Any]) -> list[Any] | None:
    """Clip the box to the image, in its ``bbox_mode`` (default XYWH_ABS); None if nothing is left.

    Args:
        annotation: without fatal issues (``validation.issues.check_object``).
        size: (height, width), pixels; the box is clipped if both are positive integers.
    """
    if is_inside(annotation, size):
        return list(annotation["bbox"])
    box, mode = list(annotation["bbox"]), annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    x1, y1, x2, y2 = _get_corners(box, mode)
    if all(is_integer(value) and value > 0 for value in size):
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, size[1]), min(y2, size[0])
        cut = [x1, y1, x2, y2] if mode == BoxMode.XYXY_ABS else [x1, y1, x2 - x1, y2 - y1]
        box = cut if max(abs(new - old) for new, old in zip(cut, box, strict=True)) > _ROUNDING else box
    return box if x2 > x1 and y2 > y1 else None


def _get_corners(box: Sequence[Any], mode: BoxMode) -> tuple[Any, Any, Any, Any]:
    x1, y1, x2, y2 = box
    return (x1, y1, x2, y2) if mode == BoxMode.XYXY_ABS else (x1, y1, x1 + x2, y1 + y2)


def settle_objects(dataset_dicts: Iterable[DatasetDict]) -> None:
    """Drop invalid objects and clip boxes, in place. Objects with fatal issues stay, for the checks to report.

    Calling it again changes nothing.
    """
    for dataset_dict in dataset_dicts:
        annotations = dataset_dict.get("annotations") if isinstance(dataset_dict, dict) else None
        if not isinstance(annotations, list):
            continue
        size = dataset_dict.get("height"), dataset_dict.get("width")
        kept: list[Any] = []
        issues: list[AnnotationIssue] = []
        for position, annotation in enumerate(annotations, start=1):
            if is_inside(annotation, size):
                kept.append(annotation)
                continue
            errors = check_box(annotation, size) if isinstance(annotation, dict) else [("annotation", "", True)]
            if not any(fatal for _, _, fatal in errors):
                number = annotation.get("id", position)
                issues += [AnnotationIssue(str(dataset_dict.get("file_name")), number, *error) for error in errors]
                box = fit_box(annotation, size)
                if box is None:
                    continue
                if box != list(annotation["bbox"]):
                    annotation[UNCUT_BOX], annotation["bbox"] = annotation["bbox"], box
            kept.append(annotation)
        if len(kept) < len(annotations):
            dataset_dict[LEFT_OUT] = dataset_dict.get(LEFT_OUT, 0) + len(annotations) - len(kept)
            dataset_dict["annotations"] = kept
        if issues:
            dataset_dict[BOX_ISSUES] = [*dataset_dict.get(BOX_ISSUES, ()), *issues]


def restore_uncut_boxes(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the objects with their boxes as annotated, which may reach over the edge of the image."""
    return [{**one, "bbox": one[UNCUT_BOX]} if UNCUT_BOX in one else one for one in annotations]


def list_scored_objects(annotations: list[dict[str, Any]], dataset_name: str) -> list[dict[str, Any]]:
    """Return the objects with the boxes that evaluation compares with; see ``SCORED_WHOLE``."""
    return restore_uncut_boxes(annotations) if dataset_name in SCORED_WHOLE else annotations


def settle_coco(data: dict[str, Any]) -> bool:
    """Do the same to the content of a COCO file, in place, for evaluation; return whether anything changed.

    Clipping by less than a pixel and less than 5 percent of the area changes no match at any of COCO's IoU thresholds,
    and is skipped: COCO's own boxes reach over the edge by rounding. An object's area becomes at most that of its
    clipped box.
    """
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in data["images"]}
    kept, changed = [], False
    for entry in data["annotations"]:
        size = sizes.get(entry.get("image_id"), (None, None))
        if is_inside(entry, size) or any(fatal for _, _, fatal in check_box(entry, size)):
            kept.append(entry)
            continue
        box = fit_box(entry, size)
        if box is None:
            changed = True
            continue
        if _is_clipping_relevant(entry["bbox"], box):
            area = box[2] * box[3]
            area = min(entry["area"], area) if is_number(entry.get("area")) else area
            entry, changed = {**entry, "bbox": box, "area": area}, True
        kept.append(entry)
    data["annotations"] = kept
    return changed


def _is_clipping_relevant(before: list[float], after: list[float]) -> bool:
    """Whether clipping matters for evaluation; boxes are x, y, width, height."""
    return max(before[2] - after[2], before[3] - after[3]) > 1 or after[2] * after[3] < 0.95 * before[2] * before[3]
