"""Issues of annotations: their description, the checks of single objects and images, and the error that lists them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, NamedTuple, TypeGuard

from detectron2.structures import BoxMode

_LISTED = 10


class AnnotationIssue(NamedTuple):
    """One issue of an annotation.

    Attributes:
        file: the image, or the annotation file if no image is concerned.
        annotation_id: as in the file; for formats without ids, the object's number in its image from 1; None if no
            object is concerned.
        field: the wrong key.
        problem: a description with the value.
        fatal: False if training can go on, because such an object is dropped or clipped to the image.
    """

    file: str
    annotation_id: Any
    field: str
    problem: str
    fatal: bool = True

    def __str__(self) -> str:
        where = self.file if self.annotation_id is None else f"{self.file}, annotation {self.annotation_id}"
        return f"{where}, {self.field}: {self.problem}"


class AnnotationError(ValueError):
    """Annotations that cannot be trained on."""


def raise_issues(title: str, issues: Iterable[AnnotationIssue]) -> None:
    """Raise one ``AnnotationError`` that lists the first ten fatal issues; do nothing without any."""
    fatal = [issue for issue in issues if issue.fatal]
    if not fatal:
        return
    more = [f"... and {len(fatal) - _LISTED} more"] if len(fatal) > _LISTED else []
    lines = [f"{title}: {len(fatal)} errors (centernet-d2 check-data lists all)", *map(str, fatal[:_LISTED]), *more]
    raise AnnotationError("\n  ".join(lines))


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite real number; booleans are not."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether ``value`` is an integer; booleans and 1.0 are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_object(
    annotation: Any,
    file: str,
    annotation_id: Any,
    size: tuple[Any, Any],
    categories: Collection[int],
    num_keypoints: int | None,
) -> list[AnnotationIssue]:
    """Return the issues of one object.

    Args:
        annotation: a dict with ``bbox``, ``bbox_mode`` (default x, y, width, height, as in COCO files) and so on.
        size: (height, width) of the image, pixels; the box is compared with it if both are positive integers.
        categories: the valid ``category_id``.
        num_keypoints: None if unknown.
    """

    def make_issue(field: str, problem: str, fatal: bool = True) -> AnnotationIssue:
        return AnnotationIssue(file, annotation_id, field, problem, fatal)

    if not isinstance(annotation, dict):
        return [make_issue("annotation", f"is {_shorten(annotation)}, not an object with fields")]
    issues = [make_issue(*problem) for problem in check_box(annotation, size)]
    category = annotation.get("category_id")
    if "category_id" not in annotation:
        issues.append(make_issue("category_id", "is missing"))
    elif not is_integer(category):
        issues.append(make_issue("category_id", f"is {_shorten(category)}, not an integer"))
    elif category not in categories:
        issues.append(make_issue("category_id", f"is {category}, but there is no such category"))
    for field in ("iscrowd", "ignore"):
        flag = annotation.get(field, 0)
        if not is_integer(flag) or flag not in (0, 1):
            issues.append(make_issue(field, f"is {_shorten(flag)}, not 0 or 1"))
    if "keypoints" in annotation:
        issues += [
            make_issue("keypoints", problem) for problem in _check_keypoints(annotation["keypoints"], num_keypoints)
        ]
    return issues


def check_image_entry(image: Any, file: str) -> list[AnnotationIssue]:
    """Return the issues of ``file_name``, ``height`` and ``width`` of an entry of "images" or a dataset dict."""
    if not isinstance(image, dict):
        return [AnnotationIssue(file, None, "images", f"has the entry {_shorten(image)}, not an object with fields")]
    name = image.get("file_name")
    issues = []
    if not isinstance(name, str) or not name:
        issues.append(AnnotationIssue(file, None, "file_name", _is_absent_or(image, "file_name", "the name of a file")))
    for field in ("height", "width"):
        if not is_integer(image.get(field)) or image[field] <= 0:
            issues.append(AnnotationIssue(name or file, None, field, _is_absent_or(image, field, "a positive integer")))
    return issues


def leaves_folder(name: str) -> bool:
    """Whether a file name inside a folder could lead out of it."""
    path = PurePath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or "\0" in name


def check_box(annotation: dict[str, Any], size: tuple[Any, Any]) -> list[tuple[str, str, bool]]:
    """Return (field, problem, fatal) of the issues of a box; arguments as of ``check_object``."""
    if "bbox" not in annotation:
        return [("bbox", "is missing", True)]
    box = annotation["bbox"]
    if not _is_sequence(box) or len(box) != 4:
        return [("bbox", f"is {_shorten(box)}, not four numbers", True)]
    if not all(is_number(value) for value in box):
        return [("bbox", f"{_shorten(list(box))} has a value that is not a finite number", True)]
    mode = annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    if mode not in (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS):
        return [("bbox_mode", f"is {_shorten(mode)}: only XYWH_ABS and XYXY_ABS are read", True)]
    x1, y1, x2, y2 = BoxMode.convert([float(value) for value in box], BoxMode(mode), BoxMode.XYXY_ABS)
    if x2 <= x1 or y2 <= y1:
        return [("bbox", f"{_shorten(list(box))} has no area: the object is dropped", False)]
    height, width = size
    if not (is_integer(height) and is_integer(width)) or min(height, width) <= 0:
        return []
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return [("bbox", f"{_shorten(list(box))} is outside the {width}x{height} image: it is dropped", False)]
    # Annotations in whole pixels may be off by one, by convention or rounding.
    if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
        return [("bbox", f"{_shorten(list(box))} reaches outside the {width}x{height} image: it is clipped", False)]
    return []


def _check_keypoints(keypoints: Any, count: int | None) -> list[str]:
    if not _is_sequence(keypoints) or len(keypoints) % 3:
        return [f"is {_shorten(keypoints)}, not triples x, y, visibility"]
    if not all(is_number(value) for value in keypoints):
        return ["have a value that is not a finite number"]
    if count is not None and len(keypoints) != 3 * count:
        return [f"are {len(keypoints) // 3} points, but the category has {count}"]
    if any(value not in (0, 1, 2) for value in keypoints[2::3]):
        return ["have a visibility other than 0, 1 or 2"]
    return []


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | bytes | dict)


def _is_absent_or(entry: dict[str, Any], field: str, wanted: str) -> str:
    return f"is {_shorten(entry[field])}, not {wanted}" if field in entry else "is missing"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
