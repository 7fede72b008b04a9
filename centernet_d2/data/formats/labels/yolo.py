"""YOLO's text files: one for each image, an object a line, in fractions of the image (Ultralytics' layout).

Lines are "class x y width height" (detect), the same with keypoints (pose; ``kpt_shape`` in ``data.yaml``) or "class x1
y1 x2 y2 ..." (segment; oriented boxes (OBB) are outlines of four corners). A text file lies where its image does, with
``labels`` for ``images`` in the path, or beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from centernet_d2.data.formats.image_files import list_image_suffixes
from centernet_d2.data.formats.labels.label_set import (
    LabelSet,
    LabelSetBuilder,
    RecordError,
    copy_image,
    get_polygons,
    list_images,
    measure_area,
    read_number,
)
from centernet_d2.data.formats.text import read_lines, read_text
from centernet_d2.data.schemas.flip_pairs import infer_flip_pairs
from centernet_d2.data.validation.issues import AnnotationError
from centernet_d2.data.validation.missing import explain_missing
from centernet_d2.geometry import from_pixel_index

NAME = "yolo"
SPLITS = ("train", "val", "test")
_YAML = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
# Rounding errors of exporters, as a fraction of the image.
_TOLERANCE = 0.002


def recognize(path: Path) -> bool:
    if path.suffix in (".yaml", ".yml"):
        return True
    return any((path / name).is_file() for name in (*_YAML, "classes.txt")) or (path / "labels").is_dir()


def read(path: Path) -> LabelSet:
    """Read a folder, or its ``data.yaml``; image names are relative to the folder.

    Raises:
        FileNotFoundError: there are no images where the file says.
        AnnotationError: ``data.yaml`` is none, or says no class names.
    """
    root, settings = _read_settings(path)
    names = _read_names(root, settings)
    builder = LabelSetBuilder(root, names)
    shape = settings.get("kpt_shape")
    if shape:
        _declare_keypoints(builder, names, settings)
    used: set[Path] = set()
    for split, image in _list_split_images(root, settings):
        image_id = builder.add_image(os.path.relpath(image, root), split=split)
        label_file = _find_label(image)
        if label_file is None:
            builder.notes["images have no label file, so no objects"] += 1
        elif image_id:
            _read_label(builder, label_file, image_id, names, shape)
        used |= {label_file} if label_file else set()
    stems = {image.stem for image in list_images(root)}
    for file in sorted({other for one in used for other in one.parent.glob("*.txt")} - used):
        if file.stem not in stems and file.name != "classes.txt":
            builder.report(file, None, "image", "is missing: no image has this name")
    return builder.finish()


def write(labels: LabelSet, folder: Path) -> None:
    """Write ``data.yaml``, ``images/<split>`` and ``labels/<split>``: poses if there are keypoints, else outlines if
    each object has one, else boxes.

    Raises:
        ValueError: classes have different numbers of keypoints.
    """
    categories = labels.data["categories"]
    counts = {len(category.get("keypoints", ())) for category in categories}
    if len(counts) > 1:
        raise ValueError(f"YOLO's files have one number of keypoints for all classes, not {sorted(counts)}")
    count, annotations = counts.pop() if counts else 0, labels.data["annotations"]
    outlines = not count and bool(annotations) and all(map(get_polygons, annotations))
    numbers = {category["id"]: number for number, category in enumerate(categories)}
    splits: set[str] = set()
    for image, objects in labels.list_objects():
        split = image.get("split") or "train"
        splits.add(split)
        target = copy_image(labels, image, folder / "images" / split)
        size = image["width"], image["height"]
        rows = [_format_row(labels, one, numbers[one["category_id"]], size, count, outlines) for one in objects]
        text_file = folder / "labels" / split / (target.stem + ".txt")
        text_file.parent.mkdir(parents=True, exist_ok=True)
        text_file.write_text("".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows))
    settings: dict[str, Any] = {split: f"images/{split}" for split in sorted(splits)}
    settings["names"] = {numbers[category["id"]]: category["name"] for category in categories}
    if count:
        settings |= {"kpt_shape": [count, 3], "flip_idx": _list_flip_indices(categories[0], count)}
        settings["kpt_names"] = {numbers[category["id"]]: category["keypoints"] for category in categories}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")


def _read_settings(path: Path) -> tuple[Path, dict[str, Any]]:
    file = path if path.is_file() else next((path / name for name in _YAML if (path / name).is_file()), None)
    if file is None:
        return path, {}
    try:
        settings = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise AnnotationError(f"{file} is not YAML: {str(error)[:200]}") from None
    if not isinstance(settings, dict):
        raise AnnotationError(f"{file} has no keys such as names and train")
    return file.parent, settings


def _read_names(root: Path, settings: dict[str, Any]) -> list[str]:
    names = settings.get("names")
    if names is None and (root / "classes.txt").is_file():
        names = [line.strip() for line in read_lines(root / "classes.txt") if line.strip()]
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise AnnotationError(f"{root}: the names of data.yaml have the numbers {list(names)}, not 0, 1, ...")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise AnnotationError(f"{root}: neither data.yaml (names) nor classes.txt has the names of the classes")
    if len({str(name) for name in names}) < len(names):
        raise AnnotationError(f"{root}: the class names {names} are not all different")
    return [str(name) for name in names]


def _declare_keypoints(builder: LabelSetBuilder, names: Sequence[str], settings: dict[str, Any]) -> None:
    shape, flips = settings["kpt_shape"], settings.get("flip_idx")
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] not in (2, 3) or not isinstance(shape[0], int):
        raise AnnotationError(f"{builder.image_root}, data.yaml, kpt_shape: is {shape}, not [number, 2 or 3]")
    if flips is not None and (not isinstance(flips, list) or sorted(flips) != list(range(shape[0]))):
        raise AnnotationError(f"{builder.image_root}, data.yaml, flip_idx: is {flips}, not a permutation")
    pairs = None if flips is None else [[a, b] for a, b in enumerate(flips) if a < b]
    own = settings.get("kpt_names") or {}
    for number, name in enumerate(names):
        keypoints = own.get(number) if isinstance(own, dict) else own
        if not keypoints or len(keypoints) != shape[0]:
            keypoints = [f"keypoint_{k}" for k in range(shape[0])]
        fields = {} if pairs is None else {"flip_pairs": pairs}
        builder.declare_keypoints(name, [str(one) for one in keypoints], **fields)


def _list_split_images(root: Path, settings: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield split and path of the images; each once. Without splits in data.yaml: all below ``root``, split ""."""
    base, seen = root / str(settings.get("path") or ""), set[Path]()
    if not base.is_dir():
        base = root
    splits = {split: settings.get(split) for split in SPLITS if settings.get(split)}
    if "val" not in splits and settings.get("valid"):
        splits["val"] = settings["valid"]
    for split, places in splits.items() or [("", ".")]:
        for place in places if isinstance(places, list) else [places]:
            for image in _list_place(base, root, str(place), optional=split == "test"):
                if image not in seen:
                    seen.add(image)
                    yield split, image
    if not seen:
        raise FileNotFoundError(f"{root} has no images where YOLO's layout has them")


