"""CVAT's XML 1.1: for images, and for video (tracks). Numbers are continuous image pixels."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from centernet_d2.data.formats.image_files import list_image_suffixes
from centernet_d2.data.formats.labels.label_set import (
    Keypoint,
    LabelSet,
    LabelSetBuilder,
    RecordError,
    copy_image,
    find_image,
    get_polygons,
    list_images,
    read_number,
    read_start,
    rotate_points,
)
from centernet_d2.data.formats.numbers import parse_digits
from centernet_d2.data.formats.plain_xml import parse_xml
from centernet_d2.data.validation.issues import AnnotationError

NAME = "cvat"
_SHAPES = ("box", "polygon", "skeleton", "points", "polyline", "mask", "ellipse", "cuboid", "tag")


def recognize(path: Path) -> bool:
    file = _find_file(path)
    return file is not None and b"<annotations" in read_start(file)


def read(path: Path) -> LabelSet:
    """Read ``annotations.xml``, or the folder with it; images lie beside it, or in ``images``.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is not CVAT's.
    """
    file = _find_file(path)
    if file is None:
        raise FileNotFoundError(f"{path} has no annotations.xml of CVAT")
    try:
        root = parse_xml(file)
    except ValueError as error:
        raise AnnotationError(f"{file} {error}") from None
    if root.tag != "annotations":
        raise AnnotationError(f"{file} is not CVAT's: its root is {root.tag}, not annotations")
    labels = [label for label in root.iter("label") if not label.findtext("parent")]
    builder = LabelSetBuilder(file.parent, [name for label in labels if (name := _text(label, "name"))])
    for label in root.iter("label"):
        parent = _text(label, "parent")
        if parent:
            others = [_text(one, "name") for one in root.iter("label") if _text(one, "parent") == parent]
            builder.declare_keypoints(parent, others)
    if root.find("track") is not None:
        _read_tracks(builder, file, root)
    else:
        _read_images(builder, file, root)
    return builder.finish()


def _text(element: ElementTree.Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _find_file(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() == ".xml" else None
    return next((file for file in (path / "annotations.xml", *sorted(path.glob("*.xml"))) if file.is_file()), None)


def _read_images(builder: LabelSetBuilder, file: Path, root: ElementTree.Element) -> None:
    for element in root.findall("image"):
        name = element.get("name", "")
        subset = element.get("subset", "").lower()
        split = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}.get(subset, "")
        size = _read_size(element.get("height")), _read_size(element.get("width"))
        image_id = builder.add_image(find_image(file.parent, name), size, split)
        if image_id:
            for number, shape in enumerate(element, start=1):
                _add_shape(builder, file, image_id, shape, f"image {name}, shape {number}")


def _read_size(text: str | None) -> int | None:
    return parse_digits(text or "")


def _read_tracks(builder: LabelSetBuilder, file: Path, root: ElementTree.Element) -> None:
    """Read a video's frames, of which the images are extracted files with the frame's number in the name."""
    size = root.find(".//original_size")
    height, width = (_read_size(size.findtext(tag)) if size is not None else None for tag in ("height", "width"))
    frames = _find_frames(file.parent)
    builder.videos.append({"id": 1, "name": file.resolve().parent.name})
    by_frame: dict[int, list[tuple[str, str, ElementTree.Element]]] = {}
    for track in root.findall("track"):
        for shape in track:
            identity, number = track.get("id", ""), parse_digits(shape.get("frame", ""))
            if shape.tag not in _SHAPES or shape.get("outside") == "1":
                continue
            if number is None:
                builder.report(file, f"track {identity}", "frame", f"is {shape.get('frame')!r}, not a frame's number")
            else:
                by_frame.setdefault(number, []).append((identity, track.get("label", ""), shape))
    for frame in sorted(by_frame):
        name = frames.get(frame, f"images/frame_{frame:06d}.PNG")
        image_id = builder.add_image(name, (height, width), video_id=1, frame=frame)
        for identity, label, shape in by_frame[frame] if image_id else ():
            shape.set("label", label)
            _add_shape(builder, file, image_id, shape, f"track {identity}, frame {frame}", identity)


def _find_frames(folder: Path) -> dict[int, str]:
    frames = {}
    for path in list_images(folder):
        digits = re.findall("[0-9]+", path.stem)
        number = parse_digits(digits[-1]) if digits else None
        if number is not None and path.suffix.lower() in list_image_suffixes():
            frames[number] = path.relative_to(folder).as_posix()
    return frames


def _read_track_id(text: str) -> int:
    number = parse_digits(text)
    if number is None:
        raise RecordError("id", f"is {text!r}, not a track's number")
    return number + 1


def _add_shape(
    builder: LabelSetBuilder, file: Path, image_id: int, shape: ElementTree.Element, where: str, track: str = ""
) -> None:
    extra: dict[str, Any] = {}
    try:
        if track:
            extra["track_id"] = _read_track_id(track)
        label = shape.get("label", "").strip()
        if shape.tag == "box":
            builder.add_object(image_id, _require(label), **_read_box(shape), **extra)
        elif shape.tag == "polygon":
            builder.add_object(image_id, _require(label), polygons=[_read_points(shape)], **extra)
        elif shape.tag == "skeleton":
            builder.add_object(image_id, _require(label), keypoints=_read_skeleton(shape), **extra)
        elif shape.tag in _SHAPES:
            builder.notes[f"shapes of the type {shape.tag} are not read"] += 1
    except RecordError as error:
        builder.report(file, where, error.field, error.problem)


def _require(label: str) -> str:
    if not label:
        raise RecordError("label", "is missing")
    return label


def _read_box(shape: ElementTree.Element) -> dict[str, Any]:
    """Return the box, or the corners of a rotated one as its outline, as ``add_object`` takes them."""
    x1, y1, x2, y2 = (read_number(shape.get(field), field) for field in ("xtl", "ytl", "xbr", "ybr"))
    rotation = read_number(shape.get("rotation") or 0, "rotation")
    if not rotation % 180:
        return {"box": [x1, y1, x2, y2]}
    center = ((x1 + x2) / 2, (y1 + y2) / 2)
    return {"polygons": [rotate_points([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], center, rotation)]}


def _read_points(shape: ElementTree.Element) -> list[tuple[float, float]]:
    points = []
    for text in shape.get("points", "").split(";"):
        x, comma, y = text.partition(",")
        if not comma:
            raise RecordError("points", f"has {text[:40]!r}, not x,y")
        points.append((read_number(x, "points"), read_number(y, "points")))
    return points


def _read_skeleton(shape: ElementTree.Element) -> dict[str, Keypoint]:
    keypoints: dict[str, Keypoint] = {}
    for point in shape.findall("points"):
        if point.get("outside") != "1":
            (x, y), *_ = _read_points(point)
            keypoints[_require(point.get("label", "").strip())] = (x, y, 1 if point.get("occluded") == "1" else 2)
    if not keypoints:
        raise RecordError("points", "has no point inside the image")
    return keypoints


def write(labels: LabelSet, folder: Path) -> None:
    """Write ``annotations.xml`` for images, with copies in ``images``. A skeleton has no box there."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    declared = ElementTree.SubElement(task, "labels")
    for category in labels.data["categories"]:
        _add_label(declared, category["name"], "skeleton" if category.get("keypoints") else "any")
        for keypoint in category.get("keypoints", ()):
            _add_label(declared, keypoint, "points", category["name"])
    names = labels.get_class_names()
    for number, (image, objects) in enumerate(labels.list_objects()):
        target = copy_image(labels, image, folder / "images")
        fields = {"id": str(number), "name": target.name, "width": str(image["width"]), "height": str(image["height"])}
        element = ElementTree.SubElement(root, "image", {**fields, "subset": image.get("split", "")})
        for one in objects:
            _write_object(labels, element, one, names[one["category_id"]])
    ElementTree.indent(root)
    folder.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(folder / "annotations.xml", encoding="utf-8", xml_declaration=True)


