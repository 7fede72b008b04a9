"""VGG Image Annotator's JSON (versions 1 and 2): regions in pixels, with attributes of any name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from centernet_d2.data.formats.labels.json_file import find_json
from centernet_d2.data.formats.labels.label_set import (
    LabelSet,
    LabelSetBuilder,
    RecordError,
    copy_image,
    find_image,
    get_polygons,
    read_number,
)
from centernet_d2.data.formats.labels.shapes import Shape, add_shapes

NAME = "via"
# Attributes that hold the class, and those that say which regions are one object.
_CLASS = ("class", "label", "name", "type", "category", "object")
_GROUP = ("group", "group_id", "object_id", "instance")


def recognize(path: Path) -> bool:
    return _find_project(path) is not None


def _find_project(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the first project at ``path`` and its content."""
    files = [path] if path.is_file() else sorted(path.glob("*.json"))
    return next(find_json(files, lambda data: bool(_list_entries(data))), None)


def _list_entries(data: Any) -> list[dict[str, Any]]:
    entries = data.get("_via_img_metadata", data) if isinstance(data, dict) else None
    values = list(entries.values()) if isinstance(entries, dict) else []
    ok = bool(values) and all(isinstance(one, dict) and "filename" in one and "regions" in one for one in values)
    return values if ok else []


def read(path: Path) -> LabelSet:
    """Read a project or its exported annotations, or the folder with it; images lie beside it, or in ``images``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    found = _find_project(path)
    if found is None:
        raise FileNotFoundError(f"{path} has no JSON of VIA (entries with filename and regions)")
    file, data = found
    builder = LabelSetBuilder(file.parent)
    for entry in _list_entries(data):
        name = str(entry["filename"]).replace("\\", "/")
        attributes = entry.get("file_attributes")
        split = str(attributes.get("split", "")) if isinstance(attributes, dict) else ""
        image_id = builder.add_image(find_image(file.parent, name), split=split)
        regions = entry["regions"].values() if isinstance(entry["regions"], dict) else entry["regions"] or ()
        shapes = []
        for number, region in enumerate(regions if image_id else (), start=1):
            try:
                shape = _read_region(builder, region, number)
                shapes += [shape] if shape else []
            except RecordError as error:
                builder.report(file, f"{name}, region {number}", error.field, error.problem)
        add_shapes(builder, f"{file}, {name}", image_id, shapes)
    return builder.finish()


def _read_region(builder: LabelSetBuilder, region: Any, number: int) -> Shape | None:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict) or not isinstance(attributes, dict):
        raise RecordError("region", "has no shape_attributes or region_attributes")
    kind = shape.get("name")
    if kind not in ("rect", "polygon", "point", "circle", "ellipse"):
        builder.notes[f"regions of the shape {kind} are not read"] += 1
        return None
    group = next((attributes[key] for key in _GROUP if attributes.get(key) not in (None, "")), None)
    label, points = _read_class(attributes), _read_points(shape, str(kind))
    visibility = 1 if str(attributes.get("occluded", "")).lower() in ("1", "true", "yes") else 2
    return Shape(
        {"polygon": "polygon", "point": "point"}.get(str(kind), "box"), label, points, group, number, visibility
    )


def _read_class(attributes: dict[str, Any]) -> str:
    """Return the class: the attribute of a usual name, or the only one. Checkboxes must have one choice."""
    others = [key for key in attributes if key not in _GROUP and key != "occluded"]
    key = next((key for key in _CLASS if key in attributes), others[0] if len(others) == 1 else None)
    if key is None:
        raise RecordError(
            "region_attributes", f"has {', '.join(others) or 'nothing'}: none is called {', '.join(_CLASS)}"
        )
    value = attributes[key]
    chosen = [name for name, on in value.items() if on] if isinstance(value, dict) else [value]
    if len(chosen) != 1 or not str(chosen[0]).strip():
        raise RecordError(key, f"is {value!r}, not one class")
    return str(chosen[0]).strip()


def _read_points(shape: dict[str, Any], kind: str) -> list[tuple[float, float]]:
    def get(field: str) -> float:
        return read_number(shape.get(field), field)

    if kind == "rect":
        return [(get("x"), get("y")), (get("x") + get("width"), get("y") + get("height"))]
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise RecordError("all_points_x", "and all_points_y are not two lists of one length")
        return [(read_number(x, "all_points_x"), read_number(y, "all_points_y")) for x, y in zip(xs, ys, strict=True)]
    if kind == "point":
        return [(get("cx"), get("cy"))]
    rx, ry = (get("r"), get("r")) if kind == "circle" else (get("rx"), get("ry"))
    return [(get("cx") - rx, get("cy") - ry), (get("cx") + rx, get("cy") + ry)]


def write(labels: LabelSet, folder: Path) -> None:
    """Write ``labels.json`` with copies of the images in ``images``; classes are in the attribute "label"."""
    names, entries = labels.get_class_names(), {}
    for image, objects in labels.list_objects():
        target = copy_image(labels, image, folder / "images")
        regions: list[dict[str, Any]] = []
        for group, one in enumerate(objects, start=1):
            attributes = {"label": names[one["category_id"]], "group": str(group)}
            for shape in _make_shapes(one):
                regions.append({"shape_attributes": shape, "region_attributes": attributes})
            for keypoint, (x, y, v) in labels.get_keypoints(one).items():
                own = {"label": keypoint, "group": str(group), **({"occluded": "1"} if v == 1 else {})}
                point = {"name": "point", "cx": x, "cy": y}
                regions.append({"shape_attributes": point, "region_attributes": own})
        size = target.stat().st_size if target.is_file() else -1
        fields = {"filename": target.name, "size": size, "file_attributes": {"split": image.get("split", "")}}
        entries[f"{target.name}{size}"] = {**fields, "regions": regions}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")


def _make_shapes(one: dict[str, Any]) -> list[dict[str, Any]]:
    axes = [[list(axis) for axis in zip(*polygon, strict=True)] for polygon in get_polygons(one)]
    if axes:
        return [{"name": "polygon", "all_points_x": xs, "all_points_y": ys} for xs, ys in axes]
    if "bbox" not in one:
        return []
    x, y, w, h = one["bbox"]
    return [{"name": "rect", "x": x, "y": y, "width": w, "height": h}]
