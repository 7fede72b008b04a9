"""DeepFashion2 (Ge et al. 2019): one JSON file an image, an entry for each clothing item.

Landmarks are taken as 0-based indices of pixel centers, boxes as edges in continuous coordinates; the publication says
neither.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from centernet_d2.data.formats.image_files import NamedFiles, find_image, list_image_suffixes
from centernet_d2.data.formats.text import NotTextError, read_text
from centernet_d2.data.image_io import CorruptImageError
from centernet_d2.data.preparation.conversion import Converted, Fields, Summary, convert, make_image_entry
from centernet_d2.data.schemas import CLOTHES294
from centernet_d2.data.validation.issues import AnnotationIssue, check_object, is_integer, is_number

#: Split -> images in the published archives.
SPLITS = {"train": 191_961, "validation": 32_153}
# Their name of a field -> COCO's.
_FIELDS = {"bounding_box": "bbox", "landmarks": "keypoints", "category_id": "category_id"}
_RANGES = dict(enumerate(CLOTHES294.ranges, start=1))
_ATTRIBUTES = ("style", "scale", "viewpoint", "zoom_in", "occlusion")


def convert_deepfashion2(root: Path) -> list[Summary]:
    """Write ``annotations/<split>.json`` from ``<split>/{annos,image}``, for each split that is there.

    Raises:
        FileNotFoundError: none is.
    """
    splits = [split for split in SPLITS if (root / split / "annos").is_dir()]
    if not splits:
        raise FileNotFoundError(f"{root} has neither train/annos nor validation/annos, as the archives unpack")
    return [_convert_split(root, split) for split in splits]


def _convert_split(root: Path, split: str) -> Summary:
    annotated = {path.stem for path in (root / split / "annos").glob("*.json")}
    paths = (root / split / "image").glob("*")
    pictured = {path.stem for path in paths if path.suffix.lower() in list_image_suffixes()}
    files = NamedFiles(root)
    return convert(
        sorted(annotated | pictured),
        lambda stem: read_deepfashion2(files, split, stem),
        root / "annotations" / f"{split}.json",
        CLOTHES294.to_coco_categories(),
        known={"images": SPLITS[split]},
    )


def read_deepfashion2(files: NamedFiles, split: str, stem: str) -> Converted:
    """Return one image with its clothing items, each with 294 landmarks: those of its category, zeros elsewhere.

    Clothing items with errors are left out and named, and so are images without any good one. Never raises for bad
    content.
    """
    file = f"{split}/annos/{stem}.json"
    try:
        root = Path(files.folder)
        clothing = _read_clothing(root / file)
        image = make_image_entry(root, find_image(files, f"{split}/image/{stem}"))
    except _FieldError as error:
        return Converted(issues=[AnnotationIssue(file, None, *error.args)])
    except CorruptImageError as error:
        return Converted(
            issues=[AnnotationIssue(file, None, "image", f"image/{Path(error.file_name).name}: {error.reason}")]
        )
    pair = clothing.pop("pair_id", None)
    shared = {"pair_id": pair} if is_integer(pair) else {}
    objects, issues = [], []
    for name, clothing_item in clothing.items():
        fields, errors = _convert_object(clothing_item, file, name, (image["height"], image["width"]))
        issues += errors
        if fields:
            objects.append({**fields, **shared})
    return Converted(image if objects else None, objects, issues)


class _FieldError(Exception):
    """Field and problem."""


def _read_clothing(path: Path) -> Fields:
    """Return the fields of the file, without "source"."""
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        raise _FieldError("file", "does not exist, but there is an image") from None
    except NotTextError as error:
        raise _FieldError("file", error.reason) from None
    except (ValueError, RecursionError) as error:
        raise _FieldError("file", f"is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise _FieldError("file", "is not an object with clothing items")
    clothing = {name: value for name, value in content.items() if name != "source"}
    if not clothing.keys() - {"pair_id"}:
        raise _FieldError("item1", "is missing: there is no clothing item")
    return clothing


def _convert_object(
    clothing_item: Any, file: str, name: str, size: tuple[int, int]
) -> tuple[Fields | None, list[AnnotationIssue]]:
    """Return the clothing item as an entry of "annotations" (None if it is left out) and its issues; ``size`` (height,
    width)."""
    if not isinstance(clothing_item, dict) or not clothing_item:
        return None, [
            AnnotationIssue(file, name, "item", "is empty" if clothing_item == {} else "is not an object with fields")
        ]
    issues = _check_item(clothing_item, file, name, size)
    box = None if any(error.fatal for error in issues) else _convert_box(clothing_item["bounding_box"], size)
    if box is None:
        return None, issues
    first, end = _RANGES[clothing_item["category_id"]]
    points = np.zeros((len(CLOTHES294), 3))
    points[first:end] = np.reshape(clothing_item["landmarks"], (-1, 3))
    points[points[:, 2] == 0] = 0
    fields = {
        "category_id": clothing_item["category_id"],
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "num_keypoints": int(np.count_nonzero(points[:, 2])),
        # Whole numbers as such: most are zeros, 882 a clothing item.
        "keypoints": [int(value) if value == int(value) else value for value in points.ravel().tolist()],
        "segmentation": _read_polygons(clothing_item) or [],
        **{key: clothing_item[key] for key in _ATTRIBUTES if is_integer(clothing_item.get(key))},
    }
    return fields, issues


def _check_item(clothing_item: Fields, file: str, name: str, size: tuple[int, int]) -> list[AnnotationIssue]:
    renamed = {_FIELDS[theirs]: clothing_item[theirs] for theirs in _FIELDS if theirs in clothing_item}
    category = clothing_item.get("category_id")
    first, end = _RANGES[category] if is_integer(category) and category in _RANGES else (0, 0)
    checked = {**renamed, "bbox_mode": BoxMode.XYXY_ABS}
    names = {ours: theirs for theirs, ours in _FIELDS.items()}
    errors = check_object(checked, file, name, size, _RANGES, end - first or None)
    issues = [error._replace(field=names[error.field]) for error in errors]
    if "landmarks" not in clothing_item:
        issues.append(AnnotationIssue(file, name, "landmarks", "are missing"))
    if _read_polygons(clothing_item) is None:
        problem = "is not a list of polygons x, y, x, y, ...: it is left out"
        issues.append(AnnotationIssue(file, name, "segmentation", problem, fatal=False))
    return issues


def _convert_box(corners: list[float], size: tuple[int, int]) -> list[float] | None:
    """Return x, y, width, height of the part inside the image; None if there is none."""
    x1, y1 = max(corners[0], 0), max(corners[1], 0)
    x2, y2 = min(corners[2], size[1]), min(corners[3], size[0])
    return [x1, y1, x2 - x1, y2 - y1] if x2 > x1 and y2 > y1 else None


def _read_polygons(clothing_item: Fields) -> list[list[float]] | None:
    """Return lists x, y, x, y, ... of at least three points; None if the clothing item's are not such."""
    polygons = clothing_item.get("segmentation", [])
    good = isinstance(polygons, list) and all(
        isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 and all(map(is_number, polygon))
        for polygon in polygons
    )
    return polygons if good else None
