"""Reads the "segmentation" of COCO annotations as outlines."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

from centernet_d2.data.validation.issues import is_integer, is_number
from centernet_d2.geometry import from_pixel_index

#: Key of an annotation's "segmentation" that is none.
BAD_SEGMENTATION = "bad_segmentation"


def select_usable(segmentation: Any) -> Any:
    """Return the polygons of three vertices or more, or the mask; None where the structure is wrong.

    Fast, because it is called for every object; :func:`read_outlines` checks the rest.
    """
    if isinstance(segmentation, dict):
        return segmentation if {"size", "counts"} <= segmentation.keys() else None
    try:
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        # A sum is finite where all numbers are.
        valid = all(len(polygon) % 2 == 0 and math.isfinite(sum(polygon)) for polygon in polygons)
        return polygons if polygons and valid else None
    except (TypeError, OverflowError):
        return None


def read_outlines(segmentation: Any, size: tuple[Any, Any]) -> tuple[list[np.ndarray], float]:
    """Read polygons or a mask.

    Args:
        segmentation: COCO's: polygons x, y, x, y, ... (those of less than three vertices do not count), or run lengths,
            as numbers or compressed.
        size: (height, width) of the image.

    Returns:
        Outlines (V, 2), x, y in continuous image coordinates, and how far the object reaches beyond them in pixels:
        outlines of a mask go through the centers of its pixels.

    Raises:
        ValueError: it is neither, shows nothing, lies outside the image, or is of another size; the message continues
            a sentence that starts with "segmentation".
    """
    if not all(is_integer(side) and side > 0 for side in size):
        raise ValueError(f"belongs to an image whose size is {size}")
    if isinstance(segmentation, dict):
        return _trace_mask(segmentation, size), 0.5
    outlines = _read_polygons(segmentation)
    vertices = np.concatenate(outlines)
    if (vertices.max(axis=0) <= 0).any() or (vertices.min(axis=0) >= np.array(size[::-1])).any():
        raise ValueError(f"lies outside the image of {size[1]} x {size[0]} pixels")
    return outlines, 0.0


def _read_polygons(segmentation: Any) -> list[np.ndarray]:
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise ValueError("is neither polygons nor run lengths")
    if not all(len(polygon) % 2 == 0 and all(map(is_number, polygon)) for polygon in segmentation):
        raise ValueError("has a polygon that is not pairs of finite numbers")
    polygons = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        raise ValueError("has no polygon of three vertices or more")
    return polygons


def _trace_mask(segmentation: dict[str, Any], size: tuple[int, int]) -> list[np.ndarray]:
    """Return the outlines of a mask's parts, through the centers of their pixels."""
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
