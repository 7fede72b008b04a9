"""Keypoints of a COCO file as tools write them: without visibility, nested, or without a box."""

from __future__ import annotations

import math
from typing import Any

from centernet_d2.data.validation.issues import is_number
from centernet_d2.geometry import from_pixel_index

_VISIBILITIES = (0, 1, 2)


def complete_keypoints(annotation: dict[str, Any], count: int | None) -> list[str]:
    """Bring ``keypoints`` to triples x, y, visibility, in place; return what they were, nothing if that already.

    Positions without visibility are visible ones; only (0, 0) is not labeled. What stays wrong is left for the checks.

    Args:
        count: keypoints of the category; None if unknown.
    """
    points = annotation.get("keypoints")
    flat, kind = _flatten(points, count) if isinstance(points, list) and points else (points, "")
    if kind:
        annotation["keypoints"] = flat
    return [f"keypoints of annotations are {kind}"] if kind else []


def make_missing_box(annotation: dict[str, Any], margin: float) -> bool:
    """Make a missing ``bbox`` from the labeled keypoints, in place; return whether that was done.

    Args:
        annotation: its keypoints are triples of pixel indices.
        margin: added on each side, a fraction of the longer side.
    """
    box = None if annotation.get("bbox") else _enclose(annotation.get("keypoints"), margin)
    if box:
        annotation["bbox"] = box
    return box is not None


def _flatten(points: list[Any], count: int | None) -> tuple[list[Any], str]:
    """Return the triples, and what the points were; "" if they were triples or are something else."""
    nested = all(isinstance(point, list | tuple) for point in points)
    if nested and all(len(point) == 3 for point in points):
        return [x for point in points for x in point], "lists of three"
    if nested and all(len(point) == 2 for point in points):
        points = [x for point in points for x in point]
    elif count is None or len(points) != 2 * count:
        return points, ""
    elif len(points) % 3 == 0 and all(value in _VISIBILITIES for value in points[2::3]):
        return points, ""  # too few triples, rather
    triples = [[x, y, 2 if x or y else 0] for x, y in zip(points[0::2], points[1::2], strict=True)]
    return [x for triple in triples for x in triple], "without visibility, all visible but (0, 0)"


def _enclose(points: Any, margin: float) -> list[float] | None:
    """Return x, y, width, height around the labeled keypoints, which are pixel indices; None if they span none."""
    if not isinstance(points, list) or len(points) % 3 or not all(map(is_number, points)):
        return None
    triples = zip(*(points[k::3] for k in range(3)), strict=True)
    labeled = [(from_pixel_index(x), from_pixel_index(y)) for x, y, v in triples if v > 0]
    if not labeled:
        return None
    (x1, y1), (x2, y2) = (tuple(f(axis) for axis in zip(*labeled, strict=True)) for f in (min, max))
    added = margin * max(x2 - x1, y2 - y1)
    box = [x1 - added, y1 - added, x2 - x1 + 2 * added, y2 - y1 + 2 * added]
    return box if min(box[2:]) > 0 and all(map(math.isfinite, box)) else None
