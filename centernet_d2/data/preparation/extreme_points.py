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
from centernet_d2.data.validation.issues import Finding, is_integer, is_number


def convert_extreme_points(json_file: Path, output: Path) -> Summary:
    """The same file, whose objects have their extreme points as "keypoints" (x, y counted from pixel centres, as in
    COCO), top, left, bottom, right.

    Crowds have none, and objects whose segmentation cannot be used have none and are named; they stay, because they
    count in evaluation.

    Raises:
        FileNotFoundError, AnnotationError: no such file, or no file in COCO's format.
        OSError: ``output`` cannot be written.
    """
    data = read_coco_json(str(json_file))
    pictures: dict[int, Fields] = {}
    objects: dict[int, list[Fields]] = defaultdict(list)
    findings = []
    for entry in data["images"]:
        if isinstance(entry, dict) and is_integer(entry.get("id")):
            pictures[entry["id"]] = entry
        else:
            problem = f"has the entry {str(entry)[:80]}, not one with an integer id"
            findings.append(Finding(str(json_file), None, "images", problem))
    for entry in data["annotations"]:
        if isinstance(entry, dict) and is_integer(entry.get("image_id")) and entry["image_id"] in pictures:
            objects[entry["image_id"]].append(entry)
        else:
            problem = f"has the entry {str(entry)[:80]}, which belongs to no picture"
            findings.append(Finding(str(json_file), None, "annotations", problem))
    categories = [{**entry, **EXTREME4.coco_fields()} for entry in data["categories"] if isinstance(entry, dict)]
    summary = convert(
        list(pictures), lambda number: _picture(pictures[number], objects[number]), output, categories, str(json_file)
    )
    summary.findings += findings
    return summary


def _picture(picture: Fields, entries: list[Fields]) -> Converted:
    objects, findings = [], []
    for entry in entries:
        fields = {key: value for key, value in entry.items() if key not in ("keypoints", "num_keypoints")}
        if not entry.get("iscrowd"):
            try:
                points = segmentation_points(entry.get("segmentation"), (picture.get("height"), picture.get("width")))
                fields["keypoints"] = [x for point in points - 0.5 for x in (*point.round(3).tolist(), 2)]
                fields["num_keypoints"] = 4
            except ValueError as error:
                file = str(picture.get("file_name"))
                findings.append(Finding(file, entry.get("id"), "segmentation", str(error)))
        objects.append(fields)
    return Converted(picture, objects, findings)


def segmentation_points(segmentation: Any, size: tuple[Any, Any]) -> np.ndarray:
    """(4, 2) x, y in continuous picture coordinates, inside the picture.

    Args:
        segmentation: COCO's: polygons x, y, x, y, ... (those of less than three vertices do not count), or run lengths,
            as numbers or compressed.
        size: (height, width) of the picture.

    Raises:
        ValueError: it is neither, shows nothing, or is of another size; the message goes on from "segmentation".
    """
    if not all(is_integer(side) and side > 0 for side in size):
        raise ValueError(f"belongs to a picture whose size is {size}")
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
    """Outlines of a mask's parts, through the middles of their pixels."""
    if segmentation.get("size") != list(size):
        raise ValueError(f"has the size {segmentation.get('size')}, the picture {list(size)}")
    counts = segmentation.get("counts")
    try:
        encoded = mask_util.frPyObjects(segmentation, *size) if isinstance(counts, list) else segmentation
        mask = mask_util.decode(encoded)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"has run lengths that cannot be decoded ({error})") from None
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        raise ValueError("shows nothing")
    return [contour[:, 0].astype(np.float64) + 0.5 for contour in contours]
