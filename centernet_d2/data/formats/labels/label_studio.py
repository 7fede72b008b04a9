"""Label Studio's JSON export: rectangles, outlines and keypoints in percent of the image."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from centernet_d2.data.formats.labels.json_file import find_json
from centernet_d2.data.formats.labels.label_set import (
    LabelSet,
    LabelSetBuilder,
    RecordError,
    copy_image,
    get_polygons,
    list_images,
    read_number,
    rotate_points,
)
from centernet_d2.data.formats.labels.shapes import Shape, add_shapes
from centernet_d2.data.validation.issues import AnnotationError

NAME = "label_studio"
_KINDS = {"rectanglelabels": "box", "polygonlabels": "polygon", "keypointlabels": "point"}
# Label Studio puts eight hexadecimal digits before the names of uploaded files.
_UPLOAD = re.compile(r"[0-9a-f]{8}-")


def recognize(path: Path) -> bool:
    return _find_export(path) is not None


def _find_export(path: Path) -> tuple[Path, list[Any]] | None:
    """Return the first export at ``path`` and its tasks."""
    return next(find_json([path] if path.is_file() else sorted(path.glob("*.json")), _is_export), None)


def _is_export(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], dict) and "data" in data[0]


def read(path: Path) -> LabelSet:
    """Read the export, or the folder with it; images lie below the folder. Of several annotations of an image, the
    last is read.

    Raises:
        FileNotFoundError, AnnotationError: there is no such file, or it is another kind of export.
    """
    found = _find_export(path)
    if found is None:
        raise FileNotFoundError(
            f"{path} has no JSON export of Label Studio (a list of tasks with data and annotations)"
        )
    file, tasks = found
    builder = LabelSetBuilder(file.parent)
    if not any(isinstance(task, dict) and "annotations" in task for task in tasks):
        raise AnnotationError(f"{file} has no annotations: export it as JSON, not JSON-MIN")
    images = {image.name: image.relative_to(file.parent).as_posix() for image in list_images(file.parent)}
    for number, task in enumerate(tasks, start=1):
        try:
            if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
                raise RecordError("data", "is missing")
            _read_task(builder, file, task, images)
        except RecordError as error:
            builder.report(file, f"task {task.get('id', number) if isinstance(task, dict) else number}", *error.args)
    return builder.finish()


def _find_image(task: dict[str, Any], images: dict[str, str]) -> str:
    address = next((task["data"][key] for key in ("image", "img", *task["data"]) if task["data"].get(key)), None)
    if not isinstance(address, str):
        raise RecordError("data", "has no image")
    parsed = urlparse(address)
    given = parse_qs(parsed.query).get("d", [parsed.path])[0]
    name = unquote(given).replace("\\", "/").rsplit("/", 1)[-1]
    return images.get(name) or images.get(_UPLOAD.sub("", name, count=1)) or name


def _read_task(builder: LabelSetBuilder, file: Path, task: dict[str, Any], images: dict[str, str]) -> None:
    given = [one for one in task.get("annotations") or () if isinstance(one, dict) and not one.get("was_cancelled")]
    results = (given[-1].get("result") or []) if given else []
    if len(given) > 1:
        builder.notes["images have several annotations, of which the last is read"] += 1
    sizes = [(one.get("original_height"), one.get("original_width")) for one in results if "original_height" in one]
    split = str(task["data"].get("split", ""))
    image_id = builder.add_image(_find_image(task, images), sizes[0] if sizes else (None, None), split)
    if not image_id:
        return
    owners = {one.get("from_id"): one.get("to_id") for one in results if one.get("type") == "relation"}
    parents = {one.get("id"): one.get("parentID") or owners.get(one.get("id")) for one in results}
    shapes = []
    for number, one in enumerate(results, start=1):
        record = one.get("id", number)
        try:
            shape = _read_result(builder, one, builder.get_size(image_id), parents)
        except RecordError as error:
            builder.report(file, f"task {task.get('id')}, result {record}", *error.args)
            continue
        shapes += [shape] if shape else []
    add_shapes(builder, file, image_id, shapes)


def _read_result(
    builder: LabelSetBuilder, one: dict[str, Any], size: tuple[int, int], parents: dict[Any, Any]
) -> Shape | None:
    kind, value = one.get("type"), one.get("value")
    if kind not in _KINDS:
        if kind != "relation":
            builder.notes[f"results of the type {kind} are not read"] += 1
        return None
    if not isinstance(value, dict) or not value.get(kind):
        raise RecordError(str(kind), "is missing")
    if one.get("image_rotation"):
        raise RecordError("image_rotation", f"is {one['image_rotation']}: rotated images are not read")
    number, owner = one.get("id"), parents.get(one.get("id"))
    # A box or outline is the group of the points that name it.
    group = owner or (number if number is not None and number in parents.values() else None)
    label, points = str(value[kind][0]).strip(), _read_percent(kind, value, size)
    visibility = 1 if (one.get("meta") or {}).get("occluded") else 2
    # A rotated rectangle has four corners.
    shape = "polygon" if len(points) > 2 else _KINDS[kind]
    return Shape(shape, label, points, group, number, visibility)


def _read_percent(kind: str, value: dict[str, Any], size: tuple[int, int]) -> list[tuple[float, float]]:
    height, width = size
    if kind == "polygonlabels":
        pairs = value.get("points")
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise RecordError("points", "is not a list of x, y")
        return [(_scale(x, width), _scale(y, height)) for x, y in pairs]
    x, y = _scale(value.get("x"), width), _scale(value.get("y"), height)
    if kind == "keypointlabels":
        return [(x, y)]
    w, h = _scale(value.get("width"), width), _scale(value.get("height"), height)
    rotation = read_number(value.get("rotation") or 0, "rotation")
    if not rotation % 360:
        return [(x, y), (x + w, y + h)]
    return rotate_points([(x, y), (x + w, y), (x + w, y + h), (x, y + h)], (x, y), rotation)


def _scale(value: Any, length: int) -> float:
    number = read_number(value, "value")
    if not -1 <= number <= 101:
        raise RecordError("value", f"has {number:g}, not percent of the image")
    return number * length / 100


def write(labels: LabelSet, folder: Path) -> None:
    """Write ``labels.json`` to import, with copies of the images beside it."""
    names, tasks = labels.get_class_names(), []
    for number, (image, objects) in enumerate(labels.list_objects(), start=1):
        target = copy_image(labels, image, folder / "images")
        results = [one for k, found in enumerate(objects, 1) for one in _make_results(labels, image, found, names, k)]
        data = {"image": f"/data/local-files/?d=images/{target.name}", "split": image.get("split", "")}
        tasks.append({"id": number, "data": data, "annotations": [{"result": results}]})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.json").write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")


def _make_results(
    labels: LabelSet, image: dict[str, Any], one: dict[str, Any], names: dict[int, str], number: int
) -> list[dict[str, Any]]:
    width, height, name = image["width"], image["height"], names[one["category_id"]]
    common = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": "image"}
    polygons, results, first = get_polygons(one), [], f"object{number}"
    values: list[tuple[str, dict[str, Any]]] = []
    for polygon in polygons:
        values.append(("polygonlabels", {"points": [[100 * x / width, 100 * y / height] for x, y in polygon]}))
    if not polygons and "bbox" in one:
        x, y, w, h = one["bbox"]
        box = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height}
        values.append(("rectanglelabels", {**box, "rotation": 0}))
    for k, (kind, value) in enumerate(values):
        identity = {"id": f"{first}_{k}", "parentID": first} if k else {"id": first}
        results.append({**common, **identity, "type": kind, "from_name": "label", "value": {**value, kind: [name]}})
    for k, (keypoint, (x, y, v)) in enumerate(labels.get_keypoints(one).items()):
        value = {"x": 100 * x / width, "y": 100 * y / height, "width": 0.5, "keypointlabels": [keypoint]}
        own: dict[str, Any] = {"id": f"{first}_point{k}", "parentID": first}
        own |= {"meta": {"occluded": True}} if v == 1 else {}
        results.append({**common, **own, "type": "keypointlabels", "from_name": "points", "value": value})
    return results