def _list_place(base: Path, root: Path, place: str, optional: bool) -> list[Path]:
    # Roboflow writes ../train/images for a folder beside data.yaml.
    bare = place.replace("\\", "/")
    while bare.startswith("../"):
        bare = bare[3:]
    found = next((path for path in (base / place, root / place, root / bare) if path.exists()), None)
    if found is None:
        if optional:
            return []
        raise FileNotFoundError(f"data.yaml names {place}, which {explain_missing(base / place)}")
    if found.is_dir():
        return list_images(found)
    lines = [line.strip() for line in read_lines(found) if line.strip()]
    candidates = [next((p for p in (found.parent / x, base / x) if p.exists()), found.parent / x) for x in lines]
    return [path for path in candidates if path.suffix.lower() in list_image_suffixes()]


def _find_label(image: Path) -> Path | None:
    parts = list(image.with_suffix(".txt").parts)
    places = [image.with_suffix(".txt")]
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            places.insert(0, Path(*parts[:position], "labels", *parts[position + 1 :]))
            break
    return next((place for place in places if place.is_file()), None)


def _read_label(builder: LabelSetBuilder, file: Path, image_id: int, names: Sequence[str], shape: Any) -> None:
    height, width = builder.get_size(image_id)
    try:
        lines = read_lines(file)
    except ValueError as error:
        builder.report(file, None, "file", str(error))
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = [read_number(text, "line") for text in line.split()]
            _add_line(builder, image_id, values, names, shape, (width, height))
        except RecordError as error:
            builder.report(file, number, error.field, error.problem)


