"""Extreme points from the polygons or masks of a file in COCO's format."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

from centernet_d2.data.datasets.coco import read_coco_json
from centernet_d2.data.preparation.conversion import Converted, Fields, Summary, convert
from centernet_d2.data.schemas import EXTREME4
from centernet_d2.data.schemas.extreme4 import extreme_points
from centernet_d2.data.validation.issues import AnnotationIssue, is_integer, is_number
from centernet_d2.geometry import from_pixel_index, to_pixel_index


def convert_extreme_points(json_file: Path, output: Path) -> Summary:
    """The same file, whose objects have their extreme points as "keypoints" (x, y counted from pixel centers, as in
    COCO), top, left, bottom, right.

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
    categories = [{**entry, **EXTREME4.coco_fields()} for entry in data["categories"] if isinstance(entry, dict)]
    summary = convert(
        list(images), lambda number: _image(images[number], objects[number]), output, categories, str(json_file)
    )
    summary.issues += issues
    return summary


def _image(image: Fields, entries: list[Fields]) -> Converted:
    objects, issues = [], []
    for entry in entries:
        fields = {key: value for key, value in entry.items() if key not in ("keypoints", "num_keypoints")}
        if not entry.get("iscrowd"):
            try:
                points = segmentation_points(entry.get("segmentation"), (image.get("height"), image.get("width")))
                fields["keypoints"] = [x for point in to_pixel_index(points) for x in (*point.round(3).tolist(), 2)]
                fields["num_keypoints"] = 4
            except ValueError as error:
                file = str(image.get("file_name"))
                issues.append(AnnotationIssue(file, entry.get("id"), "segmentation", str(error)))
        objects.append(fields)
    return Converted(image, objects, issues)


def segmentation_points(segmentation: Any, size: tuple[Any, Any]) -> np.ndarray:
    """(4, 2) x, y in continuous image coordinates, inside the image.

    Args:
        segmentation: COCO's: polygons x, y, x, y, ... (those of less than three vertices do not count), or run lengths,
            as numbers or compressed.
        size: (height, width) of the image.

    Raises:
        ValueError: it is neither, shows nothing, or is of another size; the message goes on from "segmentation".
    """
    if not all(is_integer(side) and side > 0 for side in size):
        raise ValueError(f"belongs to an image whose size is {size}")
    if isinstance(segmentation, dict):
        points = extreme_points(_mask_outlines(segmentation, size), margin=0.5)
    else:
        points = extreme_points(_polygons(segmentation))
    return points.clip(0, size[::-1])


def _polygons(segmentation: Any) -> list[np.ndarray]:
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise ValueError("is neither polygons nor run lengths")
    if not all(len(polygon) % 2 == 0 and all(map(is_number, polygon)) for polygon in segmentation):
        raise ValueError("has a polygon that is not pairs of finite numbers")
    polygons = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        raise ValueError("has no polygon of three vertices or more")
    return polygons


def _mask_outlines(segmentation: Fields, size: tuple[int, int]) -> list[np.ndarray]:
    """Outlines of a mask's parts, through the centers of their pixels."""
    if segmentation.get("size") != list(size):
        raise ValueError(f"has the size {segmentation.get('size')}, the image {list(size)}")
    counts = segmentation.get("counts")
    try:
        encoded = mask_util.frPyObjects(segmentation, *size) if isinstance(counts, list) else segmentation
        mask = mask_util.decode(encoded)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"has run lengths that cannot be decoded ({error})") from None
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        raise ValueError("shows nothing")
    return [from_pixel_index(contour[:, 0].astype(np.float64)) for contour in contours]