def _add_label(parent: ElementTree.Element, name: str, kind: str, owner: str = "") -> None:
    label = ElementTree.SubElement(parent, "label")
    for tag, text in (("name", name), ("type", kind), *((("parent", owner),) if owner else ())):
        ElementTree.SubElement(label, tag).text = text


def _write_object(labels: LabelSet, element: ElementTree.Element, one: dict[str, Any], name: str) -> None:
    common = {"label": name, "source": "file", "occluded": "0", "z_order": "0"}
    keypoints, polygons = labels.get_keypoints(one), get_polygons(one)
    if keypoints:
        skeleton = ElementTree.SubElement(element, "skeleton", common)
        for keypoint, (x, y, v) in keypoints.items():
            fields = {"label": keypoint, "outside": "0", "occluded": str(int(v == 1)), "points": f"{x:.9g},{y:.9g}"}
            ElementTree.SubElement(skeleton, "points", fields)
    elif polygons:
        for polygon in polygons:
            text = ";".join(f"{x:.9g},{y:.9g}" for x, y in polygon)
            ElementTree.SubElement(element, "polygon", {**common, "points": text})
    else:
        x, y, w, h = one["bbox"]
        values = zip(("xtl", "ytl", "xbr", "ybr"), (x, y, x + w, y + h), strict=True)
        ElementTree.SubElement(element, "box", {**common, **{key: f"{value:.9g}" for key, value in values}})
