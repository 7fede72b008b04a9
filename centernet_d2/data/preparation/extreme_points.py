"""Extreme points from the polygons or masks of a file in COCO's format."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from centernet_d2.data.datasets.coco import read_coco_json
from centernet_d2.data.formats.coco_segmentation import read_outlines
from centernet_d2.data.preparation.conversion import Converted, Fields, Summary, convert
from centernet_d2.data.schemas import EXTREME4
from centernet_d2.data.schemas.extreme4 import find_extreme_points
from centernet_d2.data.validation.issues import AnnotationIssue, is_integer
from centernet_d2.geometry import to_pixel_index


def convert_extreme_points(json_file: Path, output: Path) -> Summary:
    """Write the same file with extreme points as "keypoints": top, left, bottom, right; x, y from pixel centers, as in
    COCO.

    Crowds have none, and objects whose segmentation cannot be used have none and are named; they stay, because they
    count in evaluation.

    Raises:
        FileNotFoundError, AnnotationError: no such file, or no file in COCO's format.
        OSError: ``output`` cannot be written.
    """
    data = read_coco_json(str(json_file))
    images: dict[int, Fields] = {}
    objects: dict[int, list[Fields]] = defaultdict(list)
    issues = []
    for entry in data["images"]:
        if isinstance(entry, dict) and is_integer(entry.get("id")):
            images[entry["id"]] = entry
        else:
            problem = f"has the entry {str(entry)[:80]}, not one with an integer id"
            issues.append(AnnotationIssue(str(json_file), None, "images", problem))
    for entry in data["annotations"]:
        if isinstance(entry, dict) and is_integer(entry.get("image_id")) and entry["image_id"] in images:
            objects[entry["image_id"]].append(entry)
        else:
            problem = f"has the entry {str(entry)[:80]}, which belongs to no image"
            issues.append(AnnotationIssue(str(json_file), None, "annotations", problem))
    categories = [{**entry, **EXTREME4.to_coco_fields()} for entry in data["categories"] if isinstance(entry, dict)]
    summary = convert(
        list(images), lambda number: _convert_image(images[number], objects[number]), output, categories, str(json_file)
    )
    summary.issues += issues
    return summary


def _convert_image(image: Fields, entries: list[Fields]) -> Converted:
    objects, issues = [], []
    for entry in entries:
        fields = {key: value for key, value in entry.items() if key not in ("keypoints", "num_keypoints")}
        if not entry.get("iscrowd"):
            try:
                points = find_segmentation_points(entry.get("segmentation"), (image.get("height"), image.get("width")))
                fields["keypoints"] = [x for point in to_pixel_index(points) for x in (*point.round(3).tolist(), 2)]
                fields["num_keypoints"] = 4
            except ValueError as error:
                file = str(image.get("file_name"))
                issues.append(AnnotationIssue(file, entry.get("id"), "segmentation", str(error)))
        objects.append(fields)
    return Converted(image, objects, issues)


def find_segmentation_points(segmentation: Any, size: tuple[Any, Any]) -> np.ndarray:
    """Return the extreme points, (4, 2) x, y in continuous image coordinates, inside the image.

    Args:
        segmentation: COCO's: polygons x, y, x, y, ... (those of less than three vertices do not count), or run lengths,
            as numbers or compressed.
        size: (height, width) of the image.

    Raises:
        ValueError: it is neither, shows nothing, or is of another size; the message goes on from "segmentation".
    """
    return find_extreme_points(*read_outlines(segmentation, size)).clip(0, size[::-1])
