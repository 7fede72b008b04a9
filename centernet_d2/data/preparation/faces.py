"""Faces with landmarks as entries of a COCO file; what cannot be believed is left out and reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from centernet_d2.data.formats.pts import read_pts
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.preparation.conversion import Converted, Fields, make_image_entry
from centernet_d2.data.validation.issues import AnnotationIssue, leaves_folder
from centernet_d2.geometry import from_pixel_index

# Landmarks of a face at the border may lie outside the image, but not further than this fraction of its longer side.
_MAX_OUTSIDE = 0.2


class Face(NamedTuple):
    """A face as its annotation has it.

    Attributes:
        points: (K, 2) x, y; pixel centers are whole numbers from 0.
        file: of the annotation.
        number: of the face in its image or file, None where there is but one.
        visibility: (K,) 0 not labeled, 1 hidden, 2 visible; None where all are visible.
        box: x1, y1, x2, y2 in continuous image coordinates; None for the smallest around the labeled points.
    """

    points: ArrayLike
    file: str
    number: Any = None
    visibility: Sequence[int] | None = None
    box: Iterable[float] | None = None


def convert_faces(
    root: Path, file_name: str, faces: Sequence[Face], issues: Sequence[AnnotationIssue] = (), **fields: Any
) -> Converted:
    """Return the image ``root / file_name`` with its faces; it is left out if every face is invalid.

    A face is left out if a coordinate is not a finite number, if more than half of its labeled points are outside the
    image or one is outside by more than a fifth of the longer side, or if its box has no area.

    Args:
        issues: of reading the annotation.
        fields: more of the entry in "images".
    """
    if leaves_folder(file_name):
        return Converted(issues=[*issues, AnnotationIssue(file_name, None, "image", f"leads out of the folder {root}")])
    try:
        image = make_image_entry(root, file_name, **fields)
    except CorruptImageError as error:
        return Converted(issues=[*issues, AnnotationIssue(error.file_name, None, "image", error.reason)])
    objects, issues = [], list(issues)
    for face in faces:
        try:
            objects.append(_convert_face(face, (image["height"], image["width"])))
        except _FieldError as error:
            issues.append(AnnotationIssue(face.file, face.number, *error.args))
    return Converted(image if objects or not issues else None, objects, issues)


class _FieldError(Exception):
    """Field and problem."""


def convert_pts(root: Path, file_name: str, pts: Path, box: Any = None, **fields: Any) -> Converted:
    """The image ``root / file_name`` with the face of 68 points in ``pts``; see ``convert_faces``."""
    points, issues = read_pts(pts, 68)
    if points is None:
        return Converted(issues=issues)
    return convert_faces(root, file_name, [Face(points, str(pts), box=box)], **fields)


def _convert_face(face: Face, size: tuple[int, int]) -> Fields:
    points = np.asarray(face.points, dtype=np.float64)
    visibility = np.full(len(points), 2) if face.visibility is None else np.asarray(face.visibility)
    labeled = points[visibility > 0]
    if not len(labeled):
        raise _FieldError("points", "none is labeled")
    if not np.isfinite(labeled).all():
        raise _FieldError("points", "have a value that is not a finite number")
    _check_inside(labeled, size)
    box = face.box
    if box is None:
        box = [*from_pixel_index(labeled.min(axis=0)), *from_pixel_index(labeled.max(axis=0))]
    x1, y1, x2, y2 = (float(value) for value in box)
    if not np.isfinite([x1, y1, x2, y2]).all():
        raise _FieldError("box", "is missing, or not four finite numbers")
    if x2 <= x1 or y2 <= y1:
        raise _FieldError("box", f"from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}) has no area")
    points = np.where(visibility[:, None] > 0, points, 0)
    return {
        "category_id": 1,
        "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
        "area": round((x2 - x1) * (y2 - y1), 4),
        "iscrowd": 0,
        "num_keypoints": len(labeled),
        "keypoints": [
            n for (x, y), v in zip(points, visibility, strict=True) for n in (_round_short(x), _round_short(y), int(v))
        ],
    }


def _check_inside(points: np.ndarray, size: tuple[int, int]) -> None:
    """Raise if ``points`` (K, 2) leave the image of ``size`` (height, width), in pixels."""
    height, width = size
    corner = np.array([width, height])
    beyond = np.maximum(-0.5 - points, points + 0.5 - corner).max(axis=1)
    worst = int(beyond.argmax())
    where = f"the {width}x{height} image"
    if beyond[worst] > _MAX_OUTSIDE * max(size):
        x, y = points[worst]
        raise _FieldError("points", f"one is far outside {where}, at ({x:g}, {y:g})")
    if (beyond > 0).mean() > 0.5:
        raise _FieldError("points", f"{(beyond > 0).sum()} of {len(points)} are outside {where}")


def _round_short(value: float) -> float:
    return round(float(value), 4)
