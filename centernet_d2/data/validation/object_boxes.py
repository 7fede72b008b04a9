"""Which objects count, and with which box: decided once, in the records.

An object whose box has no area or is outside the image is left out; a box that reaches over the edge is cut to the
image. Training, evaluation, drawing and counting all take it from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.data.datasets.builtin import _PREDEFINED_SPLITS_COCO
from detectron2.structures import BoxMode

from centernet_d2.data.image_io import DatasetDict
from centernet_d2.data.validation.issues import AnnotationIssue, box_faults, is_integer, is_number

#: Of dataset dicts: how many objects were left out; what was left out or cut, to be shown. Absent where nothing was.
LEFT_OUT, BOX_ISSUES = "left_out", "box_issues"
#: Of annotations whose box was cut: the box as annotated, in the same ``bbox_mode``.
UNCUT_BOX = "uncut_bbox"
#: Published sets whose benchmarks score whole boxes, over the edge of the image, too. Their numbers must stay
#: comparable, so evaluation takes boxes as annotated there, and only there.
SCORED_WHOLE = {name for sets in _PREDEFINED_SPLITS_COCO.values() for name in sets}


# Sums of floating-point numbers reach over an edge by so much; pixels.
_ROUNDING = 1e-6


def is_inside(annotation: Any, size: tuple[Any, Any]) -> bool:
    """Whether the box is four plain numbers, has an area and is inside the image: fast, for nearly all objects."""
    box: Any = annotation.get("bbox") if isinstance(annotation, dict) else None
    if type(box) not in (list, tuple) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        return False
    mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    if mode not in (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS) or not all(type(value) is int for value in size):
        return False
    x1, y1, x2, y2 = _corners(box, mode)
    inside = x1 >= -_ROUNDING and y1 >= -_ROUNDING and x2 <= size[1] + _ROUNDING and y2 <= size[0] + _ROUNDING
    return inside and x2 > x1 and y2 > y1


def fit_box(annotation: dict[str, Any], size: tuple[Any, Any]) -> list[Any] | None:
    """The box inside the image, in its own ``bbox_mode`` (XYWH_ABS when absent); None where nothing is left of it.

    Args:
        annotation: without fatal faults (``annotation_checks.check_object``).
        size: (height, width), pixels; anything but positive integers switches the comparison off.
    """
    if is_inside(annotation, size):
        return list(annotation["bbox"])
    box, mode = list(annotation["bbox"]), annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    x1, y1, x2, y2 = _corners(box, mode)
    if all(is_integer(value) and value > 0 for value in size):
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, size[1]), min(y2, size[0])
        cut = [x1, y1, x2, y2] if mode == BoxMode.XYXY_ABS else [x1, y1, x2 - x1, y2 - y1]
        box = cut if max(abs(new - old) for new, old in zip(cut, box, strict=True)) > _ROUNDING else box
    return box if x2 > x1 and y2 > y1 else None


def _corners(box: Sequence[Any], mode: BoxMode) -> tuple[Any, Any, Any, Any]:
    x1, y1, x2, y2 = box
    return (x1, y1, x2, y2) if mode == BoxMode.XYXY_ABS else (x1, y1, x1 + x2, y1 + y2)


def settle_objects(dataset_dicts: Iterable[DatasetDict]) -> None:
    """Leave out and cut, in place, as the module says. Objects with fatal faults stay: checks name them.

    Doing it again changes nothing.
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
            faults = box_faults(annotation, size) if isinstance(annotation, dict) else [("annotation", "", True)]
            if not any(fatal for _, _, fatal in faults):
                number = annotation.get("id", position)
                issues += [AnnotationIssue(str(dataset_dict.get("file_name")), number, *fault) for fault in faults]
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
    """The objects with their boxes as annotated, which may reach over the edge of the image."""
    return [{**one, "bbox": one[UNCUT_BOX]} if UNCUT_BOX in one else one for one in annotations]


def scored_objects(annotations: list[dict[str, Any]], dataset_name: str) -> list[dict[str, Any]]:
    """The objects of a dataset dict with the boxes that evaluation compares with: see ``SCORED_WHOLE``."""
    return restore_uncut_boxes(annotations) if dataset_name in SCORED_WHOLE else annotations


def settle_coco(data: dict[str, Any]) -> bool:
    """The same for what a COCO file holds, in place, for evaluation; whether anything changed.

    A cut that takes less than a pixel and less than 5 percent of the area changes no match at any of COCO's overlaps,
    and is not made: COCO's own boxes reach over the edge by rounding. An object's area becomes at most its cut box's.
    """
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in data["images"]}
    kept, changed = [], False
    for entry in data["annotations"]:
        size = sizes.get(entry.get("image_id"), (None, None))
        if is_inside(entry, size) or any(fatal for _, _, fatal in box_faults(entry, size)):
            kept.append(entry)
            continue
        box = fit_box(entry, size)
        if box is None:
            changed = True
            continue
        if _matters(entry["bbox"], box):
            area = box[2] * box[3]
            area = min(entry["area"], area) if is_number(entry.get("area")) else area
            entry, changed = {**entry, "bbox": box, "area": area}, True
        kept.append(entry)
    data["annotations"] = kept
    return changed


def _matters(before: list[float], after: list[float]) -> bool:
    """Of boxes x, y, width, height."""
    return max(before[2] - after[2], before[3] - after[3]) > 1 or after[2] * after[3] < 0.95 * before[2] * before[3]