def _add_line(
    builder: LabelSetBuilder,
    image_id: int,
    values: list[float],
    names: Sequence[str],
    shape: Any,
    size: tuple[int, int],
) -> None:
    if not values[0].is_integer() or not 0 <= values[0] < len(names):
        raise RecordError("class", f"is {values[0]:g}, not one of 0 to {len(names) - 1}")
    name, rest, (width, height) = names[int(values[0])], values[1:], size
    dimensions = shape[1] if shape else 0
    if len(rest) == 4 or (shape and len(rest) == 4 + shape[0] * dimensions):
        x, y, w, h = _check_fractions(rest[:4])
        box = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
        builder.add_object(
            image_id, name, box=box, keypoints=_read_keypoints(builder, name, rest[4:], dimensions, size)
        )
    elif not shape and len(rest) >= 6 and len(rest) % 2 == 0:
        # A rotated box of four corners may reach out of the image.
        _check_fractions(rest, 0.5 if len(rest) == 8 else _TOLERANCE)
        polygon = [(a * width, b * height) for a, b in zip(rest[0::2], rest[1::2], strict=True)]
        builder.add_object(image_id, name, polygons=[polygon])
    else:
        wanted = f"5 or {5 + shape[0] * dimensions} (kpt_shape {shape})" if shape else "5, or 7 and more for an outline"
        raise RecordError("line", f"has {len(values)} numbers, not {wanted}")


def _check_fractions(values: list[float], margin: float = _TOLERANCE) -> list[float]:
    for value in values:
        if not -margin <= value <= 1 + margin:
            raise RecordError("line", f"has {value:g}, not a fraction of the image")
    return values


def _read_keypoints(
    builder: LabelSetBuilder, name: str, values: list[float], dimensions: int, size: tuple[int, int]
) -> dict[str, tuple[float, float, int]]:
    result = {}
    for k, keypoint in enumerate(builder.get_keypoint_names(name) if values else ()):
        x, y, *rest = values[k * dimensions : (k + 1) * dimensions]
        visibility = int(rest[0]) if rest else 2 * int(x > 0 or y > 0)
        if rest and rest[0] not in (0, 1, 2):
            raise RecordError("keypoints", f"have the visibility {rest[0]:g}, not 0, 1 or 2")
        if visibility:
            _check_fractions([x, y])
            result[keypoint] = (x * size[0], y * size[1], visibility)
    return result


def _format_row(
    labels: LabelSet, one: dict[str, Any], number: int, size: tuple[int, int], count: int, outlines: bool
) -> list[float]:
    width, height = size
    if outlines:
        polygons = get_polygons(one)
        largest = max(polygons, key=measure_area)
        if len(polygons) > 1:
            labels.notes["objects have several outlines, of which the largest was written"] += 1
        return [number, *(value for x, y in largest for value in (x / width, y / height))]
    x, y, w, h = one["bbox"]
    row = [number, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
    points = one.get("keypoints", [0, 0, 0] * count)
    for k in range(count):
        x, y, v = points[3 * k : 3 * k + 3]
        row += [from_pixel_index(x) / width, from_pixel_index(y) / height, v] if v else [0, 0, 0]
    return row


def _list_flip_indices(category: dict[str, Any], count: int) -> list[int]:
    indices = list(range(count))
    for a, b in category.get("flip_pairs") or infer_flip_pairs(category["keypoints"])[0]:
        indices[a], indices[b] = b, a
    return indices
