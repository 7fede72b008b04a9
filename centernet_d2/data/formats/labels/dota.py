"""DOTA's text files: one for each image, an object a line, "x1 y1 x2 y2 x3 y3 x4 y4 class difficult" in pixels.

Images lie in ``images``, text files in ``labelTxt`` (or another folder) of the same split, or beside them. Lines such
as "imagesource:GoogleEarth" and "gsd:0.15" are above the objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from centernet_d2.data.fields_masks import fit_rectangle
from centernet_d2.data.formats.labels.label_set import (
    LabelSet,
    LabelSetBuilder,
    RecordError,
    copy_image,
    get_polygons,
    list_images,
    read_number,
)
from centernet_d2.data.formats.numbers import parse_number
from centernet_d2.data.formats.text import read_lines

NAME = "dota"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}
# Text files that are read to recognize the format: some have no objects.
_FEW = 50


def recognize(path: Path) -> bool:
    files = sorted(path.rglob("*.txt")) if path.is_dir() else []
    return any(file.parent.name.startswith("labelTxt") for file in files) or any(map(_has_object, files[:_FEW]))


def _has_object(file: Path) -> bool:
    try:
        return any(_is_object(fields) for _, fields in _split_lines(file))
    except ValueError:
        return False


def _is_object(fields: list[str]) -> bool:
    # A class that is a number is YOLO's, first in its line.
    numbers = [math.isfinite(parse_number(field)) for field in fields[:9]]
    return len(fields) in (9, 10) and all(numbers[:8]) and not numbers[8]


def read(path: Path) -> LabelSet:
    """Read all text files below the folder; an image's has its name, and its split where both are in one.

    Of several, such as those of DOTA 1.0 and 1.5, the last by path is read.
    """
    builder = LabelSetBuilder(path)
    files: dict[tuple[str, str], Path] = {}
    for file in sorted(path.rglob("*.txt")):
        key = _get_split(file, path), file.stem
        if key in files:
            builder.notes["images have several label files, of which the last is read"] += 1
        files[key] = file
    for image in list_images(path):
        split = _get_split(image, path)
        image_id = builder.add_image(image.relative_to(path).as_posix(), split=split)
        own = files.pop((split, image.stem), None)
        if own is None:
            builder.notes["images have no label file, so no objects"] += 1
        elif image_id:
            _read_file(builder, own, image_id)
    for file in files.values():
        builder.report(file, None, "image", "is missing: no image has this name")
    return builder.finish()


def _get_split(file: Path, root: Path) -> str:
    return next((_SPLITS[part] for part in file.relative_to(root).parts[:-1] if part in _SPLITS), "")


def _split_lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and fields of the lines; headers and empty ones are left out."""
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip() and ":" not in line.split()[0]:
            yield number, line.split()


def _read_file(builder: LabelSetBuilder, file: Path, image_id: int) -> None:
    try:
        lines = list(_split_lines(file))
    except ValueError as error:
        builder.report(file, None, "file", str(error))
        return
    for number, fields in lines:
        try:
            if len(fields) not in (9, 10):
                raise RecordError("line", f"has {len(fields)} fields, not 8 numbers, a class and maybe difficult")
            values = [read_number(text, "line") for text in fields[:8]]
            difficult = int(read_number(fields[9], "difficult") > 0) if len(fields) == 10 else 0
            corners = list(zip(values[0::2], values[1::2], strict=True))
            builder.add_object(image_id, fields[8], polygons=[corners], iscrowd=difficult)
        except RecordError as error:
            builder.report(file, number, error.field, error.problem)


def write(labels: LabelSet, folder: Path) -> None:
    """Write ``<split>/images`` and ``<split>/labelTxt``: outlines that have four corners, of others the smallest
    rectangle, or else the box. Blanks in class names become underscores."""
    names = {number: "_".join(name.split()) for number, name in labels.get_class_names().items()}
    for image, objects in labels.list_objects():
        place = folder / (image.get("split") or "train")
        target = copy_image(labels, image, place / "images")
        file = place / "labelTxt" / f"{target.stem}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = [_format_row(one, names[one["category_id"]]) for one in objects if "bbox" in one]
        file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _format_row(one: dict[str, Any], name: str) -> str:
    x, y, w, h = one["bbox"]
    points = [point for outline in get_polygons(one) for point in outline]
    points = points or [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    corners = points if len(points) == 4 else fit_rectangle(np.array(points)).tolist()
    values = [f"{value:.9g}" for corner in corners for value in corner]
    return " ".join([*values, name, str(one.get("iscrowd", 0))])
