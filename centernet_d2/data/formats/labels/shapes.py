"""Objects from single shapes: boxes, outlines and points that a tool keeps apart."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from centernet_d2.data.formats.labels.label_set import LabelSetBuilder, RecordError


class Shape(NamedTuple):
    """A shape of an image.

    Attributes:
        kind: "box" (two points: its corners), "polygon" or "point".
        label: the class of a box or polygon, the name of a point.
        points: x, y in continuous image pixels.
        group: shapes with the same one are one object; None: not grouped.
        record: number or id in the file, for messages.
        visibility: of a point, 1 or 2.
    """

    kind: str
    label: str
    points: Sequence[tuple[float, float]]
    group: Hashable
    record: object
    visibility: int = 2


def add_shapes(builder: LabelSetBuilder, file: str | os.PathLike[str], image_id: int, shapes: Sequence[Shape]) -> None:
    """Add an image's objects: one for each group, and for each box or polygon without one.

    A point without a group belongs to the only object of the image, or to the only box or outline around it. A group
    of points alone is an object of the class "object".
    """
    groups: dict[Hashable, list[Shape]] = {}
    for shape in shapes:
        if shape.kind != "point" or shape.group is not None:
            key: Hashable = ("one", id(shape)) if shape.group is None else ("group", shape.group)
            groups.setdefault(key, []).append(shape)
    for shape in shapes:
        if shape.kind == "point" and shape.group is None:
            own = [key for key, members in groups.items() if _encloses(members, shape.points[0])]
            own = list(groups) if len(groups) == 1 else own
            if len(own) == 1:
                groups[own[0]].append(shape)
            else:
                problem = f"{shape.label!r} is a point of no group, in {len(own)} objects"
                builder.report(file, shape.record, "group", problem)
    for members in groups.values():
        try:
            _add_group(builder, image_id, members)
        except RecordError as error:
            builder.report(file, members[0].record, error.field, error.problem)


def _add_group(builder: LabelSetBuilder, image_id: int, members: Sequence[Shape]) -> None:
    boxes, polygons, points = ([one for one in members if one.kind == kind] for kind in ("box", "polygon", "point"))
    labels = list(dict.fromkeys(one.label for one in (*boxes, *polygons)))
    if len(labels) > 1 or len(boxes) > 1:
        raise RecordError("group", f"has {len(boxes)} boxes and the classes {', '.join(labels)}, not one object")
    names = [one.label for one in points]
    if len(set(names)) < len(names):
        raise RecordError("group", f"has the points {', '.join(names)}, which are not all different")
    (x1, y1), (x2, y2) = boxes[0].points if boxes else ((0.0, 0.0), (0.0, 0.0))
    builder.add_object(
        image_id,
        labels[0] if labels else "object",
        box=[x1, y1, x2, y2] if boxes else None,
        polygons=[one.points for one in polygons],
        keypoints={one.label: (*one.points[0], one.visibility) for one in points},
    )


def _encloses(members: Sequence[Shape], point: tuple[float, float]) -> bool:
    corners = [corner for one in members if one.kind != "point" for corner in one.points]
    if not corners:
        return False
    (x1, x2), (y1, y2) = ((min(axis), max(axis)) for axis in zip(*corners, strict=True))
    return x1 <= point[0] <= x2 and y1 <= point[1] <= y2
