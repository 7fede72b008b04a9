"""LabelMe's JSON: one file an image, shapes in pixels; shapes of one ``group_id`` are one object."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from centernet_d2.data.formats.labels.json_file import find_json, read_json
from centernet_d2.data.formats.labels.label_set import (
    LabelSet,
    LabelSetBuilder,
    RecordError,
    copy_image,
    get_polygons,
    read_number,
)
from centernet_d2.data.formats.labels.shapes import Shape, add_shapes

NAME = "labelme"
_KINDS = {"rectangle": "box", "circle": "box", "polygon": "polygon", "point": "point"}


def recognize(path: Path) -> bool:
    return path.is_dir() and any(find_json(sorted(path.rglob("*.json"))[:3], _is_labelme))


def _is_labelme(data: Any) -> bool:
    return isinstance(data, dict) and "shapes" in data and "imagePath" in data


def read(path: Path) -> LabelSet:
    """Read all files below the folder; a first folder below it called train, val or test is the split."""
    builder = LabelSetBuilder(path)
    for file in sorted(path.rglob("*.json")):
        try:
            data = read_json(file)
        except ValueError as error:
            builder.report(file, None, "file", str(error))
            continue
        if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
            builder.report(file, None, "shapes", "is not a list")
            continue
        image = str(data.get("imagePath") or file.with_suffix(".jpg").name).replace("\\", "/")
        place = os.path.normpath(os.path.join(os.path.relpath(file.parent, path), image))
        split = place.split(os.sep)[0]
        split = {"train": "train", "val": "val", "valid": "val", "test": "test"}.get(split, "")
        image_id = builder.add_image(place, (data.get("imageHeight"), data.get("imageWidth")), split)
        if image_id:
            shapes = [shape for k, one in enumerate(data["shapes"], 1) if (shape := _read_shape(builder, file, k, one))]
            add_shapes(builder, file, image_id, shapes)
    return builder.finish()


def _read_shape(builder: LabelSetBuilder, file: Path, number: int, one: Any) -> Shape | None:
    try:
        if not isinstance(one, dict):
            raise RecordError("shapes", "has an entry that is not an object")
        kind, label = one.get("shape_type") or "polygon", one.get("label")
        if kind not in _KINDS:
            builder.notes[f"shapes of the type {kind} are not read"] += 1
            return None
        if not isinstance(label, str) or not label.strip():
            raise RecordError("label", "is missing")
        points = [_read_point(point) for point in one.get("points") or ()]
        return Shape(_KINDS[kind], label.strip(), _convert(kind, points), one.get("group_id"), number)
    except RecordError as error:
        builder.report(file, number, error.field, error.problem)
        return None


def _read_point(point: Any) -> tuple[float, float]:
    if not isinstance(point, list) or len(point) != 2:
        raise RecordError("points", f"has {str(point)[:40]}, not x and y")
    return read_number(point[0], "points"), read_number(point[1], "points")


def _convert(kind: str, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the corners of a rectangle or circle, else the points."""
    wanted = {"rectangle": (2, 4), "circle": (2,), "point": (1,)}.get(kind)
    if wanted and len(points) not in wanted:
        raise RecordError("points", f"are {len(points)}, but a {kind} has {' or '.join(map(str, wanted))}")
    if kind == "rectangle":
        return [(f(x for x, _ in points), f(y for _, y in points)) for f in (min, max)]
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return [(x - radius, y - radius), (x + radius, y + radius)]
    return list(points)


def write(labels: LabelSet, folder: Path) -> None:
    """Write a JSON file beside a copy of each image, in a folder for each split. LabelMe has no visibility."""
    names = labels.get_class_names()
    for image, objects in labels.list_objects():
        target = copy_image(labels, image, folder / image.get("split", ""))
        shapes: list[dict[str, Any]] = []
        for group, one in enumerate(objects, start=1):
            name, polygons = names[one["category_id"]], get_polygons(one)
            for polygon in polygons:
                shapes.append(_make_shape(name, [list(point) for point in polygon], group, "polygon"))
            if not polygons and "bbox" in one:
                x, y, w, h = one["bbox"]
                shapes.append(_make_shape(name, [[x, y], [x + w, y + h]], group, "rectangle"))
            for keypoint, (x, y, v) in labels.get_keypoints(one).items():
                shapes.append(_make_shape(keypoint, [[x, y]], group, "point"))
                if v == 1:
                    labels.notes["hidden keypoints are written as visible ones"] += 1
        data: dict[str, Any] = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": target.name,
            "imageData": None,
        }
        data |= {"imageHeight": image["height"], "imageWidth": image["width"]}
        text = json.dumps(data, ensure_ascii=False, indent=1)
        target.with_suffix(".json").write_text(text, encoding="utf-8")


def _make_shape(label: str, points: list[list[float]], group: int, kind: str) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}
