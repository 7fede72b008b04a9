"""Boxes of a dataset dict's annotations as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.data.transforms import TransformList
from detectron2.structures import BoxMode


def convert_to_corner_boxes(annotations: list[dict[str, Any]]) -> np.ndarray:
    """Return the annotations' boxes, (P, 4) float64 x1, y1, x2, y2 in image pixels.

    Raises:
        ValueError: a ``bbox_mode`` other than XYXY_ABS and XYWH_ABS.
    """
    boxes = np.array([annotation["bbox"] for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    modes = np.array([annotation["bbox_mode"] for annotation in annotations], dtype=np.int64)
    if not ((modes == BoxMode.XYXY_ABS) | (modes == BoxMode.XYWH_ABS)).all():
        raise ValueError(f"bbox_mode must be XYXY_ABS or XYWH_ABS, not {[BoxMode(mode).name for mode in modes]}")
    boxes[:, 2:] += boxes[:, :2] * (modes == BoxMode.XYWH_ABS)[:, None]
    return boxes


def enclose_keypoints(annotations: list[dict[str, Any]], transforms: TransformList, boxes: np.ndarray) -> np.ndarray:
    """Return (P, 4) x1, y1, x2, y2 around the labeled keypoints after the warp, or
    ``boxes`` where these span no area."""
    result = boxes.copy()
    for box, annotation in zip(result, annotations, strict=True):
        points = np.asarray(annotation.get("keypoints", []), dtype=np.float64).reshape(-1, 3)
        labeled = transforms.apply_coords(points[points[:, 2] > 0, :2])
        if len(labeled) and (np.ptp(labeled, axis=0) > 0).all():
            box[:] = [*labeled.min(axis=0), *labeled.max(axis=0)]
    return result
