"""DeepFashion2 (Ge et al. 2019): one JSON file a picture, an entry for each garment.

Landmarks are taken as 0-based indices of pixel centres, boxes as edges in continuous coordinates; the publication says
neither.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from centernet_d2.data.image_io import BrokenImageError
from centernet_d2.data.preparation.conversion import Converted, Fields, Summary, convert, picture_entry
from centernet_d2.data.schemas import CLOTHES294
from centernet_d2.data.validation.issues import Finding, check_object, is_integer, is_number

#: Split -> pictures in the published archives.
SPLITS = {"train": 191_961, "validation": 32_153}
# Their name of a field -> COCO's.
_FIELDS = {"bounding_box": "bbox", "landmarks": "keypoints", "category_id": "category_id"}
_RANGES = dict(enumerate(CLOTHES294.ranges, start=1))
_ATTRIBUTES = ("style", "scale", "viewpoint", "zoom_in", "occlusion")


def convert_deepfashion2(root: Path) -> list[Summary]:
    """``<split>/annos/*.json``, ``<split>/image/*.jpg`` to ``annotations/<split>.json``, for each split that is there.

    Raises:
        FileNotFoundError: none is.
    """
    splits = [split for split in SPLITS if (root / split / "annos").is_dir()]
    if not splits:
        raise FileNotFoundError(f"{root} has neither train/annos nor validation/annos, as the archives unpack")
    return [_convert_split(root, split) for split in splits]


def _convert_split(root: Path, split: str) -> Summary:
    annotated = {path.stem for path in (root / split / "annos").glob("*.json")}
    pictured = {path.stem for path in (root / split / "image").glob("*.jpg")}
    return convert(
        sorted(annotated | pictured),
        lambda stem: read_deepfashion2(root, split, stem),
        root / "annotations" / f"{split}.json",
        CLOTHES294.coco_categories(),
        known={"pictures": SPLITS[split]},
    )


def read_deepfashion2(root: Path, split: str, stem: str) -> Converted:
    """One picture with its garments, each with all 294 landmarks, its category's at their place and zeros elsewhere.

    Garments with faults are left out and named, and so are pictures without any good one. Never raises for bad content.
    """
    file = f"{split}/annos/{stem}.json"
    try:
        garments = _garments(root / file)
        picture = picture_entry(root, f"{split}/image/{stem}.jpg")
    except _Fault as fault:
        return Converted(findings=[Finding(file, None, *fault.args)])
    except BrokenImageError as error:
        return Converted(findings=[Finding(file, None, "picture", f"image/{stem}.jpg: {error.reason}")])
    pair = garments.pop("pair_id", None)
    shared = {"pair_id": pair} if is_integer(pair) else {}
    objects, findings = [], []
    for name, garment in garments.items():
        fields, faults = _object(garment, file, name, (picture["height"], picture["width"]))
        findings += faults
        if fields:
            objects.append({**fields, **shared})
    return Converted(picture if objects else None, objects, findings)


class _Fault(Exception):
    """Field and problem."""


def _garments(path: Path) -> Fields:
    """What the file holds, without its source."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _Fault("file", "does not exist, but there is a picture") from None
    except (ValueError, RecursionError) as error:
        raise _Fault("file", f"is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise _Fault("file", "is not an object with garments")
    garments = {name: value for name, value in content.items() if name != "source"}
    if not garments.keys() - {"pair_id"}:
        raise _Fault("item1", "is missing: there is no garment")
    return garments


def _object(garment: Any, file: str, name: str, size: tuple[int, int]) -> tuple[Fields | None, list[Finding]]:
    """The garment as an entry of "annotations", None where it is left out, and its faults; ``size`` (height, width)."""
    if not isinstance(garment, dict) or not garment:
        return None, [Finding(file, name, "item", "is empty" if garment == {} else "is not an object with fields")]
    findings = _faults(garment, file, name, size)
    box = None if any(fault.fatal for fault in findings) else _box(garment["bounding_box"], size)
    if box is None:
        return None, findings
    first, end = _RANGES[garment["category_id"]]
    points = np.zeros((len(CLOTHES294), 3))
    points[first:end] = np.reshape(garment["landmarks"], (-1, 3))
    points[points[:, 2] == 0] = 0
    fields = {
        "category_id": garment["category_id"],
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
        "num_keypoints": int(np.count_nonzero(points[:, 2])),
        # Whole numbers as such: most are zeros, 882 a garment.
        "keypoints": [int(value) if value == int(value) else value for value in points.ravel().tolist()],
        "segmentation": _polygons(garment) or [],
        **{key: garment[key] for key in _ATTRIBUTES if is_integer(garment.get(key))},
    }
    return fields, findings


def _faults(garment: Fields, file: str, name: str, size: tuple[int, int]) -> list[Finding]:
    renamed = {_FIELDS[theirs]: garment[theirs] for theirs in _FIELDS if theirs in garment}
    category = garment.get("category_id")
    first, end = _RANGES[category] if is_integer(category) and category in _RANGES else (0, 0)
    checked = {**renamed, "bbox_mode": BoxMode.XYXY_ABS}
    names = {ours: theirs for theirs, ours in _FIELDS.items()}
    faults = check_object(checked, file, name, size, _RANGES, end - first or None)
    findings = [fault._replace(field=names[fault.field]) for fault in faults]
    if "landmarks" not in garment:
        findings.append(Finding(file, name, "landmarks", "are missing"))
    if _polygons(garment) is None:
        problem = "is not a list of polygons x, y, x, y, ...: it is left out"
        findings.append(Finding(file, name, "segmentation", problem, fatal=False))
    return findings


def _box(corners: list[float], size: tuple[int, int]) -> list[float] | None:
    """x, y, width, height of the part in the picture; None where there is none."""
    x1, y1 = max(corners[0], 0), max(corners[1], 0)
    x2, y2 = min(corners[2], size[1]), min(corners[3], size[0])
    return [x1, y1, x2 - x1, y2 - y1] if x2 > x1 and y2 > y1 else None


def _polygons(garment: Fields) -> list[list[float]] | None:
    """Lists x, y, x, y, ... of at least three points; None where the garment's are not."""
    polygons = garment.get("segmentation", [])
    good = isinstance(polygons, list) and all(
        isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0 and all(map(is_number, polygon))
        for polygon in polygons
    )
    return polygons if good else None
